"""Importance sampling of paths and samples by recent gradient norms, as PA&DA does it (see nas.recipes.pada)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.streams import stream
from nas.training._recipe import Child, DataSampler, Floats, Integers, PathSampler, Setting, StepReport
from searchspaces import Architecture, Supernet

Memory = Literal["mean", "half_mean"]
ParameterFree = Literal["mean", "zero"]
Undrawn = Literal["keep", "forget"]


class ImportancePaths(PathSampler):
    """One child per step; each option is drawn in proportion to the norm of the gradient of its weights.

    The norm of an option in a step is the sum of the norms of its weights' gradients, over all cells, averaged over the
    decisions that took it. After epoch e of E, q = t G / sum(G) + (1 - t) / K with t = e / E, at most `cap`, and G the
    epoch's average norms; an option that was not drawn keeps its last one.

    Args:
        shared: decisions with the same options share one distribution.
        memory: how an epoch's norms are averaged.
        parameter_free: the G of options without weights: the mean of the others in the distribution, or zero.
    """

    def __init__(
        self, setting: Setting, *, cap: float, shared: bool, memory: Memory, parameter_free: ParameterFree
    ) -> None:
        self._setting, self._cap, self._parameter_free = setting, cap, parameter_free
        self._places = _Places.of(setting, shared=shared)
        self._averages = _Averages(self._places.size, memory)
        self._norms = np.zeros(self._places.size)
        self._q = self._places.uniform()
        self._parameters: dict[tuple[str, str], list[nn.Parameter]] = {}
        self._pending: list[tuple[list[int], dict[int, int], Tensor]] = []

    def plan(self, step: int) -> Sequence[Child]:
        rng, space = stream(self._setting.seed, "paths", step), self._setting.space
        options: dict[str, str] = {}
        while (decision := space.next_decision(options)) is not None:
            steps = self._q[self._places.slices[decision.name]].cumsum()
            drawn = int(np.searchsorted(steps, rng.random() * steps[-1], side="right"))
            options[decision.name] = decision.options[min(drawn, len(steps) - 1)]
        return [Child(space.architecture(options))]

    def probability(self, architecture: Architecture) -> float:
        return float(np.prod([self._q[self._places.index[pair]] for pair in architecture]))

    def distribution(self) -> dict[str, dict[str, float]]:
        return {
            decision.name: {o: float(self._q[self._places.index[decision.name, o]]) for o in decision.options}
            for decision in self._setting.space.decisions
        }

    def observe(self, report: StepReport) -> None:
        rows: list[int] = []
        uses: dict[int, int] = {}
        gradients: list[Tensor] = []
        choices = [child.choice for child in report.children if isinstance(child.choice, Architecture)]
        for pair in dict.fromkeys(pair for choice in choices for pair in choice):
            found = [p.grad for p in self._parameters_of(report.supernet, pair) if p.grad is not None]
            if found:
                row = self._places.index[pair]
                uses[row] = uses.get(row, 0) + 1
                rows += [row] * len(found)
                gradients += found
        if gradients:
            self._pending.append((rows, uses, torch.stack(torch._foreach_norm(gradients))))

    def end_epoch(self, epoch: int) -> None:
        self._fold()
        averages, observed = self._averages.finish()
        self._norms = np.where(observed, averages, self._norms)
        temperature = min(self._cap, epoch / self._setting.num_epochs)
        for where in set(map(_bounds, self._places.slices.values())):
            self._q[slice(*where)] = self._mixed(slice(*where), temperature)

    def _mixed(self, where: slice, temperature: float) -> Floats:
        """The distribution over the options at `where`; uniform when no norm is known there."""
        norms, parametric = self._norms[where].copy(), self._places.parametric[where]
        known = norms[parametric & (norms > 0)]
        if self._parameter_free == "mean" and len(known):
            norms[~parametric] = known.mean()
        uniform = np.full(len(norms), 1 / len(norms))
        total = norms.sum()
        return temperature * norms / total + (1 - temperature) * uniform if total > 0 else uniform

    def _parameters_of(self, supernet: Supernet, pair: tuple[str, str]) -> list[nn.Parameter]:
        if pair not in self._parameters:
            self._parameters[pair] = list(supernet.parameters_of(*pair))
        return self._parameters[pair]

    def _fold(self) -> None:
        """Take what waits on the device into the averages: one copy for many steps."""
        if not self._pending:
            return
        norms = torch.cat([norms for _, _, norms in self._pending]).double().cpu().numpy()
        start = 0
        for rows, uses, _ in self._pending:
            sums = np.bincount(rows, weights=norms[start : start + len(rows)], minlength=self._places.size)
            start += len(rows)
            drawn = np.array(sorted(uses))
            self._averages.add(drawn, sums[drawn] / np.array([uses[row] for row in sorted(uses)]))
        self._pending.clear()

    def state_dict(self) -> dict[str, Tensor]:
        self._fold()
        kept = {"norms": torch.from_numpy(self._norms.copy()), "q": torch.from_numpy(self._q.copy())}
        return kept | self._averages.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._pending.clear()
        self._norms, self._q = state["norms"].numpy().copy(), state["q"].numpy().copy()
        self._averages.load_state_dict(state)


class ImportanceData(DataSampler):
    """Samples are drawn with replacement, in proportion to a bound of the norm of their gradient.

    After epoch e of E, p = t g / sum(g) + (1 - t) / N with t = e / E, at most `cap`, and g the epoch's average norms.
    While t is 0 an epoch is a shuffle, so that every sample's norm is known when it first matters.

    Args:
        memory: how the norms of a sample that came several times are averaged.
        undrawn: what a sample's norm is when it was not drawn: `keep` moves the last one by `decay` towards the mean
            of the drawn; `forget` is zero.
    """

    def __init__(self, setting: Setting, *, cap: float, memory: Memory, undrawn: Undrawn, decay: float) -> None:
        self._setting, self._cap, self._undrawn, self._decay = setting, cap, undrawn, decay
        self._averages = _Averages(setting.num_samples, memory)
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
        self._fold()
        averages, observed = self._averages.finish()
        if self._undrawn == "keep":
            mean = averages[observed].mean() if observed.any() else self._norms.mean()
            kept = self._norms + self._decay * (mean - self._norms)
        else:
            kept = np.zeros_like(self._norms)
        self._norms = np.where(observed, averages, kept)
        self._temperature = min(self._cap, epoch / self._setting.num_epochs) if self._norms.sum() > 0 else 0.0

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
        kept = {"norms": torch.from_numpy(self._norms.copy()), "temperature": torch.tensor(self._temperature).double()}
        return kept | self._averages.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._pending.clear()
        self._norms, self._temperature = state["norms"].numpy().copy(), float(state["temperature"])
        self._averages.load_state_dict(state)


class _Averages:
    """For each of several things an average over the observations of one epoch.

    `mean` is the true one. `half_mean` is (last average + new observation) / 2, from 0: three observations decide it.
    """

    def __init__(self, size: int, memory: Memory) -> None:
        self._memory = memory
        self._totals, self._counts = np.zeros(size), np.zeros(size)

    def add(self, indices: Integers, values: Floats) -> None:
        """Observe `values` of `indices`, one after the other; an index may come again."""
        if self._memory == "mean":
            np.add.at(self._totals, indices, values)
        else:
            for index, value in zip(indices.tolist(), values.tolist(), strict=True):
                self._totals[index] = (self._totals[index] + value) / 2
        np.add.at(self._counts, indices, 1.0)

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


@dataclass(frozen=True)
class _Places:
    """Where each (decision, option) lies in the flat vectors; shared decisions lie in the same place."""

    size: int
    slices: Mapping[str, slice]
    index: Mapping[tuple[str, str], int]
    parametric: npt.NDArray[np.bool_] = field(repr=False)

    @classmethod
    def of(cls, setting: Setting, *, shared: bool) -> _Places:
        starts: dict[object, int] = {}
        slices: dict[str, slice] = {}
        index: dict[tuple[str, str], int] = {}
        parametric: list[bool] = []
        for decision in setting.space.decisions:
            key = (decision.options, decision.parametric) if shared else decision.name
            if key not in starts:
                starts[key] = len(parametric)
                parametric += decision.parametric
            start = starts[key]
            slices[decision.name] = slice(start, start + len(decision.options))
            index |= {(decision.name, option): start + i for i, option in enumerate(decision.options)}
        return cls(len(parametric), slices, index, np.array(parametric))

    def uniform(self) -> Floats:
        q = np.zeros(self.size)
        for where in self.slices.values():
            q[where] = 1 / (where.stop - where.start)
        return q


def _bounds(where: slice) -> tuple[int, int]:
    return where.start, where.stop
