"""What a trusted reverse proxy says of the request that it hands on: who asked, for which host, and how."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxies:
    """Believes X-Forwarded-Host, -Proto and -For of the proxies that are named, and of nobody else.

    Anybody may send these headers. Where a chain of proxies added to one of them, what the nearest one saw counts.
    """

    def __init__(self, app: ASGIApp, *, networks: Sequence[Network]) -> None:
        self._app, self._networks = app, tuple(networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._trusts((scope.get("client") or ("",))[0]):
            scope = self._believed(scope)
        await self._app(scope, receive, send)

    def _believed(self, scope: Scope) -> Scope:
        headers, changed = Headers(scope=scope), dict(scope)
        if (scheme := _last(headers, "x-forwarded-proto").lower()) in ("http", "https"):
            changed["scheme"] = scheme
        if host := _last(headers, "x-forwarded-host"):
            kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
            changed["headers"] = [*kept, (b"host", host.encode("latin-1"))]
        asked = [part.strip() for part in headers.get("x-forwarded-for", "").split(",")]
        strangers = [name for name in asked if name and not self._trusts(name)]
        if strangers:
            changed["client"] = (strangers[-1], 0)
        return changed

    def _trusts(self, name: str) -> bool:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _last(headers: Headers, name: str) -> str:
    return headers.get(name, "").rpartition(",")[2].strip()
