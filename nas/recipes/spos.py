"""Single path, uniform: the reference one-shot training.

Guo et al. (2019), Single Path One-Shot Neural Architecture Search with Uniform Sampling, arXiv 1904.00420. Each step
draws one option per decision uniformly and trains only that path. Deviation: the learning rate falls as a cosine, not
linearly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from nas.training import Recipe, Setting


class SPOSConfig(Config):
    """Settings of `spos`."""

    idle: Literal["freeze", "decay"] = Field(
        "freeze", description="Weights outside the path: left alone, or moved by momentum and weight decay."
    )


def create(config: SPOSConfig, setting: Setting) -> Recipe:
    """The recipe for this setting."""
    from nas.training import Accumulate, Recipe, ShuffledData, UniformPaths

    return Recipe(UniformPaths(setting), ShuffledData(setting), gradients=Accumulate(idle=config.idle))


PLUGIN = Plugin(
    name="spos",
    description="One uniformly drawn path per step: the reference one-shot training",
    source="Guo et al. (2019), Single Path One-Shot NAS with Uniform Sampling, arXiv 1904.00420",
    create=create,
    Config=SPOSConfig,
)
