"""Costs that are counted on paper, in the convention of the space's public table."""

from __future__ import annotations

from typing import Literal

from predictors.costs._cost import Cost, Reading
from searchspaces import Architecture, SearchSpace


class Counted(Cost):
    """Parameters or FLOPs of the stand-alone network, all of them or only what can reach the output."""

    def __init__(self, space: SearchSpace, field: Literal["params", "flops"], *, live: bool) -> None:
        self.space, self.field, self.live = space, field, live

    def measure(self, architecture: Architecture) -> Reading:
        counts = self.space.counts(self.space.check(architecture), live=self.live)
        if self.field == "params":
            return Reading(float(counts.params), "parameters")
        return Reading(float(counts.flops), "FLOPs")
