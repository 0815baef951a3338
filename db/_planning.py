"""From one stage of a job to the next: planned outside any transaction, written only if nobody was faster."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from db import _events, _jobs, _units
from db._engine import Database
from db._ids import new_id
from db._models import Row, jobs
from db._view import StoreView
from nas.ports import Planner
from nas.resources import JobState, Phase, UnitPlan, UnitState
from searchspaces import NASError, StoreError


def advance(database: Database, job_id: str, planner: Planner) -> None:
    """Plan the job's next stage that has something to do, or end the job; nothing while it has open units."""
    while True:
        with database.read() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.job_id == job_id)).first()
            if row is None or not _needs_plan(connection, row):
                return
            job = _jobs.read(connection, job_id)
        try:
            stages = planner.stages(job)
            phase = _next_phase(row, stages[:1] if row.dry_run else stages)
            plans = [] if phase is None else planner.plan(phase, StoreView(database, job_id))
        except StoreError:
            raise
        except NASError as error:
            _fail(database, row, str(error))
            return
        if not _write(database, row, phase, plans):
            return


def _write(database: Database, seen: Row, phase: Phase | None, plans: Sequence[UnitPlan]) -> bool:
    """Write what was planned for a job as it was `seen`; whether there is more to plan."""
    with database.write() as connection:
        row = connection.execute(sa.select(jobs).where(jobs.c.job_id == seen.job_id).with_for_update()).first()
        if row is None or _place(row) != _place(seen) or not _needs_plan(connection, row):
            return False
        now = database.now(connection)
        if phase is None:
            if row.extended and row.state == JobState.RUNNING:
                _jobs.reopen(connection, row.job_id, row.round)
                return True
            _jobs.finish(connection, row, now)
            return False
        progress = row.progress | {"phase": phase, "fraction": 0.0, "message": ""}
        here = {"stage": phase, "planned": True, "progress": progress}
        connection.execute(sa.update(jobs).where(jobs.c.job_id == row.job_id).values(**here))
        if not plans:
            return True
        new = [(new_id("unit"), plan.key, plan.payload) for plan in plans]
        _units.insert(connection, row.job_id, new, kind=_jobs.STAGE, stage=phase, round_=row.round, now=now)
        _events.append(connection, row.job_id, [("phase", {"phase": phase})], now)
        if plans[0].plan is not None:
            _jobs.keep_plan(connection, row, plans[0].plan, now)
        return False


def _fail(database: Database, seen: Row, reason: str) -> None:
    with database.write() as connection:
        row = connection.execute(sa.select(jobs).where(jobs.c.job_id == seen.job_id).with_for_update()).first()
        if row is not None and _place(row) == _place(seen) and _needs_plan(connection, row):
            _jobs.fail(connection, row, reason, database.now(connection))


def _needs_plan(connection: sa.Connection, row: Row) -> bool:
    open_units = (UnitState.READY, UnitState.LEASED)
    return _jobs.is_workable(row) and not _jobs.has_units(connection, row.job_id, *open_units)


def _place(row: Row) -> tuple[object, ...]:
    return row.stage, row.planned, row.round


def _next_phase(row: Row, stages: Sequence[Phase]) -> Phase | None:
    """The stage to plan after what a row says; None after the last."""
    if row.stage is None:
        return stages[0] if stages else None
    place = list(stages).index(Phase(row.stage)) + (1 if row.planned else 0)
    return stages[place] if place < len(stages) else None
