"""Shared weights as a fair starting point for every path: meta-learning on fair paths.

Ha et al. (2022), SUMNAS: Supernet with Unbiased Meta-Features for Neural Architecture Search, ICLR. Each step deals K
fair paths as `fairnas` does; each of them trains a copy of the shared weights for a few steps of SGD on the step's
batch, and the shared weights then move by the mean of the K displacements (Reptile; Nichol et al., 2018, arXiv
1803.02999). A step costs K times `inner_steps` passes.

The job's `learning_rate`, `momentum` and `clip_norm` are those of the inner steps unless set here; its schedule is that
of the outer rate; its `weight_decay` is replaced by `outer_weight_decay`. Published values are the defaults: 2 inner
steps at rate 0.05, momentum 0.9 and clip 5 (a job's defaults), outer rate 1 and weight decay 4e-5. The published code
lets the inner momentum run on from path to path: `fresh_momentum: false`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from nas.training import Recipe, Setting


class SUMNASConfig(Config):
    """Settings of `sumnas`."""

    inner_steps: int = Field(2, ge=1, le=100, description="Steps that each path takes with its own weights.")
    inner_rate: float | None = Field(
        None, ge=0, le=10, description="Their learning rate, the same throughout; none is `supernet.learning_rate`."
    )
    inner_momentum: float | None = Field(None, ge=0, lt=1, description="Their momentum; none is `supernet.momentum`.")
    fresh_momentum: bool = Field(True, description="Every path starts without momentum; otherwise with the last one's.")
    outer_rate: float = Field(
        1.0, gt=0, le=10, description="How far the shared weights go of the mean way, falling as a cosine."
    )
    outer_weight_decay: float = Field(4e-5, ge=0, le=1, description="L2 penalty, on the parameters of the paths.")


def create(config: SUMNASConfig, setting: Setting) -> Recipe:
    """The recipe for this setting."""
    from nas.training import Displacement, FairPaths, Recipe, ShuffledData

    gradients = Displacement(
        inner_steps=config.inner_steps,
        inner_rate=config.inner_rate,
        inner_momentum=config.inner_momentum,
        outer_rate=config.outer_rate,
        outer_weight_decay=config.outer_weight_decay,
        fresh=config.fresh_momentum,
    )
    return Recipe(FairPaths(setting), ShuffledData(setting), gradients=gradients)


PLUGIN = Plugin(
    name="sumnas",
    description="Fair paths that each train a copy of the weights; the shared ones move by the mean way",
    source="Ha et al. (2022), SUMNAS: Supernet with Unbiased Meta-Features for Neural Architecture Search, ICLR",
    create=create,
    Config=SUMNASConfig,
)
