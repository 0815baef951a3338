"""The fence around everything a leased unit writes: the lease is held, checked and renewed in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from db import _jobs
from db._engine import Database
from db._models import Row, units
from nas.resources import Unit, UnitState
from searchspaces import LeaseLost, NotFound


class Held(NamedTuple):
    """A write transaction of a unit whose lease is held."""

    connection: sa.Connection
    job: Row
    now: datetime


class Fence:
    """One attempt at one unit. A lease that ran out but was not taken back may still write, and is renewed by it."""

    def __init__(self, database: Database, unit: Unit, worker_id: str, lease_seconds: float) -> None:
        self.database, self.unit, self.worker_id = database, unit, worker_id
        self.lease_seconds = lease_seconds

    @contextmanager
    def write(self) -> Iterator[Held]:
        """A transaction that holds the job's row. Raises LeaseLost when the unit is another's."""
        with self.database.write() as connection:
            try:
                job = _jobs.locked(connection, self.unit.job_id)
            except NotFound as error:
                raise self._lost() from error
            now = self.database.now(connection)
            if self._until(connection) - now < timedelta(seconds=self.lease_seconds * 2 / 3):
                self._extend(connection, now)
            yield Held(connection, job, now)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A snapshot. Raises LeaseLost when the unit is another's."""
        with self.database.read() as connection:
            self._until(connection)
            yield connection

    def check(self) -> None:
        """Raise LeaseLost when the unit is another's."""
        with self.read():
            pass

    def renew(self) -> None:
        """Hold the lease for its whole time again. Safe to call from any thread."""
        with self.database.write() as connection:
            self._extend(connection, self.database.now(connection))

    def _mine(self) -> sa.ColumnElement[bool]:
        return sa.and_(
            units.c.unit_id == self.unit.unit_id,
            units.c.attempt == self.unit.attempt,
            units.c.worker_id == self.worker_id,
            units.c.state == UnitState.LEASED,
        )

    def _until(self, connection: sa.Connection) -> datetime:
        until: datetime | None = connection.execute(sa.select(units.c.lease_until).where(self._mine())).scalar()
        if until is None:
            raise self._lost()
        return until

    def _extend(self, connection: sa.Connection, now: datetime) -> None:
        until = now + timedelta(seconds=self.lease_seconds)
        if connection.execute(sa.update(units).where(self._mine()).values(lease_until=until)).rowcount != 1:
            raise self._lost()

    def _lost(self) -> LeaseLost:
        who = f"attempt {self.unit.attempt} of {self.worker_id}"
        return LeaseLost(f"LEASE_LOST: unit {self.unit.unit_id} is no longer {who}; give it up")
