"""Measuring in a process of its own: what crashes there, or grows, ends there, and says why.

A fresh process for each would load torch for seconds; one copied from the worker would copy threads that torch cannot
do without. So the worker keeps one process that has loaded everything and run nothing, and that is what is copied.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NamedTuple

from nas.resources import JsonObject, PreflightReport
from nas.spec import JobSpec
from nas.stages._memory import free_bytes
from nas.stages._strangers import blamed
from searchspaces import NASError, PreflightFailed, Violation, raised_at

_POLL_SECONDS = 0.1
_LOADED = ("nas.stages._preflight", "nas.workbench")
_SHARE_OF_FREE = 0.8


class Limits(NamedTuple):
    """What measuring may take. `memory_bytes` None: four fifths of what is free when it begins."""

    seconds: float = 600.0
    memory_bytes: int | None = None


class Examined(NamedTuple):
    """What a spec would meet, and what later stages have to know of that: plain values, the result of the stage."""

    report: PreflightReport
    result: JsonObject


class _Failure(NamedTuple):
    reason: str
    violations: tuple[Violation, ...]


def examine_apart(
    spec: JobSpec, *, device: str | None, threads: int | None, limits: Limits, must_leave: Callable[[], bool]
) -> Examined | None:
    """What `examine` says of a spec, asked in a child process; None when `must_leave` said so first.

    Raises:
        PreflightFailed: it cannot succeed, took longer or grew larger than the limits allow, or its process died.
    """
    memory = limits.memory_bytes or int(free_bytes() * _SHARE_OF_FREE)
    ours, theirs = _context().Pipe(duplex=False)
    arguments = (theirs, spec.to_mapping(), device, threads, memory)
    process = _context().Process(target=_measure, args=arguments, name="preflight", daemon=True)
    process.start()
    theirs.close()
    pid, deadline = process.pid or 0, time.monotonic() + limits.seconds
    answer: object = None
    try:
        while not wait([ours], _POLL_SECONDS):
            if must_leave():
                return None
            if time.monotonic() > deadline:
                raise PreflightFailed(_too_long(limits.seconds))
            if (grown := _resident_bytes(pid)) > memory:
                raise PreflightFailed(_too_large(grown, memory))
        try:
            answer = ours.recv()
        except EOFError:
            process.join(10)
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()
    if isinstance(answer, Examined):
        return answer
    if isinstance(answer, _Failure):
        raise PreflightFailed(answer.reason, answer.violations)
    if must_leave():  # a signal to all processes of a terminal ends that one too
        return None
    raise PreflightFailed(_how_it_died(process.exitcode))


def end_measuring() -> None:
    """End the process that children are copied from, for a worker that ends: by itself it would take seconds to go."""
    pid = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    return context


def _measure(pipe: Connection, spec: JsonObject, device: str | None, threads: int | None, memory: int) -> None:
    """The child: measures, answers, ends; with the worker at the latest."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides when this ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _bound_memory(memory)
    try:
        import torch

        from nas.stages._preflight import examine
        from nas.workbench import Workbench

        torch.set_num_threads(threads or os.cpu_count() or 1)
        wanted = JobSpec.from_mapping(spec)
        answer: Examined | _Failure = examine(wanted, bench=Workbench(wanted, device=device))
    except Exception as error:  # the edge of a process: whatever a plug-in raises is the answer
        answer = _failure(JobSpec.from_mapping(spec), error, memory)
    pipe.send(answer)
    pipe.close()


def _failure(spec: JobSpec, error: Exception, memory: int) -> _Failure:
    from nas.training import is_out_of_memory

    if isinstance(error, NASError):
        return _Failure(str(error), tuple(getattr(error, "violations", ())))
    if is_out_of_memory(error):
        return _Failure(_too_large(None, memory), ())
    plain, said = f"{type(error).__name__}: {error}", blamed(spec, error)
    return _Failure(said if said != plain else f"{plain} ({raised_at(error)})", ())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _bound_memory(memory: int) -> None:
    """Let torch's allocator say that there is no more, which halves a batch, before the worker has to kill.

    Only what is written to counts: a CUDA context reserves terabytes of addresses.
    """
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    except (ImportError, ValueError, OSError, AttributeError):
        return  # the worker still watches


def _resident_bytes(pid: int) -> int:
    """Memory of a process; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _too_long(seconds: float) -> str:
    return (
        f"measuring what the job would meet took longer than {seconds:g} s; give a smaller space, smaller images or "
        "fewer proxies, or raise NAS_PREFLIGHT_SECONDS."
    )


def _too_large(grown: int | None, memory: int) -> str:
    what = "needs more memory" if grown is None else f"grew to {grown / 1e9:.1f} GB, which is more"
    return (
        f"measuring what the job would meet {what} than the {memory / 1e9:.1f} GB that it may have; give a smaller "
        "space, smaller images or a smaller batch, or raise NAS_PREFLIGHT_MEMORY."
    )


def _how_it_died(code: int | None) -> str:
    if code is None or code >= 0:
        how = f"ended with code {code}"
    else:
        known = {-s.value: s.name for s in signal.Signals}
        how = f"was ended by {known.get(code, f'signal {-code}')}"
        if code == -signal.SIGKILL:
            how += ", as systems do that run out of memory"
    return (
        f"the process that measured what the job would meet {how}: something that it ran, of torch or of a plug-in, "
        "broke it, and would break the job; the worker's log has its last words."
    )
