"""Dry runs: what a job would meet, found out by a worker."""

from __future__ import annotations

from fastapi import APIRouter

from api.dependencies import READ, PreflightId, StoreDep
from api.openapi import problems
from nas.preflights import Preflight

router = APIRouter(prefix="/v1/preflights", tags=["jobs"])


@router.get("/{preflight_id}", operation_id="get_preflight", dependencies=[READ], responses=problems(404))
def preflight(preflight_id: PreflightId, store: StoreDep) -> Preflight:
    """A dry run, as it stands: QUEUED, RUNNING, SUCCEEDED with a report, or FAILED with what is wrong with the spec."""
    return store.preflight(preflight_id)
