"""Who may ask for what: hosts, origins, content types and sizes of requests; tokens and their scopes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, params
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as ASGIScope

from api.bodies import body_violations
from api.errors import Refusal, problem_response
from api.settings import Scope, Settings
from searchspaces import Violation

COOKIE = "nas_session"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ALL_SCOPES: frozenset[Scope] = frozenset(("read", "submit", "worker", "admin"))

# plotly.js writes styles into the page while it draws; scripts come from this host alone, and none stands in a page.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

SECURITY_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Tokens:
    """The tokens of a service, kept as digests."""

    def __init__(self, tokens: Mapping[str, Iterable[Scope]]) -> None:
        self._scopes = {_digest(token): frozenset(scopes) for token, scopes in tokens.items()}

    @property
    def is_open(self) -> bool:
        """Whether there are none, so that everybody on this machine may do everything."""
        return not self._scopes

    def scopes(self, token: str | None) -> frozenset[Scope] | None:
        """What a token may do; None for an unknown one. Takes the same time for every unknown token."""
        if self.is_open:
            return ALL_SCOPES
        given, found = _digest(token or ""), None
        for known, scopes in self._scopes.items():
            if hmac.compare_digest(given, known):
                found = scopes
        return found


class Guard:
    """Refuses requests that no own page and no client of ours would send, before anything reads them.

    A web page that a user of this machine happens to visit can send requests to a service on loopback. It cannot name
    an allowed host after rebinding its DNS name, nor send JSON, or hide its Origin, without being seen here.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app, self._body_bytes_max = app, settings.body_bytes_max
        self._any_host = "*" in settings.allowed_hosts
        public = {str(urlsplit(settings.public_url).hostname)} if settings.public_url else set[str]()
        self._hosts = LOOPBACK_NAMES | {settings.host.lower()} | set(settings.allowed_hosts) | public
        # Loopback names are not among these: another port of this machine is another site, anybody's.
        self._own_sites = set(settings.allowed_hosts) - {"*"} - LOOPBACK_NAMES
        self._own_origins = {settings.public_url} if settings.public_url else set[str]()

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_unsafe = scope["method"] not in SAFE_METHODS
        try:
            self._check_host(headers)
            if is_unsafe:
                self._check_origin(headers)
                _check_content_type(headers)
                receive = await self._limited(headers, receive)
        except Refusal as refusal:
            request_id = scope.get("state", {}).get("request_id", "")
            response = problem_response(
                request_id, refusal.status_code, refusal.code, str(refusal.detail), violations=refusal.violations
            )
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        named = headers.getlist("host")
        if self._any_host and len(named) == 1:
            return
        if len(named) != 1 or _host_name(named[0]) not in self._hosts:
            shown = ", ".join(named) or "nothing"
            raise Refusal(
                421,
                "HOST_NOT_ALLOWED",
                f"the request is addressed to {shown}, which is not this service; "
                "set NAS_ALLOWED_HOSTS to allow it, or NAS_PUBLIC_URL where a reverse proxy stands before the service.",
                violations=[Violation("Host", repr(shown), ", ".join(sorted(self._hosts)))],
            )

    def _check_origin(self, headers: Headers) -> None:
        """A page may change things when it is this service's own: by its address here, or by one that is configured."""
        origin = headers.get("origin")
        is_foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if origin is not None:
            scheme, _, place = origin.partition("://")
            is_own = _same_place(scheme, place, headers["host"]) or self._is_configured(origin, place)
            is_foreign = is_foreign or scheme not in ("http", "https") or not is_own
        if is_foreign:
            allowed = ", ".join(["this host, " + headers["host"], *sorted(self._own_origins | self._own_sites)])
            raise Refusal(
                403,
                "FOREIGN_ORIGIN",
                "pages of other sites may not change anything here; where a reverse proxy stands before the service, "
                "set NAS_PUBLIC_URL to the address that people open, or NAS_TRUSTED_PROXIES to the proxy's.",
                violations=[Violation("Origin", repr(origin), f"{allowed}, or none")],
            )

    def _is_configured(self, origin: str, place: str) -> bool:
        scheme = origin.partition("://")[0]
        is_public = any(
            public.partition("://")[0] == scheme and _same_place(scheme, place, public.partition("://")[2])
            for public in self._own_origins
        )
        return is_public or _host_name(place) in self._own_sites

    async def _limited(self, headers: Headers, receive: Receive) -> Receive:
        """Read the whole body, which is small by rule, and hand it on as one message."""
        too_large = Refusal(
            413, "BODY_TOO_LARGE", f"the body is larger than {self._body_bytes_max} bytes (NAS_BODY_BYTES_MAX)."
        )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._body_bytes_max:
            raise too_large
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._body_bytes_max:
                raise too_large
        if wrong := body_violations(bytes(body)):
            told = "\n".join(map(str, wrong))
            raise Refusal(422, "INVALID_REQUEST", told, violations=wrong)
        return _replay(bytes(body), receive)


def scope_needed(scope: Scope) -> params.Depends:
    """The dependency that lets only tokens of a scope in. `admin` may do everything."""

    async def check(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
    ) -> None:
        del credentials  # declares the scheme in the OpenAPI document; the cookie counts too, so read both below
        scopes = authenticated(request)
        if scope not in scopes and "admin" not in scopes:
            raise Refusal(
                403,
                "SCOPE_MISSING",
                f"this needs a token with the scope {scope}.",
                violations=[Violation("scopes", ", ".join(sorted(scopes)), scope)],
            )

    dependency: params.Depends = Depends(check)
    return dependency


BEARER = HTTPBearer(auto_error=False, description="A token of NAS_TOKENS. Not needed in open mode, on loopback.")


def bearer_token(request: Request) -> str | None:
    """The token that comes with a request, in its header or, from the page, in its cookie."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.cookies.get(COOKIE)


def authenticated(request: Request) -> frozenset[Scope]:
    """The scopes that the request's token gives.

    Raises:
        Refusal: there is no token, or nobody knows it.
    """
    tokens: Tokens = request.app.state.service.tokens
    token = bearer_token(request)
    scopes = tokens.scopes(token)
    if scopes is None:
        detail = (
            "no token is known by that text." if token else "this service needs a token: Authorization: Bearer TOKEN."
        )
        raise Refusal(401, "UNAUTHENTICATED", detail, headers={"WWW-Authenticate": 'Bearer realm="nas"'})
    return scopes


def principal(request: Request) -> str:
    """Who asks, without saying the token: what idempotency keys are kept apart by."""
    tokens: Tokens = request.app.state.service.tokens
    return "open" if tokens.is_open else _digest(bearer_token(request) or "").hex()[:32]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _host_name(host: str) -> str | None:
    """The name in a Host header or origin, without the port."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return None
    return parts.hostname.rstrip(".") if parts.hostname and "@" not in host else None


def _same_place(scheme: str, origin: str, host: str) -> bool:
    default = ":443" if scheme == "https" else ":80"
    return origin.lower().removesuffix(default) == host.lower().removesuffix(default)


def _check_content_type(headers: Headers) -> None:
    given = headers.get("content-type")
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if given is None and not has_body:
        return
    if (given or "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "bodies are JSON: send Content-Type: application/json.",
            violations=[Violation("Content-Type", repr(given), "application/json")],
        )


def _replay(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def again() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
