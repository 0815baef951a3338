"""Whether the service works, and how it is doing."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from api.dependencies import READ, ServiceDep, StoreDep
from api.metrics import CONTENT_TYPE
from api.openapi import problems
from nas.reports import Resource

router = APIRouter(tags=["health"])


class Health(Resource):
    """The service answers, and so does its store."""

    status: str = Field(description="ok, or there is a problem instead.")
    version: str = Field(description="Version of the service.")


@router.get("/healthz", operation_id="get_health", responses=problems(503))
def health(store: StoreDep) -> Health:
    """Whether the store answers. Needs no token."""
    store.workers()
    return Health(status="ok", version=version("nas-service"))


@router.get(
    "/metrics",
    operation_id="get_metrics",
    dependencies=[READ],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(503)},
)
def metrics(service: ServiceDep) -> Response:
    """Figures for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)
