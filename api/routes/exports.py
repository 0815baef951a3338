"""Exports: a candidate made into a model that runs without this software, when somebody asks for it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import READ, SUBMIT, JobId, StoreDep
from api.idempotency import IdempotentRoute
from api.openapi import problems
from api.routes.pareto import digest_of
from nas.admission import can_train
from nas.resources import Export, Job, Page, Phase
from nas.spec import ExportFormat, JobSpec
from searchspaces import InvalidState

router = APIRouter(prefix="/v1", tags=["exports"], route_class=IdempotentRoute)

ExportId = Annotated[str, Path(min_length=1, max_length=100, description="Id of an export.")]


class ExportRequest(BaseModel):
    """Which candidate is exported, how, and with which weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate: str = Field(
        "best", min_length=1, max_length=100, description="Digest, or `best`: the first by the job's evidence."
    )
    formats: tuple[ExportFormat, ...] = Field(("onnx",), min_length=1, max_length=3, description="Export formats.")
    weights: Literal["trained", "inherited"] | None = Field(
        None,
        description="`trained`: as delivered, or trained now; `inherited`: the supernet's, recalibrated. Without it, "
        "inherited for a candidate that was not delivered, where the job has a supernet; else trained.",
    )


@router.post(
    "/jobs/{job_id}/exports",
    status_code=202,
    operation_id="create_export",
    dependencies=[SUBMIT],
    responses={
        202: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problems(404, 409, 422, 507),
    },
)
def create(job_id: JobId, wanted: ExportRequest, store: StoreDep, response: Response) -> Export:
    """Ask for an export; a worker makes it. `GET` the Location until its state is SUCCEEDED or FAILED."""
    digest, job = digest_of(store, job_id, wanted.candidate), store.job(job_id)
    if not can_train(JobSpec.from_mapping(job.spec)):
        raise InvalidState(
            f"job {job_id} {_lacks(job)}, so there is no model to export; its candidates are kept as text and values "
            "(GET the candidate). For a model, submit a job of a space that builds networks with a `dataset`."
        )
    formats = tuple(dict.fromkeys(wanted.formats))
    has_supernet = store.view(job_id).find_output(Phase.SUPERNET, job_id=job_id) is not None
    weights = wanted.weights or _weights_at_hand(job, digest, has_supernet=has_supernet)
    if weights == "inherited" and not has_supernet:
        raise InvalidState(f"job {job_id} has no trained supernet to inherit from; ask for weights `trained`.")
    export = store.create_export(job_id, digest, formats, weights)
    response.headers["Location"] = f"/v1/exports/{export.export_id}"
    return export


@router.get("/jobs/{job_id}/exports", operation_id="list_exports", dependencies=[READ], responses=problems(404, 422))
def exports(job_id: JobId, store: StoreDep) -> Page[Export]:
    """All exports that were asked for."""
    return Page[Export](items=tuple(store.exports(job_id)))


@router.get("/exports/{export_id}", operation_id="get_export", dependencies=[READ], responses=problems(404))
def export(export_id: ExportId, store: StoreDep) -> Export:
    """One export; with its delivery once it has succeeded."""
    return store.export(export_id)


def _weights_at_hand(job: Job, digest: str, *, has_supernet: bool) -> Literal["trained", "inherited"]:
    is_trained = any(delivery.digest == digest and delivery.weights == "trained" for delivery in job.deliveries)
    return "trained" if is_trained or not has_supernet else "inherited"


def _lacks(job: Job) -> str:
    named = job.spec["space"]["name"]
    return "names no data set" if job.spec["dataset"] is None else f"searches {named}, which builds no networks"
