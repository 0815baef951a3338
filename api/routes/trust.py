"""How far the ranking of a job can be trusted, worked out anew."""

from __future__ import annotations

from fastapi import APIRouter

from api.dependencies import READ, JobId, StoreDep
from api.openapi import problems
from nas.reports import TrustReport
from nas.spec import JobSpec

router = APIRouter(prefix="/v1/jobs/{job_id}/trust", tags=["trust"])


@router.get("", operation_id="get_trust", dependencies=[READ], responses=problems(404))
def trust(job_id: JobId, store: StoreDep) -> TrustReport:
    """How far the ranking can be trusted, from the networks that were trained for real so far: every ranker's agreement
    with them, beside the free baselines. Worked out anew at every request, also while the job runs; what stood at the
    audit's end is in the job."""
    from nas.job import trust_report

    view = store.view(job_id)
    return trust_report(view, JobSpec.from_mapping(view.job().spec))
