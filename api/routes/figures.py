"""Plots of a job as plotly figures in JSON."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.dependencies import READ, DigestOrBest, JobId, StoreDep
from api.openapi import FIGURE_RESPONSE, problems
from api.routes.pareto import digest_of
from db import Store
from nas import figures
from nas.plugins import registry
from nas.resources import Event, JsonObject, ParetoFront
from nas.spec import PluginRef
from searchspaces import drawing

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["figures"])

_EVENTS_A_PAGE = 10_000

FigureName = Annotated[
    Literal["pareto", "hypervolume", "training", "paths"], Path(description="Which figure, as described above.")
]
_AXIS = r"^(number|[^@\s]+@[a-z]+)$"
X = Annotated[
    str | None,
    Query(max_length=200, pattern=_AXIS, description="`metric@level`, or `number`, drawn to the right (pareto)."),
]
Y = Annotated[
    str | None, Query(max_length=200, pattern=_AXIS, description="`metric@level`, or `number`, drawn upwards (pareto).")
]
Sample = Annotated[int, Query(ge=0, le=20_000, description="Most candidates drawn beside the front (pareto).")]


@router.get(
    "/figures/{name}",
    operation_id="get_figure",
    dependencies=[READ],
    response_class=Response,
    responses={200: FIGURE_RESPONSE, **problems(404, 422)},
)
def figure(
    job_id: JobId, name: FigureName, store: StoreDep, *, sample: Sample = 2000, x: X = None, y: Y = None
) -> Response:
    """A plotly figure: `pareto` front over a sample of the candidates, `hypervolume` over the evaluations, supernet
    `training`, or distribution of `paths`. The `customdata` of a point is the digest of its candidate.

    `pareto` draws the objectives unless `x` or `y` name other values; candidates without them are left out."""
    match name:
        case "pareto":
            front = store.front(job_id)
            drawn = store.sample_candidates(job_id, sample) if sample else ()
            units = _units(store, job_id, front)
            return _json(figures.pareto(front, drawn, front.objectives, x=x, y=y, units=units))
        case "hypervolume":
            return _json(figures.hypervolume(_events(store, job_id, "evaluations")))
        case "training":
            return _json(figures.training(_events(store, job_id, "epoch")))
        case "paths":
            return _json(figures.paths(_events(store, job_id, "epoch")))


@router.get(
    "/candidates/{digest}/figure",
    operation_id="get_candidate_figure",
    dependencies=[READ],
    response_class=Response,
    responses={200: FIGURE_RESPONSE, **problems(404, 422)},
)
def candidate_figure(job_id: JobId, digest: DigestOrBest, store: StoreDep) -> Response:
    """The graph of a candidate's architecture as a plotly figure."""
    spec = store.job(job_id).spec
    candidate = store.candidate(job_id, digest_of(store, job_id, digest))
    ref = PluginRef.model_validate(spec["space"])
    space = registry("spaces")[ref.name](ref.config)
    return _json(figures.architecture(drawing(space, space.parse(candidate.text))))


def _units(store: Store, job_id: str, front: ParetoFront) -> dict[str, str]:
    """Metric -> its unit, as it was measured of one candidate of the front."""
    shown = [store.candidate(job_id, point.digest) for point in front.points[:1]]
    return {m.metric: m.unit for found in shown for e in found.evaluations for m in e.measurements}


def _json(figure: JsonObject) -> Response:
    return Response(json.dumps(figure, separators=(",", ":")), media_type="application/json")


def _events(store: Store, job_id: str, kind: str) -> list[Event]:
    found: list[Event] = []
    while True:
        after = found[-1].sequence if found else 0
        page = store.events(job_id, after=after, types=[kind], limit=_EVENTS_A_PAGE)
        found += page.items
        if page.next_page_token is None:
            return found
