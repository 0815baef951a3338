"""What a searcher sees: the evaluations of a job, columnar, append-only, in commit order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nas.contexts import Context, comparable, key_of
from nas.resources import Evaluation, EvaluationState, Fidelity, JsonObject, Measurement, Objective
from searchspaces import Architecture, SearchSpace

_FULL = Fidelity(level="full")
_PARTIAL = "partial"
_ANY = ("cost", "proxy")  # levels whose values are the same whatever else is spent


@dataclass(frozen=True, slots=True)
class Record:
    """One evaluation as a searcher sees it.

    Attributes:
        number: position among the job's proposals.
        values: one number per objective, in their order and as measured; None unless FINISHED, or INFEASIBLE with all
            of them known.
        violation: how far the constraints are broken, relative; 0 when they hold.
        replicate: how often the architecture was measured before, when it was asked for again.
        fidelity: how dear and how true the measurement is; only equal ones are compared.
    """

    number: int
    architecture: Architecture
    state: EvaluationState
    values: tuple[float, ...] | None
    violation: float = 0.0
    replicate: int = 0
    group: str = ""
    memo: JsonObject = field(default_factory=dict)
    fidelity: Fidelity = _FULL

    @property
    def is_finished(self) -> bool:
        """Whether it has all its values, measured at the job's own fidelity."""
        is_whole = self.fidelity.level != _PARTIAL
        return is_whole and self.state is EvaluationState.FINISHED and self.values is not None


class History:
    """Settled evaluations in commit order, and those still pending.

    `settled` only grows; `since(cursor)` gives what is new, so that a searcher's cache costs O(new).

    Attributes:
        finished: of the settled ones those that have all their values, one for each row of `losses()`.
        first: what was proposed first; None before.
        cheaper: histories of the same architectures at less than this one's fidelity, cheapest first.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives = tuple(objectives)
        self.settled: list[Record] = []
        self.finished: list[Record] = []
        self.first: Architecture | None = None
        self.pending: dict[int, Record] = {}
        self.cheaper: tuple[History, ...] = ()
        self._signs = np.array([1.0 if o.direction == "min" else -1.0 for o in self.objectives])
        self._losses = np.empty((64, len(self.objectives)))
        self._seen: dict[str, int] = {}
        self._contexts: dict[str, Context] = {}
        self._metrics = frozenset(objective.metric for objective in self.objectives)
        self._walk: tuple[SearchSpace, Iterator[Architecture], list[Architecture]] | None = None

    def __len__(self) -> int:
        return len(self.settled)

    @property
    def num_proposals(self) -> int:
        """How many proposals have been made so far, settled or not."""
        return len(self.settled) + len(self.pending)

    def note(self, architecture: Architecture) -> None:
        """Say that an architecture was proposed, though no record here is of it."""
        self._seen.setdefault(architecture.digest, -1)

    def since(self, cursor: int) -> Sequence[Record]:
        """The settled records after the first `cursor` ones."""
        return self.settled[cursor:]

    def has_seen(self, architecture: Architecture) -> bool:
        """Whether this architecture was proposed before, in whatever state it is."""
        return architecture.digest in self._seen

    def first_unseen(self, space: SearchSpace, taken: Set[str]) -> Architecture | None:
        """The first architecture in the space's order that was not proposed before and is not in `taken` (digests).

        What was proposed stays so: the walk goes on where it was left, and costs a step for every proposal, over all.
        """
        if self._walk is None or self._walk[0] is not space:
            self._walk = space, space.iterate(), []
        _, rest, passed = self._walk
        passed[:] = [a for a in passed if not self.has_seen(a)]  # were taken once, and may have been dropped then
        found = next((a for a in passed if a.digest not in taken), None)
        while found is None and (ahead := next(rest, None)) is not None:
            if not self.has_seen(ahead):
                passed.append(ahead)
                found = None if ahead.digest in taken else ahead
        return found

    @property
    def num_distinct(self) -> int:
        """How many different architectures were proposed."""
        return len(self._seen)

    def loss(self, record: Record) -> npt.NDArray[np.float64] | None:
        """The record's objective values, signed so that less is better; None when it has none."""
        return None if record.values is None else self._signs * np.array(record.values)

    def losses(self) -> npt.NDArray[np.float64]:
        """`finished records x objectives`, signed so that less is better; feasible and whole ones, in commit order.

        A view that is not to be written to; it costs nothing, however many there are.
        """
        view = self._losses[: len(self.finished)]
        view.flags.writeable = False
        return view

    def add(self, record: Record) -> None:
        """Append one record; a pending one is replaced when it settles."""
        self._seen.setdefault(record.architecture.digest, record.number)
        if record.number == 0:
            self.first = record.architecture
        if record.state is EvaluationState.PENDING:
            self.pending[record.number] = record
            return
        self.pending.pop(record.number, None)
        self.settled.append(record)
        if record.is_finished:
            if len(self.finished) == len(self._losses):
                self._losses = np.concatenate((self._losses, np.empty_like(self._losses)))
            self._losses[len(self.finished)] = self._signs * np.array(record.values)
            self.finished.append(record)

    def extend(self, evaluations: Iterable[Evaluation], space: SearchSpace) -> None:
        """Append evaluations as the store gives them."""
        for evaluation in evaluations:
            self.add(record_of(self._compared(evaluation), space, self.objectives))

    def _compared(self, evaluation: Evaluation) -> Evaluation:
        """An evaluation without what cannot be compared with what was measured before: values of another context."""
        like = [m for m in evaluation.measurements if m.metric not in self._metrics or self._is_like(m)]
        if len(like) == len(evaluation.measurements):
            return evaluation
        return evaluation.model_copy(update={"measurements": tuple(like)})

    def _is_like(self, measurement: Measurement) -> bool:
        """Whether a value has the context of the first one of its metric and level."""
        mine = comparable(measurement)
        return self._contexts.setdefault(key_of(measurement), mine) == mine


def record_of(evaluation: Evaluation, space: SearchSpace, objectives: Sequence[Objective]) -> Record:
    """One evaluation as a searcher sees it."""
    measured = {f"{m.metric}@{m.fidelity.level}": m.value for m in evaluation.measurements}
    is_partial = evaluation.proposal.fidelity.level == _PARTIAL
    keys = [f"{o.metric}@{_PARTIAL}" if is_partial and o.level not in _ANY else o.key for o in objectives]
    known = all(key in measured for key in keys)
    has_values = known and evaluation.state in (EvaluationState.FINISHED, EvaluationState.INFEASIBLE)
    return Record(
        number=evaluation.number,
        architecture=space.parse(evaluation.proposal.text),
        state=evaluation.state,
        values=tuple(measured[key] for key in keys) if has_values else None,
        violation=evaluation.violation,
        replicate=evaluation.proposal.replicate,
        group=evaluation.proposal.group,
        memo=evaluation.proposal.memo,
        fidelity=evaluation.proposal.fidelity,
    )
