"""Consecutive paths that differ in one option: less interference between them.

Xu et al. (2022), Analyzing and Mitigating Interference in Neural Architecture Search, ICML, arXiv 2108.12821. Gradients
of two children interfere on an operation that they share, the more the more other operations differ. So paths are no
independent draws but a Markov chain: each step changes one option of the child before (MAGIC-T; the alignment to an
anchor of MAGIC-A is not here). Every path is as probable as any other at every step; the chain is never started anew.
Its start, its moves and what it does in spaces with conditional decisions: see `nas.training.ChainPaths`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from nas.training import Recipe, Setting


class MagicTConfig(Config):
    """Settings of `magic_t`."""

    idle: Literal["freeze", "decay"] = Field(
        "freeze", description="Weights outside the path: left alone, or moved by momentum and weight decay."
    )


def create(config: MagicTConfig, setting: Setting) -> Recipe:
    """The recipe for this setting."""
    from nas.training import Accumulate, ChainPaths, Recipe, ShuffledData

    return Recipe(ChainPaths(setting), ShuffledData(setting), gradients=Accumulate(idle=config.idle))


PLUGIN = Plugin(
    name="magic_t",
    description="One path per step that differs from the one before in one option",
    source="Xu et al. (2022), Analyzing and Mitigating Interference in NAS, ICML, arXiv 2108.12821",
    create=create,
    Config=MagicTConfig,
)
