"""Few-shot NAS by gradient matching: split where options pull the shared weights in different directions.

Hu et al. (2022), Generalizing Few-Shot NAS with Gradient Matching, ICLR, arXiv 2203.15207. Every time, each part is
split in two: by the decision, and into the two groups of its options, whose gradients of the shared weights agree
least. The release splits after epochs 20 and 40 of 90 on NAS-Bench-201.

Deviations: those of `fewshot`; the default shares of the training are the release's; gradients are compared at most as
often as `largest_share` of the training's steps allows, since 100 times would cost more than a short training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from nas.recipes._splits import Share, SplitConfig, split_recipe
from searchspaces import Plugin

if TYPE_CHECKING:
    from nas.training import Recipe, Setting


class GMFewShotConfig(SplitConfig):
    """Settings of `gm_fewshot`."""

    at: tuple[Share, ...] = Field(
        (0.22, 0.44), max_length=8, description="Shares of the training after which every part is split; none: never."
    )
    repeats: int = Field(
        100, ge=1, le=10_000, description="Batches and settings of the other decisions to compare gradients on."
    )
    largest_share: float = Field(
        0.1,
        gt=0,
        le=10,
        description="Largest share of the training's steps that the gradients cost; fewer repeats then, at least one.",
    )


def create(config: GMFewShotConfig, setting: Setting) -> Recipe:
    """The recipe for this setting."""
    from nas.training import GradientMatching

    return split_recipe(config, setting, GradientMatching(repeats=config.repeats, share=config.largest_share))


PLUGIN = Plugin(
    name="gm_fewshot",
    description="The supernet is split in two where the options' gradients disagree most",
    source="Hu et al. (2022), Generalizing Few-Shot NAS with Gradient Matching, ICLR, arXiv 2203.15207",
    create=create,
    Config=GMFewShotConfig,
)
