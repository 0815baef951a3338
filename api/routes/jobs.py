"""Jobs: submitted, listed, changed, told what to do, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from api.dependencies import READ, SUBMIT, JobId, PageSize, PageToken, ServiceDep, StoreDep
from api.errors import Refusal
from api.idempotency import IdempotentRoute
from api.openapi import problems
from nas.preflights import Preflight
from nas.resources import Job, JobState, Page
from nas.spec import Budget, JobSpec
from searchspaces import Conflict, Violation

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=IdempotentRoute)


class _SpecSchema:
    """The schema of a job spec for a body that is checked by admission, which names every violation at once."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(JobSpec.__pydantic_core_schema__)


SpecBody = Annotated[dict[str, Any], _SpecSchema, Body(description="What to search, on what, for what.")]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=100, description='The version that is meant, as its ETag: `"3"`, or `*`.'),
]


class JobChange(BaseModel):
    """What may change on a job: its name, its labels (all of them), and its budget (the fields given)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=200, description="What people call it.")
    labels: dict[str, str] | None = Field(None, max_length=64, description="Replaces all labels.")
    budget: Budget | None = Field(None, description="Fields that are left out stay as they are.")


@router.post(
    "",
    status_code=201,
    operation_id="submit_job",
    dependencies=[SUBMIT],
    response_model=Job,
    responses={
        202: {
            "model": Preflight,
            "description": "With `dry_run`: a worker finds out what the job would meet; ask the Location until it has.",
            "headers": {"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}},
        },
        201: {"headers": {"Location": {"schema": {"type": "string"}}, "ETag": {"schema": {"type": "string"}}}},
        **problems(409, 422, 507),
    },
)
def submit(
    spec: SpecBody,
    service: ServiceDep,
    response: Response,
    dry_run: Annotated[bool, Query(description="Only say what the job would meet.")] = False,
) -> Job | Response:
    """Submit a search, or with `dry_run` ask what it would meet. A wrong spec is refused with every violation named.

    What has to be read or run to be known (data, plug-ins, costs) is the job's first phase, PREFLIGHT, on a worker.
    """
    checked, objectives = service.admit(spec)
    if dry_run:
        asked = service.store.create_preflight(checked, objectives)
        headers = {"Location": f"/v1/preflights/{asked.preflight_id}", "Retry-After": "1"}
        return Response(asked.model_dump_json(), 202, headers, "application/json")
    job = service.store.create_job(checked, objectives)
    response.headers["Location"] = f"/v1/jobs/{job.job_id}"
    return _tagged(job, response)


@router.get("", operation_id="list_jobs", dependencies=[READ], responses=problems(422))
def jobs(
    store: StoreDep,
    page_size: PageSize,
    page_token: PageToken = None,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    label: Annotated[str | None, Query(max_length=500, description="Only jobs labelled `key:value`, or `key`.")] = None,
) -> Page[Job]:
    """Jobs, newest first."""
    return store.jobs(state=state, label=label, page_size=page_size, page_token=page_token)


@router.get("/{job_id}", operation_id="get_job", dependencies=[READ], responses=problems(404))
def job(job_id: JobId, store: StoreDep, response: Response) -> Job:
    """One job. The ETag is its version, which grows with every change a user makes, not with progress."""
    return _tagged(store.job(job_id), response)


@router.patch(
    "/{job_id}", operation_id="change_job", dependencies=[SUBMIT], responses=problems(404, 409, 412, 422, 428)
)
def change(job_id: JobId, changes: JobChange, store: StoreDep, response: Response, if_match: IfMatch = None) -> Job:
    """Change name, labels or budget. `If-Match` is required: 428 without it, 412 when the job changed meanwhile."""
    if if_match is None:
        raise Refusal(428, "PRECONDITION_REQUIRED", 'say which version is changed: If-Match: "VERSION", or * for any.')
    changed = _matched(
        job_id,
        lambda version: store.change_job(
            job_id, version=version, budget=changes.budget, name=changes.name, labels=changes.labels
        ),
        if_match,
    )
    return _tagged(changed, response)


@router.delete(
    "/{job_id}", status_code=204, operation_id="delete_job", dependencies=[SUBMIT], responses=problems(404, 409)
)
def delete(job_id: JobId, store: StoreDep) -> None:
    """Remove a job that is over, with all that belongs to it."""
    store.delete_job(job_id)


def _add_verb(verb: str, description: str) -> None:
    def act(job_id: JobId, store: StoreDep, response: Response) -> Job:
        return _tagged(store.act(job_id, verb), response)

    router.add_api_route(
        f"/{{job_id}}/{verb}",
        act,
        methods=["POST"],
        operation_id=f"{verb}_job",
        description=description,
        summary=verb.capitalize(),
        dependencies=[SUBMIT],
        responses=problems(404, 409),
        response_model=Job,
    )


_add_verb("pause", "Let go of all work, keeping everything; `resume` goes on.")
_add_verb("resume", "Go on with a paused job.")
_add_verb("stop", "End the search early, and still deliver.")
_add_verb("cancel", "Kill the job. What it found stays readable.")


def _matched(job_id: str, change: Callable[[int | None], Job], if_match: str) -> Job:
    if if_match.strip() == "*":
        return change(None)
    version = if_match.strip().removeprefix("W/").strip('"')
    if not version.isdecimal() or len(version) > 15:
        allowed = "the ETag of the job, or *"
        raise Refusal(
            412,
            "PRECONDITION_FAILED",
            f"job {job_id} has no such version.",
            violations=[Violation("If-Match", repr(if_match), allowed)],
        )
    try:
        return change(int(version))
    except Conflict as error:
        raise Refusal(412, "PRECONDITION_FAILED", str(error)) from error


def _tagged(job: Job, response: Response) -> Job:
    response.headers["ETag"] = f'"{job.version}"'
    return job
