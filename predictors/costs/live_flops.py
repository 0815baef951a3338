"""Multiply-accumulates of what lies between input and output: the free baseline of every ranking."""

from __future__ import annotations

from predictors.costs._counted import Counted
from searchspaces import Config, Plugin, SearchSpace


def _create(config: Config, space: SearchSpace, device: str = "cpu") -> Counted:
    return Counted(space, "flops", live=True)


PLUGIN = Plugin(
    name="live_flops",
    description="Multiply-accumulates of what lies between input and output; the free baseline of every ranking.",
    source="the convention of each space's public table",
    create=_create,
    flags={"unit": "FLOPs", "measured": False},
)
