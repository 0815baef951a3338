"""Idempotency-Key: a POST that is sent twice is done once, and answered the same both times."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.errors import Refusal
from api.security import authenticated, principal
from db import Store
from nas.resources import JsonObject
from searchspaces import Conflict, SpecError, StoreError, Violation

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_IN_PROGRESS = "REQUEST_IN_PROGRESS"
_HOLD_SECONDS = 15.0
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 20.0
_ANSWERING: set[asyncio.Task[Response]] = set()
_LOG = logging.getLogger("nas.api")
_KEPT_HEADERS = ("content-type", "etag", "location", "retry-after")
_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names this request: sent again with the same body, it is answered the same and not done again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[!-~]+$"},
}


class IdempotentRoute(APIRoute):
    """A route whose POST is done once for each Idempotency-Key of a caller, for as long as the store remembers."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra: dict[str, Any] = dict(options.get("openapi_extra") or {})
        if "POST" in (options.get("methods") or ()) and _PARAMETER not in extra.get("parameters", []):
            options["openapi_extra"] = extra | {"parameters": [*extra.get("parameters", []), _PARAMETER]}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, or the answer that it gave before."""
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if request.method != "POST" or key is None:
                return await handle(request)
            return await _once(handle, request, _checked(key))

        return handle_once


async def _once(handle: Handler, request: Request, key: str) -> Response:
    authenticated(request)  # an answer is replayed only to whom it was given
    store: Store = request.app.state.service.store
    scoped = f"{principal(request)}:{key}"
    digest = await _request_hash(request)
    known = await _known(store, scoped, key, digest)
    if known is not None:
        headers = {**known["headers"], "Idempotent-Replayed": "true"}
        return Response(known["body"], known["status"], headers)
    answering = asyncio.create_task(_answer(handle, request, store, scoped, digest))
    _ANSWERING.add(answering)  # else nobody holds it once the client has gone, and it may be collected half-way
    answering.add_done_callback(_ended)
    return await asyncio.shield(answering)  # a client that goes away ends this, not the work nor the claim on its key


async def _answer(handle: Handler, request: Request, store: Store, scoped: str, digest: str) -> Response:
    """Do what is asked and remember the answer; the key is held until then."""
    holding = asyncio.create_task(_hold(store, scoped))
    is_kept = False
    try:
        response = await handle(request)
        answer = {
            "status": response.status_code,
            "headers": {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers},
            "body": bytes(response.body).decode(),
        }
        await run_in_threadpool(store.remember, scoped, digest, answer)
        is_kept = True
    finally:
        holding.cancel()
        if not is_kept:  # refused or failed: nothing was done, so the same key may be tried again
            await run_in_threadpool(store.forget, scoped)
    return response


async def _hold(store: Store, scoped: str) -> None:
    while True:
        await asyncio.sleep(_HOLD_SECONDS)
        try:
            await run_in_threadpool(store.hold, scoped)
        except StoreError as error:
            _LOG.warning("a claimed Idempotency-Key was not held, trying again: %s", error)


def _ended(answering: asyncio.Task[Response]) -> None:
    _ANSWERING.discard(answering)
    if not answering.cancelled():
        answering.exception()  # told to the client if it is still there; else to nobody


async def _known(store: Store, scoped: str, key: str, digest: str) -> JsonObject | None:
    """The answer of before; one that is being made is waited for, for a while.

    Raises:
        Refusal: the key was used for another request, or its answer is not there yet.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await run_in_threadpool(_recall, store, scoped, key, digest)
        except Refusal as refusal:
            if refusal.code != _IN_PROGRESS or time.monotonic() > until:
                raise
        await asyncio.sleep(_POLL_SECONDS)


def _recall(store: Store, scoped: str, key: str, digest: str) -> JsonObject | None:
    try:
        return store.recall(scoped, digest)
    except SpecError as error:
        raise Refusal(
            422,
            "IDEMPOTENCY_KEY_REUSED",
            f"Idempotency-Key {key!r} was used for another request; use a new one.",
            violations=[Violation("Idempotency-Key", repr(key), "a key that was not used for another request")],
        ) from error
    except Conflict as error:
        detail = f"the request with Idempotency-Key {key!r} is being answered; ask again in a moment."
        raise Refusal(409, _IN_PROGRESS, detail, headers={"Retry-After": "1"}) from error


async def _request_hash(request: Request) -> str:
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    return digest.hexdigest()


def _checked(key: str) -> str:
    if _KEY.fullmatch(key):
        return key
    raise Refusal(
        422,
        "INVALID_REQUEST",
        "Idempotency-Key is not usable.",
        violations=[Violation("Idempotency-Key", repr(key)[:80], "1 to 200 printable ASCII characters, no spaces")],
    )
