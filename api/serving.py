"""The service as processes: one server, and worker children that end with it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from db import Store
from searchspaces import BrokenPlugin, NotFound, ServiceError

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from api.event_stream import EventStreams
    from api.settings import Settings
    from nas.reports import Plan
    from nas.resources import Objective
    from nas.spec import JobSpec

log = logging.getLogger("nas.server")

_GRACE_SECONDS = 5.0
"""How long workers have to give back what they hold."""
_REQUEST_SECONDS = 2
"""How long requests have to be answered once the server is to end."""
_END_SECONDS = 8.0
"""When the server ends whatever is still being answered: a thread that computes cannot be told to stop."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        ServiceError: the address cannot be bound, with the way out.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise ServiceError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); stop what uses it, or choose another port "
            "with --port (0 takes any free one).",
            code="ADDRESS_IN_USE",
        ) from error
    return bound


def address(bound: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Workers:
    """Worker child processes of this server: started, restarted when they die, ended with it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._children: list[subprocess.Popen[bytes]] = []
        self._ending, self._lock = threading.Event(), threading.Lock()
        self._keeper = threading.Thread(target=self._keep, name="workers", daemon=True)

    def start(self) -> None:
        """Start all and keep them running."""
        self._children = [self._spawn(number) for number in range(self.settings.workers)]
        self._keeper.start()

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        logs = self.settings.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        threads = max(1, (os.cpu_count() or 1) // self.settings.workers)
        command = [sys.executable, "-P", "-m", "api", "worker", "--watch-parent", "--threads", str(threads)]
        command += ["--folder", str(self.settings.folder), "--lease-seconds", str(self.settings.lease_seconds)]
        command += ["--preflight-seconds", str(self.settings.preflight_seconds)]
        if self.settings.preflight_memory is not None:
            command += ["--preflight-memory", str(self.settings.preflight_memory)]
        # not on the command line, where everybody on this machine can read the password in it
        store = {"NAS_STORE": self.settings.store or ""}
        with (logs / f"worker-{number}.log").open("ab") as file:
            # waiting threads must not spin: with other work on the same cores that costs ten times what it gains
            environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **store}
            return subprocess.Popen(  # noqa: S603 - our own words
                command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment
            )

    def _keep(self) -> None:
        while not self._ending.wait(0.5):
            for number, child in enumerate(self._children):
                if child.poll() is not None and not self._ending.wait(1.0):
                    log.warning("worker %d ended with %s; starting another", child.pid, child.returncode)
                    self._children[number] = self._spawn(number)

    def end(self) -> None:
        """Ask all to end, wait a little, then kill. Idempotent; from any thread."""
        self._ending.set()
        with self._lock:
            self._end_all()

    def _end_all(self) -> None:
        if self._keeper.is_alive():
            self._keeper.join()
        for child in self._children:
            child.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for child in self._children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdin:
                child.stdin.close()


def application(store: Store, settings: Settings) -> FastAPI:
    """The app over a store, with a job's admission wired in."""
    from api.app import create_app

    return create_app(store, settings, admit=partial(_admit, store, settings))


def _admit(store: Store, settings: Settings, mapping: Mapping[str, object]) -> tuple[JobSpec, tuple[Objective, ...]]:
    """Admission with what this service knows."""
    from nas.job import admit

    return admit(
        mapping,
        datasets={info.name: info for info in store.datasets()},
        embedded=settings.embedded,
        supernet_of=partial(_supernet_of, store),
        plan_of=partial(_plan_of, store),
    )


def _supernet_of(store: Store, job_id: str) -> JobSpec | None:
    from nas.spec import JobSpec

    try:
        is_trained = any(artifact.kind == "supernet" for artifact in store.artifacts(job_id))
        return JobSpec.from_mapping(store.job(job_id).spec) if is_trained else None
    except NotFound:
        return None


def _plan_of(store: Store, job_id: str) -> Plan | None:
    from nas.resources import JobState

    try:
        job = store.job(job_id)
    except NotFound:
        return None
    return job.plan if job.state is JobState.SUCCEEDED else None


def serve(settings: Settings, *, announce: bool = False, watch_parent: bool = False) -> None:
    """Serve until SIGINT or SIGTERM; with `announce` print `NAS_URL=...` when ready."""
    if watch_parent:
        threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    signal.signal(signal.SIGTERM, _leave)  # uvicorn raises it again when it is done; by default nothing else would run
    with _prepared(settings) as (server, bound, ending):
        threading.Thread(target=_end_in_time, args=(ending,), name="ending", daemon=True).start()
        if announce:
            threading.Thread(target=_announce, args=(server, address(bound)), daemon=True).start()
        server.run(sockets=[bound])


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """The service in a thread of this process, with its worker children; yields its address."""
    with _prepared(settings) as (server, bound, _):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="server", daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            if not server.started:
                raise ServiceError("the server did not start; its log says why.")
            yield address(bound)
        finally:
            server.should_exit = True
            thread.join(_GRACE_SECONDS)


@contextmanager
def _prepared(settings: Settings) -> Iterator[tuple[uvicorn.Server, socket.socket, threading.Event]]:
    """The server, its socket, and what is set once the server is to end."""
    import uvicorn

    bound = bind(settings.host, settings.port)
    try:
        store = Store.open(settings.store, settings.folder)
        workers = Workers(settings)
        workers.start()
        try:
            threading.Thread(target=_load_plugins, name="plug-ins", daemon=True).start()
            app = application(store, settings)
            config = uvicorn.Config(
                app,
                log_level="warning" if settings.log_level == "info" else settings.log_level,
                access_log=False,
                proxy_headers=False,  # NAS_TRUSTED_PROXIES says whom to believe; uvicorn believes all on this machine
                timeout_graceful_shutdown=_REQUEST_SECONDS,
            )
            server, ending = uvicorn.Server(config), threading.Event()
            watch = (server, app.state.service.streams, workers, ending)
            threading.Thread(target=_end_together, args=watch, name="end-together", daemon=True).start()
            yield server, bound, ending
        finally:
            workers.end()
            store.close()
    finally:
        bound.close()


def _load_plugins() -> None:
    """Have every plug-in loaded before somebody waits for it: those of others may import torch, for seconds."""
    from nas.plugins import KINDS, registry

    for kind in KINDS:
        for name in registry(kind):
            try:
                registry(kind)[name]
            except BrokenPlugin as error:  # said where it is listed or used
                log.info("%s", error)


def _end_together(server: uvicorn.Server, streams: EventStreams, workers: Workers, ending: threading.Event) -> None:
    """Once the server is to end, end its streams and workers while the last requests are being answered."""
    while not server.should_exit:
        time.sleep(0.05)
    ending.set()
    streams.end()  # else an open page holds the server up
    workers.end()


def _end_in_time(ending: threading.Event) -> None:
    """End the process, though a request should still be computed; what it claimed is free again after a minute."""
    ending.wait()
    time.sleep(_END_SECONDS)
    log.warning("requests were still being answered after %.0f s; ended without them", _END_SECONDS)
    os._exit(0)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _announce(server: uvicorn.Server, url: str) -> None:
    while not server.started:
        time.sleep(0.01)
    print(f"NAS_URL={url}", flush=True)


def _end_with_parent() -> None:
    """Nobody writes to the pipe: reading ends when the parent, however it ended, is gone."""
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter shuts down
        pass
    os.kill(os.getpid(), signal.SIGTERM)
