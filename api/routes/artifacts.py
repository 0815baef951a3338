"""Files of a job: supernets, delivered models, cards."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Path
from starlette.responses import FileResponse, Response

from api.dependencies import READ, JobId, StoreDep
from api.errors import Refusal
from api.openapi import problems
from nas.resources import ArtifactInfo, Page
from searchspaces import Violation

router = APIRouter(prefix="/v1", tags=["artifacts"])

ArtifactId = Annotated[str, Path(min_length=1, max_length=100, description="Id of an artifact.")]
_PART = re.compile(r"\s*(\d{0,18})-(\d{0,18})\s*")


@router.get(
    "/jobs/{job_id}/artifacts", operation_id="list_artifacts", dependencies=[READ], responses=problems(404, 422)
)
def artifacts(job_id: JobId, store: StoreDep) -> Page[ArtifactInfo]:
    """All artifacts of a job, oldest first."""
    return Page[ArtifactInfo](items=tuple(store.artifacts(job_id)))


@router.get("/artifacts/{artifact_id}", operation_id="get_artifact", dependencies=[READ], responses=problems(404))
def artifact(artifact_id: ArtifactId, store: StoreDep) -> ArtifactInfo:
    """What an artifact is."""
    return store.artifact(artifact_id)


@router.get(
    "/artifacts/{artifact_id}/content",
    operation_id="get_artifact_content",
    dependencies=[READ],
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The part that `Range` asks for.", "content": {"application/octet-stream": {}}},
        304: {"description": "What `If-None-Match` names is still right."},
        **problems(400, 404, 416),
    },
)
def content(
    artifact_id: ArtifactId,
    store: StoreDep,
    range_: Annotated[str | None, Header(alias="Range", max_length=500, description="Parts to send.")] = None,
    if_none_match: Annotated[
        str | None, Header(alias="If-None-Match", max_length=1000, description="ETag at hand.")
    ] = None,
) -> Response:
    """The file. Its content never changes, so its ETag is its id; a broken download goes on with `Range`."""
    info = store.artifact(artifact_id)
    headers = {"ETag": f'"{info.artifact_id}"', "Cache-Control": "private, max-age=31536000, immutable"}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    _check_range(range_, info.size_bytes)
    path = store.artifact_path(artifact_id)
    return FileResponse(path, filename=info.name, media_type="application/octet-stream", headers=headers)


def _check_range(given: str | None, size_bytes: int) -> None:
    """Refuse what Starlette would refuse in plain text."""
    if given is None:
        return
    unit, _, listed = given.partition("=")
    parts = [_PART.fullmatch(part) for part in listed.split(",")]
    bounds = [(part[1], part[2]) for part in parts if part and (part[1] or part[2])]
    is_reversed = any(first and last and int(first) > int(last) for first, last in bounds)
    if unit.strip().lower() != "bytes" or len(bounds) < len(parts) or is_reversed:
        raise Refusal(
            400,
            "MALFORMED_RANGE",
            "Range is not written as bytes=FIRST-LAST.",
            violations=[Violation("Range", repr(given), "bytes=FIRST-LAST, bytes=FIRST- or bytes=-LENGTH")],
        )
    if any(first and int(first) >= size_bytes for first, _ in bounds):
        detail = f"the artifact has {size_bytes} bytes."
        raise Refusal(416, "RANGE_NOT_SATISFIABLE", detail, headers={"Content-Range": f"bytes */{size_bytes}"})
