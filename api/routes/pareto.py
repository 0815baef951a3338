"""The Pareto front of a job."""

from __future__ import annotations

from fastapi import APIRouter

from api.dependencies import READ, JobId, StoreDep
from api.openapi import problems
from db import Store
from nas.resources import ParetoFront
from searchspaces import NotFound

router = APIRouter(prefix="/v1/jobs/{job_id}/pareto", tags=["pareto"])


@router.get("", operation_id="get_pareto", dependencies=[READ], responses=problems(404))
def pareto(job_id: JobId, store: StoreDep) -> ParetoFront:
    """The feasible candidates that none other is better than in every objective, and their hypervolume."""
    progress = store.job(job_id).progress
    measured = {"hypervolume": progress.hypervolume, "reference": progress.reference}
    return store.front(job_id).model_copy(update=measured)


def digest_of(store: Store, job_id: str, digest: str) -> str:
    """The digest itself; for `best` that of the first candidate by the job's evidence (`Job.best`).

    Before the search has ended, that is the front's first point by the first objective.

    Raises:
        NotFound: there is no such job, or its front is empty.
    """
    if digest != "best":
        return digest
    best = store.job(job_id).best
    if best is not None:
        return best
    front = store.front(job_id)
    if not front.points:
        raise NotFound(f"job {job_id} has no best candidate: none that meets its constraints has been evaluated yet.")
    return front.points[0].digest  # the store puts the best by the first objective first
