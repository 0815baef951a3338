"""Trainable parameters of what lies between input and output."""

from __future__ import annotations

from predictors.costs._counted import Counted
from searchspaces import Config, Plugin, SearchSpace


def _create(config: Config, space: SearchSpace, device: str = "cpu") -> Counted:
    return Counted(space, "params", live=True)


PLUGIN = Plugin(
    name="live_params",
    description="Trainable parameters of what lies between input and output.",
    source="the convention of each space's public table",
    create=_create,
    flags={"unit": "parameters", "measured": False},
)
