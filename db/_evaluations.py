"""Evaluations: proposed, and settled once; candidates, their values and the front change in the same transaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from db import _front
from db._contexts import JobContexts
from db._engine import chunks, incoming, upsert
from db._fence import Held
from db._models import Row, candidate_values, candidates, evaluations, jobs, measurements
from nas.contexts import key_of
from nas.ports import Tally
from nas.resources import (
    AUDITED,
    Evaluation,
    EvaluationState,
    Fidelity,
    Measurement,
    Objective,
    Proposal,
    Settlement,
)
from nas.spec import Level
from searchspaces import MeasurementError, NotFound

_PARTIAL: Level = "partial"
_RUNGS: tuple[Level, ...] = (_PARTIAL, "contender")  # of one architecture there are several, of unlike lengths
_DIGITS = 10  # of an integer column: fewer always fit


def propose(held: Held, proposals: Sequence[Proposal]) -> list[Evaluation]:
    """Write proposals as PENDING, in order; one that exists already (digest, fidelity, replicate) is left out."""
    job_id, known = held.job.job_id, _known(held, proposals)
    new: list[Proposal] = []
    for proposal in proposals:
        key = (proposal.digest, _stored(proposal.fidelity), proposal.replicate)
        if key not in known:
            known.add(key)
            new.append(proposal)
    if not new:
        return []
    first = held.job.num_proposals
    rows = [_row(job_id, first + i, proposal) for i, proposal in enumerate(new)]
    held.connection.execute(sa.insert(evaluations), rows)
    counted = {"num_proposals": first + len(new)}
    held.connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(**counted))
    return [
        Evaluation(
            evaluation_id=id_of(job_id, first + i),
            job_id=job_id,
            number=first + i,
            proposal=proposal,
            state=EvaluationState.PENDING,
        )
        for i, proposal in enumerate(new)
    ]


def settle(held: Held, settlements: Sequence[Settlement], attempt: int) -> None:
    """End pending evaluations; those settled before stay as they are."""
    job_id, wanted = held.job.job_id, _by_number(held.job.job_id, settlements)
    found: dict[int, Row] = {}
    names = ("number", "digest", "text", "level", "state", "reason")
    columns = [evaluations.c[name] for name in names]
    for numbers in chunks(list(wanted)):
        query = sa.select(*columns).where(evaluations.c.job_id == job_id, evaluations.c.number.in_(numbers))
        found |= {row.number: row for row in held.connection.execute(query)}
    missing = [wanted[number].evaluation_id for number in wanted if number not in found]
    if missing:
        raise NotFound(f"no evaluation {missing[0]!r} in job {job_id}")
    ending = [(found[n], s) for n, s in wanted.items() if found[n].state == EvaluationState.PENDING]
    if not ending:
        return
    _end(held, ending, attempt)
    _write_candidates(held, ending)
    _front.update(held.connection, held.job, ending)


def pending(connection: sa.Connection, job_id: str, *levels: Level) -> list[Evaluation]:
    """Proposed but not settled evaluations of these levels, in order of proposal."""
    query = (
        sa.select(evaluations)
        .where(
            evaluations.c.job_id == job_id,
            evaluations.c.state == EvaluationState.PENDING,
            _at(levels),
        )
        .order_by(evaluations.c.number)
    )
    return [_evaluation(row, ()) for row in connection.execute(query)]


def settled(connection: sa.Connection, job_id: str, *levels: Level, after: int) -> list[Evaluation]:
    """Settled evaluations of these levels with `commit > after`, in commit order, in two queries."""
    chosen = (_at(levels), evaluations.c.commit_number > after)
    return _read(connection, job_id, chosen, evaluations.c.commit_number)


def tally(connection: sa.Connection, job_id: str, *levels: Level) -> Tally:
    """What is settled at these levels: how many, how many finished, and the mean seconds of those that took time."""
    took = sa.func.nullif(evaluations.c.seconds, 0.0)
    finished = sa.case((evaluations.c.state == EvaluationState.FINISHED, 1), else_=0)
    query = sa.select(sa.func.count(), sa.func.sum(finished), sa.func.avg(took)).where(
        evaluations.c.job_id == job_id, _at(levels), evaluations.c.commit_number.is_not(None)
    )
    num_settled, num_finished, seconds = connection.execute(query).one()
    return Tally(int(num_settled), int(num_finished or 0), float(seconds or 0.0))


def _stored(fidelity: Fidelity) -> str:
    """How the column `level` tells fidelities apart: rungs by what they spend, the others by level."""
    if fidelity.level not in _RUNGS:
        return fidelity.level
    return ":".join([fidelity.level, *(f"{name}={value:g}" for name, value in sorted(fidelity.resources.items()))])


def _at(levels: Sequence[Level]) -> sa.ColumnElement[bool]:
    plain = [level for level in levels if level not in _RUNGS]
    wanted: list[sa.ColumnElement[bool]] = [evaluations.c.level.in_(plain)]
    wanted += [evaluations.c.level.startswith(level) for level in levels if level in _RUNGS]
    return sa.or_(*wanted)


def of_candidate(connection: sa.Connection, job_id: str, digest: str) -> list[Evaluation]:
    """All evaluations of one architecture, in order of proposal."""
    return _read(connection, job_id, (evaluations.c.digest == digest,), evaluations.c.number)


def _read(
    connection: sa.Connection, job_id: str, chosen: tuple[sa.ColumnElement[bool], ...], order: sa.Column[Any]
) -> list[Evaluation]:
    rows = connection.execute(
        sa.select(evaluations).where(evaluations.c.job_id == job_id, *chosen).order_by(order)
    ).all()
    measured: dict[int, list[Measurement]] = {}
    for some in chunks([row.number for row in rows if row.state != EvaluationState.PENDING]):
        query = sa.select(measurements).where(measurements.c.job_id == job_id, measurements.c.number.in_(some))
        for row in connection.execute(query.order_by(measurements.c.number, measurements.c.position)):
            measured.setdefault(row.number, []).append(_measurement(row))
    return [_evaluation(row, measured.get(row.number, ())) for row in rows]


def _known(held: Held, proposals: Sequence[Proposal]) -> set[tuple[str, str, int]]:
    known: set[tuple[str, str, int]] = set()
    columns = evaluations.c.digest, evaluations.c.level, evaluations.c.replicate
    for digests in chunks(list({proposal.digest for proposal in proposals})):
        query = sa.select(*columns).where(evaluations.c.job_id == held.job.job_id, evaluations.c.digest.in_(digests))
        known |= {(row.digest, row.level, row.replicate) for row in held.connection.execute(query)}
    return known


def _end(held: Held, ending: Sequence[tuple[Row, Settlement]], attempt: int) -> None:
    """Write how evaluations ended, with their measurements and commit numbers, and count them as spent."""
    job = held.job
    change = sa.update(evaluations).where(
        evaluations.c.job_id == job.job_id, evaluations.c.number == sa.bindparam("at")
    )
    ends = [
        {
            "at": row.number,
            "state": settlement.state,
            "commit_number": job.num_commits + place,
            "attempt": attempt,
            "error": settlement.error,
            "violation": settlement.violation,
            "seconds": settlement.seconds,
        }
        for place, (row, settlement) in enumerate(ending, 1)
    ]
    held.connection.execute(change, ends)
    measured = [
        _measurement_row(job.job_id, row.number, position, measurement)
        for row, settlement in ending
        for position, measurement in enumerate(settlement.measurements)
    ]
    if measured:
        held.connection.execute(sa.insert(measurements), measured)
    levels = {Objective.model_validate(objective).level for objective in job.objectives} - {"cost"} | {_PARTIAL}
    spent = sum(
        row.level.partition(":")[0] in levels and row.reason != AUDITED and _was_evaluated(settlement)
        for row, settlement in ending
    )
    counted = {
        "num_commits": job.num_commits + len(ending),
        "spent_evaluations": jobs.c.spent_evaluations + spent,
    }
    held.connection.execute(sa.update(jobs).where(jobs.c.job_id == job.job_id).values(**counted))


def _write_candidates(held: Held, ending: Sequence[tuple[Row, Settlement]]) -> None:
    job_id = held.job.job_id
    rows: dict[str, dict[str, Any]] = {}
    values: dict[tuple[str, str], float] = {}
    contexts = JobContexts(held)
    for row, settlement in ending:
        flags = {"feasible": True, "finished": False}
        new = {"job_id": job_id, "digest": row.digest, "text": row.text, "number": row.number, **flags}
        candidate = rows.setdefault(row.digest, new)
        candidate["number"] = min(candidate["number"], row.number)
        candidate["feasible"] &= settlement.state != EvaluationState.INFEASIBLE
        candidate["finished"] |= settlement.state == EvaluationState.FINISHED
        for m in settlement.measurements:
            if m.fidelity.level in _RUNGS:
                continue  # of several rungs; the evaluations keep them apart
            if contexts.admits(m):
                values[row.digest, key_of(m)] = m.value
    contexts.write()
    number = incoming(candidates.c.number)
    update = {
        "number": sa.case((number < candidates.c.number, number), else_=candidates.c.number),
        "feasible": sa.and_(candidates.c.feasible, incoming(candidates.c.feasible)),
        "finished": sa.or_(candidates.c.finished, incoming(candidates.c.finished)),
    }
    upsert(held.connection, candidates, list(rows.values()), update)
    value_rows = [{"job_id": job_id, "digest": d, "key": k, "value": value} for (d, k), value in values.items()]
    upsert(held.connection, candidate_values, value_rows, ["value"])


def _was_evaluated(settlement: Settlement) -> bool:
    """Whether it cost an evaluation: what its prices alone ruled out did not."""
    only_priced = all(m.fidelity.level == "cost" for m in settlement.measurements)
    return settlement.state != EvaluationState.INFEASIBLE or not only_priced


def _by_number(job_id: str, settlements: Sequence[Settlement]) -> dict[int, Settlement]:
    """Settlements by the number in their evaluation's id, checked; the first of an id counts."""
    prefix = id_of(job_id, "")
    found: dict[int, Settlement] = {}
    for settlement in settlements:
        number = settlement.evaluation_id.removeprefix(prefix)
        if number == settlement.evaluation_id or not number.isdecimal():
            raise NotFound(f"no evaluation {settlement.evaluation_id!r} in job {job_id}")
        if settlement.state is EvaluationState.PENDING:
            raise ValueError(f"evaluation {settlement.evaluation_id} cannot be settled as PENDING")
        for m in settlement.measurements:
            if not math.isfinite(m.value):
                raise MeasurementError(f"{m.metric} of {settlement.evaluation_id} is {m.value}; settle it as FAILED")
        found.setdefault(int(number), settlement)
    return found


def _row(job_id: str, number: int, proposal: Proposal) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "number": number,
        "digest": proposal.digest,
        "text": proposal.text,
        "level": _stored(proposal.fidelity),
        "resources": proposal.fidelity.resources or None,
        "replicate": proposal.replicate,
        "group": proposal.group,
        "reason": proposal.reason,
        "memo": proposal.memo or None,
        "state": EvaluationState.PENDING,
        "attempt": 0,
        "violation": 0.0,
    }


def _measurement_row(job_id: str, number: int, position: int, measurement: Measurement) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "number": number,
        "position": position,
        "metric": measurement.metric,
        "value": measurement.value,
        "unit": measurement.unit,
        "std": measurement.std,
        "level": measurement.fidelity.level,
        "resources": measurement.fidelity.resources or None,
        "context": measurement.context or None,
    }


def _measurement(row: Row) -> Measurement:
    return Measurement(
        metric=row.metric,
        value=row.value,
        unit=row.unit,
        std=row.std,
        fidelity=Fidelity(level=row.level, resources=row.resources or {}),
        context=row.context or {},
    )


def _evaluation(row: Row, measured: Iterable[Measurement]) -> Evaluation:
    return Evaluation(
        evaluation_id=id_of(row.job_id, row.number),
        job_id=row.job_id,
        number=row.number,
        commit=row.commit_number,
        proposal=Proposal(
            text=row.text,
            digest=row.digest,
            fidelity=fidelity_of(row),
            replicate=row.replicate,
            group=row.group,
            reason=row.reason,
            memo=row.memo or {},
        ),
        state=EvaluationState(row.state),
        attempt=row.attempt,
        error=row.error,
        violation=row.violation,
        measurements=tuple(measured),
        seconds=row.seconds,
    )


def fidelity_of(row: Row) -> Fidelity:
    """The fidelity of an evaluation's row."""
    return Fidelity.model_validate({"level": row.level.partition(":")[0], "resources": row.resources or {}})


def place_of(evaluation_id: str) -> tuple[str, int]:
    """The job and number of an evaluation's id.

    Raises:
        NotFound: it is no id of an evaluation.
    """
    kind, _, rest = evaluation_id.partition("_")
    job, _, number = rest.rpartition("_")
    if kind != "eval" or not (number.isascii() and number.isdecimal() and len(number) < _DIGITS):
        raise NotFound(f"no evaluation {evaluation_id!r}")
    return f"job_{job}", int(number)


def id_of(job_id: str, number: int | str) -> str:
    """The id of a job's evaluation; `place_of` is its inverse."""
    return f"eval_{job_id.removeprefix('job_')}_{number}"
