"""The blocking client and what it hands out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nas.client import _calls as calls
from nas.client import _flows as flows
from nas.client._calls import Spec
from nas.client._embedded import EmbeddedService
from nas.client._job import JobHandle
from nas.client._transport import Transport
from nas.client._work import Work, device_name, works
from nas.resources import (
    DatasetInfo,
    JobState,
    PluginInfo,
    PreflightReport,
    TableInfo,
    Worker,
)

if TYPE_CHECKING:
    import httpx


class Client:
    """Talks to a service: at `url`, else at NAS_URL, else one that it starts itself and ends on `close`.

    Args:
        url: address, such as `http://127.0.0.1:8421`.
        token: bearer token; else NAS_TOKEN.
        folder: where a service that it starts keeps its store; else NAS_FOLDER, else `./nas-data`.
        transport: another way to send requests, for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        folder: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        given = url or os.environ.get("NAS_URL")
        self._service = None if given else EmbeddedService(Path(folder) if folder else None)
        address = given or (self._service.url if self._service else "")
        self._transport = Transport(address, token or os.environ.get("NAS_TOKEN"), transport)

    @property
    def url(self) -> str:
        """Address of the service; in a browser, its page."""
        return self._transport.url

    def close(self) -> None:
        """End the connections, and the service if this client started it."""
        self._transport.close()
        if self._service:
            self._service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def submit(self, spec: Spec, *, idempotency_key: str | None = None) -> JobHandle:
        """Start a search. `spec` is a JobSpec, a mapping, or the path of a YAML file.

        Raises:
            SpecError: with one violation for every field that is wrong.
        """
        return JobHandle(self._transport, self._transport.send(calls.submit(spec, key=idempotency_key)))

    def dry_run(self, spec: Spec, *, tell: Callable[[str], None] | None = None) -> PreflightReport:
        """What a search would meet: size of the space, spread of the costs, memory, expected time. Starts nothing.

        A worker measures that; this waits until it has.

        Args:
            tell: called with what it waits for, where that takes more than a moment.

        Raises:
            SpecError: with one violation for every field that is wrong.
            ServiceError: no worker is running (code NO_WORKER), or measuring failed (PREFLIGHT_FAILED).
        """
        return self._transport.run(flows.dry_run(calls.dry_run(spec), tell))

    def job(self, job_id: str) -> JobHandle:
        """A job by its id.

        Raises:
            NotFound: there is none.
        """
        return JobHandle(self._transport, self._transport.send(calls.job(job_id)))

    def find_job(self, reference: str) -> JobHandle:
        """A job by its id, a unique beginning of it, or `latest`.

        Raises:
            NotFound: none, or more than one, fits.
        """
        return JobHandle(self._transport, self._transport.run(flows.find_job(reference)))

    def jobs(
        self, *, state: JobState | str | None = None, label: str | None = None, limit: int | None = None
    ) -> list[JobHandle]:
        """Jobs, newest first; `label` is `key:value`, or a key."""
        page_size = min(limit or calls.PAGE_SIZE, calls.PAGE_SIZE)
        call = calls.jobs(state=state, label=label, page_size=page_size)
        return [JobHandle(self._transport, job) for job in self._transport.run(flows.items(call, limit=limit))]

    # --- devices ------------------------------------------------------------------------------------------------------

    def work(
        self,
        target: str | None = None,
        *,
        job: str | None = None,
        worker: str | None = None,
        idle: float | None = None,
    ) -> Iterator[Work]:
        """Evaluations for this device to measure, one after the other, each renewed while its turn in the loop lasts.

            for work in client.work("phone"):
                with work:
                    work.post(accuracy=measure(work.architecture))

        An evaluation that was not answered when the loop is left is given back.

        Args:
            target: as the job's evaluator `external` names it.
            job: only evaluations of this job, by its id; ends when the job is over.
            worker: what this device calls itself; else machine and process.
            idle: ends when there was nothing to do for so many seconds; without it, it waits.

        Raises:
            NotFound: there is no such job. ServiceError: neither target nor job, or nothing answers for minutes.
        """
        wanted = partial(calls.claim, target, job, worker or device_name())
        return works(self._transport, wanted, idle=idle)

    # --- what the service has -----------------------------------------------------------------------------------------

    def plugins(self, kind: str) -> list[PluginInfo]:
        """Plug-ins of a kind: spaces, recipes, searchers, costs, proxies, predictors, evaluators or tasks."""
        return self._transport.run(flows.items(calls.plugins(kind)))

    def spaces(self) -> list[PluginInfo]:
        """Search spaces."""
        return self.plugins("spaces")

    def recipes(self) -> list[PluginInfo]:
        """Ways to train a supernet."""
        return self.plugins("recipes")

    def searchers(self) -> list[PluginInfo]:
        """Ways to propose architectures."""
        return self.plugins("searchers")

    def costs(self) -> list[PluginInfo]:
        """Numbers known without accuracy."""
        return self.plugins("costs")

    def proxies(self) -> list[PluginInfo]:
        """Scores of untrained networks."""
        return self.plugins("proxies")

    def predictors(self) -> list[PluginInfo]:
        """Models that learn what architectures are worth from examples."""
        return self.plugins("predictors")

    def evaluators(self) -> list[PluginInfo]:
        """Ways to measure architectures."""
        return self.plugins("evaluators")

    def tasks(self) -> list[PluginInfo]:
        """What a batch can mean."""
        return self.plugins("tasks")

    def datasets(self) -> list[DatasetInfo]:
        """Registered data sets."""
        return self._transport.run(flows.items(calls.datasets()))

    def dataset(self, name: str) -> DatasetInfo:
        """One registered data set."""
        return self._transport.send(calls.dataset(name))

    def tables(self) -> list[TableInfo]:
        """Tables of measurements that searches can look up."""
        return self._transport.run(flows.items(calls.tables()))

    def table(self, name: str) -> TableInfo:
        """One table, read again."""
        return self._transport.send(calls.table(name))

    def add_dataset(
        self, name: str, plugin: str, config: Mapping[str, Any] | None = None, *, replace: bool = False
    ) -> DatasetInfo:
        """Register a data set: a plug-in (npz, image_folder ...) with its settings, under a name for specs.

        Args:
            replace: whether one of this name, if there is one, gives way.

        Raises:
            Conflict: there is one of this name.
            SpecError: the settings are wrong; every violation is named.
        """
        return self._transport.send(calls.add_dataset(name, plugin, config or {}, replace=replace))

    def check_dataset(self, name: str) -> DatasetInfo:
        """Read a data set whole and tell its digest, classes and sizes; `error` says what is wrong with it."""
        return self._transport.send(calls.check_dataset(name))

    def remove_dataset(self, name: str) -> None:
        """Forget a registered data set; its files stay."""
        self._transport.send(calls.remove_dataset(name))

    def workers(self) -> list[Worker]:
        """Workers that the service knows."""
        return self._transport.run(flows.items(calls.workers()))

    def download(self, artifact_id: str, path: str | Path, *, overwrite: bool = False) -> Path:
        """Save the content of an artifact as a file."""
        return self._transport.run(flows.download(artifact_id, Path(path), overwrite=overwrite))
