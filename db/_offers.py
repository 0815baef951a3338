"""Evaluations in the hands of devices of the user's: offered, claimed for a time, answered once.

An offer can be claimed while its evaluation is pending, its job goes on, and the unit that offered it is not over. Like
everything of a job it changes under the lock of the job's row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from db import _events, _jobs
from db._engine import Database, chunks, upsert
from db._evaluations import fidelity_of, id_of, place_of
from db._fence import Fence
from db._models import Query, Row, evaluations, jobs, offers, units
from db._states import WORKABLE
from nas.claims import Answer, Claim, Offer
from nas.resources import EvaluationState, JobState, UnitState
from searchspaces import Conflict, InvalidState, LeaseLost, NotFound, SpecError, Violation, one_of

_WANTED = (*WORKABLE, JobState.PAUSING, JobState.PAUSED)  # a paused job takes answers, and hands nothing out
_KEYS = {"evaluation_id", "attempt"}


class OfferState(StrEnum):
    """Where an offer stands; ANSWERED is the end."""

    OPEN = "OPEN"
    CLAIMED = "CLAIMED"
    ANSWERED = "ANSWERED"


class LeasedExchange:
    """The offers of a leased unit (`nas.ports.Exchange`)."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    def offer(self, wanted: Sequence[Offer]) -> None:
        """Let devices claim pending evaluations.

        One that was offered before stays as it is, with its answer; only its timeout begins anew, for while the unit
        was nobody's, as in a pause, devices could not claim it.
        """
        unit = self._fence.unit
        with self._fence.write() as held:
            rows = [_row(unit.unit_id, offer, held.now) for offer in wanted]
            upsert(held.connection, offers, rows, ["unit_id", "overdue_at"])

    def collect(self, evaluation_ids: Sequence[str]) -> list[Answer]:
        """The answers that are there; what is lost or overdue for good is answered with its error."""
        numbers = [place_of(evaluation_id)[1] for evaluation_id in evaluation_ids]
        with self._fence.read() as connection:
            now = self._fence.database.now(connection)
            found = self._due(connection, numbers, now)
        if any(row.state != OfferState.ANSWERED for row in found):
            with self._fence.write() as held:
                for row in self._due(held.connection, numbers, held.now):
                    _take_back(held.connection, row, held.now, is_awaited=True)
                found = self._due(held.connection, numbers, held.now)
        return [_answer(row) for row in found if row.state == OfferState.ANSWERED]

    def _due(self, connection: sa.Connection, numbers: Sequence[int], now: datetime) -> list[Row]:
        """Those of the offers that were answered, or ought to have been."""
        due = sa.or_(offers.c.state == OfferState.ANSWERED, _is_expired(now), offers.c.overdue_at < now)
        mine = offers.c.job_id == self._fence.unit.job_id
        queries = (sa.select(offers).where(mine, offers.c.number.in_(some), due) for some in chunks(numbers))
        return [row for query in queries for row in connection.execute(query.order_by(offers.c.number))]


def claim(database: Database, *, target: str | None, job_id: str | None, worker: str, count: int) -> list[Claim]:
    """Lease up to `count` evaluations of a target or a job, those that wait longest first.

    Raises:
        NotFound: there is no such job. InvalidState: it is over.
    """
    _reclaim_expired(database)
    chosen = [_CLAIMABLE]
    chosen += [offers.c.target == target] if target is not None else []
    chosen += [offers.c.job_id == job_id] if job_id is not None else []
    with database.read() as connection:
        if job_id is not None:
            _refuse_if_over(connection, job_id)
        waiting = _joined(offers.c.job_id).where(*chosen).group_by(offers.c.job_id)
        first = sa.func.min(offers.c.offered_at)
        job_ids = list(connection.execute(waiting.order_by(first, offers.c.job_id)).scalars())
    found: list[Claim] = []
    for each in job_ids:
        if len(found) == count:
            break
        with database.write() as connection:
            connection.execute(sa.select(jobs.c.job_id).where(jobs.c.job_id == each).with_for_update())
            now = database.now(connection)
            query = _claims().where(*chosen, offers.c.job_id == each).order_by(offers.c.offered_at, offers.c.number)
            rows = connection.execute(query.limit(count - len(found))).all()
            found += [_taken(connection, row, worker, now) for row in rows]
    return found


def renew(database: Database, evaluation_id: str, attempt: int) -> Claim:
    """Hold a claim for its whole time again. Raises NotFound, LeaseLost."""
    with _held(database, evaluation_id, attempt) as (connection, row, now):
        until = now + timedelta(seconds=row.terms["lease_seconds"])
        connection.execute(_change(row).values(lease_until=until))
        return _claim(row, attempt=attempt, worker=row.worker, until=until)


def release(database: Database, evaluation_id: str, attempt: int) -> None:
    """Give an evaluation back at once; nothing is held against it. Raises NotFound, LeaseLost."""
    with _held(database, evaluation_id, attempt) as (connection, row, _):
        connection.execute(_change(row).values(state=OfferState.OPEN, lease_until=None))


def answer(database: Database, given: Answer) -> Answer:
    """Keep what a device measured; the same answer again changes nothing.

    Raises:
        NotFound, LeaseLost: the claim ran out. SpecError: not every metric, or others. Conflict: it was answered
        otherwise.
    """
    with _held(database, given.evaluation_id, given.attempt, answered=True) as (connection, row, now):
        said = given.model_dump(mode="json", exclude=_KEYS)
        if row.state == OfferState.ANSWERED:
            kept = {**row.answer, "seconds": said["seconds"]}
            if kept != said:
                raise Conflict(
                    f"{given.evaluation_id} was answered by this claim before, with other values; those stay"
                )
            return _answer(row)
        if wrong := _violations(given, tuple(row.terms["metrics"])):
            raise SpecError(wrong)
        if given.seconds is None:
            said["seconds"] = (now - row.claimed_at).total_seconds()
        connection.execute(_change(row).values(state=OfferState.ANSWERED, lease_until=None, answer=said))
        return given.model_copy(update={"seconds": said["seconds"]})


# --- inside ----------------------------------------------------------------------------------------------------------


class _Held(NamedTuple):
    """A write transaction of a device whose claim holds."""

    connection: sa.Connection
    row: Row
    now: datetime


@contextmanager
def _held(database: Database, evaluation_id: str, attempt: int, *, answered: bool = False) -> Iterator[_Held]:
    """A transaction that holds the job's row and an offer of this attempt: claimed, or `answered` too."""
    job_id, number = place_of(evaluation_id)
    with database.write() as connection:
        connection.execute(sa.select(jobs.c.job_id).where(jobs.c.job_id == job_id).with_for_update())
        query = _claims().where(offers.c.job_id == job_id, offers.c.number == number)
        row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"no evaluation {evaluation_id!r} is offered to devices")
        now = database.now(connection)
        is_repeated = answered and row.state == OfferState.ANSWERED
        is_held = row.state == OfferState.CLAIMED and row.lease_until >= now and _is_wanted(row)
        if row.attempt != attempt or not (is_held or is_repeated):
            raise LeaseLost(f"LEASE_LOST: {evaluation_id} is no longer attempt {attempt}'s to answer; claim another")
        yield _Held(connection, row, now)


def _is_wanted(row: Row) -> bool:
    is_pending = row.evaluation_state == EvaluationState.PENDING
    return is_pending and row.job_state in _WANTED and row.unit_state in (UnitState.READY, UnitState.LEASED)


def _joined(*columns: sa.Column[Any] | sa.Label[Any] | sa.Table) -> Query:
    """Offers with their evaluation, job and unit."""
    pair = sa.and_(evaluations.c.job_id == offers.c.job_id, evaluations.c.number == offers.c.number)
    source = offers.join(evaluations, pair).join(jobs, jobs.c.job_id == offers.c.job_id)
    return sa.select(*columns).select_from(source.join(units, units.c.unit_id == offers.c.unit_id))


def _claims() -> Query:
    """Offers with what a claim tells of the evaluation, and with what says whether it is still wanted."""
    told = evaluations.c.text, evaluations.c.digest, evaluations.c.level, evaluations.c.resources
    states = [table.c.state.label(f"{name}_state") for name, table in _STATES.items()]
    return _joined(offers, *told, evaluations.c.replicate, *states)


_STATES = {"evaluation": evaluations, "job": jobs, "unit": units}
_CLAIMABLE = sa.and_(
    offers.c.state == OfferState.OPEN,
    evaluations.c.state == EvaluationState.PENDING,
    jobs.c.state.in_(WORKABLE),
    units.c.state.in_((UnitState.READY, UnitState.LEASED)),
)


def _refuse_if_over(connection: sa.Connection, job_id: str) -> None:
    state = _jobs.read(connection, job_id).state
    if state.is_terminal:
        raise InvalidState(f"job {job_id} is {state}: nothing of it is left to measure")


def _row(unit_id: str, offer: Offer, now: datetime) -> dict[str, Any]:
    job_id, number = place_of(offer.evaluation_id)
    timeout = offer.timeout_seconds
    return {
        "job_id": job_id,
        "number": number,
        "unit_id": unit_id,
        "target": offer.target,
        "state": OfferState.OPEN,
        "attempt": 0,
        "losses": 0,
        "overdue_at": None if timeout is None else now + timedelta(seconds=timeout),
        "offered_at": now,
        "terms": offer.model_dump(mode="json", exclude={"evaluation_id", "target"}),
    }


def _taken(connection: sa.Connection, row: Row, worker: str, now: datetime) -> Claim:
    """Lease an open offer."""
    attempt, until = row.attempt + 1, now + timedelta(seconds=row.terms["lease_seconds"])
    values = {"state": OfferState.CLAIMED, "attempt": attempt, "worker": worker, "lease_until": until}
    connection.execute(_change(row).values(claimed_at=now, **values))
    return _claim(row, attempt=attempt, worker=worker, until=until)


def _is_expired(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(offers.c.state == OfferState.CLAIMED, offers.c.lease_until < now)


def _reclaim_expired(database: Database) -> None:
    """Give back every claim that has run out. Costs one read while there is none."""
    with database.read() as connection:
        query = sa.select(offers.c.job_id).where(_is_expired(database.now(connection))).distinct()
        job_ids = list(connection.execute(query.order_by(offers.c.job_id)).scalars())
    for job_id in job_ids:
        with database.write() as connection:
            connection.execute(sa.select(jobs.c.job_id).where(jobs.c.job_id == job_id).with_for_update())
            now = database.now(connection)
            expired = sa.select(offers).where(offers.c.job_id == job_id, _is_expired(now))
            for row in connection.execute(expired.order_by(offers.c.number)).all():
                _take_back(connection, row, now, is_awaited=False)


def _take_back(connection: sa.Connection, row: Row, now: datetime, *, is_awaited: bool) -> None:
    """End a claim that ran out, and an offer that is lost too often, or overdue and awaited; an answered one stays."""
    if row.state == OfferState.ANSWERED:
        return
    evaluation_id, worker = id_of(row.job_id, row.number), row.worker
    is_expired = row.state == OfferState.CLAIMED and row.lease_until < now
    losses, error = row.losses + is_expired, None
    if losses >= row.terms["attempts"]:
        error = f"{losses} devices claimed it and went silent, the last being {worker}; see what it does to them"
    elif is_awaited and row.overdue_at is not None and row.overdue_at < now:
        error = f"no device of {row.target!r} answered within {row.terms['timeout_seconds']:g} s"
    if is_expired:
        message = "the device went silent; " + ("the evaluation fails" if error else "the evaluation waits for another")
        told = {"evaluation": evaluation_id, "attempt": row.attempt, "worker": worker, "message": message}
        _events.append(connection, row.job_id, [("lease", told)], now)
    values: dict[str, Any] = {"state": OfferState.OPEN, "losses": losses, "lease_until": None}
    if error is not None:  # the next attempt is the store's own, so that a late answer is refused
        said = Answer(evaluation_id=evaluation_id, attempt=row.attempt + 1, error=error)
        values |= {"state": OfferState.ANSWERED, "attempt": row.attempt + 1}
        values["answer"] = said.model_dump(mode="json", exclude=_KEYS)
    connection.execute(_change(row).values(**values))


def _change(row: Row) -> sa.Update:
    return sa.update(offers).where(offers.c.job_id == row.job_id, offers.c.number == row.number)


def _claim(row: Row, *, attempt: int, worker: str, until: datetime) -> Claim:
    return Claim(
        evaluation_id=id_of(row.job_id, row.number),
        job_id=row.job_id,
        target=row.target,
        worker=worker,
        attempt=attempt,
        expires_at=until,
        text=row.text,
        digest=row.digest,
        fidelity=fidelity_of(row),
        replicate=row.replicate,
        **{name: row.terms[name] for name in ("lease_seconds", "space", "options", "seed", "metrics")},
    )


def _answer(row: Row) -> Answer:
    return Answer(evaluation_id=id_of(row.job_id, row.number), attempt=row.attempt, **row.answer)


def _violations(given: Answer, metrics: Sequence[str]) -> list[Violation]:
    """What is wrong with an answer: every metric is measured, and no other; or there is an error, and nothing else."""
    wrong = [
        Violation(f"{field}.{name}", f"{value:g}", f"a metric of this evaluation, {one_of(name, metrics)}")
        for field, values in (("measurements", given.measurements), ("std", given.std))
        for name, value in values.items()
        if name not in metrics
    ]
    if given.error is not None:
        expected = "measurements or an error, not both"
        return wrong or ([Violation("error", repr(given.error), expected)] if given.measurements else [])
    missing = [name for name in metrics if name not in given.measurements]
    return wrong + [
        Violation(f"measurements.{name}", "nothing", "a finite number, or an error in place of measurements")
        for name in missing
    ]
