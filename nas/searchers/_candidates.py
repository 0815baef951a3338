"""Candidate generation, apart from what ranks the candidates: near the incumbents, and anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas.history import History, Record
from nas.pareto import Front
from nas.searchers._searcher import live_form
from nas.streams import stream
from searchspaces import Architecture, Config, Rng, SearchSpace

_WINDOW = 4  # proposals that share samples
_OF_FRONT = 3  # members of the front for every best one by an objective
_WHOLE = 2_000  # neighbours of a parent up to which all are made, in about a tenth of a second


class CandidatesConfig(Config):
    """Settings of every searcher that chooses among generated candidates."""

    parents: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Incumbents whose neighbours are candidates: so many best by each objective, and of several "
        "objectives thrice as many of the front.",
    )
    near: int = Field(2_000, ge=1, le=100_000, description="Most neighbours; of more a uniform part is taken.")
    samples: int = Field(1_000, ge=0, le=100_000, description="Uniform candidates beside the neighbours.")


class Candidates:
    """One-edit neighbours of the incumbents and uniform samples, all new, in their live form.

    White, Neiswanger and Savani (2021), arXiv 1910.11858, section 4, and Schneider et al. (2021), Mutation is all you
    need, arXiv 2107.07343: how the acquisition is optimised matters more than the surrogate. On NAS-Bench-201 the
    neighbours of the best ten alone starve in one run of ten, a thousand samples alone need twice the queries.

    What a call costs does not grow with the history but for a partial sort of one number per record.

    Args:
        config: how many of each.
        space: whose architectures are proposed.
        pool: architectures that are candidates as well, at most `samples` of them a call; those that a job scored.
    """

    def __init__(self, config: CandidatesConfig, space: SearchSpace, pool: Sequence[Architecture] = ()) -> None:
        self.config, self.space, self.pool = config, space, tuple(pool)
        self._history: History | None = None
        self._cursor, self._num_finished = 0, 0
        self._broken: list[Record] = []
        self._front: Front[int] = Front()
        self._around: dict[Architecture, list[Architecture]] = {}
        self._drawn: dict[tuple[int, int], list[Architecture]] = {}

    def __call__(self, history: History, rng: Rng) -> list[Architecture]:
        """New and distinct ones, the near before the rest; none only where nothing near and nothing drawn is new."""
        return list(dict.fromkeys([*self.near(history, rng), *self.anywhere(history, rng)]))

    def anywhere(self, history: History, rng: Rng) -> list[Architecture]:
        """New ones of the pool and uniform samples, in their live form.

        A quarter of the samples is drawn anew for every proposal, the others are those of the three before it, so that
        a search that proposes one at a time does not spend its time on sampling.
        """
        of_pool = [self.pool[i] for i in rng.permutation(len(self.pool))[: self.config.samples]]
        root, last = _root(history), history.num_proposals
        wanted = range(last - _WINDOW + 1, last + 1)
        kept = {number: self._drawn.get((root, number)) or self._draw(root, number) for number in wanted}
        self._drawn = {(root, number): drawn for number, drawn in kept.items()}
        drawn = itertools.chain.from_iterable(kept.values())
        return [found for found in dict.fromkeys([*of_pool, *drawn]) if not history.has_seen(found)]

    def _draw(self, root: int, number: int) -> list[Architecture]:
        rng, size = stream(root, "candidates", number), self.config.samples
        count = size * (number % _WINDOW + 1) // _WINDOW - size * (number % _WINDOW) // _WINDOW
        return [live_form(self.space, self.space.sample(rng)) for _ in range(count)]

    def near(self, history: History, rng: Rng) -> list[Architecture]:
        """New neighbours of the incumbents, in their live form; of incumbents with very many, drawn anew each time."""
        parents = self.incumbents(history, rng)
        whole = [parent for parent in parents if self._num_edits(parent) <= _WHOLE]
        self._around = {parent: self._around.get(parent) or self._neighbours(parent) for parent in whole}
        found = dict.fromkeys(itertools.chain.from_iterable(self._around.values()))
        others = [parent for parent in parents if parent not in self._around]
        for parent in others:
            drawn = (self.space.mutate(parent, rng) for _ in range(-(-self.config.near // len(others))))
            found.update(dict.fromkeys(live_form(self.space, mutant) for mutant in drawn))
        distinct = [architecture for architecture in found if not history.has_seen(architecture)]
        if len(distinct) <= self.config.near:
            return distinct
        return [distinct[i] for i in sorted(rng.choice(len(distinct), self.config.near, replace=False))]

    def _num_edits(self, parent: Architecture) -> int:
        return sum(len(decision.options) - 1 for decision in self.space.decisions if decision.name in parent)

    def _neighbours(self, parent: Architecture) -> list[Architecture]:
        return [live_form(self.space, found) for found in self.space.neighbours(parent)]

    def incumbents(self, history: History, rng: Rng) -> list[Architecture]:
        """The best by each objective and of the front; while nothing is feasible, what breaks the bounds least."""
        self._update(history)
        if not history.finished:
            least = sorted(self._broken, key=lambda record: (record.violation, record.number))
            return [record.architecture for record in least[: self.config.parents]]
        losses, rows = history.losses(), list[int]()
        if losses.shape[1] > 1:
            members, most = list(self._front), _OF_FRONT * self.config.parents
            chosen = (
                sorted(rng.choice(len(members), most, replace=False)) if len(members) > most else range(len(members))
            )
            rows += [members[i] for i in chosen]
        for column in losses.T:
            rows += smallest(column, self.config.parents)
        return list(dict.fromkeys(history.finished[i].architecture for i in rows))

    def _update(self, history: History) -> None:
        if history is not self._history:
            self._history, self._cursor = history, 0
            self._num_finished, self._broken, self._front = 0, [], Front()
        self._broken += [r for r in history.since(self._cursor) if r.violation > 0 and not r.is_finished]
        losses = history.losses()
        if losses.shape[1] > 1:
            for row in range(self._num_finished, len(losses)):
                self._front.add(row, losses[row])
        self._cursor, self._num_finished = len(history), len(losses)


def _root(history: History) -> int:
    """A seed that belongs to a search: what its first proposal was."""
    return 0 if history.first is None else int(history.first.digest, 16)


def smallest(column: npt.NDArray[np.float64], count: int) -> list[int]:
    """Rows of the `count` smallest, the older first among equals."""
    if len(column) > count:
        limit = np.partition(column, count - 1)[count - 1]
        among = np.flatnonzero(column <= limit)
    else:
        among = np.arange(len(column))
    return [int(i) for i in among[np.argsort(column[among], kind="stable")][:count]]
