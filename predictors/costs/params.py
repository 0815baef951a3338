"""Trainable parameters of the stand-alone network."""

from __future__ import annotations

from predictors.costs._counted import Counted
from searchspaces import Config, Plugin, SearchSpace


def _create(config: Config, space: SearchSpace, device: str = "cpu") -> Counted:
    return Counted(space, "params", live=False)


PLUGIN = Plugin(
    name="params",
    description="Trainable parameters, of operations without effect too.",
    source="the convention of each space's public table",
    create=_create,
    flags={"unit": "parameters", "measured": False},
)
