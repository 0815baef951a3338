"""The clock of a job: real time from its first lease to its end, however many workers there are, without pauses.

It runs from the lease of a stage's unit until the job rests, ends, or everybody let go of it: a service that was shut
down, or a worker that went silent, holds nothing against a job. Between two stages it runs on.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from db._models import Row, jobs


def start(connection: sa.Connection, job_id: str, now: datetime) -> None:
    """Somebody works for the job; nothing happens when somebody did already."""
    stands = sa.and_(jobs.c.job_id == job_id, jobs.c.clock_since.is_(None))
    connection.execute(sa.update(jobs).where(stands).values(clock_since=now))


def stop(connection: sa.Connection, job_id: str, until: datetime) -> None:
    """Nobody works for the job since then."""
    query = sa.select(jobs.c.clock_seconds, jobs.c.clock_since).where(jobs.c.job_id == job_id)
    row = connection.execute(query).one()
    values = {"clock_seconds": elapsed(row, until), "clock_since": None}
    connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(**values))


def elapsed(row: Row, now: datetime) -> float:
    """Seconds on the clock."""
    running = now - row.clock_since if row.clock_since is not None else timedelta()
    return float((row.clock_seconds or 0.0) + max(0.0, running.total_seconds()))


def tick(row: Row, now: datetime) -> dict[str, object]:
    """The columns of a clock that runs on, with what it shows put down: what is read of a job changes by writes."""
    running = row.clock_since is not None
    return {"clock_seconds": elapsed(row, now), "clock_since": now} if running else {}


def queued(row: Row) -> float | None:
    """Seconds from the job's submission to its first lease; None before that."""
    return None if row.started_at is None else float((row.started_at - row.created_at).total_seconds())
