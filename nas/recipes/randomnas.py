"""Random search with weight sharing: the baseline that a search has to beat.

Li and Talwalkar (2019), Random Search and Reproducibility for Neural Architecture Search, UAI, arXiv 1902.07638. Its
training is that of `spos`: one path per step, every option equally probable. What differs is the search: paths are
drawn at random, scored with the shared weights on validation data, and the best is taken. That belongs to the searcher:
pair this recipe with `searcher: random` and `budget.evaluations` at the number of paths to draw (the paper scores 1,000
on one batch each and the ten best on all validation data; later comparisons score 200 on all of it, as an evaluation
here does). Deviation: the learning rate falls as a cosine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from nas.training import Recipe, Setting


class RandomNASConfig(Config):
    """Settings of `randomnas`."""

    idle: Literal["freeze", "decay"] = Field(
        "freeze", description="Weights outside the path: left alone, or moved by momentum and weight decay."
    )


def create(config: RandomNASConfig, setting: Setting) -> Recipe:
    """The recipe for this setting."""
    from nas.training import Accumulate, Recipe, ShuffledData, UniformPaths

    return Recipe(UniformPaths(setting), ShuffledData(setting), gradients=Accumulate(idle=config.idle))


PLUGIN = Plugin(
    name="randomnas",
    description="One uniformly drawn path per step, as in `spos`; made for the searcher `random`",
    source="Li and Talwalkar (2019), Random Search and Reproducibility for NAS, UAI, arXiv 1902.07638",
    create=create,
    Config=RandomNASConfig,
    flags={"searcher": "random"},
)
