"""Dry runs: jobs whose first stage is all, which no list of jobs shows and an hour forgets."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from db import _jobs, _registers
from db._models import Row, jobs
from nas.preflights import Preflight, PreflightState
from nas.resources import JobState, Objective, PreflightReport
from nas.spec import JobSpec
from searchspaces import NotFound

_KEPT = timedelta(hours=1)

_STATES = {
    JobState.QUEUED: PreflightState.QUEUED,
    JobState.SUCCEEDED: PreflightState.SUCCEEDED,
    JobState.FAILED: PreflightState.FAILED,
    JobState.CANCELLED: PreflightState.FAILED,
}


def create(connection: sa.Connection, spec: JobSpec, objectives: tuple[Objective, ...], now: datetime) -> str:
    """Queue a dry run; its id. Old ones are forgotten, with their units, whatever became of them."""
    connection.execute(sa.delete(jobs).where(jobs.c.dry_run, jobs.c.created_at < now - _KEPT))
    return _jobs.create(connection, spec, objectives, now, dry_run=True)


def one(connection: sa.Connection, preflight_id: str, now: datetime) -> Preflight:
    """A dry run as it stands. Raises NotFound."""
    row = connection.execute(sa.select(jobs).where(jobs.c.job_id == preflight_id, jobs.c.dry_run)).first()
    if row is None:
        raise NotFound(f"no preflight {preflight_id!r}; they are kept for an hour")
    state = _STATES.get(JobState(row.state), PreflightState.RUNNING)
    there = [worker for worker in _registers.all_workers(connection, now) if worker.state != "GONE"]
    return Preflight(
        preflight_id=row.job_id,
        state=state,
        message=_message(row, state, len(there)),
        workers=len(there),
        report=None if row.preflight is None else PreflightReport.model_validate(row.preflight),
        reason=row.reason if state is PreflightState.FAILED else None,
        violations=_jobs.violations_of(row),
        created_at=row.created_at,
    )


def _message(row: Row, state: PreflightState, num_workers: int) -> str:
    if state is PreflightState.QUEUED:
        if num_workers == 0:
            return "no worker is running; start one with `nas worker`, or the service with NAS_WORKERS above 0"
        return f"waits for one of {num_workers} workers, which all have something to do"
    return str(row.progress["message"]) if state is PreflightState.RUNNING else ""
