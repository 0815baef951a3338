"""What searchers that learn from one record after the other have in common: rank, reward, and going on from there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.history import History, Record
from nas.pareto import by_rank
from nas.resources import EvaluationState, Objective
from nas.searchers._searcher import Searcher
from searchspaces import SearchSpace

Floats = npt.NDArray[np.float64]

_REFERENCES = 512
"""Most records that a reward is held against; so a record costs the same however long the history is."""


class FollowingSearcher(Searcher):
    """A searcher whose state follows from the settled records, taken in one by one in commit order.

    So a fresh object gets where an old one is, and an old one pays only for what is new.
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self._history: History | None = None
        self._cursor = 0

    @abstractmethod
    def forget(self) -> None:
        """Be as before the first record."""

    @abstractmethod
    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record; `loss` is `objectives`, less is better, None when it has no values."""

    def follow(self, history: History) -> None:
        """Take in what is new in `history`; all of it when it is another one."""
        self.attend(history)
        for record in history.since(self._cursor):
            self.learn(record, history.loss(record))
        self._cursor = len(history)

    def attend(self, history: History) -> None:
        """Forget what another history said."""
        if history is not self._history:
            self._history, self._cursor = history, 0
            self.forget()


def is_comparable(record: Record) -> bool:
    """Whether a record can be compared with others: it has finished, or is infeasible by a known amount."""
    finished = record.state is EvaluationState.FINISHED and record.values is not None
    return finished or record.state is EvaluationState.INFEASIBLE


def places(history: History, records: Sequence[Record]) -> npt.NDArray[np.int64]:
    """Place of each comparable record, 0 for the best: feasible by rank and crowding, then infeasible by violation."""
    feasible = [i for i, r in enumerate(records) if r.state is EvaluationState.FINISHED and r.values is not None]
    losses = np.array([history.loss(records[i]) for i in feasible], dtype=float)
    best_first = [feasible[i] for i in by_rank(losses.reshape(len(feasible), len(history.objectives)))]
    broken = sorted(set(range(len(records))) - set(feasible), key=lambda i: (records[i].violation, i))
    order = np.empty(len(records), dtype=np.int64)
    order[[*best_first, *broken]] = np.arange(len(records))
    return order


class Rewards:
    """A reward in [0, 1] for every record: the share of the records so far that do not dominate it.

    For one objective that is its rank among them, so a heavy tail of bad architectures does not press the good ones
    together; for several the rank of Fonseca and Fleming (1993), Genetic Algorithms for Multiobjective Optimization.
    Feasible dominates infeasible, less violation more (Deb 2002), so nothing is ever penalised by a made-up value.

    What is compared with is at most 512 records, evenly spread over the history and drawn anew, by position, whenever
    it has grown by a quarter; then all rewards change and `version` counts up.
    """

    def __init__(self) -> None:
        self.version = 0
        self._num_ranked = 0
        self._rows: list[Floats] = []  # violation, losses
        self._values: list[float] = []
        self._references: Floats = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, position: int) -> float:
        return self._values[position]

    def add(self, violation: float, loss: Floats | None, num_objectives: int) -> None:
        """Reward one more record; `loss` counts only where the violation is 0."""
        known = loss if violation == 0 and loss is not None else np.zeros(num_objectives)
        self._rows.append(np.concatenate(([violation], known)))
        if self._num_ranked and len(self._rows) < 1.25 * self._num_ranked:
            self._values.append(float(_shares(self._rows[-1][None, :], self._references)[0]))
            return
        rows = np.array(self._rows)
        spread = np.linspace(0, len(rows) - 1, min(len(rows), _REFERENCES)).astype(int)
        self._references, self._num_ranked = rows[spread], len(rows)
        self._values = _shares(rows, self._references).tolist()
        self.version += 1


def _shares(rows: Floats, references: Floats) -> Floats:
    """For each row (violation, losses) the share of the references that do not dominate it."""
    row, reference = rows[:, None, :], references[None, :, :]  # rows x references x (1 + objectives)
    no_worse = (reference[..., 1:] <= row[..., 1:]).all(axis=2)
    better = (reference[..., 1:] < row[..., 1:]).any(axis=2)
    both_hold = (reference[..., 0] == 0) & (row[..., 0] == 0)
    dominated = (reference[..., 0] < row[..., 0]) | (both_hold & no_worse & better)
    return np.asarray(1.0 - dominated.mean(axis=1))
