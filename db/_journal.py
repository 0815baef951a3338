"""The store as one leased unit sees it (`nas.ports.Journal`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Lock

import sqlalchemy as sa
from pydantic import BaseModel

from db import _candidates, _clock, _evaluations, _events, _front, _jobs
from db._fence import Fence, Held
from db._models import jobs
from nas.ports import Control
from nas.reports import Choice, Plan, TrustReport
from nas.resources import (
    Candidate,
    Delivery,
    Evaluation,
    Job,
    JobState,
    JsonObject,
    ParetoFront,
    PreflightReport,
    Progress,
    Proposal,
    Settlement,
    SupernetOrigin,
    Unit,
)
from nas.spec import Level

_CONTROL_SECONDS = 0.2
_PROGRESS_SECONDS = 0.3

_CONTROLS = {
    JobState.PAUSING: Control.PAUSE,
    JobState.PAUSED: Control.PAUSE,
    JobState.STOPPING: Control.STOP,
    JobState.CANCELLING: Control.CANCEL,
    JobState.CANCELLED: Control.CANCEL,
    JobState.FAILED: Control.CANCEL,
}


class LeasedJournal:
    """Reads and writes of one attempt. Every call raises LeaseLost when the unit is another's."""

    def __init__(self, fence: Fence) -> None:
        self._fence, self._job_id = fence, fence.unit.job_id
        self._control, self._asked_at, self._renewed_at = Control.GO, 0.0, time.monotonic()
        self._progress: JsonObject = {}
        self._told_at, self._lock = 0.0, Lock()

    @property
    def unit(self) -> Unit:
        """The unit, as it was leased."""
        return self._fence.unit

    def job(self) -> Job:
        """The job as it stands now."""
        with self._fence.read() as connection:
            return _jobs.read(connection, self._job_id)

    def elapsed(self) -> float:
        """Real seconds since the job's first lease, without pauses, as of now."""
        with self._fence.read() as connection:
            return _jobs.elapsed(connection, self._job_id)

    def control(self) -> Control:
        """What the user wants of the job; asks the store at most five times a second, and renews the lease when due.

        An export goes on whatever becomes of its job.
        """
        now = time.monotonic()
        if self._asked_at and now - self._asked_at < _CONTROL_SECONDS:
            return self._control
        if now - self._renewed_at > self._fence.lease_seconds / 3:
            self._fence.renew()
            self._renewed_at = now
        query = sa.select(jobs.c.state).where(jobs.c.job_id == self._job_id)
        with self._fence.read() as connection:
            state = JobState(connection.execute(query).scalar_one())
        self._asked_at = now
        self._control = Control.GO if self.unit.kind == _jobs.EXPORT else _CONTROLS.get(state, Control.GO)
        return self._control

    def propose(self, proposals: Sequence[Proposal]) -> list[Evaluation]:
        """Write proposals as PENDING evaluations, in order; one that exists already is left out."""
        with self._fence.write() as held:
            return _evaluations.propose(held, proposals)

    def pending(self, *levels: Level) -> list[Evaluation]:
        """Proposed but not settled evaluations of these levels, in order of proposal."""
        with self._fence.read() as connection:
            return _evaluations.pending(connection, self._job_id, *levels)

    def settled(self, *levels: Level, after: int = 0) -> list[Evaluation]:
        """Settled evaluations of these levels with `commit > after`, in commit order, with their measurements."""
        with self._fence.read() as connection:
            return _evaluations.settled(connection, self._job_id, *levels, after=after)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """End pending evaluations in one transaction; one that was settled before stays as it is."""
        with self._fence.write() as held:
            _evaluations.settle(held, settlements, self.unit.attempt)
            self._write_progress(held)

    def front(self) -> ParetoFront:
        """The front of the job's objectives."""
        with self._fence.read() as connection:
            return _candidates.front(connection, self._job_id)

    def front_size(self) -> int:
        """How many points there are on the front."""
        with self._fence.read() as connection:
            return _front.size(connection, self._job_id)

    def candidates(self) -> list[Candidate]:
        """All candidates with their values."""
        with self._fence.read() as connection:
            return _candidates.every(connection, self._job_id)

    def progress(self, **fields: object) -> None:
        """Change fields of `Progress`; written a few times a second, and with the next other write."""
        unknown = fields.keys() - Progress.model_fields.keys()
        if unknown:
            raise TypeError(f"Progress has no field {', '.join(sorted(unknown))}")
        checked = Progress.model_validate(fields).model_dump(mode="json")
        with self._lock:
            self._progress |= {name: checked[name] for name in fields}
        if time.monotonic() - self._told_at > _PROGRESS_SECONDS:
            with self._fence.write() as held:
                self._write_progress(held)

    def spend(self, *, epochs: int = 0, seconds: float = 0.0) -> None:
        """Add to what the job has spent. Evaluations are counted where they are settled. Safe from any thread."""
        with self._fence.write() as held:
            more = {
                "spent_epochs": jobs.c.spent_epochs + epochs,
                "spent_seconds": jobs.c.spent_seconds + seconds,
                **_clock.tick(held.job, held.now),
            }
            held.connection.execute(sa.update(jobs).where(jobs.c.job_id == self._job_id).values(**more))

    def event(self, type: str, data: JsonObject) -> None:
        """Append an event."""
        with self._fence.write() as held:
            _events.append(held.connection, self._job_id, [(type, data)], held.now)
            self._write_progress(held)

    def plan(self, **fields: object) -> None:
        """Change fields of the job's `Plan`; units that deliver side by side each add to `contested`."""
        with self._fence.write() as held:
            before = held.job.plan or {}
            if isinstance(more := fields.get("contested"), dict):
                fields["contested"] = {**before.get("contested", {}), **more}
            changed = Plan.model_validate({**before, **fields})
            _jobs.keep_plan(held.connection, held.job, changed, held.now)

    def report(self, report: PreflightReport | TrustReport | Choice | Delivery | SupernetOrigin) -> None:
        """Keep a report with the job, and tell it as an event; a delivery replaces the one of the same network."""
        data = report.model_dump(mode="json")
        with self._fence.write() as held:
            values: dict[str, object]
            if isinstance(report, PreflightReport):
                kind, values = "preflight", {"preflight": data}
            elif isinstance(report, TrustReport):
                kind, values = "trust", {"trust": data}
            elif isinstance(report, SupernetOrigin):
                kind, values = "supernet", {"supernet": data}
            elif isinstance(report, Choice):
                kind, values = "choice", {"choice": data}
            else:
                kind, values = "delivery", {"deliveries": _with_delivery(held.job.deliveries, data)}
            held.connection.execute(sa.update(jobs).where(jobs.c.job_id == self._job_id).values(**values))
            _events.append(held.connection, self._job_id, [(kind, _told(report, data))], held.now)

    def flush(self, held: Held) -> None:
        """Write what is not written yet."""
        self._write_progress(held)

    def _write_progress(self, held: Held) -> None:
        with self._lock:
            fields, self._progress = self._progress, {}
        self._told_at = time.monotonic()
        if fields:
            merged = held.job.progress | fields
            held.connection.execute(sa.update(jobs).where(jobs.c.job_id == self._job_id).values(progress=merged))


def _told(report: BaseModel, data: JsonObject) -> JsonObject:
    """What an event says of a report: of a choice only its first, since the job holds the whole."""
    if not isinstance(report, Choice):
        return data
    first = data["estimates"][0]
    said = {key: data[key] for key in ("metric", "level", "ranker", "audited", "reason", "warning")}
    return said | {key: first[key] for key in ("digest", "mean", "std", "basis")}


def _with_delivery(deliveries: list[JsonObject], new: JsonObject) -> list[JsonObject]:
    if any(delivery["digest"] == new["digest"] for delivery in deliveries):
        return [new if delivery["digest"] == new["digest"] else delivery for delivery in deliveries]
    return [*deliveries, new]
