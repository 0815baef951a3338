"""What handlers ask for, as named types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from api.errors import Refusal
from api.event_stream import EventStreams
from api.metrics import Metrics
from api.security import Tokens, scope_needed
from api.settings import Settings
from db import Store
from nas.resources import Objective
from nas.spec import JobSpec
from searchspaces import Violation

Admit = Callable[[Mapping[str, object]], tuple[JobSpec, tuple[Objective, ...]]]


@dataclass(frozen=True)
class Service:
    """Everything that one app serves from."""

    store: Store
    settings: Settings
    admit: Admit
    tokens: Tokens
    metrics: Metrics
    streams: EventStreams


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _store(request: Request) -> Store:
    service: Service = request.app.state.service
    return service.store


ServiceDep = Annotated[Service, Depends(_service)]
StoreDep = Annotated[Store, Depends(_store)]

READ, SUBMIT = scope_needed("read"), scope_needed("submit")
WORK, ADMIN = scope_needed("worker"), scope_needed("admin")

JobId = Annotated[str, Path(min_length=1, max_length=100, description="Id of a job.")]
PreflightId = Annotated[str, Path(min_length=1, max_length=100, description="Id of a dry run.")]
DigestOrBest = Annotated[
    str,
    Path(min_length=1, max_length=100, description="Digest, or `best`: the first by the job's evidence."),
]
Name = Annotated[str, Path(min_length=1, max_length=200, description="Name of a plug-in or data set.")]
PageToken = Annotated[str | None, Query(max_length=1000, description="`next_page_token` of the page before; opaque.")]


async def _page_size(
    service: ServiceDep, page_size: Annotated[int | None, Query(ge=1, description="Items on the page.")] = None
) -> int:
    settings = service.settings
    if page_size is not None and page_size > settings.page_size_max:
        allowed = f"1 to {settings.page_size_max}"
        raise Refusal(
            422,
            "INVALID_REQUEST",
            f"page_size is above {settings.page_size_max}; ask for less, and go on with next_page_token.",
            violations=[Violation("page_size", str(page_size), allowed)],
        )
    return page_size or settings.page_size


PageSize = Annotated[int, Depends(_page_size)]
