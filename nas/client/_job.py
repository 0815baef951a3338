"""A job of a service and what it holds, blocking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from nas.client import _calls as calls
from nas.client import _flows as flows
from nas.client._calls import Call, Verb, Weights
from nas.client._events import Feed, Message, changed_job, stored_event
from nas.client._progress import ProgressDisplay
from nas.client._saving import target
from nas.client._tables import frame, plotly_figure
from nas.client._transport import Transport
from nas.quantities import counted
from nas.reports import Choice, TrustReport
from nas.resources import ArtifactInfo, Candidate, Delivery, Event, Export, Job, JobState, ParetoFront
from nas.spec import ExportFormat
from searchspaces import NASError, ServiceError

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects


class JobHandle:
    """A job of a service: `job` is what was last seen of it."""

    def __init__(self, transport: Transport, job: Job) -> None:
        self._transport, self.job = transport, job

    def __repr__(self) -> str:
        return f"JobHandle({self.job_id!r}, {self.job.name!r}, {self.state.value})"

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

    def refresh(self) -> Job:
        """Look at the job again."""
        self.job = self._transport.send(calls.job(self.job_id))
        return self.job

    def wait(self, *, progress: bool = True, raise_on_failure: bool = False) -> Job:
        """Wait until the job has ended; a progress bar tells how far it is. Survives a restart of the service.

        Raises:
            ServiceError: nothing has answered for a minute; or, with `raise_on_failure`, the job did not succeed.
        """
        with ProgressDisplay(self.job, shown=progress) as display:
            for message in self._messages(0):
                self.job = changed_job(message, self.job)
                display.tell(message)
                if message.type == "progress":
                    display.update(self.job)
                if display.wants_front(message):
                    display.front(self.pareto())
            display.job = self.refresh()
            if progress:
                display.front(self.pareto())
        return flows.finished(self.job, raise_on_failure=raise_on_failure)

    def events(self, after: int = 0, *, follow: bool = False) -> Iterator[Event]:
        """Events with `sequence > after`, those so far or, with `follow`, until the job has ended."""
        if not follow:
            yield from self._transport.run(flows.events_after(self.job_id, after))
            return
        for message in self._messages(after):
            event = stored_event(message)
            if event:
                yield event

    def _messages(self, after: int) -> Iterator[Message]:
        feed = Feed(after)
        while True:
            broken: NASError | None = None
            try:
                with self._transport.lines(calls.event_stream(self.job_id, feed.after)) as lines:
                    for message in filter(None, map(feed.message, lines)):
                        if message.type == "end":
                            return
                        yield message
            except ServiceError as error:
                broken = error
            self._transport.pause(feed.pause(broken))

    def candidates(
        self,
        *,
        order_by: str | None = None,
        descending: bool | None = None,
        feasible: bool | None = None,
        on_front: bool | None = None,
    ) -> CandidateList:
        """The architectures that the job has proposed, read page by page. `order_by` is a `metric@level`."""
        call = calls.candidates(
            self.job_id, order_by=order_by, descending=descending, feasible=feasible, on_front=on_front
        )
        return CandidateList(self._transport, call)

    def candidate(self, digest: str) -> CandidateHandle:
        """One candidate with its evaluations, by digest or as `best`."""
        return CandidateHandle(self, self._transport.send(calls.candidate(self.job_id, digest)))

    def best(self) -> CandidateHandle:
        """What the job puts first by all its evidence: what won delivery, else the best expected value (`choice`).

        While the search goes on: the point of its front that is best in the first objective.

        Raises:
            NotFound: nothing feasible has been found yet.
        """
        return self.candidate("best")

    def measure_trust(self) -> TrustReport:
        """How far the ranking can be trusted, worked out anew from what has been trained for real so far."""
        return self._transport.send(calls.trust(self.job_id))

    def pareto(self) -> ParetoFront:
        """The Pareto front as it stands."""
        return self._transport.send(calls.pareto(self.job_id))

    def figure(self, name: str) -> plotly.graph_objects.Figure:
        """A plotly figure: pareto, hypervolume, training or paths."""
        return plotly_figure(self._transport.send(calls.figure(self.job_id, name)))

    def artifacts(self) -> list[ArtifactInfo]:
        """The files that the job has kept."""
        return self._transport.run(flows.artifacts(self.job_id))

    def exports(self) -> list[Export]:
        """The exports that were asked for."""
        return self._transport.run(flows.items(calls.exports(self.job_id)))

    def pause(self) -> JobHandle:
        """Halt after the present step; `resume` goes on from there."""
        return self._verb("pause")

    def resume(self) -> JobHandle:
        """Go on."""
        return self._verb("resume")

    def stop(self) -> JobHandle:
        """End the search early; what was found is still audited and delivered."""
        return self._verb("stop")

    def cancel(self) -> JobHandle:
        """End the job without delivering."""
        return self._verb("cancel")

    def change(
        self,
        *,
        budget: Mapping[str, Any] | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> JobHandle:
        """Raise the budget, rename or label the job.

        Raises:
            Conflict: somebody else changed it since it was last seen; `refresh` and try again.
        """
        self.job = self._transport.send(calls.change(self.job, calls.changes(budget, name, labels)))
        return self

    def delete(self) -> None:
        """Remove a job that has ended, with all its results."""
        self._transport.send(calls.delete(self.job_id))

    def _verb(self, name: Verb) -> JobHandle:
        self.job = self._transport.send(calls.verb(self.job_id, name))
        return self


class CandidateList:
    """Candidates of a job, read page by page while iterated; every iteration starts anew.

    `len` counts them in one request; `[0]` reads as many pages as it takes, `[-1]` and slices from the end all.
    """

    def __init__(self, transport: Transport, call: Call[Any]) -> None:
        self._transport, self._call = transport, call

    def __repr__(self) -> str:
        return f"CandidateList of {counted(len(self), 'candidate')}"

    def __len__(self) -> int:
        total: int = self._transport.send(self._call.total()).total
        return total

    @overload
    def __getitem__(self, place: int) -> Candidate: ...

    @overload
    def __getitem__(self, place: slice) -> list[Candidate]: ...

    def __getitem__(self, place: int | slice) -> Candidate | list[Candidate]:
        last = place.stop if isinstance(place, slice) else place + 1 if place >= 0 else None
        is_near = last is not None and last >= 0 and not (isinstance(place, slice) and (place.start or 0) < 0)
        found = list(islice(iter(self), last) if is_near else iter(self))
        return found[place]

    def __iter__(self) -> Iterator[Candidate]:
        token: str | None = None
        while True:
            page = self._transport.send(self._call.page(token))
            yield from page.items
            token = page.next_page_token
            if token is None:
                return

    def to_pandas(self) -> pandas.DataFrame:
        """One row per candidate: number, a column for every metric@level, on_front, feasible, digest, text."""
        return frame(list(iter(self)))


class CandidateHandle:
    """One architecture of a job: `candidate` holds what is known of it."""

    def __init__(self, job: JobHandle, candidate: Candidate) -> None:
        self._job, self.candidate = job, candidate

    def __repr__(self) -> str:
        return f"CandidateHandle({self.digest!r}, {self.text!r})"

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

    def figure(self) -> plotly.graph_objects.Figure:
        """The architecture, drawn."""
        return plotly_figure(self._job._transport.send(calls.candidate_figure(self._job.job_id, self.digest)))

    def export(
        self,
        path: str | Path,
        *,
        format: ExportFormat | None = None,
        weights: Weights | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Save the network as a model that runs without this software; waits until it is made.

        `model.onnx` and `model.pt2` are the model alone; a `.zip` or a folder has everything, with card and script.
        Without `weights`, a network that the job delivered comes as it was trained, any other with the weights of the
        supernet; `trained` trains it first.

        Raises:
            ExportError: something is at `path` already, the format is not said, or it cannot be made.
        """
        where = target(path, format, overwrite=overwrite)
        return self._job._transport.run(flows.export(self._job.job_id, self.digest, weights, where))
