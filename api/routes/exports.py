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
from nas.evaluators import needs_supernet
from nas.resources import Export, Job, Page
from nas.spec import ExportFormat, JobSpec, PluginRef
from searchspaces import InvalidState

router = APIRouter(prefix="/v1", tags=["exports"], route_class=IdempotentRoute)

ExportId = Annotated[str, Path(min_length=1, max_length=100, description="Id of an export.")]


class ExportRequest(BaseModel):
    """Which candidate is exported, how, and with which weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate: str = Field(
        "best", min_length=1, max_length=100, description="Digest, or `best`: the front's first by the first objective."
    )
    formats: tuple[ExportFormat, ...] = Field(("onnx",), min_length=1, max_length=3, description="Export formats.")
    weights: Literal["trained", "inherited"] | None = Field(
        None,
        description="`trained`: as delivered, or trained now; `inherited`: the supernet's, recalibrated. Without it, "
        "trained for a candidate that was delivered, else inherited.",
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
            f"job {job_id} names no data set, or its space builds no networks, so there is no model to export; submit "
            "the architecture's space with a data set."
        )
    formats = tuple(dict.fromkeys(wanted.formats))
    weights = wanted.weights or _weights_at_hand(job, digest)
    if weights == "inherited" and not _has_shared_weights(job):
        raise InvalidState(
            f"job {job_id} trained no supernet, so there is nothing to inherit; ask for trained weights."
        )
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


def _weights_at_hand(job: Job, digest: str) -> Literal["trained", "inherited"]:
    is_trained = any(delivery.digest == digest and delivery.weights == "trained" for delivery in job.deliveries)
    return "trained" if is_trained or not _has_shared_weights(job) else "inherited"


def _has_shared_weights(job: Job) -> bool:
    return needs_supernet(PluginRef.model_validate(job.spec["evaluator"]))
