"""Multiply-accumulates of the stand-alone network for one input."""

from __future__ import annotations

from predictors.costs._counted import Counted
from searchspaces import Config, Plugin, SearchSpace


def _create(config: Config, space: SearchSpace, device: str = "cpu") -> Counted:
    return Counted(space, "flops", live=False)


PLUGIN = Plugin(
    name="flops",
    description="Multiply-accumulates of one input, of operations without effect too.",
    source="the convention of each space's public table",
    create=_create,
    flags={"unit": "FLOPs", "measured": False},
)
