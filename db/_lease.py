"""A unit of work in the hands of a worker."""

from __future__ import annotations

from collections.abc import Sequence

from db import _checkpoints, _units
from db._artifacts import ArtifactFolder, LeasedArtifacts
from db._checkpoints import LeasedCheckpoints
from db._engine import Database
from db._fence import Fence
from db._journal import LeasedJournal
from db._offers import LeasedExchange
from db._view import StoreView
from nas.ports import Artifacts, Checkpoints, Exchange, JobView, Journal
from nas.resources import JsonObject, Unit
from searchspaces import Violation


class Lease:
    """One attempt at one unit: everything the unit needs, and the ways it may end."""

    def __init__(
        self, database: Database, artifacts: ArtifactFolder, unit: Unit, worker_id: str, lease_seconds: float
    ) -> None:
        self.unit = unit
        self._folder = database.folder
        self._fence = Fence(database, unit, worker_id, lease_seconds)
        self._journal = LeasedJournal(self._fence)
        self.journal: Journal = self._journal
        self.checkpoints: Checkpoints = LeasedCheckpoints(self._fence, database.folder)
        self.artifacts: Artifacts = LeasedArtifacts(self._fence, artifacts)
        self.exchange: Exchange = LeasedExchange(self._fence)
        self.view: JobView = StoreView(database, unit.job_id)

    @property
    def job_id(self) -> str:
        """The job that the unit belongs to."""
        return self.unit.job_id

    @property
    def attempt(self) -> int:
        """The fencing number."""
        return self.unit.attempt

    def renew(self) -> None:
        """Hold the unit for the whole lease time again. Safe from any thread. Raises LeaseLost."""
        self._fence.renew()

    def complete(self, result: JsonObject) -> None:
        """The unit is done; its checkpoints are no longer needed. Raises LeaseLost."""
        with self._fence.write() as held:
            self._journal.flush(held)
            _units.complete(held, self.unit, result)
        _checkpoints.discard(self._folder, self.unit.job_id, self.unit.unit_id)

    def fail(self, message: str, *, retryable: bool, violations: Sequence[Violation] = ()) -> None:
        """The attempt failed: another is made (three in all), or the unit and its job fail. Raises LeaseLost.

        Args:
            violations: what is wrong with the spec, kept with the job.
        """
        with self._fence.write() as held:
            self._journal.flush(held)
            _units.fail(held, self.unit, message, retryable=retryable, violations=violations)

    def pause(self, reason: str) -> None:
        """Give the unit back, and pause its job for a reason that somebody has to see to. Raises LeaseLost."""
        with self._fence.write() as held:
            self._journal.flush(held)
            _units.pause(held, self.unit, reason)

    def release(self) -> None:
        """Give the unit back, with its checkpoints; nothing is held against it. Raises LeaseLost."""
        with self._fence.write() as held:
            self._journal.flush(held)
            _units.release(held, self.unit)
