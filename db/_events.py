"""Events: append-only, numbered from 1 in each job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from db._ids import page_limit
from db._models import events, jobs
from nas.resources import Event, JsonObject, Page
from searchspaces import NotFound


def append(connection: sa.Connection, job_id: str, entries: Sequence[tuple[str, JsonObject]], now: datetime) -> None:
    """Append (type, data) entries. The update of the counter holds the job's row, so numbers have no gaps."""
    if not entries:
        return
    counted = (
        sa.update(jobs)
        .where(jobs.c.job_id == job_id)
        .values(num_events=jobs.c.num_events + len(entries))
        .returning(jobs.c.num_events)
    )
    last = connection.execute(counted).scalar_one()
    first = last - len(entries) + 1
    rows = [
        {"job_id": job_id, "sequence": first + i, "type": kind, "at": now, "data": data}
        for i, (kind, data) in enumerate(entries)
    ]
    connection.execute(sa.insert(events), rows)


def page(
    connection: sa.Connection, job_id: str, *, after: int, types: Sequence[str] | None, page_size: int
) -> Page[Event]:
    """Events with `sequence > after`; the page token is the last sequence."""
    if connection.execute(sa.select(jobs.c.job_id).where(jobs.c.job_id == job_id)).first() is None:
        raise NotFound(f"no job {job_id!r}")
    limit = page_limit(page_size)
    query = sa.select(events).where(events.c.job_id == job_id, events.c.sequence > after)
    if types is not None:
        query = query.where(events.c.type.in_(types))
    rows = connection.execute(query.order_by(events.c.sequence).limit(limit + 1)).all()
    items = tuple(
        Event(sequence=row.sequence, job_id=row.job_id, type=row.type, at=row.at, data=row.data) for row in rows[:limit]
    )
    return Page[Event](items=items, next_page_token=str(items[-1].sequence) if len(rows) > limit else None)
