"""Scores of untrained networks: on which images, in how many processes, and what became of each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nas.streams import stream
from predictors.costs import REGISTRY as COSTS
from predictors.costs import Cost, ready_costs
from predictors.encoding import Columns, Layers
from predictors.ranking import rank_vote
from predictors.zerocost import REGISTRY, Proxy, ProxyContext, Scored, Vote
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, MeasurementError, NASError, SearchSpace

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nas.datasets import Dataset
    from nas.quantities import Constraint
    from nas.spec import PluginRef
    from nas.tasks import Task

FREE = ("live_params", "live_flops")
"""Costs that count as scores: larger networks are taken to be better."""


def free_costs(space: PluginRef) -> tuple[str, ...]:
    """The costs that need no measuring: what every candidate gets, and what every ranking is held against.

    None where the space cannot count.
    """
    if space.name in SPACES and not SPACES[space.name].flags.get("counts", True):
        return ()
    return tuple(name for name in ready_costs() if not COSTS[name].flags["measured"])


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


def _on_paper(space: SearchSpace) -> dict[str, Cost]:
    """The costs that the space counts."""
    try:
        space.counts(space.extremes().smallest)
    except MeasurementError:
        return {}
    return {name: COSTS[name](None, space, "cpu") for name in ready_costs() if not COSTS[name].flags["measured"]}


# --- columns ---------------------------------------------------------------------------------------------------------


class Scores:
    """What is known of architectures before they are measured: costs, bounds on them, and proxies where there are any.

    Proxies are run when they are first asked for, or were run before; what is asked for does not depend on that.

    Args:
        space: whose architectures are scored.
        proxies: none leaves the costs alone.
        context: what the proxies have in common; made when the first architecture is scored.
        scored: the space whose networks are scored, where that is not `space`: see `SearchSpace.reduced`.
        pool: architectures that were scored before, with the score of every proxy (None where undefined).
        bounds: constraints; those on costs known on paper are held against an architecture.
        costs: those that are known without measuring, by metric; none given: those that the space counts on paper.
        seed: of pools that are drawn.
    """

    def __init__(
        self,
        space: SearchSpace,
        proxies: Mapping[str, Proxy] | None = None,
        context: Callable[[], ProxyContext] | None = None,
        *,
        scored: SearchSpace | None = None,
        pool: Mapping[Architecture, Mapping[str, float | None]] | None = None,
        bounds: Sequence[Constraint] = (),
        costs: Mapping[str, Cost] | None = None,
        seed: int = 0,
    ) -> None:
        self.space, self.seed = space, seed
        self.proxies, self.pool = dict(proxies or {}), tuple(pool or ())
        self._scored, self._context = scored or space, context
        self._own = tuple(name for name, proxy in self.proxies.items() if not isinstance(proxy, Vote))
        self._known = {architecture.digest: scores for architecture, scores in (pool or {}).items()}
        self._in_pool = frozenset(self._known)
        self._layers: dict[str, npt.NDArray[np.float32]] = {}
        self.costs = _on_paper(space) if costs is None else dict(costs)
        self._free = tuple(name for name in FREE if name in self.costs)
        self._bounds = [(bound, self.costs[bound.metric]) for bound in bounds if bound.metric in self.costs]

    def pool_of(self, name: str, size: int) -> list[Architecture]:
        """At most `size` distinct architectures to choose from: those that were scored before, else uniform ones."""
        rng = stream(self.seed, "pool", name)
        drawn = self.pool[:size] or [self.space.sample(rng) for _ in range(size)]
        return list(dict.fromkeys(drawn))

    def is_free(self, architecture: Architecture) -> bool:
        """Whether its scores cost nothing: there are no proxies, or it is of the pool."""
        return not self._own or architecture.digest in self._in_pool

    def violation(self, architecture: Architecture) -> float:
        """Summed relative violation of the bounds on costs that are known on paper; 0 when all hold."""
        try:
            return sum(bound.violation(cost.measure(architecture).value) for bound, cost in self._bounds)
        except MeasurementError:
            return 0.0

    def learn(self, architecture: Architecture, scores: Mapping[str, float]) -> None:
        """Take over the scores of an architecture that was measured; a proxy that is missing was undefined."""
        if self._own and architecture.digest not in self._known:
            self._known[architecture.digest] = {name: scores.get(name) for name in self._own}

    def proxy_scores(self, architecture: Architecture) -> Mapping[str, float | None]:
        """The score of every proxy; None where it is undefined."""
        if self._own and architecture.digest not in self._known:
            self._run(architecture)
        return self._known.get(architecture.digest, {})

    def __call__(self, architectures: Sequence[Architecture]) -> Columns:
        """One row per architecture, higher better: `FREE` where the space counts, then every proxy; NaN: undefined."""
        names, rows = (*self._free, *self._own), []
        for architecture in architectures:
            counts = [self.costs[name].measure(architecture).value for name in self._free]
            scores = self.proxy_scores(architecture)
            found = [scores.get(name) for name in self._own]
            rows.append([*counts, *(np.nan if value is None else value for value in found)])
        return Columns(names, np.array(rows, dtype=np.float64).reshape(len(rows), len(names)))

    def vote(self, architectures: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """A rank among these by size and every proxy together, higher better; all equal where nothing is known."""
        columns, voters = self(architectures), (*self._free[:1], *self._own)
        if not voters:
            return np.zeros(len(architectures))
        return rank_vote([columns.values[:, columns.names.index(name)] for name in voters])

    @property
    def has_layers(self) -> bool:
        """Whether some proxy has a statistic of every layer."""
        return bool(self._layered)

    def layers(self, architectures: Sequence[Architecture]) -> Layers:
        """The statistic of every layer by every proxy that has one, in the slots of the supernet."""
        for architecture in architectures:
            if architecture.digest not in self._layers:
                self._run(architecture)
        values = [self._layers[architecture.digest] for architecture in architectures]
        shape = (len(values), len(self._slots), len(self._layered))
        return Layers(tuple(self._slots), self._layered, np.array(values, dtype=np.float64).reshape(shape))

    def _run(self, architecture: Architecture) -> None:
        scored = _score(self._scored, architecture, self.proxies, self._made).scores
        self._known[architecture.digest] = {name: score.value for name, score in scored.items()}
        if self._layered:
            values = np.full((len(self._slots), len(self._layered)), np.nan, dtype=np.float32)
            for column, name in enumerate(self._layered):
                for layer, value in scored[name].layers.items():
                    if layer in self._slots:
                        values[self._slots[layer], column] = value
            self._layers[architecture.digest] = values

    @cached_property
    def _made(self) -> ProxyContext:
        assert self._context is not None, "proxies come with what they have in common"
        return self._context()

    @cached_property
    def _layered(self) -> tuple[str, ...]:
        return tuple(name for name in self._own if name in REGISTRY and REGISTRY[name].flags["layers"])

    @cached_property
    def _slots(self) -> dict[str, int]:
        from torch import nn

        named = self._scored.supernet().named_modules()
        return {n: i for i, n in enumerate(n for n, layer in named if isinstance(layer, nn.Conv2d | nn.Linear))}
