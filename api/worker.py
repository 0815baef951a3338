"""The worker process: leases units of work, does them, and gives up quietly when one is another's.

Speaks SQL and the artifact store, no REST. A worker whose parent is gone (closed pipe) exits at once: what it held is
taken up by another when the lease runs out.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from db import Lease, Store
from nas.job import JobPlanner, Limits, UnitContext, blamed, end_measuring, run_unit
from nas.spec import JobSpec
from searchspaces import Cancelled, InputsChanged, LeaseLost, NASError, StorageFull, StoreError, whole_path

log = logging.getLogger("nas.worker")

_POLL_SECONDS = 0.3
_LEAVE_SECONDS = 3.0
"""How long a unit has to give itself back once the worker is to end: less than the server waits before it kills."""


@dataclass
class WorkerLoop:
    """One worker: claims a unit, keeps its lease alive, does it, and claims the next."""

    store: Store
    folder: Path
    device: str | None = None
    lease_seconds: float = 30.0
    threads: int | None = None
    limits: Limits | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _lease: Lease | None = None

    def run(self) -> None:
        """Work until `stop` is set."""
        worker = self.store.register_worker(platform.node(), os.getpid(), device_name(self.device))
        planner = JobPlanner()
        while not self.stop.is_set():
            try:
                self.store.beat(worker.worker_id, None)
                lease = self.store.claim(worker.worker_id, lease_seconds=self.lease_seconds, planner=planner)
            except StoreError as error:
                log.error("the store does not answer, trying again: %s", error)
                self.stop.wait(5.0)
                continue
            if lease is None:
                self.stop.wait(_POLL_SECONDS)
                continue
            log.info("unit %s of %s, attempt %d", lease.unit.key, lease.unit.job_id, lease.unit.attempt)
            with Heartbeat(self.store, lease, worker.worker_id, self.lease_seconds) as heartbeat:
                self._lease = lease
                self.do(lease, heartbeat)
                self._lease = None

    def abandon(self) -> None:
        """Give back the unit in work, from another thread, for a process that ends now."""
        lease = self._lease
        if lease is not None:
            log.warning("unit %s does not come to an end; given back", lease.unit.unit_id)
            self._quietly(lease.release)

    def do(self, lease: Lease, heartbeat: Heartbeat) -> None:
        """Do one unit and say how it ended; no error of the unit ends the worker."""
        scratch = self.folder / "scratch"
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=scratch, prefix="unit-") as folder:
                context = UnitContext(
                    journal=lease.journal,
                    checkpoints=lease.checkpoints,
                    artifacts=lease.artifacts,
                    exchange=lease.exchange,
                    view=lease.view,
                    scratch=Path(folder),
                    device=self.device,
                    max_threads=self.threads,
                    should_yield=lambda: self.stop.is_set() or heartbeat.lost.is_set(),
                    limits=self.limits,
                )
                result = run_unit(context)
            heartbeat.count()
            lease.complete(result)
        except LeaseLost as error:
            log.warning("%s", error)
        except Cancelled:
            self._quietly(lease.release)
        except StorageFull as error:
            self._wait_for_room(lease, error)
        except InputsChanged as error:
            log.error("unit %s: %s", lease.unit.unit_id, error)
            is_stage = lease.unit.kind == "stage"  # an export has no job to wait for
            end = lease.pause if is_stage else partial(lease.fail, retryable=False)
            self._quietly(partial(end, str(error)))
        except StoreError as error:
            log.error("unit %s: the store does not answer, given back: %s", lease.unit.unit_id, error)
            self._quietly(lease.release)
            self.stop.wait(5.0)
        except NASError as error:
            log.error("unit %s failed: %s", lease.unit.unit_id, error)
            found = getattr(error, "violations", ())
            self._quietly(partial(lease.fail, str(error), retryable=False, violations=found))
        except Exception as error:  # the process edge: whatever a plug-in raises ends its unit, not the worker
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._wait_for_room(lease, error)
                return
            log.exception("unit %s failed", lease.unit.unit_id)
            self._quietly(partial(lease.fail, self._said(lease, error), retryable=True))

    def _wait_for_room(self, lease: Lease, error: OSError) -> None:
        """A full disk loses nothing: the unit is given back and the job pauses until somebody makes room."""
        message = f"{error}; make room and resume the job"
        log.error("%s", message)
        self._quietly(partial(lease.pause, message))
        self.stop.wait(5.0)

    @staticmethod
    def _said(lease: Lease, error: Exception) -> str:
        """The error with the plug-in that raised it, where it was one."""
        try:
            return blamed(JobSpec.from_mapping(lease.journal.job().spec), error)
        except (NASError, OSError):
            return f"{type(error).__name__}: {error}"

    @staticmethod
    def _quietly(act: Callable[[], object]) -> None:
        try:
            act()
        except (NASError, OSError) as error:
            log.warning("%s", error)


class Heartbeat:
    """Renews a lease from a thread of its own, and counts the seconds that the unit takes."""

    def __init__(self, store: Store, lease: Lease, worker_id: str, lease_seconds: float) -> None:
        self.store, self.lease, self.worker_id = store, lease, worker_id
        self.interval = max(0.05, min(5.0, lease_seconds / 4))
        self.lost, self._done = threading.Event(), threading.Event()
        self._counted = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self.interval):
            try:
                self.lease.renew()
                self.count()
                self.store.beat(self.worker_id, self.lease.unit.unit_id)
            except LeaseLost:
                self.lost.set()
                return
            except StoreError as error:
                log.warning("the lease was not renewed, trying again: %s", error)

    def count(self) -> None:
        """Add the seconds since the last time to what the job has spent; an export that somebody asked for is free."""
        now = time.monotonic()
        if self.lease.unit.kind == "stage":
            self.lease.journal.spend(seconds=now - self._counted)
        self._counted = now


def device_name(device: str | None) -> str:
    """What a worker says it runs on: the device asked for, or the CPU's architecture."""
    return device or f"cpu ({platform.machine()}, {os.cpu_count()} cores)"


def run_worker(
    store_url: str | None,
    folder: Path,
    *,
    device: str | None = None,
    lease_seconds: float = 30.0,
    threads: int | None = None,
    preflight_seconds: float = 600.0,
    preflight_memory: int | None = None,
    watch_parent: bool = False,
) -> None:
    """Work until SIGTERM or SIGINT; a unit in progress is given back with its checkpoint.

    Args:
        store_url: the store's SQLAlchemy URL; None or empty: SQLite in the folder.
        folder: where artifacts and checkpoints lie.
        device: `cpu` or `cuda:N`; None lets each job's spec choose.
        lease_seconds: how long a silent worker keeps a unit.
        threads: most CPU threads a unit may use; None means all cores.
        preflight_seconds: how long measuring what a job would meet may take.
        preflight_memory: how many bytes it may use; None means four fifths of what is free.
        watch_parent: exit when standard input closes.
    """
    if watch_parent:
        threading.Thread(target=_exit_with_parent, name="parent-watch", daemon=True).start()
    folder = whole_path(folder)
    store = Store.open(store_url, folder)
    limits = Limits(preflight_seconds, preflight_memory)
    loop = WorkerLoop(store, folder, device=device, lease_seconds=lease_seconds, threads=threads, limits=limits)
    ended = threading.Event()
    _stop_on_signals(loop, ended)
    try:
        loop.run()
    finally:
        ended.set()
        end_measuring()
        store.close()


def _stop_on_signals(loop: WorkerLoop, ended: threading.Event) -> None:
    """Let SIGTERM and SIGINT stop the loop, and end the process soon after though the unit should not look up.

    The handlers of Python run when the main thread is back from C, which may be minutes; the pipe is written at once.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop.set())
    threading.Thread(target=_leave_in_time, args=(loop, ended, read), name="leave", daemon=True).start()


def _leave_in_time(loop: WorkerLoop, ended: threading.Event, signals: int) -> None:
    os.read(signals, 1)
    loop.stop.set()
    if not ended.wait(_LEAVE_SECONDS):
        loop.abandon()
        end_measuring()
        os._exit(0)


def _exit_with_parent() -> None:
    """Nobody writes to the pipe: reading ends when the parent, however it ended, is gone."""
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter shuts down
        pass
    end_measuring()
    os._exit(0)
