"""Strict fairness: at every step each option is trained as often as any other.

Chu et al. (2019), FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural Architecture Search, arXiv
1907.01845. With K options per decision, every step deals a new permutation of the K options of each decision; its K
children, run on one batch, hold every option once. Their gradients are summed, clipped together and applied at once.

A step costs K passes, so that a comparison at equal compute has 1/K of the steps. The sum is not divided by K: the
rate `learning_rate` moves the weights that all children share as K times that rate would move them with the mean
gradient, until the clip holds it; an option's own weights see one child's gradient per step, as with `spos`. Decisions
with fewer options than the largest, and conditional ones, are handled as `nas.training.FairPaths` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from nas.training import Recipe, Setting


class FairNASConfig(Config):
    """Settings of `fairnas`."""

    idle: Literal["freeze", "decay"] = Field(
        "freeze",
        description="Weights of decisions that no path of the step has (conditional ones): left alone, or moved by "
        "momentum and weight decay.",
    )


def create(config: FairNASConfig, setting: Setting) -> Recipe:
    """The recipe for this setting."""
    from nas.training import Accumulate, FairPaths, Recipe, ShuffledData

    return Recipe(FairPaths(setting), ShuffledData(setting), gradients=Accumulate(idle=config.idle))


PLUGIN = Plugin(
    name="fairnas",
    description="Paths that train every option equally often at every step, their gradients summed",
    source="Chu et al. (2019), FairNAS: Rethinking Evaluation Fairness of Weight Sharing NAS, arXiv 1907.01845",
    create=create,
    Config=FairNASConfig,
)
