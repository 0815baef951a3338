"""Content-addressed files: `artifacts/ab/abcdef...` is the file whose SHA-256 is its name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from db._engine import Database, os_error, upsert
from db._fence import Fence
from db._files import chunks_of, write_whole
from db._models import Row, artifacts
from nas.resources import ArtifactInfo, JsonObject
from searchspaces import NotFound, StoreError


class ArtifactFolder:
    """The files. Knows nothing of jobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "artifacts"
        self._whole: dict[str, tuple[int, int]] = {}

    def file(self, sha256: str) -> Path:
        """Where the file of this digest lies."""
        return self._folder / sha256[:2] / sha256

    def keep(self, path: Path, sha256: str) -> None:
        """Copy a file in, if it is not there."""
        target = self.file(sha256)
        if not target.exists():
            write_whole(target, chunks_of(path))

    def whole(self, sha256: str, size_bytes: int) -> Path:
        """The file, checked against its size and digest; once for as long as it does not change.

        Raises:
            StoreError: it is missing or its content is another.
        """
        path = self.file(sha256)
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if self._whole.get(sha256) != seen:
                if status.st_size != size_bytes or digest_of(path) != sha256:
                    raise StoreError(
                        f"artifact {path} is not what was kept: restore it from a backup, or run the job again"
                    )
                self._whole[sha256] = seen
        except OSError as error:
            raise StoreError(
                f"artifact {path} is missing ({error.strerror}): restore it, or run the job again"
            ) from error
        return path

    def discard(self, database: Database, digests: Sequence[str]) -> None:
        """Remove the files of these digests that no job has any more.

        A job may keep the same content meanwhile. So: move away, look again, and move back if it did; it looks for
        the file after it wrote its row, and so either we see the row or it sees that the file is gone.
        """
        for sha256 in digests:
            path, aside = self.file(sha256), self.file(sha256).with_suffix(".gone")
            try:
                path.replace(aside)
                with database.read() as connection:
                    is_used = connection.execute(
                        sa.select(artifacts.c.job_id).where(artifacts.c.sha256 == sha256)
                    ).first()
                if is_used is not None:
                    aside.replace(path)
                aside.unlink(missing_ok=True)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise os_error(error, path.parent) from error


class LeasedArtifacts:
    """The artifacts of a job as a leased unit writes and reads them (`nas.ports.Artifacts`)."""

    def __init__(self, fence: Fence, folder: ArtifactFolder) -> None:
        self._fence, self._folder = fence, folder

    def put(self, path: Path, *, kind: str, name: str, meta: JsonObject | None = None) -> ArtifactInfo:
        """Keep a copy of a file. The same content again replaces what was said of it."""
        try:
            sha256, size_bytes = digest_of(path), path.stat().st_size
        except OSError as error:
            raise StoreError(f"cannot read {path} ({error.strerror})") from error
        self._fence.check()
        self._folder.keep(path, sha256)
        with self._fence.write() as held:
            row = {
                "job_id": held.job.job_id,
                "artifact_id": artifact_id_of(sha256),
                "sha256": sha256,
                "kind": kind,
                "name": name,
                "size_bytes": size_bytes,
                "meta": meta or {},
                "created_at": held.now,
            }
            upsert(held.connection, artifacts, [row], ["kind", "name", "meta"])
        self._folder.keep(path, sha256)
        return ArtifactInfo.model_validate(row)

    def path(self, artifact_id: str) -> Path:
        """A whole file to read. Another job's artifact becomes this job's too, so that it outlives the other job."""
        with self._fence.read() as connection:
            row = find(connection, artifact_id, self._fence.unit.job_id)
        path = self._folder.whole(row.sha256, row.size_bytes)
        if row.job_id != self._fence.unit.job_id:
            with self._fence.write() as held:
                upsert(held.connection, artifacts, [{**row._mapping, "job_id": held.job.job_id}])
            path = self._folder.whole(row.sha256, row.size_bytes)
        return path


def find(connection: sa.Connection, artifact_id: str, job_id: str | None = None) -> Row:
    """The row of an artifact: the job's own where it has one, else the oldest. Raises NotFound."""
    rows = connection.execute(
        sa.select(artifacts).where(artifacts.c.artifact_id == artifact_id).order_by(artifacts.c.created_at)
    ).all()
    if not rows:
        raise NotFound(f"no artifact {artifact_id!r}")
    return next((row for row in rows if row.job_id == job_id), rows[0])


def of_job(connection: sa.Connection, job_id: str) -> tuple[ArtifactInfo, ...]:
    """A job's artifacts, oldest first."""
    query = sa.select(artifacts).where(artifacts.c.job_id == job_id)
    rows = connection.execute(query.order_by(artifacts.c.created_at, artifacts.c.artifact_id))
    return tuple(info_of(row) for row in rows)


def info_of(row: Row) -> ArtifactInfo:
    """The plain value of a row."""
    return ArtifactInfo.model_validate(dict(row._mapping))


def artifact_id_of(sha256: str) -> str:
    """The id of a content."""
    return f"art_{sha256[:32]}"


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    for chunk in chunks_of(path):
        digest.update(chunk)
    return digest.hexdigest()
