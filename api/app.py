"""The REST service as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from ipaddress import ip_network

from fastapi import FastAPI

from api import errors, openapi, page
from api.dependencies import Admit, Service
from api.event_stream import EventStreams
from api.metrics import Metrics
from api.proxies import TrustedProxies
from api.routes import ROUTERS
from api.security import Guard, Tokens
from api.settings import Settings
from api.tracing import Tracing
from db import Store

_DESCRIPTION = """Neural architecture search: submit a search, watch its Pareto front grow, export any point of it.

Lists come in pages: `page_size`, and `page_token` from the `next_page_token` of the page before, absent at the end.
Errors are RFC 9457 problems with a stable `code` and every violation (field, value, allowed). Every POST takes an
`Idempotency-Key`: sent again with the same body it is answered the same and not done again, with another body it is
refused (422). Times are UTC."""


def create_app(store: Store, settings: Settings, *, admit: Admit) -> FastAPI:
    """The service over a store.

    Args:
        store: an open store; whoever opened it closes it.
        settings: how the service runs.
        admit: checks what a user submits, quickly, and runs no network; raises SpecError with every violation.
    """
    service = Service(
        store=store,
        settings=settings,
        admit=admit,
        tokens=Tokens(settings.tokens),
        metrics=Metrics(store),
        streams=EventStreams(store, settings.poll_seconds),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.streams.end()

    app = FastAPI(
        title="Neural architecture search",
        version=version("nas-service"),
        description=_DESCRIPTION,
        docs_url=None,  # FastAPI's pages load their scripts from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    page.install(app)
    openapi.install(app, settings)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(TrustedProxies, networks=[ip_network(each, strict=False) for each in settings.trusted_proxies])
    app.add_middleware(Tracing, metrics=service.metrics)  # added last, so it is the outermost
    return app
