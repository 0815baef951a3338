"""Importance sampling of paths by recent gradient norms, as PA&DA does it (see nas.recipes.pada)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.streams import stream
from nas.training._averages import Averages, Memory, Schedule, Undrawn, temperature
from nas.training._gradients import LazyPathParameters
from nas.training._recipe import Child, Floats, PathSampler, Setting, StepReport
from searchspaces import Architecture

ParameterFree = Literal["mean", "zero", "output"]
PathWeights = Literal["none", "exact", "clipped"]


class ImportancePaths(PathSampler):
    """One child per step; each option is drawn in proportion to the norm of the gradient of its weights.

    The norm of an option in a step is the sum of the norms of its weights' gradients, over all cells, averaged over the
    decisions that took it, of the child's loss without its weight. After epoch e, q = t G / sum(G) + (1 - t) / K, with
    t the temperature (see `temperature`) and G the epoch's average norms; uniform when all are 0.

    Args:
        cap: largest temperature.
        shared: decisions with the same options share one distribution.
        memory: how an epoch's norms are averaged; a half-mean starts at 0.
        parameter_free: the G of options without weights. `zero`; `mean`: the mean m of the G of the others in the
            distribution; `output`: m times the norm of the gradient at the option's output, in units of the mean of
            the same over the others.
        undrawn: the G of an option that no path of the epoch took: `keep` the last one, or `forget` it: zero.
        after_clip: norms are those of the clipped gradient.
        count_dead: a decision whose option cannot reach the output is averaged in with norm 0, as the published code
            does it: an option whose sum of norms is 0 in a step, as where every decision that took it is dead, is not
            observed at all. Else dead ones count as not drawn. (A convolution that only zeros reach has there the
            rounding error of its bias's gradient for a norm; here it is not run and has none.)
        weights: of a child's loss. `none`: 1. `exact`: the product over its decisions of (1/K) / q, by which its
            expectation is the mean loss of all paths; unbounded. `clipped`: each factor, and then the product, is at
            most `largest_weight`: factors alone would leave K^D of them.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        cap: float,
        shared: bool,
        memory: Memory,
        parameter_free: ParameterFree,
        schedule: Schedule = "linear",
        undrawn: Undrawn = "keep",
        after_clip: bool = False,
        count_dead: bool = False,
        weights: PathWeights = "none",
        largest_weight: float = 3.0,
    ) -> None:
        self._setting, self._cap, self._schedule = setting, cap, schedule
        self._parameter_free, self._undrawn = parameter_free, undrawn
        self._after_clip, self._count_dead = after_clip, count_dead
        self._weights, self._largest_weight = weights, largest_weight
        self.reads_outputs = parameter_free == "output"
        self._places = _Places.of(setting, shared=shared)
        self._parameters = LazyPathParameters()
        self._averages, self._output_averages = (Averages(self._places.size, memory) for _ in range(2))
        self._norms, self._outputs = np.zeros(self._places.size), np.zeros(self._places.size)
        self._q = self._places.uniform()
        self._pending: list[_Observed] = []

    # --- drawing -----------------------------------------------------------------------------------------------------

    def plan(self, step: int) -> Sequence[Child]:
        rng, space = stream(self._setting.seed, "paths", step), self._setting.space
        options: dict[str, str] = {}
        while (decision := space.next_decision(options)) is not None:
            steps = self._q[self._places.slices[decision.name]].cumsum()
            drawn = int(np.searchsorted(steps, rng.random() * steps[-1], side="right"))
            options[decision.name] = decision.options[min(drawn, len(steps) - 1)]
        architecture = space.architecture(options)
        return [Child(architecture, weight=self.weight(architecture))]

    def probability(self, architecture: Architecture) -> float:
        return float(np.prod([self._q[self._places.index[pair]] for pair in architecture]))

    def weight(self, architecture: Architecture) -> float:
        if self._weights == "none":
            return 1.0
        places = [(self._places.slices[pair[0]], self._places.index[pair]) for pair in architecture]
        factors = np.array([1 / ((where.stop - where.start) * self._q[place]) for where, place in places])
        if self._weights == "exact":
            return float(factors.prod())
        return float(min(np.minimum(factors, self._largest_weight).prod(), self._largest_weight))

    def distribution(self) -> dict[str, dict[str, float]]:
        return {
            decision.name: {o: float(self._q[self._places.index[decision.name, o]]) for o in decision.options}
            for decision in self._setting.space.decisions
        }

    # --- learning ----------------------------------------------------------------------------------------------------

    def observe(self, report: StepReport) -> None:
        gradients, owner, index = report.gradients, self._parameters(report.supernet).owner, self._places.index
        owners = [owner.get(id(parameter)) for parameter in gradients.parameters]
        pairs = [pair for child in report.children if isinstance(child.choice, Architecture) for pair in child.choice]
        drawn = {pair for pair in owners if pair is not None}
        if self._count_dead:
            drawn |= {pair for pair in pairs if self._places.parametric[index[pair]]}
        scale = 1.0 / report.children[0].weight if len(report.children) == 1 else 1.0
        norms = gradients.norms * gradients.clip_factor if self._after_clip else gradients.norms
        rows = [-1 if pair is None else index[pair] for pair in owners]
        used = [index[pair] for pair in drawn]
        self._pending.append(_Observed.of(self._averages, rows, used, norms, scale, skips_zero=self._count_dead))
        if report.output_norms:
            reached = [pair for pair in dict.fromkeys(pairs) if pair[0] in report.output_norms]
            rows = [index[pair] for pair in reached for _ in report.output_norms[pair[0]]]
            seen = torch.stack([norm for pair in reached for norm in report.output_norms[pair[0]]])
            used = [index[pair] for pair in reached]
            self._pending.append(_Observed.of(self._output_averages, rows, used, seen, scale))

    def end_epoch(self, epoch: int) -> None:
        self._fold()
        self._norms = self._remembered(self._averages, self._norms)
        self._outputs = self._remembered(self._output_averages, self._outputs)
        believed = temperature(self._schedule, self._cap, epoch, self._setting.num_epochs)
        for where in set(map(_bounds, self._places.slices.values())):
            self._q[slice(*where)] = self._mixed(slice(*where), believed)

    def _remembered(self, averages: Averages, last: Floats) -> Floats:
        means, observed = averages.finish()
        return np.where(observed, means, last if self._undrawn == "keep" else 0.0)

    def _mixed(self, where: slice, believed: float) -> Floats:
        """The distribution over the options at `where`; uniform when no norm is known there."""
        norms, parametric, outputs = self._norms[where].copy(), self._places.parametric[where], self._outputs[where]
        known = parametric & (norms > 0)
        if self._parameter_free != "zero" and known.any():
            norms[~parametric] = norms[known].mean()
            compared = known & (outputs > 0)
            if self._parameter_free == "output" and compared.any():
                free = ~parametric & (outputs > 0)
                norms[free] *= outputs[free] / outputs[compared].mean()
        uniform = np.full(len(norms), 1 / len(norms))
        total = norms.sum()
        return believed * norms / total + (1 - believed) * uniform if total > 0 else uniform

    def _fold(self) -> None:
        """Take what waits on the device into the averages: one copy for many steps."""
        if not self._pending:
            return
        values = torch.cat([waiting.values for waiting in self._pending]).double().cpu().numpy()
        start = 0
        for waiting in self._pending:
            waiting.fold(values[start : start + len(waiting.rows)], self._places.size)
            start += len(waiting.rows)
        self._pending.clear()

    def state_dict(self) -> dict[str, Tensor]:
        self._fold()
        arrays = {"norms": self._norms, "outputs": self._outputs, "q": self._q}
        kept = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        outputs = {f"output_{key}": value for key, value in self._output_averages.state_dict().items()}
        return kept | self._averages.state_dict() | outputs

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._pending.clear()
        self._norms, self._outputs, self._q = (state[name].numpy().copy() for name in ("norms", "outputs", "q"))
        self._averages.load_state_dict(state)
        self._output_averages.load_state_dict({key: state[f"output_{key}"] for key in ("totals", "counts")})


class _Observed(NamedTuple):
    """Norms of one step that wait on the device: `values[i]` belongs to place `rows[i]`, to none where that is -1.

    What is observed of a place is the sum of its values times `scale`, over the number of decisions that used it; with
    `skips_zero` nothing where that sum is 0.
    """

    averages: Averages
    rows: npt.NDArray[np.int64]
    used: npt.NDArray[np.int64]
    values: Tensor
    scale: float
    skips_zero: bool

    @classmethod
    def of(
        cls,
        averages: Averages,
        rows: Sequence[int],
        used: Sequence[int],
        values: Tensor,
        scale: float,
        *,
        skips_zero: bool = False,
    ) -> _Observed:
        where, users = np.array(rows, dtype=np.int64), np.array(used, dtype=np.int64)
        return cls(averages, where, users, values, scale, skips_zero)

    def fold(self, values: Floats, size: int) -> None:
        """Add to the averages what `values`, now on the host, say; `size`: number of places."""
        owned = self.rows >= 0
        sums = np.bincount(self.rows[owned], weights=values[owned], minlength=size)
        uses = np.bincount(self.used, minlength=size)
        drawn = np.flatnonzero(uses * (sums != 0) if self.skips_zero else uses)
        self.averages.add(drawn, self.scale * sums[drawn] / uses[drawn])


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
