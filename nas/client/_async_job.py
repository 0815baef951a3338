"""A job of a service and what it holds, for an event loop: the names of `JobHandle`, to be awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.client import _calls as calls
from nas.client import _flows as flows
from nas.client._calls import Call, Verb, Weights
from nas.client._events import Feed, Message, changed_job, stored_event
from nas.client._progress import ProgressDisplay
from nas.client._saving import target
from nas.client._tables import frame, plotly_figure
from nas.client._transport import AsyncTransport
from nas.reports import Choice, TrustReport
from nas.resources import ArtifactInfo, Candidate, Delivery, Event, Export, Job, JobState, ParetoFront
from nas.spec import ExportFormat
from searchspaces import NASError, ServiceError

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects


class AsyncJobHandle:
    """A job of a service: `job` is what was last seen of it."""

    def __init__(self, transport: AsyncTransport, job: Job) -> None:
        self._transport, self.job = transport, job

    def __repr__(self) -> str:
        return f"AsyncJobHandle({self.job_id!r}, {self.job.name!r}, {self.state.value})"

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.job.job_id

    @property
    def state(self) -> JobState:
        """The state last seen; `refresh` looks again."""
        return self.job.state

    @property
    def trust(self) -> TrustReport | None:
        """How far the ranking can be trusted, as the audit left it; None before."""
        return self.job.trust

    @property
    def choice(self) -> Choice | None:
        """What the job puts first, by which evidence, and the expected values behind it; None before it ends."""
        return self.job.choice

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The networks delivered so far."""
        return self.job.deliveries

    async def refresh(self) -> Job:
        """See `JobHandle.refresh`."""
        self.job = await self._transport.send(calls.job(self.job_id))
        return self.job

    async def wait(self, *, progress: bool = True, raise_on_failure: bool = False) -> Job:
        """See `JobHandle.wait`."""
        with ProgressDisplay(self.job, shown=progress) as display:
            async for message in self._messages(0):
                self.job = changed_job(message, self.job)
                display.tell(message)
                if message.type == "progress":
                    display.update(self.job)
                if display.wants_front(message):
                    display.front(await self.pareto())
            display.job = await self.refresh()
            if progress:
                display.front(await self.pareto())
        return flows.finished(self.job, raise_on_failure=raise_on_failure)

    async def events(self, after: int = 0, *, follow: bool = False) -> AsyncIterator[Event]:
        """See `JobHandle.events`."""
        if not follow:
            for event in await self._transport.run(flows.events_after(self.job_id, after)):
                yield event
            return
        async for message in self._messages(after):
            event_or_none = stored_event(message)
            if event_or_none:
                yield event_or_none

    async def _messages(self, after: int) -> AsyncIterator[Message]:
        feed = Feed(after)
        while True:
            broken: NASError | None = None
            try:
                async with self._transport.lines(calls.event_stream(self.job_id, feed.after)) as lines:
                    async for line in lines:
                        message = feed.message(line)
                        if message and message.type == "end":
                            return
                        if message:
                            yield message
            except ServiceError as error:
                broken = error
            await self._transport.pause(feed.pause(broken))

    def candidates(
        self,
        *,
        order_by: str | None = None,
        descending: bool | None = None,
        feasible: bool | None = None,
        on_front: bool | None = None,
    ) -> AsyncCandidateList:
        """See `JobHandle.candidates`; nothing is sent before it is iterated."""
        call = calls.candidates(
            self.job_id, order_by=order_by, descending=descending, feasible=feasible, on_front=on_front
        )
        return AsyncCandidateList(self._transport, call)

    async def candidate(self, digest: str) -> AsyncCandidateHandle:
        """See `JobHandle.candidate`."""
        return AsyncCandidateHandle(self, await self._transport.send(calls.candidate(self.job_id, digest)))

    async def best(self) -> AsyncCandidateHandle:
        """See `JobHandle.best`."""
        return await self.candidate("best")

    async def measure_trust(self) -> TrustReport:
        """See `JobHandle.measure_trust`."""
        return await self._transport.send(calls.trust(self.job_id))

    async def pareto(self) -> ParetoFront:
        """See `JobHandle.pareto`."""
        return await self._transport.send(calls.pareto(self.job_id))

    async def figure(self, name: str) -> plotly.graph_objects.Figure:
        """See `JobHandle.figure`."""
        return plotly_figure(await self._transport.send(calls.figure(self.job_id, name)))

    async def artifacts(self) -> list[ArtifactInfo]:
        """See `JobHandle.artifacts`."""
        return await self._transport.run(flows.artifacts(self.job_id))

    async def exports(self) -> list[Export]:
        """See `JobHandle.exports`."""
        return await self._transport.run(flows.items(calls.exports(self.job_id)))

    async def pause(self) -> AsyncJobHandle:
        """See `JobHandle.pause`."""
        return await self._verb("pause")

    async def resume(self) -> AsyncJobHandle:
        """See `JobHandle.resume`."""
        return await self._verb("resume")

    async def stop(self) -> AsyncJobHandle:
        """See `JobHandle.stop`."""
        return await self._verb("stop")

    async def cancel(self) -> AsyncJobHandle:
        """See `JobHandle.cancel`."""
        return await self._verb("cancel")

    async def change(
        self,
        *,
        budget: Mapping[str, Any] | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncJobHandle:
        """See `JobHandle.change`."""
        self.job = await self._transport.send(calls.change(self.job, calls.changes(budget, name, labels)))
        return self

    async def delete(self) -> None:
        """See `JobHandle.delete`."""
        await self._transport.send(calls.delete(self.job_id))

    async def _verb(self, name: Verb) -> AsyncJobHandle:
        self.job = await self._transport.send(calls.verb(self.job_id, name))
        return self


class AsyncCandidateList:
    """Candidates of a job, read page by page while iterated; every iteration starts anew."""

    def __init__(self, transport: AsyncTransport, call: Call[Any]) -> None:
        self._transport, self._call = transport, call

    async def __aiter__(self) -> AsyncIterator[Candidate]:
        token: str | None = None
        while True:
            page = await self._transport.send(self._call.page(token))
            for candidate in page.items:
                yield candidate
            token = page.next_page_token
            if token is None:
                return

    async def to_pandas(self) -> pandas.DataFrame:
        """See `CandidateList.to_pandas`."""
        return frame([candidate async for candidate in self])


class AsyncCandidateHandle:
    """One architecture of a job: `candidate` holds what is known of it."""

    def __init__(self, job: AsyncJobHandle, candidate: Candidate) -> None:
        self._job, self.candidate = job, candidate

    def __repr__(self) -> str:
        return f"AsyncCandidateHandle({self.digest!r}, {self.text!r})"

    @property
    def digest(self) -> str:
        """Its digest."""
        return self.candidate.digest

    @property
    def text(self) -> str:
        """Its architecture, as text."""
        return self.candidate.text

    @property
    def values(self) -> dict[str, float]:
        """`metric@level` -> value."""
        return self.candidate.values

    async def figure(self) -> plotly.graph_objects.Figure:
        """See `CandidateHandle.figure`."""
        return plotly_figure(await self._job._transport.send(calls.candidate_figure(self._job.job_id, self.digest)))

    async def export(
        self,
        path: str | Path,
        *,
        format: ExportFormat | None = None,
        weights: Weights | None = None,
        overwrite: bool = False,
    ) -> Path:
        """See `CandidateHandle.export`."""
        where = target(path, format, overwrite=overwrite)
        return await self._job._transport.run(flows.export(self._job.job_id, self.digest, weights, where))
