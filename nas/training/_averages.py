"""What importance sampling remembers: averages of one epoch, and how far they are believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.training._recipe import Floats, Integers

Memory = Literal["mean", "half_mean"]
Schedule = Literal["linear", "cosine", "constant"]
Undrawn = Literal["keep", "forget"]


def temperature(schedule: Schedule, cap: float, epoch: int, num_epochs: int) -> float:
    """The share of importance in the distribution that follows `epoch` (from 0), at most `cap`.

    `linear` is `epoch / num_epochs`, `cosine` half a wave from 0 to 1 over the epochs, `constant` the cap itself.
    """
    progress = epoch / num_epochs
    shapes = {"linear": progress, "cosine": 0.5 * (1 - math.cos(math.pi * progress)), "constant": 1.0}
    return min(cap, shapes[schedule])


class Averages:
    """For each of several things an average over the observations of one epoch.

    `mean` is the true one. `half_mean` is (last average + new observation) / 2, so that three observations decide it;
    the average before the first is 0 or, with `from_first`, the first observation itself.
    """

    def __init__(self, size: int, memory: Memory, *, from_first: bool = False) -> None:
        self._memory, self._from_first = memory, from_first
        self._totals, self._counts = np.zeros(size), np.zeros(size)

    def add(self, indices: Integers, values: Floats) -> None:
        """Observe `values` of `indices`, one after the other; an index may come again."""
        if self._memory == "mean":
            np.add.at(self._totals, indices, values)
            np.add.at(self._counts, indices, 1.0)
            return
        for index, value in zip(indices.tolist(), values.tolist(), strict=True):
            before = value if self._from_first and not self._counts[index] else self._totals[index]
            self._totals[index] = (before + value) / 2
            self._counts[index] += 1

    def finish(self) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The averages, and which were observed at all; then starts anew."""
        observed = self._counts > 0
        averages = self._totals / np.maximum(self._counts, 1.0) if self._memory == "mean" else self._totals
        self._totals, self._counts = np.zeros_like(self._totals), np.zeros_like(self._counts)
        return averages, observed

    def state_dict(self) -> dict[str, Tensor]:
        return {"totals": torch.from_numpy(self._totals.copy()), "counts": torch.from_numpy(self._counts.copy())}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._totals, self._counts = state["totals"].numpy().copy(), state["counts"].numpy().copy()
