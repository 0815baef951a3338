"""What a searcher sees: the evaluations of a job, columnar, append-only, in commit order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nas.resources import Evaluation, EvaluationState, Fidelity, JsonObject, Objective
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


class History:
    """Settled evaluations in commit order, and those still pending.

    `settled` only grows; `since(cursor)` gives what is new, so that a searcher's cache costs O(new).

    Attributes:
        cheaper: histories of the same architectures at less than this one's fidelity, cheapest first.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives = tuple(objectives)
        self.settled: list[Record] = []
        self.pending: dict[int, Record] = {}
        self.cheaper: tuple[History, ...] = ()
        self._signs = np.array([1.0 if o.direction == "min" else -1.0 for o in self.objectives])
        self._losses = np.empty((64, len(self.objectives)))
        self._num_losses = 0
        self._seen: dict[str, int] = {}

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
        view = self._losses[: self._num_losses]
        view.flags.writeable = False
        return view

    def add(self, record: Record) -> None:
        """Append one record; a pending one is replaced when it settles."""
        self._seen.setdefault(record.architecture.digest, record.number)
        if record.state is EvaluationState.PENDING:
            self.pending[record.number] = record
            return
        self.pending.pop(record.number, None)
        self.settled.append(record)
        is_whole = record.fidelity.level != _PARTIAL
        if is_whole and record.state is EvaluationState.FINISHED and record.values is not None:
            if self._num_losses == len(self._losses):
                self._losses = np.concatenate((self._losses, np.empty_like(self._losses)))
            self._losses[self._num_losses] = self._signs * np.array(record.values)
            self._num_losses += 1

    def extend(self, evaluations: Iterable[Evaluation], space: SearchSpace) -> None:
        """Append evaluations as the store gives them."""
        for evaluation in evaluations:
            self.add(record_of(evaluation, space, self.objectives))


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
