"""The store: every query of the service. Plain values in and out, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from db import (
    _artifacts,
    _candidates,
    _checkpoints,
    _events,
    _exports,
    _jobs,
    _offers,
    _planning,
    _preflights,
    _registers,
    _units,
)
from db._artifacts import ArtifactFolder
from db._engine import Database, open_engine, os_error, sqlite_in, use_wal
from db._lease import Lease
from db._migrate import migrate
from db._models import artifacts
from db._registers import Counts
from db._view import StoreView
from nas.claims import Answer, Claim
from nas.ports import JobView, Planner
from nas.preflights import Preflight
from nas.resources import (
    ArtifactInfo,
    Candidate,
    DatasetInfo,
    Event,
    Export,
    Job,
    JobState,
    JsonObject,
    Objective,
    Page,
    ParetoFront,
    Worker,
)
from nas.spec import Budget, ExportFormat, JobSpec
from searchspaces import whole_path

_KEEP_ANSWERS = timedelta(hours=24)


class Store:
    """Jobs, their work and what came of it. Safe to use from many threads and many processes at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._artifacts = ArtifactFolder(database.folder)

    @classmethod
    def open(cls, url: str | None, folder: Path) -> Store:
        """Open a store, made or migrated if need be.

        Args:
            url: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`; None or empty: the file `nas.db` in the folder.
            folder: where artifacts and checkpoints lie.

        Raises:
            StoreError: it cannot be opened; the message says the way out. StorageFull when there is no room.
        """
        folder = whole_path(folder)
        engine = open_engine(url or sqlite_in(folder))
        database = Database(engine, folder)
        try:
            _check_folder(folder)
            if database.is_sqlite:
                _check_folder(Path(str(engine.url.database)).parent)
                use_wal(engine)
            migrate(database)
        except BaseException:
            engine.dispose()
            raise
        return cls(database)

    def close(self) -> None:
        """Give back all connections."""
        self._database.engine.dispose()

    # --- jobs --------------------------------------------------------------------------------------------------------

    def create_job(self, spec: JobSpec, objectives: tuple[Objective, ...]) -> Job:
        """Queue a job."""
        with self._write() as (connection, now):
            return _jobs.read(connection, _jobs.create(connection, spec, objectives, now))

    def job(self, job_id: str) -> Job:
        """One job. Raises NotFound."""
        with self._database.read() as connection:
            _jobs.check_listed(connection, job_id)
            return _jobs.read(connection, job_id)

    def jobs(
        self,
        *,
        state: JobState | None = None,
        label: str | None = None,
        page_size: int = 100,
        page_token: str | None = None,
    ) -> Page[Job]:
        """Jobs, newest first; `label` is `key:value`, or a key alone. Raises SpecError for a wrong token."""
        with self._database.read() as connection:
            return _jobs.page(connection, state=state, label=label, page_size=page_size, page_token=page_token)

    def change_job(
        self,
        job_id: str,
        *,
        version: int | None,
        budget: Budget | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Job:
        """Change a job. A raised budget extends the search, and reopens a job that SUCCEEDED.

        Args:
            version: the version that is changed; None for whichever it is.
            budget: only the fields that were set on it change.
            labels: replace all labels.

        Raises:
            NotFound, Conflict: the version is another, InvalidState: the job FAILED or was CANCELLED, SpecError: less
            than what is spent.
        """
        with self._write() as (connection, now):
            _jobs.check_listed(connection, job_id)
            _jobs.change(connection, job_id, version=version, budget=budget, name=name, labels=labels, now=now)
            return _jobs.read(connection, job_id)

    def act(self, job_id: str, verb: str) -> Job:
        """Do one of pause, resume, stop, cancel. Raises NotFound, InvalidState."""
        with self._write() as (connection, now):
            _jobs.check_listed(connection, job_id)
            _jobs.act(connection, job_id, verb, now)
            return _jobs.read(connection, job_id)

    def delete_job(self, job_id: str) -> None:
        """Remove a job that is over, with its files. Raises NotFound, InvalidState."""
        with self._database.write() as connection:
            query = sa.select(artifacts.c.sha256).where(artifacts.c.job_id == job_id)
            digests = list(connection.execute(query).scalars())
            _jobs.check_listed(connection, job_id)
            _jobs.delete(connection, job_id)
        self._artifacts.discard(self._database, digests)
        _checkpoints.discard(self._database.folder, job_id)

    # --- dry runs ----------------------------------------------------------------------------------------------------

    def create_preflight(self, spec: JobSpec, objectives: tuple[Objective, ...]) -> Preflight:
        """Have a worker say what a job of this spec would meet. Those of more than an hour ago are forgotten."""
        with self._write() as (connection, now):
            return _preflights.one(connection, _preflights.create(connection, spec, objectives, now), now)

    def preflight(self, preflight_id: str) -> Preflight:
        """A dry run, as it stands. Raises NotFound."""
        with self._database.read() as connection:
            return _preflights.one(connection, preflight_id, self._database.now(connection))

    # --- workers -----------------------------------------------------------------------------------------------------

    def register_worker(self, host: str, process_id: int, device: str) -> Worker:
        """Make a worker known."""
        with self._write() as (connection, now):
            worker_id = _registers.register_worker(connection, host, process_id, device, now)
            return next(w for w in _registers.all_workers(connection, now) if w.worker_id == worker_id)

    def beat(self, worker_id: str, unit_id: str | None) -> None:
        """Say that a worker lives, and what it does; written when that changed or five seconds passed.

        Raises:
            NotFound: the worker was forgotten.
        """
        with self._database.read() as connection:
            if _registers.is_fresh(connection, worker_id, unit_id, self._database.now(connection)):
                return
        with self._write() as (connection, now):
            _registers.beat(connection, worker_id, unit_id, now)

    def workers(self) -> tuple[Worker, ...]:
        """All workers of the last day, newest first; GONE when not seen for half a minute."""
        with self._database.read() as connection:
            return _registers.all_workers(connection, self._database.now(connection))

    def claim(self, worker_id: str, *, lease_seconds: float, planner: Planner) -> Lease | None:
        """Lease a unit of the oldest job that has one, after planning what is due; None when there is nothing to do."""
        _units.reclaim_expired(self._database)
        with self._database.read() as connection:
            job_ids = _units.jobs_with_work(connection)
        for job_id in job_ids:
            _planning.advance(self._database, job_id, planner)
            unit = _units.take(self._database, job_id, worker_id, lease_seconds)
            if unit is not None:
                return Lease(self._database, self._artifacts, unit, worker_id, lease_seconds)
        return None

    # --- devices of the user's ----------------------------------------------------------------------------------------

    def claim_evaluations(
        self, *, target: str | None = None, job_id: str | None = None, worker: str, count: int = 1
    ) -> list[Claim]:
        """Lease up to `count` evaluations of a target or a job to a device, those that wait longest first.

        Raises:
            NotFound: there is no such job. InvalidState: it is over.
        """
        return _offers.claim(self._database, target=target, job_id=job_id, worker=worker, count=count)

    def renew_evaluation(self, evaluation_id: str, attempt: int) -> Claim:
        """Hold a claim for its whole time again. Raises NotFound, LeaseLost."""
        return _offers.renew(self._database, evaluation_id, attempt)

    def release_evaluation(self, evaluation_id: str, attempt: int) -> None:
        """Give an evaluation back at once; nothing is held against it. Raises NotFound, LeaseLost."""
        _offers.release(self._database, evaluation_id, attempt)

    def answer_evaluation(self, answer: Answer) -> Answer:
        """Keep what a device measured, for the search to settle; the same answer again changes nothing.

        Raises:
            NotFound, LeaseLost: the claim ran out. SpecError: not every metric, or others. Conflict: it was answered
            otherwise.
        """
        return _offers.answer(self._database, answer)

    # --- what came of a job ------------------------------------------------------------------------------------------

    def candidates(
        self,
        job_id: str,
        *,
        order_by: str | None = None,
        descending: bool = False,
        feasible: bool | None = None,
        on_front: bool | None = None,
        page_size: int = 100,
        page_token: str | None = None,
        count: bool = False,
    ) -> Page[Candidate]:
        """Candidates by `number` or by `metric@level` (those without the value last, by number).

        Args:
            count: say how many there are in all.

        Raises:
            NotFound, SpecError: a wrong order or token.
        """
        with self._database.read() as connection:
            return _candidates.page(
                connection,
                job_id,
                order_by=order_by,
                descending=descending,
                feasible=feasible,
                on_front=on_front,
                page_size=page_size,
                page_token=page_token,
                count=count,
            )

    def candidate(self, job_id: str, digest: str) -> Candidate:
        """One candidate with its evaluations. Raises NotFound."""
        with self._database.read() as connection:
            return _candidates.one(connection, job_id, digest)

    def sample_candidates(self, job_id: str, limit: int) -> list[Candidate]:
        """At most `limit` candidates that have values, evenly spaced over their numbers. Raises NotFound."""
        with self._database.read() as connection:
            return _candidates.sample(connection, job_id, limit)

    def view(self, job_id: str) -> JobView:
        """The job as planners and reports read it. Raises NotFound where it is first read."""
        return StoreView(self._database, job_id)

    def front(self, job_id: str) -> ParetoFront:
        """The front, the best by the first objective first. Raises NotFound."""
        with self._database.read() as connection:
            return _candidates.front(connection, job_id)

    def events(
        self, job_id: str, *, after: int = 0, types: Sequence[str] | None = None, limit: int = 1000
    ) -> Page[Event]:
        """Events with `sequence > after`; the page token is the last sequence, to be given as `after`."""
        with self._database.read() as connection:
            return _events.page(connection, job_id, after=after, types=types, page_size=limit)

    # --- artifacts and exports ---------------------------------------------------------------------------------------

    def artifacts(self, job_id: str) -> tuple[ArtifactInfo, ...]:
        """A job's artifacts, oldest first. Raises NotFound."""
        with self._database.read() as connection:
            _jobs.read(connection, job_id)
            return _artifacts.of_job(connection, job_id)

    def artifact(self, artifact_id: str) -> ArtifactInfo:
        """One artifact, of the first job that kept it. Raises NotFound."""
        with self._database.read() as connection:
            return _artifacts.info_of(_artifacts.find(connection, artifact_id))

    def artifact_path(self, artifact_id: str) -> Path:
        """A whole file to read. Raises NotFound, or StoreError when its content is another."""
        with self._database.read() as connection:
            row = _artifacts.find(connection, artifact_id)
        return self._artifacts.whole(row.sha256, row.size_bytes)

    def create_export(
        self, job_id: str, digest: str, formats: Sequence[ExportFormat], weights: Literal["trained", "inherited"]
    ) -> Export:
        """Ask for an export. Its unit's payload holds digest, text, formats, weights; its result `delivery`.

        Raises:
            NotFound: no such job or candidate.
        """
        with self._write() as (connection, now):
            return _exports.one(
                connection, _exports.create(connection, job_id, digest, formats=formats, weights=weights, now=now)
            )

    def export(self, export_id: str) -> Export:
        """One export. Raises NotFound."""
        with self._database.read() as connection:
            return _exports.one(connection, export_id)

    def exports(self, job_id: str) -> tuple[Export, ...]:
        """A job's exports, oldest first. Raises NotFound."""
        with self._database.read() as connection:
            _jobs.read(connection, job_id)
            return _exports.of_job(connection, job_id)

    # --- registers ---------------------------------------------------------------------------------------------------

    def add_dataset(self, info: DatasetInfo, *, replace: bool = True) -> DatasetInfo:
        """Register a data set. Raises Conflict where one of this name is not to be replaced."""
        with self._database.write() as connection:
            _registers.add_dataset(connection, info, replace=replace)
        return info

    def dataset(self, name: str) -> DatasetInfo:
        """One data set. Raises NotFound."""
        with self._database.read() as connection:
            return _registers.dataset(connection, name)

    def datasets(self) -> tuple[DatasetInfo, ...]:
        """All data sets, by name."""
        with self._database.read() as connection:
            return _registers.all_datasets(connection)

    def remove_dataset(self, name: str) -> None:
        """Forget a data set; its files stay. Raises NotFound."""
        with self._database.write() as connection:
            _registers.remove_dataset(connection, name)

    def recall(self, key: str, request_hash: str) -> JsonObject | None:
        """What was answered under an idempotency key in the last 24 hours.

        None the first time: the key is then this request's until `remember` or `forget`, or a minute after the last
        `hold`, as of a server that died.

        Raises:
            SpecError: the key was used for another request. Conflict: an equal request is being answered right now.
        """
        with self._write() as (connection, now):
            return _registers.recall(connection, key, request_hash, now, _KEEP_ANSWERS)

    def hold(self, key: str) -> None:
        """Say that the request of a key is still being answered."""
        with self._write() as (connection, now):
            _registers.hold(connection, key, now)

    def remember(self, key: str, request_hash: str, response: JsonObject) -> None:
        """Keep an answer for 24 hours. Raises SpecError when the key was used for another request."""
        with self._write() as (connection, now):
            _registers.remember(connection, key, request_hash, response, now)

    def forget(self, key: str) -> None:
        """Free a key whose request could not be answered."""
        with self._database.write() as connection:
            _registers.forget(connection, key)

    def counts(self) -> Counts:
        """How many jobs, units, evaluations and workers there are, by state."""
        with self._database.read() as connection:
            return _registers.counts(connection, self._database.now(connection))

    @contextmanager
    def _write(self) -> Iterator[tuple[sa.Connection, datetime]]:
        with self._database.write() as connection:
            yield connection, self._database.now(connection)


def _check_folder(folder: Path) -> None:
    """Make sure that files can be made in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room for a page of the store" * 147)
    except OSError as error:
        raise os_error(error, folder) from error
