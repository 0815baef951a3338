"""Measuring on devices of your own: evaluations are claimed, renewed while the measuring goes on, and answered."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import platform
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from nas.claims import LONGEST_ERROR, Answer, Claim, ContextValue
from nas.client import _calls as calls
from nas.client._calls import Call
from nas.plugins import registry
from nas.resources import JsonObject, Page
from searchspaces import Architecture, InvalidState, LeaseLost, MeasurementError, NotFound, SearchSpace, ServiceError

if TYPE_CHECKING:
    from torch import nn

    from nas.client._transport import AsyncTransport, Transport

T = TypeVar("T")

log = logging.getLogger("nas.client")

_POLL_SECONDS = (0.2, 5.0)  # between two claims; grows while nothing is to be done
_RENEWALS = 3  # in the time that a claim holds
_PATIENCE_SECONDS = 300.0  # how long a service may be away before what was measured is given up
_NOTHING_POSTED = "the device posted no measurements"
_AWAY = (0, 502, 503, 504)  # statuses of a service that does not answer, or not now


class Claimed:
    """An evaluation in this device's hands: what to measure."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.is_done = False
        self.is_lost = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.claim.evaluation_id!r}, {self.claim.text!r})"

    @cached_property
    def architecture(self) -> Architecture:
        """What to measure: its text, and the option of every decision."""
        return Architecture(tuple(self.claim.options.items()), self.claim.text)

    @cached_property
    def space(self) -> SearchSpace:
        """The search space, with the job's settings."""
        found: SearchSpace = registry("spaces")[self.claim.space["name"]](self.claim.space["config"])
        return found

    def build(self) -> nn.Module:
        """The architecture's network, with fresh weights from the claim's seed. Needs torch."""
        return self.space.build(self.architecture, seed=self.claim.seed)

    def _answer(
        self,
        measurements: Mapping[str, float],
        *,
        std: Mapping[str, float] | None,
        context: Mapping[str, ContextValue] | None,
        seconds: float | None,
    ) -> Call[Answer]:
        """The request that answers with these numbers.

        Raises:
            MeasurementError: one is not finite.
        """
        values = {metric: float(value) for metric, value in measurements.items()}
        for metric, value in values.items():
            if not math.isfinite(value):
                raise MeasurementError(f"{metric} is {value}; post a finite number, or fail with the reason.")
        body: JsonObject = {"measurements": values, "std": dict(std or {}), "context": dict(context or {})}
        return calls.answer(self.claim, body if seconds is None else {**body, "seconds": seconds})

    def _failure(self, reason: str) -> Call[Answer]:
        said = reason.replace("\0", "").encode(errors="backslashreplace").decode() or "no reason given"
        if len(said) > LONGEST_ERROR:
            said = said[: LONGEST_ERROR - 1] + "…"
        return calls.answer(self.claim, {"error": said})

    def _told(self, *, accepted: bool) -> bool:
        """Notes that the evaluation is in other hands, or in none."""
        self.is_done, self.is_lost = True, self.is_lost or not accepted
        if not accepted:
            log.warning(
                "%s was claimed by another device meanwhile; what was measured here is dropped", self.claim.text
            )
        return accepted

    def _reason(self, error: BaseException) -> str | None:
        """What the evaluation fails with when its block ended so; None: with nothing, it is given back."""
        if isinstance(error, Exception) and not isinstance(error, ServiceError):
            log.warning("measuring %s failed", self.claim.text, exc_info=error)
            return f"{type(error).__name__}: {error}"
        return None


class Work(Claimed):
    """An evaluation in this device's hands.

    As a context manager it turns an error of its block into the evaluation's failure, and goes on.
    """

    def __init__(self, transport: Transport, claim: Claim) -> None:
        super().__init__(claim)
        self._transport = transport

    def post(
        self,
        measurements: Mapping[str, float] | None = None,
        /,
        *,
        std: Mapping[str, float] | None = None,
        context: Mapping[str, ContextValue] | None = None,
        seconds: float | None = None,
        **metrics: float,
    ) -> bool:
        """Tell what was measured, every metric of `claim.metrics`: `work.post(accuracy=0.93, phone_latency=12.5)`.

        Args:
            measurements: metrics by name, for those that are no Python names.
            std: spread of a metric's value.
            context: what the values depend on; by default the job's target stands as `device`.
            seconds: how long the measuring took; else the time since the claim.

        Returns:
            Whether it counts: False when the claim was lost, and the evaluation is another device's.

        Raises:
            MeasurementError: a value is not finite. ServiceError: a metric is missing or unknown, or nothing answers.
        """
        values = {**(measurements or {}), **metrics}
        return self._say(self._answer(values, std=std, context=context, seconds=seconds))

    def fail(self, reason: str) -> bool:
        """Tell that it cannot be measured, and why: the search goes on without it. Whether that counts."""
        return self._say(self._failure(reason))

    def release(self) -> None:
        """Give it back unmeasured, for the next device that asks."""
        self.is_done = True
        with suppress(LeaseLost, NotFound, ServiceError):  # it is not ours, or will run out by itself
            self._transport.send(calls.release(self.claim))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self.is_done or error is None:
            return False
        reason = self._reason(error)
        if reason is None:
            self.release()
            return False
        self.fail(reason)
        return True

    def _say(self, call: Call[Answer]) -> bool:
        try:
            _patiently(self._transport, call)
        except (LeaseLost, NotFound):
            return self._told(accepted=False)
        return self._told(accepted=True)


class Renewal:
    """Renews a claim from a thread of its own, until the block ends or the claim is lost."""

    def __init__(self, transport: Transport, work: Work) -> None:
        self._transport, self._work, self._done = transport, work, threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._work.claim.lease_seconds / _RENEWALS):
            try:
                self._transport.send(calls.renew(self._work.claim))
            except (LeaseLost, NotFound):
                self._work.is_lost = not self._work.is_done
                return
            except ServiceError as error:
                log.warning("the claim was not renewed, trying again: %s", error)


def works(transport: Transport, wanted: Callable[[], Call[Page[Claim]]], *, idle: float | None) -> Iterator[Work]:
    """What `Client.work` gives; `wanted` makes the request that claims one evaluation."""
    delay, longest = _POLL_SECONDS
    since = time.monotonic()
    while True:
        try:
            claims = _patiently(transport, wanted()).items
        except InvalidState:
            return  # the job is over
        if claims:
            delay = _POLL_SECONDS[0]
            work = Work(transport, claims[0])
            with Renewal(transport, work):
                try:
                    yield work
                except GeneratorExit:
                    if not work.is_done:
                        work.release()
                    raise
                if not (work.is_done or work.is_lost):
                    work.fail(_NOTHING_POSTED)
            since = time.monotonic()
        elif idle is not None and time.monotonic() - since >= idle:
            return
        else:
            transport.pause(delay)
            delay = min(longest, 2 * delay)


def _patiently(transport: Transport, call: Call[T]) -> T:
    """Send until a service answers, for as long as a restart may take."""
    until, delay = time.monotonic() + _PATIENCE_SECONDS, _POLL_SECONDS[0]
    while True:
        try:
            return transport.send(call)
        except ServiceError as error:
            if error.status not in _AWAY or time.monotonic() > until:
                raise
        transport.pause(delay)
        delay = min(_POLL_SECONDS[1], 2 * delay)


def device_name() -> str:
    """What a device calls itself when nobody names it: this machine and process."""
    return f"{platform.node() or 'device'}-{os.getpid()}"


# --- for an event loop ------------------------------------------------------------------------------------------------


class AsyncWork(Claimed):
    """`Work` for an event loop: `async with`, and every method is awaited."""

    def __init__(self, transport: AsyncTransport, claim: Claim) -> None:
        super().__init__(claim)
        self._transport = transport

    async def post(
        self,
        measurements: Mapping[str, float] | None = None,
        /,
        *,
        std: Mapping[str, float] | None = None,
        context: Mapping[str, ContextValue] | None = None,
        seconds: float | None = None,
        **metrics: float,
    ) -> bool:
        """See `Work.post`."""
        values = {**(measurements or {}), **metrics}
        return await self._say(self._answer(values, std=std, context=context, seconds=seconds))

    async def fail(self, reason: str) -> bool:
        """See `Work.fail`."""
        return await self._say(self._failure(reason))

    async def release(self) -> None:
        """See `Work.release`."""
        self.is_done = True
        with suppress(LeaseLost, NotFound, ServiceError):
            await self._transport.send(calls.release(self.claim))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self.is_done or error is None:
            return False
        reason = self._reason(error)
        if reason is None:
            await self.release()
            return False
        await self.fail(reason)
        return True

    async def _say(self, call: Call[Answer]) -> bool:
        try:
            await _patiently_async(self._transport, call)
        except (LeaseLost, NotFound):
            return self._told(accepted=False)
        return self._told(accepted=True)

    async def _keep(self) -> None:
        """Renew the claim until it is lost, or this is cancelled."""
        while not self.is_lost:
            await self._transport.pause(self.claim.lease_seconds / _RENEWALS)
            try:
                await self._transport.send(calls.renew(self.claim))
            except (LeaseLost, NotFound):
                self.is_lost = not self.is_done
                return
            except ServiceError as error:
                log.warning("the claim was not renewed, trying again: %s", error)


async def works_async(
    transport: AsyncTransport, wanted: Callable[[], Call[Page[Claim]]], *, idle: float | None
) -> AsyncIterator[AsyncWork]:
    """What `AsyncClient.work` gives; `wanted` makes the request that claims one evaluation."""
    delay, longest = _POLL_SECONDS
    since = time.monotonic()
    while True:
        try:
            claims = (await _patiently_async(transport, wanted())).items
        except InvalidState:
            return  # the job is over
        if claims:
            delay = _POLL_SECONDS[0]
            work = AsyncWork(transport, claims[0])
            renewal = asyncio.create_task(work._keep())
            try:
                yield work
                if not (work.is_done or work.is_lost):
                    await work.fail(_NOTHING_POSTED)
            except GeneratorExit:
                if not work.is_done:
                    await work.release()
                raise
            finally:
                renewal.cancel()
                await asyncio.wait([renewal])
            since = time.monotonic()
        elif idle is not None and time.monotonic() - since >= idle:
            return
        else:
            await transport.pause(delay)
            delay = min(longest, 2 * delay)


async def _patiently_async(transport: AsyncTransport, call: Call[T]) -> T:
    until, delay = time.monotonic() + _PATIENCE_SECONDS, _POLL_SECONDS[0]
    while True:
        try:
            return await transport.send(call)
        except ServiceError as error:
            if error.status not in _AWAY or time.monotonic() > until:
                raise
        await transport.pause(delay)
        delay = min(_POLL_SECONDS[1], 2 * delay)
