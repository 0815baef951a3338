"""Few-shot NAS: the supernet is split into one part for every option of a decision.

Zhao et al. (2021), Few-shot Neural Architecture Search, ICML, arXiv 2006.06863. One supernet is trained first; then one
decision is split, every option gets a part of its own that inherits weights and momentum and is trained further, and an
architecture is judged in the part that holds it. Splitting can be repeated, each part by a decision of its own.

Deviations: the parts share the steps of one training, as the sampled paths fall into them, where the paper trains every
part in full (so K parts of it cost K trainings); the learning rate falls once over all, unless `restart` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from nas.recipes._splits import SplitConfig, split_recipe
from searchspaces import ConfigError, Plugin, Violation, one_of

if TYPE_CHECKING:
    from nas.training import Recipe, Setting


class FewShotConfig(SplitConfig):
    """Settings of `fewshot`."""

    decisions: tuple[str, ...] = Field(
        (),
        max_length=8,
        description="The decision of every split; where none is named, the first of those with most options.",
    )


def create(config: FewShotConfig, setting: Setting) -> Recipe:
    """The recipe for this setting.

    Raises:
        ConfigError: the space has no such decision, or more are named than there are splits.
    """
    from nas.training import Exhaustive

    known = [decision.name for decision in setting.space.decisions]
    wrong = [Violation("decisions", repr(n), one_of(n, known)) for n in config.decisions if n not in known]
    if len(config.decisions) > len(config.at):
        wrong.append(Violation("decisions", repr(config.decisions), f"at most one for each of `at`, {config.at}"))
    if wrong:
        raise ConfigError(wrong)
    return split_recipe(config, setting, Exhaustive(config.decisions))


PLUGIN = Plugin(
    name="fewshot",
    description="The supernet is split into a part for every option of a decision",
    source="Zhao et al. (2021), Few-shot Neural Architecture Search, ICML, arXiv 2006.06863",
    create=create,
    Config=FewShotConfig,
)
