"""Exports that somebody asked for: units of their own, outside the stages of their job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from db import _candidates, _jobs, _units
from db._ids import new_id
from db._models import Row, units
from nas.resources import Delivery, Export, ExportState, Phase, UnitState
from searchspaces import NotFound

_STATES = {
    UnitState.READY: ExportState.QUEUED,
    UnitState.LEASED: ExportState.RUNNING,
    UnitState.DONE: ExportState.SUCCEEDED,
    UnitState.FAILED: ExportState.FAILED,
    UnitState.DROPPED: ExportState.FAILED,
}


def create(
    connection: sa.Connection, job_id: str, digest: str, *, formats: Sequence[str], weights: str, now: datetime
) -> str:
    """Write the unit of an export; its id. Its payload holds digest, text, formats and weights."""
    row = _jobs.locked(connection, job_id)
    candidate = _candidates.one(connection, job_id, digest)
    export_id = new_id("exp")
    payload = {"digest": digest, "text": candidate.text, "formats": list(formats), "weights": weights}
    plans = [(export_id, export_id, payload)]
    _units.insert(connection, job_id, plans, kind=_jobs.EXPORT, stage=Phase.DELIVER, round_=row.round, now=now)
    return export_id


def one(connection: sa.Connection, export_id: str) -> Export:
    """One export. Raises NotFound."""
    query = sa.select(units).where(units.c.unit_id == export_id, units.c.kind == _jobs.EXPORT)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"no export {export_id!r}")
    return _export_of(row)


def of_job(connection: sa.Connection, job_id: str) -> tuple[Export, ...]:
    """A job's exports, oldest first."""
    query = sa.select(units).where(units.c.job_id == job_id, units.c.kind == _jobs.EXPORT)
    return tuple(_export_of(row) for row in connection.execute(query.order_by(units.c.unit_id)))


def _export_of(row: Row) -> Export:
    result = row.result or {}
    return Export(
        export_id=row.unit_id,
        job_id=row.job_id,
        digest=row.payload["digest"],
        formats=tuple(row.payload["formats"]),
        weights=row.payload["weights"],
        state=_STATES[UnitState(row.state)],
        error=row.error if row.state == UnitState.FAILED else None,
        delivery=Delivery.model_validate(result["delivery"]) if "delivery" in result else None,
    )
