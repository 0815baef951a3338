"""A cost that is negative."""

from __future__ import annotations

from predictors.costs import Cost, Reading
from searchspaces import Architecture, Config, Plugin, SearchSpace


class Saved(Cost):
    def __init__(self, config: Config, space: SearchSpace, device: str) -> None:
        self.space = space

    def measure(self, architecture: Architecture) -> Reading:
        return Reading(-float(self.space.counts(architecture).params), "parameters")


PLUGIN = Plugin("costing", "Saved.", "nobody", Saved, flags={"unit": "parameters", "measured": False})
