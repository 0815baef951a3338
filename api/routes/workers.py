"""Workers that the store has seen."""

from __future__ import annotations

from fastapi import APIRouter

from api.dependencies import READ, StoreDep
from nas.resources import Page, Worker

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", operation_id="list_workers", dependencies=[READ])
def workers(store: StoreDep) -> Page[Worker]:
    """All workers; one that was not seen for some time is GONE."""
    return Page[Worker](items=tuple(store.workers()))
