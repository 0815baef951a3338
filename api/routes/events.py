"""What happened in a job: as pages, or as it happens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse

from api.dependencies import READ, JobId, PageSize, ServiceDep
from api.openapi import problems
from nas.resources import Event, Page

router = APIRouter(prefix="/v1/jobs/{job_id}/events", tags=["events"])

After = Annotated[int | None, Query(ge=0, le=2**53, description="Only events with a larger sequence number.")]
Types = Annotated[list[str] | None, Query(alias="type", max_length=20, description="Only these types (pages).")]
PageAfter = Annotated[
    int | None,
    Query(
        ge=0,
        le=2**53,
        alias="page_token",
        description="`next_page_token` of the page before; goes before `after`.",
    ),
]
LastEventId = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID",
        ge=0,
        le=2**53,
        description="Sequence of the last event seen; goes before `after`.",
    ),
]


@router.get(
    "",
    operation_id="list_events",
    dependencies=[READ],
    response_model=Page[Event],
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "A page; with `Accept: text/event-stream` a stream.",
        },
        **problems(404, 422),
    },
)
def events(
    *,
    job_id: JobId,
    service: ServiceDep,
    request: Request,
    page_size: PageSize,
    after: After = None,
    page_token: PageAfter = None,
    types: Types = None,
    last_event_id: LastEventId = None,
) -> Page[Event] | Response:
    """Events of a job in order, as a page or, with `Accept: text/event-stream`, as server-sent events.

    In the stream `id` is the sequence number, `event` the type and `data` the event. Besides, without an id: `progress`
    (data: the job without its spec) whenever the job changed, and `end` ({state, reason}) after the last event of a job
    that is over. A listener that comes back with `Last-Event-ID` misses nothing.
    """
    if not _wants_stream(request):
        first = page_token if page_token is not None else after
        return service.store.events(job_id, after=first or 0, types=types, limit=page_size)
    service.store.job(job_id)  # told now, while an error can still be answered
    request.state.is_stream = True
    cursor = last_event_id if last_event_id is not None else after
    stream = service.streams.follow(job_id, cursor or 0)
    return EventSourceResponse(stream, ping=service.settings.ping_seconds, headers={"Cache-Control": "no-store"})


def _wants_stream(request: Request) -> bool:
    return any("text/event-stream" in accept for accept in request.headers.getlist("accept"))
