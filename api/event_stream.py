"""A job's events as they happen, for any number of listeners.

Listeners pull: each goes at its own pace, so a slow or vanished one costs the others nothing. What they share is the
look at the store: however many listen to a job, it is polled once in `poll_seconds`, and the newest events are kept.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

from sse_starlette import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from db import Store
from nas.resources import Event, Job
from searchspaces import NotFound, StoreError

_BATCH = 500
_RETRY_MS = 2000


class EventStreams:
    """The streams of one app."""

    def __init__(self, store: Store, poll_seconds: float) -> None:
        self._store, self._poll_seconds = store, poll_seconds
        self._watches: dict[str, _Watch] = {}
        self._is_ending = False

    def end(self) -> None:
        """End all streams within one poll, for a server that shuts down. Listeners will come back to the next one."""
        self._is_ending = True

    async def follow(self, job_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
        """Stored events with `sequence > after`; `progress` whenever the job changed; `end` after a terminal state."""
        watch = self._watches.setdefault(job_id, _Watch(self._store, job_id, self._poll_seconds, after))
        watch.num_listeners += 1
        try:
            async for message in self._messages(watch, after):
                yield message
        except NotFound:
            yield _message("end", json.dumps({"state": None, "reason": "deleted"}))
        except StoreError:
            return  # the answer is under way, so no error can be told; the listener asks again, and is told then
        finally:
            watch.num_listeners -= 1
            if not watch.num_listeners and self._watches.get(job_id) is watch:
                del self._watches[job_id]

    async def _messages(self, watch: _Watch, after: int) -> AsyncIterator[ServerSentEvent]:
        shown = None
        while not self._is_ending:
            await watch.look()
            events = await watch.events(after)
            for event in events:
                yield _message(event.type, event.model_dump_json(), number=event.sequence)
                after = event.sequence
            if watch.progress != shown:
                shown = watch.progress
                yield _message("progress", shown)
            if events:
                continue
            if watch.is_over(after):
                yield _message("end", json.dumps({"state": watch.state, "reason": watch.reason}))
                return
            await asyncio.sleep(self._poll_seconds)


class _Watch:
    """The newest state of one job and its newest events, looked up when somebody asks and the last look is old."""

    def __init__(self, store: Store, job_id: str, poll_seconds: float, after: int) -> None:
        self._store, self._job_id, self._poll_seconds = store, job_id, poll_seconds
        self._lock = asyncio.Lock()
        self._next_look = 0.0
        self._recent: deque[Event] = deque(maxlen=2 * _BATCH)
        self._latest = after
        self._has_all = False
        self.num_listeners = 0
        self.progress = ""
        self.state: str | None = None
        self.reason: str | None = None
        self._is_terminal = False

    async def look(self) -> None:
        """Be as new as the store was at most `poll_seconds` ago."""
        async with self._lock:
            if time.monotonic() < self._next_look:
                return
            job, progress, events = await run_in_threadpool(self._read)
            self.progress, self.state, self.reason = progress, job.state.value, job.reason
            self._is_terminal, self._has_all = job.state.is_terminal, len(events) < _BATCH
            self._recent.extend(events)
            if events:
                self._latest = events[-1].sequence
            # A full batch means that there is more: the next listener that asks reads on at once.
            self._next_look = time.monotonic() + (self._poll_seconds if self._has_all else 0.0)

    async def events(self, after: int) -> Sequence[Event]:
        """Events with `sequence > after`, up to the last look; some of them when there are many."""
        if after >= self._latest:
            return ()
        if self._recent and self._recent[0].sequence <= after + 1:
            return [event for event in self._recent if event.sequence > after]
        return await run_in_threadpool(self._events, after)

    def is_over(self, after: int) -> bool:
        """Whether the job has ended and a listener that is at `after` has all its events."""
        return self._is_terminal and self._has_all and after >= self._latest

    def _read(self) -> tuple[Job, str, Sequence[Event]]:
        # The job first: the events read after a terminal state include all that led to it.
        job = self._store.job(self._job_id)
        return job, job.model_dump_json(exclude={"spec"}), self._events(self._latest)

    def _events(self, after: int) -> Sequence[Event]:
        return self._store.events(self._job_id, after=after, limit=_BATCH).items


def _message(event: str, data: str, *, number: int | None = None) -> ServerSentEvent:
    return ServerSentEvent(data=data, event=event, id=None if number is None else str(number), retry=_RETRY_MS)
