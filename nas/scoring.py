"""Scores of untrained networks: on which images, in how many processes, and what became of each."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nas.streams import stream
from predictors.encoding import Columns
from predictors.zerocost import REGISTRY, Proxy, ProxyContext, Scored, Vote
from searchspaces import Architecture, NASError, SearchSpace

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nas.datasets import Dataset
    from nas.spec import PluginRef
    from nas.tasks import Task

FREE = ("live_params", "live_flops")
"""Costs that count as scores: larger networks are taken to be better."""
_AHEAD = 4  # architectures that a process has waiting, so that the results held stay few


class ScoredArchitecture(NamedTuple):
    """An architecture with what came of every proxy."""

    architecture: Architecture
    scores: dict[str, Scored]


@dataclass(frozen=True)
class MeanLoss:
    """(logits, targets) -> the mean loss of a task; goes from process to process."""

    task: Task

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        mean: Tensor = self.task.losses(logits, targets).mean()
        return mean


def proxy_context(
    dataset: Dataset,
    task: Task,
    *,
    images: int,
    seed: int,
    device: torch.device,
    low_precision: bool = False,
) -> ProxyContext:
    """Training images that a stream of the seed draws, normalised, not augmented, in two batches.

    A data set with fewer images gives what it has; fewer than 4 make one batch.
    """
    import torch

    from nas.training import DeviceData
    from predictors.zerocost import Batch

    drawn = stream(seed, "proxies", "images").permutation(len(dataset.train))[:images]
    data = DeviceData(dataset.train.images[drawn], dataset.train.labels[drawn], dataset, device)
    half = len(data) // 2 if len(data) >= 4 else len(data)
    starts = range(0, len(data) - half + 1, half)
    return ProxyContext(
        batches=tuple(Batch(*data.batch(torch.arange(start, start + half))) for start in starts),
        loss=MeanLoss(task),
        seed=seed,
        low_precision=low_precision,
    )


def proxies_of(refs: Sequence[PluginRef]) -> dict[str, Proxy]:
    """The proxies that these name, and the parts of those that rank by others."""
    found: dict[str, Proxy] = {}
    for ref in refs:
        made = REGISTRY[ref.name](ref.config)
        parts = made.parts if isinstance(made, Vote) else ()
        found |= {part: REGISTRY[part]() for part in parts if part in REGISTRY and part not in found}
        found[ref.name] = made
    return found


def is_scored(ref: PluginRef) -> bool:
    """Whether this names a proxy that gives single networks a score; one that does not exist gives none."""
    return ref.name in REGISTRY and not isinstance(REGISTRY[ref.name](None), Vote)


def score_many(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    proxies: Mapping[str, Proxy],
    context: ProxyContext,
    *,
    workers: int = 1,
    progress: Callable[[float], None] = lambda share: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[ScoredArchitecture]:
    """Every distinct architecture with its scores, as they come; memory does not grow with their number.

    One that cannot be scored comes back with the reason in every score, also when it takes its process with it.

    Args:
        workers: processes that score; 1 scores here. Each runs its share of the threads.
        progress: told the share that is done.
        should_stop: asked between architectures; what is left is not scored.
    """
    distinct = list(dict.fromkeys(architectures))
    made = _here if workers == 1 else _in_processes(workers)
    for done, scored in enumerate(made(space, distinct, proxies, context), 1):
        yield scored
        progress(done / len(distinct))
        if should_stop():
            return


_Source = Callable[
    [SearchSpace, Sequence[Architecture], Mapping[str, Proxy], ProxyContext], Iterator[ScoredArchitecture]
]


def _here(
    space: SearchSpace, architectures: Sequence[Architecture], proxies: Mapping[str, Proxy], context: ProxyContext
) -> Iterator[ScoredArchitecture]:
    return (_score(space, architecture, proxies, context) for architecture in architectures)


def _score(
    space: SearchSpace, architecture: Architecture, proxies: Mapping[str, Proxy], context: ProxyContext
) -> ScoredArchitecture:
    from predictors.zerocost import score_architecture

    try:
        return ScoredArchitecture(architecture, score_architecture(space, architecture, proxies, context))
    except (NASError, RuntimeError, MemoryError, ValueError) as error:
        return _failed(architecture, proxies, f"{type(error).__name__}: {error}")


def _failed(architecture: Architecture, proxies: Mapping[str, Proxy], reason: str) -> ScoredArchitecture:
    own = [name for name, proxy in proxies.items() if not isinstance(proxy, Vote)]
    return ScoredArchitecture(architecture, {name: Scored(None, 0.0, error=reason) for name in own})


# --- several processes -----------------------------------------------------------------------------------------------


def _in_processes(workers: int) -> _Source:
    def source(
        space: SearchSpace, architectures: Sequence[Architecture], proxies: Mapping[str, Proxy], context: ProxyContext
    ) -> Iterator[ScoredArchitecture]:
        shared = _Shared(space, dict(proxies), context, max(1, (os.cpu_count() or 1) // workers))
        left = dict.fromkeys(architectures)
        while left:
            suspects: list[Architecture] = []
            for found in _until_broken(workers, shared, list(left), suspects):
                del left[found.architecture]
                yield found
            for suspect in suspects:  # one of them took its process with it: each gets one of its own
                del left[suspect]
                alone = list(_until_broken(1, shared, [suspect], []))
                yield alone[0] if alone else _failed(suspect, proxies, "its process died; too little memory?")

    return source


def _until_broken(
    workers: int, shared: _Shared, architectures: Sequence[Architecture], suspects: list[Architecture]
) -> Iterator[ScoredArchitecture]:
    """What processes score; where one dies, the rest is left, and `suspects` takes what was being scored."""
    waiting, running = iter(architectures), dict[Future[ScoredArchitecture], Architecture]()
    method = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=method, initializer=_begin, initargs=(shared,)) as pool:
        try:
            while True:
                for architecture in waiting:
                    running[pool.submit(_score_shared, architecture)] = architecture
                    if len(running) >= _AHEAD * workers:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    found = future.result()
                    del running[future]
                    yield found
        except BrokenProcessPool:
            suspects.extend(running.values())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Shared(NamedTuple):
    """What every process needs."""

    space: SearchSpace
    proxies: dict[str, Proxy]
    context: ProxyContext
    threads: int


_mine: list[_Shared] = []


def _begin(shared: _Shared) -> None:
    import torch

    torch.set_num_threads(shared.threads)
    _mine[:] = [shared]


def _score_shared(architecture: Architecture) -> ScoredArchitecture:
    shared = _mine[0]
    return _score(shared.space, architecture, shared.proxies, shared.context)


# --- columns ---------------------------------------------------------------------------------------------------------


class Scores:
    """What is known of architectures for free: costs, and proxies where there are any; computed when first asked for.

    Args:
        space: whose architectures are scored.
        proxies: none leaves the costs alone.
        context: what the proxies have in common; made when the first architecture is scored.
        scored: the space whose networks are scored, where that is not `space`: see `SearchSpace.reduced`.
        pool: architectures that were scored before, with the score of every proxy (None where undefined).
    """

    def __init__(
        self,
        space: SearchSpace,
        proxies: Mapping[str, Proxy] | None = None,
        context: Callable[[], ProxyContext] | None = None,
        *,
        scored: SearchSpace | None = None,
        pool: Mapping[Architecture, Mapping[str, float | None]] | None = None,
    ) -> None:
        self.space, self._scored, self._context = space, scored or space, context
        self.proxies = dict(proxies or {})
        self._own = tuple(name for name, proxy in self.proxies.items() if not isinstance(proxy, Vote))
        self.pool = tuple(pool or ())
        self._known = {architecture.digest: scores for architecture, scores in (pool or {}).items()}
        self._made: ProxyContext | None = None
        self.seconds = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return (*FREE, *self._own)

    def has(self, architecture: Architecture) -> bool:
        """Whether nothing has to be run to score it."""
        return not self._own or architecture.digest in self._known

    def proxy_scores(self, architecture: Architecture) -> Mapping[str, float | None]:
        """The score of every proxy; None where it is undefined."""
        if self._own and architecture.digest not in self._known:
            began = time.perf_counter()
            if self._made is None:
                assert self._context is not None, "proxies come with what they have in common"
                self._made = self._context()
            scored = _score(self._scored, architecture, self.proxies, self._made).scores
            self._known[architecture.digest] = {name: score.value for name, score in scored.items()}
            self.seconds += time.perf_counter() - began
        return self._known.get(architecture.digest, {})

    def __call__(self, architectures: Sequence[Architecture]) -> Columns:
        """One row per architecture, higher better; NaN where a proxy is undefined."""
        rows = []
        for architecture in architectures:
            counts, scores = self.space.counts(architecture, live=True), self.proxy_scores(architecture)
            found = [scores.get(name) for name in self._own]
            rows.append([counts.params, counts.flops, *(np.nan if value is None else value for value in found)])
        return Columns(self.names, np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names)))
