"""Importance sampling of training samples by recent bounds of their gradient norm (see nas.recipes.pada)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from nas.streams import stream
from nas.training._averages import Averages, Memory, Schedule, Undrawn, temperature
from nas.training._recipe import DataSampler, Floats, Integers, Setting, StepReport


class ImportanceData(DataSampler):
    """Samples are drawn with replacement, in proportion to a bound of the norm of their gradient.

    After epoch e, p = t g / sum(g) + (1 - t) / N, with t the temperature (see `temperature`) and g the epoch's average
    norms. While t is 0 an epoch is a shuffle, so that every sample's norm is known when it first matters.

    Args:
        cap: largest temperature.
        memory: how the norms of a sample that came several times are averaged; a half-mean starts at the first.
        undrawn: what a sample's norm is when it was not drawn: `keep` moves the last one by `decay` towards the mean
            of the drawn; `forget` is zero.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        cap: float,
        memory: Memory,
        undrawn: Undrawn,
        decay: float,
        schedule: Schedule = "linear",
    ) -> None:
        super().__init__(setting)
        self._cap, self._schedule, self._undrawn, self._decay = cap, schedule, undrawn, decay
        self._averages = Averages(setting.num_samples, memory, from_first=True)
        self._norms = np.zeros(setting.num_samples)
        self._temperature = 0.0
        self._pending: list[tuple[Tensor, Tensor]] = []

    def order(self, epoch: int) -> Integers:
        rng, size = stream(self._setting.seed, "data", epoch), self._setting.num_samples
        if not self._temperature:
            return rng.permutation(size)
        steps = self._probabilities().cumsum()
        drawn: Integers = np.searchsorted(steps, rng.random(size) * steps[-1], side="right")
        return np.minimum(drawn, size - 1)

    def probability(self, indices: Integers) -> Floats:
        return self._probabilities()[indices]

    def observe(self, report: StepReport) -> None:
        self._pending.append((report.indices, report.sample_norms()))

    def end_epoch(self, epoch: int) -> None:
        super().end_epoch(epoch)
        self._fold()
        averages, observed = self._averages.finish()
        if self._undrawn == "keep":
            mean = averages[observed].mean() if observed.any() else self._norms.mean()
            kept = self._norms + self._decay * (mean - self._norms)
        else:
            kept = np.zeros_like(self._norms)
        self._norms = np.where(observed, averages, kept)
        believed = temperature(self._schedule, self._cap, epoch, self._setting.num_epochs)
        self._temperature = believed if self._norms.sum() > 0 else 0.0

    def _probabilities(self) -> Floats:
        uniform = np.full(self._setting.num_samples, 1 / self._setting.num_samples)
        if not self._temperature:
            return uniform
        mixed: Floats = self._temperature * self._norms / self._norms.sum() + (1 - self._temperature) * uniform
        return mixed

    def _fold(self) -> None:
        if self._pending:
            indices = torch.cat([indices for indices, _ in self._pending]).numpy()
            self._averages.add(indices, torch.cat([norms for _, norms in self._pending]).double().cpu().numpy())
            self._pending.clear()

    def state_dict(self) -> dict[str, Tensor]:
        self._fold()
        kept = {
            "norms": torch.from_numpy(self._norms.copy()),
            "temperature": torch.tensor(self._temperature, dtype=torch.float64),
        }
        return super().state_dict() | kept | self._averages.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._pending.clear()
        self._norms, self._temperature = state["norms"].numpy().copy(), float(state["temperature"])
        self._averages.load_state_dict(state)
