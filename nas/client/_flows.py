"""What takes more than one request, written once: a flow yields steps, and each client does them in its own way."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nas.client import _calls as calls
from nas.client._calls import Call, Weights
from nas.client._saving import Target, copy_to, save
from nas.preflights import Preflight, PreflightState
from nas.resources import (
    ArtifactInfo,
    Delivery,
    Event,
    Export,
    ExportState,
    Job,
    JobState,
    Page,
    PreflightReport,
    ProblemViolation,
)
from searchspaces import ExportError, NotFound, ServiceError, SpecError, Violation, did_you_mean

T = TypeVar("T")
Item = TypeVar("Item")
_POLL_SECONDS = (0.2, 2.0)
_WORKER_SECONDS = 20.0
"""How long nobody may be there to do a dry run: workers that have just been started load for a while."""
_SILENT_SECONDS = 2.0


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Download:
    """Write the content of an artifact to a file."""

    artifact_id: str
    file: Path


Flow = Generator[Call[Any] | Pause | Download, Any, T]


def items(call: Call[Page[Item]], *, limit: int | None = None) -> Flow[list[Item]]:
    """All items of a list, page by page, or the first `limit`."""
    found: list[Item] = []
    token: str | None = None
    while limit is None or len(found) < limit:
        page: Page[Item] = yield call.page(token)
        found += page.items
        token = page.next_page_token
        if token is None:
            break
    return found if limit is None else found[:limit]


def events_after(job_id: str, after: int) -> Flow[list[Event]]:
    """The events of a job so far, past a sequence number."""
    found: list[Event] = yield from items(calls.events(job_id, after))
    return found


def export(job_id: str, digest: str, weights: Weights | None, target: Target) -> Flow[Path]:
    """Have a candidate exported unless it was delivered so already, wait for it, and save it.

    Raises:
        ExportError: the service could not export it.
    """
    job: Job = yield calls.job(job_id)
    delivery = next((d for d in job.deliveries if _fits(d, digest, weights, target)), None)
    if delivery is None:
        delivery = yield from _exported(job_id, digest, weights, target)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "export.zip")
        yield Download(delivery.artifacts[target.format], file)
        return save(file, target)


def download(artifact_id: str, path: Path, *, overwrite: bool) -> Flow[Path]:
    """Save the content of an artifact as a file.

    Raises:
        ExportError: something is there already, or it cannot be written.
    """
    path = path.expanduser()
    if path.exists() and not overwrite:
        raise ExportError(f"{path} exists already; choose another path, or say overwrite=True to replace it.")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "content")
        yield Download(artifact_id, file)
        return copy_to(file, path)


def _fits(delivery: Delivery, digest: str, weights: Weights | None, target: Target) -> bool:
    return delivery.digest == digest and weights in (None, delivery.weights) and target.format in delivery.artifacts


def _exported(job_id: str, digest: str, weights: Weights | None, target: Target) -> Flow[Delivery]:
    found: Export = yield calls.request_export(job_id, digest, [target.format], weights)
    delay, longest = _POLL_SECONDS
    while found.state not in (ExportState.SUCCEEDED, ExportState.FAILED):
        yield Pause(delay)
        delay = min(longest, delay * 1.5)
        found = yield calls.export(found.export_id)
    if found.delivery is None or target.format not in found.delivery.artifacts:
        raise ExportError(found.error or f"the export of {digest} as {target.format} gave no file.")
    return found.delivery


def dry_run(call: Call[Preflight], tell: Callable[[str], None] | None) -> Flow[PreflightReport]:
    """Have a worker find out what a job would meet, and wait for its report.

    Raises:
        SpecError: what the spec names does not fit together, or cannot be read.
        ServiceError: it could not be examined, or no worker is running.
    """
    found: Preflight = yield call
    began = seen = time.monotonic()
    told, (delay, longest) = "", _POLL_SECONDS
    while found.state in (PreflightState.QUEUED, PreflightState.RUNNING):
        now = time.monotonic()
        seen = now if found.workers else seen
        if now - seen > _WORKER_SECONDS:
            raise ServiceError(f"{found.message}.", code="NO_WORKER")
        if tell is not None and now - began > _SILENT_SECONDS and found.message not in ("", told):
            told = found.message
            tell(told)
        yield Pause(delay)
        delay = min(longest, delay * 1.5)
        found = yield calls.preflight(found.preflight_id)
    if found.report is not None:
        return found.report
    if found.violations:
        raise SpecError(_violations(found.violations))
    raise ServiceError(found.reason or "the preflight was given up.", code="PREFLIGHT_FAILED")


def find_job(reference: str) -> Flow[Job]:
    """A job by its id, a unique beginning of it, or `latest`.

    Raises:
        NotFound: none, or more than one, fits.
    """
    found: list[Job] = yield from items(calls.jobs())
    if reference == "latest" and found:
        return max(found, key=lambda job: (job.created_at, job.job_id))
    fitting = [job for job in found if job.job_id == reference] or [j for j in found if j.job_id.startswith(reference)]
    if reference == "latest" or not fitting:
        if not found:
            raise NotFound("there is no job yet.")
        named = [job.job_id for job in found if job.name == reference]
        hint = f"named so {', '.join(named[:5])}" if named else "`nas jobs` lists them"
        near = did_you_mean(reference, ["latest", *(job.job_id for job in found)])
        raise NotFound(f"there is no job {reference!r}; {hint}{near or '.'}")
    if len(fitting) > 1:
        raise NotFound(f"{len(fitting)} jobs begin with {reference!r}; give more of the id.")
    return fitting[0]


def artifacts(job_id: str) -> Flow[list[ArtifactInfo]]:
    """The files of a job."""
    found: list[ArtifactInfo] = yield from items(calls.artifacts(job_id))
    return found


def finished(job: Job, *, raise_on_failure: bool) -> Job:
    """The job, or the error that it ended without success."""
    if raise_on_failure and job.state is JobState.FAILED and job.violations:
        raise SpecError(_violations(job.violations))
    if raise_on_failure and job.state is not JobState.SUCCEEDED:
        raise ServiceError(
            f"job {job.job_id} ended {job.state.value}: {job.reason or 'no reason given'}.", code=job.state.value
        )
    return job


def _violations(found: Sequence[ProblemViolation]) -> list[Violation]:
    return [Violation(each.field, each.value, each.allowed) for each in found]
