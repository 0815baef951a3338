"""Measuring many paths of a supernet at about the cost of what they do not share."""

from __future__ import annotations

import copy
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.tasks import Task
from nas.training._data import Batch
from nas.training._device import accelerated, autocast
from searchspaces import Architecture, MeasurementError, NASError, Supernet, normalisations

_PARTS_EACH = 4  # a device that is faster, or gets cheaper paths, takes more parts
_LARGEST_GROUP = 243  # paths whose logits and statistics are held at once; a subtree of five layers of three options
_HELD_LOGITS = 2**25  # numbers; 128 MiB in fp32


@dataclass(frozen=True)
class PathReading:
    """What one architecture gave: its metrics, or why there are none.

    Attributes:
        place: which architecture of the call it is.
        seconds: what it took beyond what others had already computed.
        meter: which meter of the call measured it.
    """

    place: int
    seconds: float
    values: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    meter: int = 0


class PathMeter:
    """Runs paths of a supernet over batches that lie on its device, without autograd.

    Args:
        num_classes: width of the logits, to bound what is held of them.
        calibration: batches of images, `batch x channels x height x width`, whose statistics normalise; None:
            normalisation by the statistics of the evaluation batch.
    """

    def __init__(
        self,
        supernet: Supernet,
        batches: Sequence[Batch],
        task: Task,
        *,
        num_classes: int,
        dtype: torch.dtype = torch.float32,
        calibration: Sequence[Tensor] | None = None,
    ) -> None:
        self._supernet, self._batches, self._task, self._dtype = _view(supernet), batches, task, dtype
        self._calibration = calibration or ()
        self._statistics = _Statistics(self._supernet) if calibration is not None else None
        if self._statistics is None:
            for norm in normalisations(self._supernet):
                norm.training, norm.track_running_stats = True, False
        self._targets = torch.cat([targets for _, targets in batches])
        held = _HELD_LOGITS // (len(self._targets) * num_classes)
        self._group_size = max(1, min(_LARGEST_GROUP, held)) if self.num_pieces > 1 else None

    @property
    def device(self) -> torch.device:
        """Where it measures."""
        return self._targets.device

    @property
    def eval_batch(self) -> int:
        """Samples of the largest evaluation batch."""
        return max(len(targets) for _, targets in self._batches)

    @property
    def num_pieces(self) -> int:
        """How many batches every path runs over."""
        return len(self._batches) + len(self._calibration)

    def measure(self, architectures: Sequence[Architecture]) -> Iterator[PathReading | None]:
        """A reading of every architecture as it is known, and None after every other batch that one has run over.

        Several batches: the paths of a group run over the first, then over the second, ..., so that they share what
        they share; put neighbours of the space's tree side by side. Where the group fails, each of it runs alone.
        A caller may stop between any two items; no torch mode is left on in between.
        """
        size = self._group_size or max(1, len(architectures))
        for start in range(0, len(architectures), size):
            group = {place: architectures[place] for place in range(start, min(start + size, len(architectures)))}
            try:
                yield from self._group(group)
            except (NASError, RuntimeError, ValueError) as error:
                yield from self._alone(group, error)

    def _alone(self, group: dict[int, Architecture], error: Exception) -> Iterator[PathReading | None]:
        """Each of those that are left of a failed group by itself; the error is the answer where only one is left."""
        several = len(group) > 1
        for place, architecture in list(group.items()):
            began = time.perf_counter()
            if several:
                try:
                    yield from self._group({place: architecture})
                    continue
                except (NASError, RuntimeError, ValueError) as own:
                    error = own
            yield PathReading(place, time.perf_counter() - began, error=f"{type(error).__name__}: {error}")

    def _group(self, group: dict[int, Architecture]) -> Iterator[PathReading | None]:
        """Readings of a group; what was answered is removed from it."""
        places, architectures = list(group), list(group.values())
        held: dict[int, list[Tensor]] = {place: [] for place in places}
        seconds = dict.fromkeys(places, 0.0)
        passes = [(images, True) for images in self._calibration] + [(b.images, False) for b in self._batches]
        for number, (images, calibrates) in enumerate(passes):
            if self._statistics is not None:
                self._statistics.begin(number, calibrates=calibrates)
            walk = self._supernet.forward_many(images, architectures)
            began = time.perf_counter()
            while (found := self._next(walk)) is not None:
                place = places[found[0]]
                if not calibrates:
                    held[place].append(found[1])
                seconds[place] += time.perf_counter() - began
                if number < len(passes) - 1:
                    yield None
                else:
                    del group[place]
                    yield self._reading(place, held.pop(place), seconds[place])
                began = time.perf_counter()

    def _next(self, walk: Iterator[tuple[int, Tensor]]) -> tuple[int, Tensor] | None:
        # Fused operations would pass by what `_Statistics` hooks into.
        run = accelerated if self._statistics is None else autocast
        with torch.inference_mode(), run(self.device, self._dtype):
            return next(walk, None)

    def _reading(self, place: int, outputs: list[Tensor], seconds: float) -> PathReading:
        began = time.perf_counter()
        try:
            with torch.inference_mode():
                logits = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
                values = self._task.metrics(logits, self._targets)
        except MeasurementError as error:
            return PathReading(place, seconds, error=f"{type(error).__name__}: {error}")
        seconds += time.perf_counter() - began
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            return PathReading(place, seconds, error=f"MeasurementError: {', '.join(wrong)} is not finite.")
        return PathReading(place, seconds, values)


def measure_paths(meters: Sequence[PathMeter], architectures: Sequence[Architecture]) -> Iterator[PathReading | None]:
    """As `PathMeter.measure`, by one thread for every meter; parts of the list are dealt as the meters get free.

    Meters do not disturb each other, also where they share weights.
    """
    if len(meters) == 1:
        yield from meters[0].measure(architectures)
        return
    size = max(1, -(-len(architectures) // (_PARTS_EACH * len(meters))))
    parts: queue.SimpleQueue[int] = queue.SimpleQueue()
    for start in range(0, len(architectures), size):
        parts.put(start)
    found: queue.SimpleQueue[PathReading | str | None] = queue.SimpleQueue()
    ended, stopped = "ended", threading.Event()
    num_threads = torch.get_num_threads()  # a thread of its own begins with whatever another one set last

    def work(number: int) -> None:
        torch.set_num_threads(num_threads)
        try:
            while not stopped.is_set():
                start = parts.get_nowait()
                for item in meters[number].measure(architectures[start : start + size]):
                    found.put(item and replace(item, place=item.place + start, meter=number))
                    if stopped.is_set():
                        return
        except queue.Empty:
            return
        finally:
            found.put(ended)

    with ThreadPoolExecutor(len(meters), thread_name_prefix="paths") as pool:
        workers = [pool.submit(work, number) for number in range(len(meters))]
        try:
            running = len(workers)
            while running:
                item = found.get()
                if isinstance(item, str):
                    running -= 1
                else:
                    yield item
        finally:
            stopped.set()
    for worker in workers:
        worker.result()  # what kept a thread from its work is raised here


def _view(supernet: Supernet) -> Supernet:
    """Modules of one's own around the same weights, so that changing how they normalise changes nobody else's."""
    shared: list[object] = [*supernet.parameters(), *supernet.buffers(), supernet.space]
    return copy.deepcopy(supernet, {id(part): part for part in shared})


class _Statistics:
    """Normalisation statistics of many paths: one mean and variance for every normalisation that a walk runs.

    A walk over equal paths calls the normalisations in an equal order, so that they are known by their number. What
    several paths share is normalised once: up to where two paths part, they see the same images through the same
    weights. The values are those of `set_statistics` on the extracted network.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._norms = list(normalisations(supernet))
        self._device = next(supernet.parameters()).device
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._called = 0
        for norm in self._norms:
            norm.track_running_stats, norm.num_batches_tracked = True, None
            norm.register_forward_pre_hook(self._prepare)

    def begin(self, number: int, *, calibrates: bool) -> None:
        """A walk begins: over the calibration batch of this number (from 0), or with what those have taught."""
        self._called = 0
        if number == 0:
            self._kept.clear()
        for norm in self._norms:
            norm.training, norm.momentum = calibrates, 1 / (number + 1)  # a plain mean over the calibration batches

    def _prepare(self, norm: nn.Module, _: object) -> None:
        assert isinstance(norm, _BatchNorm)
        if self._called == len(self._kept):
            zeros, ones = (make(norm.num_features, device=self._device) for make in (torch.zeros, torch.ones))
            self._kept.append((zeros, ones))
        norm.running_mean, norm.running_var = self._kept[self._called]
        self._called += 1
