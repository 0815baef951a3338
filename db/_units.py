"""Units of work: leased to workers, given back, done, lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from db import _clock, _events, _jobs
from db._engine import Database
from db._fence import Held
from db._jobs import EXPORT, STAGE
from db._models import Row, jobs, units
from db._states import WORKABLE
from nas.resources import JobState, JsonObject, Phase, Unit, UnitState
from searchspaces import Violation

MAX_LOSSES = 5
MAX_FAILURES = 3


def reclaim_expired(database: Database) -> None:
    """Give back every unit whose lease has run out. Costs one read while there is none."""
    with database.read() as connection:
        now = database.now(connection)
        query = sa.select(units.c.unit_id, units.c.job_id).where(_is_expired(now))
        expired = connection.execute(query.order_by(units.c.lease_until)).all()
    for unit_id, job_id in expired:
        with database.write() as connection:
            now = database.now(connection)
            job = connection.execute(sa.select(jobs).where(jobs.c.job_id == job_id).with_for_update()).first()
            unit = connection.execute(sa.select(units).where(units.c.unit_id == unit_id, _is_expired(now))).first()
            if job is not None and unit is not None:
                _take_back(connection, job, unit, now)


def jobs_with_work(connection: sa.Connection) -> list[str]:
    """Jobs that have a unit to lease or a stage to plan, oldest first; dry runs before all: somebody waits."""
    ready = sa.exists().where(units.c.job_id == jobs.c.job_id, units.c.state == UnitState.READY)
    leased = sa.exists().where(
        units.c.job_id == jobs.c.job_id, units.c.kind == STAGE, units.c.state == UnitState.LEASED
    )
    workable = sa.and_(jobs.c.state.in_(WORKABLE), sa.or_(ready, ~leased))
    exports = units.c.kind == EXPORT
    wanted = sa.select(units.c.job_id).where(exports, units.c.state == UnitState.READY)
    query = sa.select(jobs.c.job_id).where(sa.or_(workable, jobs.c.job_id.in_(wanted)))
    return list(connection.execute(query.order_by(jobs.c.dry_run.desc(), jobs.c.job_id)).scalars())


def take(database: Database, job_id: str, worker_id: str, lease_seconds: float) -> Unit | None:
    """Lease the job's first ready unit, exports before stages."""
    with database.write() as connection:
        job = connection.execute(sa.select(jobs).where(jobs.c.job_id == job_id).with_for_update()).first()
        if job is None:
            return None
        ready = sa.select(units).where(units.c.job_id == job_id, units.c.state == UnitState.READY)
        if not _jobs.is_workable(job):
            ready = ready.where(units.c.kind == EXPORT)
        row = connection.execute(ready.order_by(units.c.kind, units.c.position, units.c.unit_id).limit(1)).first()
        if row is None:
            return None
        now = database.now(connection)
        values = {
            "state": UnitState.LEASED,
            "attempt": row.attempt + 1,
            "worker_id": worker_id,
            "lease_until": now + timedelta(seconds=lease_seconds),
        }
        connection.execute(sa.update(units).where(units.c.unit_id == row.unit_id).values(**values))
        if row.kind == STAGE:
            _clock.start(connection, job_id, now)
            if job.state == JobState.QUEUED:
                _jobs.move(connection, job, "start", now)
        return unit_of(row).model_copy(update={"state": UnitState.LEASED, "attempt": row.attempt + 1})


def insert(
    connection: sa.Connection,
    job_id: str,
    plans: Sequence[tuple[str, str, JsonObject]],
    *,
    kind: str,
    stage: Phase,
    round_: int,
    now: datetime,
) -> None:
    """Write READY units from (unit id, key, payload)."""
    rows = [
        {
            "unit_id": unit_id,
            "job_id": job_id,
            "kind": kind,
            "stage": stage,
            "round": round_,
            "key": key,
            "position": position,
            "payload": payload,
            "state": UnitState.READY,
            "attempt": 0,
            "failures": 0,
            "losses": 0,
            "created_at": now,
        }
        for position, (unit_id, key, payload) in enumerate(plans)
    ]
    if rows:
        connection.execute(sa.insert(units), rows)


def complete(held: Held, unit: Unit, result: JsonObject) -> None:
    """The unit is done."""
    output_key = result.get("output_key")
    values = {"state": UnitState.DONE, "result": result, "output_key": output_key and str(output_key)}
    _end(held.connection, unit.unit_id, values)
    _jobs.rest(held.connection, unit.job_id, held.now)


def fail(held: Held, unit: Unit, message: str, *, retryable: bool, violations: Sequence[Violation] = ()) -> None:
    """The attempt failed; the unit is tried again, or it failed and its job with it (an export fails alone)."""
    row = held.connection.execute(sa.select(units).where(units.c.unit_id == unit.unit_id)).one()
    failures = row.failures + 1
    if retryable and failures < MAX_FAILURES:
        text = f"{message}; tried again ({failures} of {MAX_FAILURES})"
        _tell(held.connection, row, text, held.now)
        _put_back(held.connection, held.job, row, {"failures": failures, "error": message})
    else:
        _end(held.connection, unit.unit_id, {"state": UnitState.FAILED, "failures": failures, "error": message})
        if row.kind == STAGE:
            _jobs.fail(held.connection, held.job, message, held.now, violations=violations)
    _jobs.rest(held.connection, unit.job_id, held.now)


def release(held: Held, unit: Unit) -> None:
    """The worker lets go of the unit; nothing is held against it."""
    row = held.connection.execute(sa.select(units).where(units.c.unit_id == unit.unit_id)).one()
    _put_back(held.connection, held.job, row, {})
    _let_go(held.connection, row, held.now)
    _jobs.rest(held.connection, unit.job_id, held.now)


def pause(held: Held, unit: Unit, reason: str) -> None:
    """Let go of the unit, and have its job wait until somebody resumes it; an export waits alone."""
    if unit.kind == STAGE:
        _jobs.interrupt(held.connection, held.job, reason, held.now)
    release(held, unit)


def unit_of(row: Row) -> Unit:
    """The plain value of a row."""
    return Unit(
        unit_id=row.unit_id,
        job_id=row.job_id,
        kind=row.kind,
        stage=Phase(row.stage),
        key=row.key,
        payload=row.payload,
        state=UnitState(row.state),
        attempt=row.attempt,
        result=row.result,
    )


def _is_expired(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(units.c.state == UnitState.LEASED, units.c.lease_until < now)


def _take_back(connection: sa.Connection, job: Row, unit: Row, now: datetime) -> None:
    losses = unit.losses + 1
    if losses < MAX_LOSSES:
        _tell(connection, unit, "the worker went silent; the unit waits for another", now)
        _put_back(connection, job, unit, {"losses": losses})
        _let_go(connection, unit, min(now, unit.lease_until))
    else:
        reason = (
            f"unit {unit.key} of stage {unit.stage} was lost by {losses} workers, the last being {unit.worker_id}: "
            "see the workers' logs (memory?), then submit the job again"
        )
        _tell(connection, unit, reason, now)
        _end(connection, unit.unit_id, {"state": UnitState.FAILED, "losses": losses, "error": reason})
        if unit.kind == STAGE:
            _jobs.fail(connection, job, reason, now)
    _jobs.rest(connection, job.job_id, now)


def _let_go(connection: sa.Connection, unit: Row, until: datetime) -> None:
    """The job's clock stands while nobody has a unit of it that was begun."""
    if unit.kind == STAGE and not _jobs.has_units(connection, unit.job_id, UnitState.LEASED):
        _clock.stop(connection, unit.job_id, until)


def _put_back(connection: sa.Connection, job: Row, unit: Row, values: dict[str, Any]) -> None:
    is_over = unit.kind == STAGE and (JobState(job.state).is_terminal or job.state == JobState.CANCELLING)
    _end(connection, unit.unit_id, {"state": UnitState.DROPPED if is_over else UnitState.READY, **values})


def _end(connection: sa.Connection, unit_id: str, values: dict[str, Any]) -> None:
    values = {"worker_id": None, "lease_until": None, **values}
    connection.execute(sa.update(units).where(units.c.unit_id == unit_id).values(**values))


def _tell(connection: sa.Connection, unit: Row, message: str, now: datetime) -> None:
    data = {"unit": unit.unit_id, "attempt": unit.attempt, "worker": unit.worker_id, "message": message}
    _events.append(connection, unit.job_id, [("lease", data)], now)
