"""Sends calls and flows over HTTP, again when that is safe; the same rules for both clients."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from nas.client import _calls as calls
from nas.client._answers import refusal, unreachable
from nas.client._calls import Call
from nas.client._flows import Download, Flow, Pause
from searchspaces import ServiceError, StorageFull

T = TypeVar("T")

_DELAYS = (0.1, 0.3, 0.9, 2.0)  # seconds before the second to the fifth try
_BUSY = (429, 502, 503, 504)
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_ANSWER_SECONDS = 600.0  # how long the service may take to answer a request that was sent twice
_STREAM_TIMEOUT = httpx.Timeout(60.0, connect=10.0, read=90.0)  # the service pings a silent stream


def normal_url(url: str) -> str:
    """An address with scheme and without a trailing slash.

    Raises:
        ServiceError: it is no http address.
    """
    full = url if "://" in url else f"http://{url}"
    parts = urlsplit(full)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServiceError(f"{url!r} is no address of a service; expected one such as http://127.0.0.1:8421.")
    return full.rstrip("/")


class _Tries:
    """When to send one call again."""

    def __init__(self, call: Call[T]) -> None:
        self._is_repeatable, self._failed, self._began = call.is_repeatable, 0, time.monotonic()

    def again(self, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds to wait before the next try; None when there is none."""
        if not self._is_repeatable:
            return None
        if isinstance(outcome, httpx.Response):
            if outcome.status_code == 409 and "Retry-After" in outcome.headers:  # the first try is being answered still
                return _retry_after(outcome) if time.monotonic() - self._began < _ANSWER_SECONDS else None
            if outcome.status_code not in _BUSY:
                return None
        if self._failed == len(_DELAYS):
            return None
        self._failed += 1
        asked = _retry_after(outcome) if isinstance(outcome, httpx.Response) else 0.0
        return max(_DELAYS[self._failed - 1], asked)


class _Settings:
    """What both transports share: address and headers."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = normal_url(url)
        self.headers = {"User-Agent": "nas-client", "Accept": "application/json"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    @property
    def options(self) -> dict[str, object]:
        # A proxy of the environment cannot reach this machine's own loopback.
        return {"base_url": self.url, "headers": self.headers, "trust_env": not _is_loopback(self.url)}

    def read(self, call: Call[T], response: httpx.Response) -> T:
        if response.status_code >= 400:
            raise refusal(response)
        return call.read(response)


class Transport(_Settings):
    """Blocking."""

    def __init__(self, url: str, token: str | None, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(url, token)
        self._http = httpx.Client(**self.options, timeout=_TIMEOUT, transport=transport)  # type: ignore[arg-type]

    def send(self, call: Call[T]) -> T:
        tries = _Tries(call)
        while True:
            try:
                response = self._http.request(
                    call.method, call.path, params=call.query, json=call.body, headers=call.headers
                )
            except httpx.TransportError as error:
                delay = tries.again(error)
                if delay is None:
                    raise unreachable(self.url, error) from error
            else:
                delay = tries.again(response)
                if delay is None:
                    return self.read(call, response)
            time.sleep(delay)

    def run(self, flow: Flow[T]) -> T:
        """Do the steps of a flow."""
        answer: object = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            answer = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
            elif isinstance(step, Download):
                self._download(step)
            else:
                answer = self.send(step)

    @contextmanager
    def lines(self, call: Call[None]) -> Iterator[Iterator[str]]:
        """The lines of a streamed answer; one try."""
        try:
            with self._http.stream(
                call.method, call.path, params=call.query, headers=call.headers, timeout=_STREAM_TIMEOUT
            ) as response:
                if response.status_code >= 400:
                    response.read()
                    raise refusal(response)
                yield response.iter_lines()
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error

    def _download(self, step: Download) -> None:
        call = calls.content(step.artifact_id)
        try:
            with self._http.stream("GET", call.path) as response, step.file.open("wb") as file:
                if response.status_code >= 400:
                    response.read()
                    raise refusal(response)
                for chunk in response.iter_bytes():
                    file.write(chunk)
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        except OSError as error:
            raise _cannot_write(step.file, error) from error

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        self._http.close()


class AsyncTransport(_Settings):
    """For an event loop."""

    def __init__(self, url: str, token: str | None, transport: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__(url, token)
        self._http = httpx.AsyncClient(**self.options, timeout=_TIMEOUT, transport=transport)  # type: ignore[arg-type]

    async def send(self, call: Call[T]) -> T:
        tries = _Tries(call)
        while True:
            try:
                response = await self._http.request(
                    call.method, call.path, params=call.query, json=call.body, headers=call.headers
                )
            except httpx.TransportError as error:
                delay = tries.again(error)
                if delay is None:
                    raise unreachable(self.url, error) from error
            else:
                delay = tries.again(response)
                if delay is None:
                    return self.read(call, response)
            await asyncio.sleep(delay)

    async def run(self, flow: Flow[T]) -> T:
        """Do the steps of a flow."""
        answer: object = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            answer = None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Download):
                await self._download(step)
            else:
                answer = await self.send(step)

    @asynccontextmanager
    async def lines(self, call: Call[None]) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a streamed answer; one try."""
        try:
            async with self._http.stream(
                call.method, call.path, params=call.query, headers=call.headers, timeout=_STREAM_TIMEOUT
            ) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise refusal(response)
                yield response.aiter_lines()
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error

    async def _download(self, step: Download) -> None:
        call = calls.content(step.artifact_id)
        try:
            async with self._http.stream("GET", call.path) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise refusal(response)
                with step.file.open("wb") as file:
                    async for chunk in response.aiter_bytes():
                        file.write(chunk)
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        except OSError as error:
            raise _cannot_write(step.file, error) from error

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        await self._http.aclose()


def _cannot_write(file: Path, error: OSError) -> StorageFull | ServiceError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no room left to write {file}; free some space, then export again.")
    return ServiceError(f"cannot write {file}: {error.strerror or error}.", code="CANNOT_WRITE")


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "0")
    return min(float(text), 10.0) if text.isdecimal() else 0.0


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
