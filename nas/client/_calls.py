"""Every request of the SDK as a value: what is sent, and how the answer is read. Both clients send these."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx

from nas.claims import Answer, Claim
from nas.client._answers import nothing, plain, reader
from nas.paths import with_absolute_paths, with_absolute_settings
from nas.preflights import Preflight
from nas.reports import TrustReport
from nas.resources import (
    ArtifactInfo,
    Candidate,
    DatasetInfo,
    Event,
    Export,
    Job,
    JobState,
    JsonObject,
    Page,
    ParetoFront,
    PluginInfo,
    TableInfo,
    Worker,
)
from nas.spec import ExportFormat, JobSpec

T = TypeVar("T")
Verb = Literal["pause", "resume", "stop", "cancel"]
Weights = Literal["trained", "inherited"]
Spec = JobSpec | Mapping[str, Any] | str | Path
PAGE_SIZE = 1000


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: JsonObject | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does."""
        return self.method == "GET" or "Idempotency-Key" in self.headers

    def page(self, token: str | None) -> Call[T]:
        """The same list from `token` on."""
        if token is None:
            return self
        return replace(self, query={**self.query, "page_token": token})

    def total(self) -> Call[T]:
        """The shortest page of the same list, with how many the whole list holds."""
        return replace(self, query={**self.query, "page_size": "1", "count": "true"})


def spec_mapping(spec: Spec) -> JsonObject:
    """A job spec as plain values, from a spec, a mapping, or the path of a YAML file; what is given alone.

    The numbers that a spec gives bound a job that promises time, and its defaults do not.

    Relative paths in it begin in the current folder.

    Raises:
        SpecError: with one violation for every field that is wrong.
    """
    if isinstance(spec, str | Path):
        spec = JobSpec.from_yaml(spec)
    elif not isinstance(spec, JobSpec):
        spec = JobSpec.from_mapping(spec)
    return with_absolute_paths(spec).to_mapping(only_given=True)


# --- jobs -------------------------------------------------------------------------------------------------------------


def submit(spec: Spec, *, key: str | None = None) -> Call[Job]:
    return _post("/v1/jobs", reader(Job), spec_mapping(spec), key=key)


def dry_run(spec: Spec) -> Call[Preflight]:
    return _post("/v1/jobs", reader(Preflight), spec_mapping(spec), query={"dry_run": "true"})


def preflight(preflight_id: str) -> Call[Preflight]:
    return _get(f"/v1/preflights/{_part(preflight_id)}", reader(Preflight))


def job(job_id: str) -> Call[Job]:
    return _get(_job(job_id), reader(Job))


def jobs(
    *, state: JobState | str | None = None, label: str | None = None, page_size: int = PAGE_SIZE
) -> Call[Page[Job]]:
    query = {"state": str(state) if state else None, "label": label, "page_size": str(page_size)}
    return _get("/v1/jobs", reader(Page[Job]), query)


def verb(job_id: str, name: Verb) -> Call[Job]:
    return _post(f"{_job(job_id)}/{name}", reader(Job), {})


def change(job: Job, changes: JsonObject) -> Call[Job]:
    path = _job(job.job_id)
    return Call("PATCH", path, reader(Job), body=changes, headers={"If-Match": f'"{job.version}"'})


def changes(budget: Mapping[str, Any] | None, name: str | None, labels: Mapping[str, str] | None) -> JsonObject:
    """What of a job is to change: the fields that are given."""
    given = {"budget": budget, "name": name, "labels": labels}
    return {field: value for field, value in given.items() if value is not None}


def delete(job_id: str) -> Call[None]:
    return Call("DELETE", _job(job_id), nothing)


# --- what a job has ---------------------------------------------------------------------------------------------------


def candidates(
    job_id: str,
    *,
    order_by: str | None = None,
    descending: bool | None = None,
    feasible: bool | None = None,
    on_front: bool | None = None,
) -> Call[Page[Candidate]]:
    query = {
        "order_by": order_by,
        "descending": _flag(descending),
        "feasible": _flag(feasible),
        "on_front": _flag(on_front),
        "page_size": str(PAGE_SIZE),
    }
    return _get(f"{_job(job_id)}/candidates", reader(Page[Candidate]), query)


def candidate(job_id: str, digest: str) -> Call[Candidate]:
    return _get(f"{_job(job_id)}/candidates/{_part(digest)}", reader(Candidate))


def trust(job_id: str) -> Call[TrustReport]:
    return _get(f"{_job(job_id)}/trust", reader(TrustReport))


def pareto(job_id: str) -> Call[ParetoFront]:
    return _get(f"{_job(job_id)}/pareto", reader(ParetoFront))


def events(job_id: str, after: int) -> Call[Page[Event]]:
    query = {"after": str(after), "page_size": str(PAGE_SIZE)}
    return _get(f"{_job(job_id)}/events", reader(Page[Event]), query)


def event_stream(job_id: str, after: int) -> Call[None]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    return Call("GET", f"{_job(job_id)}/events", nothing, headers=headers)


def figure(job_id: str, name: str) -> Call[Any]:
    return _get(f"{_job(job_id)}/figures/{_part(name)}", plain)


def candidate_figure(job_id: str, digest: str) -> Call[Any]:
    return _get(f"{_job(job_id)}/candidates/{_part(digest)}/figure", plain)


def artifacts(job_id: str) -> Call[Page[ArtifactInfo]]:
    return _get(f"{_job(job_id)}/artifacts", reader(Page[ArtifactInfo]), {"page_size": str(PAGE_SIZE)})


def content(artifact_id: str) -> Call[None]:
    return _get(f"/v1/artifacts/{_part(artifact_id)}/content", nothing)


def request_export(job_id: str, digest: str, formats: Sequence[ExportFormat], weights: Weights | None) -> Call[Export]:
    body = {"candidate": digest, "formats": list(formats), "weights": weights}
    return _post(f"{_job(job_id)}/exports", reader(Export), body)


def export(export_id: str) -> Call[Export]:
    return _get(f"/v1/exports/{_part(export_id)}", reader(Export))


def exports(job_id: str) -> Call[Page[Export]]:
    return _get(f"{_job(job_id)}/exports", reader(Page[Export]), {"page_size": str(PAGE_SIZE)})


# --- what devices measure ---------------------------------------------------------------------------------------------
# Without an Idempotency-Key, which the service would keep for a day for every poll of every device. Answers may be sent
# twice as they are; a claim whose answer is lost on the way runs out, and goes to the next.


def claim(target: str | None, job_id: str | None, worker: str) -> Call[Page[Claim]]:
    body = {"target": target, "job_id": job_id, "worker": worker, "count": 1}
    return Call("POST", "/v1/evaluations/claim", reader(Page[Claim]), body=body)


def renew(claimed: Claim) -> Call[Claim]:
    return Call("POST", f"{_evaluation(claimed)}/renew", reader(Claim), body={"attempt": claimed.attempt})


def release(claimed: Claim) -> Call[None]:
    return Call("POST", f"{_evaluation(claimed)}/release", nothing, body={"attempt": claimed.attempt})


def answer(claimed: Claim, said: JsonObject) -> Call[Answer]:
    path = f"{_evaluation(claimed)}/measurements"
    return Call("POST", path, reader(Answer), body={**said, "attempt": claimed.attempt})


# --- what the service has ---------------------------------------------------------------------------------------------


def workers() -> Call[Page[Worker]]:
    return _get("/v1/workers", reader(Page[Worker]), {"page_size": str(PAGE_SIZE)})


def plugins(kind: str) -> Call[Page[PluginInfo]]:
    return _get(f"/v1/{_part(kind)}", reader(Page[PluginInfo]), {"page_size": str(PAGE_SIZE)})


def plugin(kind: str, name: str) -> Call[PluginInfo]:
    return _get(f"/v1/{_part(kind)}/{_part(name)}", reader(PluginInfo))


def datasets() -> Call[Page[DatasetInfo]]:
    return _get("/v1/datasets", reader(Page[DatasetInfo]), {"page_size": str(PAGE_SIZE)})


def dataset(name: str) -> Call[DatasetInfo]:
    return _get(f"/v1/datasets/{_part(name)}", reader(DatasetInfo))


def tables() -> Call[Page[TableInfo]]:
    return _get("/v1/tables", reader(Page[TableInfo]), {"page_size": str(PAGE_SIZE)})


def table(name: str) -> Call[TableInfo]:
    return _get(f"/v1/tables/{_part(name)}", reader(TableInfo))


def add_dataset(name: str, plugin: str, config: Mapping[str, Any], *, replace: bool = False) -> Call[DatasetInfo]:
    wanted = {"name": name, "plugin": plugin, "config": with_absolute_settings(plugin, config), "replace": replace}
    return _post("/v1/datasets", reader(DatasetInfo), wanted)


def check_dataset(name: str) -> Call[DatasetInfo]:
    return _post(f"/v1/datasets/{_part(name)}/check", reader(DatasetInfo), {})


def remove_dataset(name: str) -> Call[None]:
    return Call("DELETE", f"/v1/datasets/{_part(name)}", nothing)


def _job(job_id: str) -> str:
    return f"/v1/jobs/{_part(job_id)}"


def _evaluation(claimed: Claim) -> str:
    return f"/v1/evaluations/{_part(claimed.evaluation_id)}"


def _part(name: str) -> str:
    return quote(name, safe="")


def _get(path: str, read: Callable[[httpx.Response], T], query: Mapping[str, str | None] | None = None) -> Call[T]:
    return Call("GET", path, read, {key: value for key, value in (query or {}).items() if value is not None})


def _post(
    path: str,
    read: Callable[[httpx.Response], T],
    body: JsonObject,
    *,
    query: Mapping[str, str] | None = None,
    key: str | None = None,
) -> Call[T]:
    return Call("POST", path, read, query or {}, body, {"Idempotency-Key": key or uuid.uuid4().hex})


def _flag(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()
