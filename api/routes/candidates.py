"""Candidates of a job: what its evaluations say of each architecture."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.dependencies import READ, DigestOrBest, JobId, PageSize, PageToken, StoreDep
from api.openapi import problems
from api.routes.pareto import digest_of
from nas.resources import Candidate, Page

router = APIRouter(prefix="/v1/jobs/{job_id}/candidates", tags=["candidates"])


@router.get("", operation_id="list_candidates", dependencies=[READ], responses=problems(404, 422))
def candidates(
    *,
    job_id: JobId,
    store: StoreDep,
    page_size: PageSize,
    page_token: PageToken = None,
    order_by: Annotated[
        str | None,
        Query(max_length=200, description="`metric@level` to sort by, such as `accuracy@supernet`; else by number."),
    ] = None,
    descending: Annotated[bool, Query(description="Largest first.")] = False,
    feasible: Annotated[bool | None, Query(description="Only those inside, or outside, the constraints.")] = None,
    on_front: Annotated[bool | None, Query(description="Only those on, or off, the Pareto front.")] = None,
    count: Annotated[bool, Query(description="Say how many there are in all, as `total`.")] = False,
) -> Page[Candidate]:
    """Candidates, without their evaluations. Those without the value that is sorted by come last."""
    return store.candidates(
        job_id,
        order_by=order_by,
        descending=descending,
        feasible=feasible,
        on_front=on_front,
        page_size=page_size,
        page_token=page_token,
        count=count,
    )


@router.get("/{digest}", operation_id="get_candidate", dependencies=[READ], responses=problems(404))
def candidate(job_id: JobId, digest: DigestOrBest, store: StoreDep) -> Candidate:
    """One candidate with its evaluations and all measurements."""
    return store.candidate(job_id, digest_of(store, job_id, digest))
