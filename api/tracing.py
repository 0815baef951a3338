"""What every request gets: a name, a measured time, security headers, and an answer even when the service fails."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import unhandled
from api.security import SECURITY_HEADERS

if TYPE_CHECKING:
    from api.metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Tracing:
    """The outermost layer of the service.

    A request keeps the X-Request-ID that it comes with, when that is short and plain; every answer carries it.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def traced_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *SECURITY_HEADERS,
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, traced_send)
        except Exception as error:  # the edge of the process: whatever it is, the client gets an answer
            response = unhandled(request_id, error)
            if status:
                raise  # half an answer is out; the server cuts the connection
            await response(scope, receive, traced_send)
        finally:
            self._metrics.observe(scope, status, time.perf_counter() - started)
