"""The plain samplers: every architecture alike, every sample once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas.streams import stream
from nas.training._recipe import Child, DataSampler, Floats, Integers, PathSampler, Setting
from searchspaces import Architecture


class UniformPaths(PathSampler):
    """One child per step; every active decision is drawn uniformly.

    Guo et al. (2019), Single Path One-Shot Neural Architecture Search with Uniform Sampling, arXiv 1904.00420.
    """

    def __init__(self, setting: Setting) -> None:
        self._space, self._seed = setting.space, setting.seed
        self._sizes = {decision.name: len(decision.options) for decision in setting.space.decisions}

    def plan(self, step: int) -> Sequence[Child]:
        return [Child(self._space.sample(stream(self._seed, "paths", step)))]

    def probability(self, architecture: Architecture) -> float:
        return 1.0 / math.prod(self._sizes[decision] for decision, _ in architecture)

    def distribution(self) -> dict[str, dict[str, float]]:
        return {d.name: dict.fromkeys(d.options, 1 / len(d.options)) for d in self._space.decisions}


class ShuffledData(DataSampler):
    """Every sample once per epoch, in a new random order."""

    def order(self, epoch: int) -> Integers:
        return stream(self._setting.seed, "data", epoch).permutation(self._setting.num_samples)

    def probability(self, indices: Integers) -> Floats:
        return np.full(len(indices), 1.0 / self._setting.num_samples)
