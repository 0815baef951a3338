"""The client for an event loop: the names of `Client`, each to be awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nas.client import _calls as calls
from nas.client import _flows as flows
from nas.client._async_job import AsyncJobHandle
from nas.client._calls import Spec
from nas.client._embedded import EmbeddedService
from nas.client._transport import AsyncTransport
from nas.client._work import AsyncWork, device_name, works_async
from nas.resources import (
    DatasetInfo,
    JobState,
    PluginInfo,
    PreflightReport,
    TableInfo,
    Worker,
)
from searchspaces import ServiceError

if TYPE_CHECKING:
    import httpx


class AsyncClient:
    """`Client` for an event loop, used as `async with AsyncClient() as client`.

    Args:
        url: address; else NAS_URL, else a service that it starts on entry and ends on exit.
        token: bearer token; else NAS_TOKEN.
        folder: where a service that it starts keeps its store.
        transport: another way to send requests, for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        folder: str | Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._given = url or os.environ.get("NAS_URL")
        self._token, self._folder, self._http = token or os.environ.get("NAS_TOKEN"), folder, transport
        self._service: EmbeddedService | None = None
        self._opened: AsyncTransport | None = None

    @property
    def url(self) -> str:
        """Address of the service; in a browser, its page."""
        return self._transport.url

    async def open(self) -> Self:
        """Start the service if there is no address, and be ready to send. `async with` does this."""
        if self._opened is None:
            if not self._given:
                folder = Path(self._folder) if self._folder else None
                self._service = await asyncio.to_thread(EmbeddedService, folder)
            address = self._service.url if self._service else self._given or ""
            self._opened = AsyncTransport(address, self._token, self._http)
        return self

    async def close(self) -> None:
        """End the connections, and the service if this client started it."""
        if self._opened:
            await self._opened.close()
        if self._service:
            await asyncio.to_thread(self._service.close)
        self._opened = self._service = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _transport(self) -> AsyncTransport:
        if self._opened is None:
            raise ServiceError("the client is not open; use `async with AsyncClient() as client`, or await `open()`.")
        return self._opened

    # --- jobs ---------------------------------------------------------------------------------------------------------

    async def submit(self, spec: Spec, *, idempotency_key: str | None = None) -> AsyncJobHandle:
        """See `Client.submit`."""
        return AsyncJobHandle(self._transport, await self._transport.send(calls.submit(spec, key=idempotency_key)))

    async def dry_run(self, spec: Spec, *, tell: Callable[[str], None] | None = None) -> PreflightReport:
        """See `Client.dry_run`."""
        return await self._transport.run(flows.dry_run(calls.dry_run(spec), tell))

    async def job(self, job_id: str) -> AsyncJobHandle:
        """See `Client.job`."""
        return AsyncJobHandle(self._transport, await self._transport.send(calls.job(job_id)))

    async def find_job(self, reference: str) -> AsyncJobHandle:
        """See `Client.find_job`."""
        return AsyncJobHandle(self._transport, await self._transport.run(flows.find_job(reference)))

    async def jobs(
        self, *, state: JobState | str | None = None, label: str | None = None, limit: int | None = None
    ) -> list[AsyncJobHandle]:
        """See `Client.jobs`."""
        page_size = min(limit or calls.PAGE_SIZE, calls.PAGE_SIZE)
        call = calls.jobs(state=state, label=label, page_size=page_size)
        return [
            AsyncJobHandle(self._transport, job) for job in await self._transport.run(flows.items(call, limit=limit))
        ]

    # --- devices ------------------------------------------------------------------------------------------------------

    def work(
        self,
        target: str | None = None,
        *,
        job: str | None = None,
        worker: str | None = None,
        idle: float | None = None,
    ) -> AsyncIterator[AsyncWork]:
        """See `Client.work`: `async for`, and within it `async with`. What blocks the loop for long loses its claim."""
        wanted = partial(calls.claim, target, job, worker or device_name())
        return works_async(self._transport, wanted, idle=idle)

    # --- what the service has -----------------------------------------------------------------------------------------

    async def plugins(self, kind: str) -> list[PluginInfo]:
        """See `Client.plugins`."""
        return await self._transport.run(flows.items(calls.plugins(kind)))

    async def spaces(self) -> list[PluginInfo]:
        """See `Client.spaces`."""
        return await self.plugins("spaces")

    async def recipes(self) -> list[PluginInfo]:
        """See `Client.recipes`."""
        return await self.plugins("recipes")

    async def searchers(self) -> list[PluginInfo]:
        """See `Client.searchers`."""
        return await self.plugins("searchers")

    async def costs(self) -> list[PluginInfo]:
        """See `Client.costs`."""
        return await self.plugins("costs")

    async def proxies(self) -> list[PluginInfo]:
        """See `Client.proxies`."""
        return await self.plugins("proxies")

    async def predictors(self) -> list[PluginInfo]:
        """See `Client.predictors`."""
        return await self.plugins("predictors")

    async def evaluators(self) -> list[PluginInfo]:
        """See `Client.evaluators`."""
        return await self.plugins("evaluators")

    async def tasks(self) -> list[PluginInfo]:
        """See `Client.tasks`."""
        return await self.plugins("tasks")

    async def datasets(self) -> list[DatasetInfo]:
        """See `Client.datasets`."""
        return await self._transport.run(flows.items(calls.datasets()))

    async def dataset(self, name: str) -> DatasetInfo:
        """See `Client.dataset`."""
        return await self._transport.send(calls.dataset(name))

    async def tables(self) -> list[TableInfo]:
        """See `Client.tables`."""
        return await self._transport.run(flows.items(calls.tables()))

    async def table(self, name: str) -> TableInfo:
        """See `Client.table`."""
        return await self._transport.send(calls.table(name))

    async def add_dataset(
        self, name: str, plugin: str, config: Mapping[str, Any] | None = None, *, replace: bool = False
    ) -> DatasetInfo:
        """See `Client.add_dataset`."""
        return await self._transport.send(calls.add_dataset(name, plugin, config or {}, replace=replace))

    async def check_dataset(self, name: str) -> DatasetInfo:
        """See `Client.check_dataset`."""
        return await self._transport.send(calls.check_dataset(name))

    async def remove_dataset(self, name: str) -> None:
        """See `Client.remove_dataset`."""
        await self._transport.send(calls.remove_dataset(name))

    async def workers(self) -> list[Worker]:
        """See `Client.workers`."""
        return await self._transport.run(flows.items(calls.workers()))

    async def download(self, artifact_id: str, path: str | Path, *, overwrite: bool = False) -> Path:
        """See `Client.download`."""
        return await self._transport.run(flows.download(artifact_id, Path(path), overwrite=overwrite))
