"""Evolution by accuracy and by potential: architectures that still improve survive beside those that are good."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from operator import itemgetter

import numpy as np
from pydantic import Field

from nas.history import History, Record
from nas.pareto import crowding, ranks
from nas.resources import EvaluationState, Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher, is_comparable
from nas.searchers._searcher import proposal, unseen
from nas.searchers._warm_up import WARM_UP
from searchspaces import Architecture, Config, Plugin, Rng, SearchSpace

_Measured = tuple[float, int, Floats]
"""Epochs, number among the proposals, losses."""


class EmarsConfig(Config):
    """Settings of `emars`."""

    population: int = Field(20, ge=2, le=10_000, json_schema_extra=WARM_UP, description="Architectures that survive.")
    again: float = Field(0.25, ge=0, lt=1, description="Share of proposals that measure a survivor once more.")
    crossover: float = Field(0.3, ge=0, le=0.5, description="Share of the new ones that have two parents.")
    random: float = Field(0.1, ge=0, le=0.5, description="Share of the new ones that are drawn uniformly.")


class Emars(FollowingSearcher):
    """A population that survives by two rankings: what was measured last, and how fast that improves.

    He, Ying, Zhang and Chu (2022), Evolutionary Multi-objective Architecture Search (EMARS), arXiv 2101.10667. What is
    learned (not the costs) has a potential: the least-squares slope over an architecture's measurements, in the order
    of epochs, then of time. The fronts of (values, costs) and of (potentials, costs) are merged front by front until
    the population is full. One measurement alone has its value as its potential, which for accuracies lies above every
    slope; so here it goes before all slopes, by value, in whatever unit. What does not improve has none.

    It pays where the same architecture becomes better, that is over a supernet that is still being trained; over a
    table of finished trainings the slope says next to nothing (rank correlation -0.03 on NAS-Bench-101), and what is
    measured again is lost. Deviations: one architecture at a time and not by generations; the survivor that was
    measured least is measured again. Infeasible ones survive only where feasible ones are too few.
    """

    def __init__(self, config: EmarsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        self._is_cost = np.array([objective.level == "cost" for objective in objectives])
        self.forget()

    def forget(self) -> None:
        """Be as before the first record."""
        self._population: list[Architecture] = []
        self._series: dict[Architecture, list[_Measured]] = {}
        self._violation: dict[Architecture, float] = {}
        self._asked = Counter[Architecture]()

    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record: one more measurement of its architecture, and perhaps one survivor less."""
        found = record.architecture
        self._asked[found] += 1
        if not is_comparable(record):
            return
        self._violation[found] = record.violation
        if record.state is EvaluationState.FINISHED and loss is not None:
            measured = (record.fidelity.resources.get("epochs", 0.0), record.number, loss)
            insort(self._series.setdefault(found, []), measured, key=itemgetter(0, 1))
        if found not in self._population:
            self._population.append(found)
        if len(self._population) > self.config.population:
            self._population = self._survivors()

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures or survivors once more; see `Searcher.ask`."""
        self.follow(history)
        under_way = Counter(record.architecture for record in history.pending.values())
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            known = [a for a in self._population if a in self._series and not under_way[a]]
            if known and rng.random() < self.config.again:
                least = min(known, key=self._asked.__getitem__)
                under_way[least] += 1
                again = proposal(least, reason="survivor, measured again")
                proposals.append(again.model_copy(update={"replicate": self._asked[least]}))
                continue
            draw, reason = self._offspring(history.num_distinct + len(taken), rng)
            found = unseen(self.space, history, taken, rng, draw)
            if found is None:
                break
            taken.add(found.digest)
            under_way[found] += 1
            proposals.append(proposal(found, reason=reason))
        return proposals

    # --- new ones ----------------------------------------------------------------------------------------------------

    def _offspring(self, num_known: int, rng: Rng) -> tuple[Callable[[], Architecture], str]:
        """How to draw a new architecture, and what it is called."""
        parents, kind = self._population, rng.random()
        if num_known < self.config.population or len(parents) < 2 or kind < self.config.random:
            return lambda: self.space.sample(rng), "uniform sample"
        if kind < self.config.random + self.config.crossover:
            first, second = (parents[i] for i in rng.choice(len(parents), size=2, replace=False))
            return lambda: self.space.cross(first, second, rng), "child of two survivors"
        parent = parents[int(rng.integers(len(parents)))]
        return lambda: self.space.mutate(parent, rng), "mutant of a survivor"

    # --- who survives ------------------------------------------------------------------------------------------------

    def _survivors(self) -> list[Architecture]:
        feasible = [a for a in self._population if a in self._series]
        rest = sorted((a for a in self._population if a not in self._series), key=self._violation.__getitem__)
        values = np.array([self._series[a][-1][2] for a in feasible]).reshape(-1, len(self.objectives))
        merged: dict[int, None] = {}
        for by_value, by_potential in zip_longest(_fronts(values), _fronts(self._potentials(feasible)), fillvalue=()):
            merged |= dict.fromkeys((*by_value, *by_potential))
        return [*(feasible[i] for i in merged), *rest][: self.config.population]

    def _potentials(self, architectures: Sequence[Architecture]) -> Floats:
        """`architectures x objectives`, less is better: potentials as places, costs as they are."""
        columns = []
        for number, is_cost in enumerate(self._is_cost):
            series = [[float(loss[number]) for _, _, loss in self._series[a]] for a in architectures]
            if is_cost:
                columns.append(np.array([losses[-1] for losses in series]))
                continue
            keys = np.array([_potential(losses) for losses in series]).reshape(-1, 2)
            columns.append(np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(float))
        return np.stack(columns, axis=1)


def _potential(losses: Sequence[float]) -> tuple[float, float]:
    """What potentials are sorted by: one measurement by its value, then what improves by its slope, then the rest."""
    if len(losses) == 1:
        return 0.0, losses[0]
    times = np.arange(len(losses)) - (len(losses) - 1) / 2
    slope = float(times @ np.array(losses) / (times @ times))
    return (1.0, slope) if slope < 0 else (2.0, 0.0)


def _fronts(losses: Floats) -> Iterator[list[int]]:
    """Rows (`rows x objectives`) front by front, in each the lonelier first."""
    found = ranks(losses)
    for rank in range(int(found.max(initial=-1)) + 1):
        members = np.flatnonzero(found == rank)
        yield members[np.argsort(-crowding(losses[members]), kind="stable")].tolist()


def create(config: EmarsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> Emars:
    """The searcher on this space."""
    return Emars(config, space, objectives)


PLUGIN = Plugin(
    name="emars",
    description="Evolution in which architectures that still improve survive beside good ones; it measures them again",
    source="He, Ying, Zhang and Chu (2022), Evolutionary Multi-objective Architecture Search (EMARS), arXiv 2101.10667",
    create=create,
    Config=EmarsConfig,
    flags={"multi_objective": True, "replicates": True},
)
