"""How long the parts of a job take: a training step, a network's scores, and from these every phase."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import needs_data, needs_supernet
from nas.resources import Phase
from nas.spec import JobSpec
from nas.stages._contest import plan_of
from nas.stages._memory import Held, Needs, needs_of
from nas.stages._score import scored_space, scoring_context
from nas.stages._trust import audits
from nas.streams import stream
from searchspaces import Architecture, OutOfMemory

if TYPE_CHECKING:
    from nas.workbench import Workbench

_TIMED_PATHS = 8
_SCORED = 5
_TIMED_BYTES = 2**30
_ENOUGH_SECONDS = 5.0
_THREADS_MUST_GAIN = 1.3


def steps_per_epoch(spec: JobSpec, num_samples: int) -> int:
    """Steps of one pass over the training data, in batches as even as can be."""
    from nas.training import num_parts

    return num_parts(num_samples, spec.supernet.batch_size)


def passes_per_step(spec: JobSpec, bench: Workbench) -> int:
    """How often a step of the spec's recipe runs a path forward and backward."""
    from nas.recipes import REGISTRY as RECIPES
    from nas.training import Setting

    epochs, recipe = spec.budget.epochs, spec.supernet.recipe
    setting = Setting.of(bench.measurable, bench.dataset, spec.supernet, num_epochs=epochs, seed=spec.seed)
    return RECIPES[recipe.name](recipe.config, setting).passes_per_step


class Timing(NamedTuple):
    """A training step of one random path (median seconds), with the fastest number of threads; None where on CUDA.

    `at_once`: how many of its samples fit into the memory together; less than a batch where it is short.
    """

    pass_seconds: float
    threads: int | None
    largest_path_bytes: int
    at_once: int


def time_paths(spec: JobSpec, bench: Workbench) -> Timing:
    """Time one training step with one thread and with all there are, and count what the largest path's step holds.

    Where a batch does not fit into the memory, training halves it; so does this. Of large batches a part is timed that
    holds about a gigabyte: more would take minutes at 224 x 224 and say the same.

    Raises:
        OutOfMemory: not even a few samples fit at once.
    """
    from nas.training import SMALLEST_MICRO_BATCH, is_out_of_memory

    whole = at_once = min(spec.supernet.batch_size, len(bench.dataset.train))
    part = None
    while True:
        try:
            if part is None:
                part = at_once = min(whole, _worth_timing(needs_of(spec, bench)))
            fits = whole if at_once == part else at_once
            timing = _time_steps(spec, bench, at_once, fits)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        else:
            return timing._replace(pass_seconds=timing.pass_seconds * whole / at_once, at_once=fits)
        if at_once // 2 < SMALLEST_MICRO_BATCH:
            raise OutOfMemory(
                f"a step of {at_once} samples does not fit into the memory of {bench.device} ({reason}); give a "
                "smaller space, or another device."
            )
        at_once //= 2


def _worth_timing(needs: Needs) -> int:
    """How many samples of the largest path's step hold `_TIMED_BYTES` together."""
    from nas.training import SMALLEST_MICRO_BATCH

    return max(SMALLEST_MICRO_BATCH, int(_TIMED_BYTES / max(needs.step, 1.0)))


def _median_seconds(step: Callable[[Architecture], float], paths: Sequence[Architecture]) -> float:
    """Of a step of one of these paths, each having run once before; where they are slow, of fewer."""
    times: list[float] = []
    for _ in ("cold", "warm"):
        until, times = time.perf_counter() + _ENOUGH_SECONDS, []
        for path in paths:
            times.append(step(path))
            if time.perf_counter() > until:
                break
    return statistics.median(times)


def _time_steps(spec: JobSpec, bench: Workbench, at_once: int, fits: int) -> Timing:
    """The timing of steps of so many samples, and what a step of the largest path holds of `fits` of them."""
    import torch

    from nas.training import DeviceData, accelerated, to_device

    supernet = to_device(bench.measurable.supernet(seed=spec.seed), bench.device).train()
    data = DeviceData.of(bench.dataset.train, bench.dataset, bench.device)
    x, y = data.batch(torch.arange(at_once))
    paths = [bench.measurable.sample(stream(spec.seed, "preflight", "path", i)) for i in range(_TIMED_PATHS)]
    held = Held()

    def step(path: Architecture) -> float:
        began = time.perf_counter()
        with accelerated(bench.device, bench.dtype):
            logits = supernet(x, path)
        torch.autograd.backward(bench.task.losses(logits, y).mean())
        supernet.zero_grad(set_to_none=True)
        if bench.device.type == "cuda":
            torch.cuda.synchronize(bench.device)
        return time.perf_counter() - began

    with torch.autograd.graph.saved_tensors_hooks(held.count, lambda tensor: tensor):
        step(bench.measurable.extremes().largest)
    all_threads = torch.get_num_threads()
    seconds = {}
    try:
        for threads in sorted({1, all_threads} if bench.device.type == "cpu" else {all_threads}):
            torch.set_num_threads(threads)
            seconds[threads] = _median_seconds(step, paths)
    finally:
        torch.set_num_threads(all_threads)
    best = min(seconds, key=lambda threads: seconds[threads] * (1 if threads == 1 else _THREADS_MUST_GAIN))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in supernet.parameters())
    largest = held.num_bytes * fits // at_once + 3 * weights  # weights, gradients, momentum
    return Timing(seconds[best], best if bench.device.type == "cpu" else None, largest, at_once)


def phase_seconds(
    spec: JobSpec, bench: Workbench, pass_seconds: float, scoring: float, *, epochs: int, passes: int
) -> dict[str, float]:
    """Expected seconds by phase, from the time of a step of one path; a forward pass costs a third of it."""
    num_train, num_valid = len(bench.dataset.train), len(bench.dataset.valid)
    per_image = pass_seconds / min(spec.supernet.batch_size, num_train)
    shared, reads = needs_supernet(spec.evaluator), needs_data(spec.evaluator)
    training = getattr(EVALUATORS[spec.evaluator.name].configure(spec.evaluator.config), "training", None)
    audited = spec.audit.networks if audits(spec) and spec.audit.evaluator is None else 0
    each = per_image / 3 * num_valid * reads + per_image * num_train * (training.epochs if training else 0)
    return {
        Phase.SCORE: scoring * spec.scoring.pool,
        Phase.SUPERNET: per_image * num_train * epochs * passes if shared and not spec.supernet.from_job else 0.0,
        Phase.SEARCH: (each + scoring) * spec.budget.evaluations,
        Phase.AUDIT: per_image * num_train * spec.audit.training.epochs * audited,
        Phase.DELIVER: spec.deliver.networks
        * plan_of(spec.deliver).seconds(
            train_epoch=per_image * num_train, final_epoch=per_image * (num_train + num_valid)
        ),
    }


class Scoring(NamedTuple):
    """Seconds of the proxies for one architecture; those without a score of any that was tried, and why."""

    seconds: float
    undefined: list[str]


def time_scoring(spec: JobSpec, bench: Workbench) -> Scoring:
    from nas.scoring import proxies_of, score_many

    proxies = proxies_of(spec.scoring.proxies)
    if not proxies:
        return Scoring(0.0, [])
    rng = stream(spec.seed, "preflight", "scored")
    drawn = [bench.space.extremes().largest, *(bench.space.sample(rng) for _ in range(_SCORED))]
    began, times, errors = time.perf_counter(), list[float](), dict[str, list[str | None]]()
    for found in score_many(scored_space(bench), drawn, proxies, scoring_context(bench)):
        times.append(time.perf_counter() - began)
        for name, score in found.scores.items():
            errors.setdefault(name, []).append(score.error)
        began = time.perf_counter()
    undefined = [f"{name} has no score of any network that was tried: {e[0]}" for name, e in errors.items() if all(e)]
    return Scoring(statistics.median(times), undefined)
