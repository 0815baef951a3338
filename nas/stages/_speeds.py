"""How long the parts of a job really take here: a few steps of each, done as the job will do them."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import EvaluationContext, Request, level_of, needs_supernet, waits
from nas.reports import Speeds
from nas.resources import Fidelity
from nas.spec import JobSpec
from nas.streams import stream
from searchspaces import Architecture, NASError

if TYPE_CHECKING:
    import torch

    from nas.evaluators import Evaluator
    from nas.workbench import Workbench

_SHARE = 0.04  # of the job's time that measuring may take
_PARTS = 6
_SECONDS = (0.3, 10.0)  # the least and the most for one part
_STEPS = (6, 100)
_WARM = 2  # steps that are not counted: buffers, kernels and threads are made in them
_AROUND = 1.08  # a step and what happens around it: checkpoints, progress, the epoch's end
_NETWORKS = 3
# Seconds to export a network of `_MODULES` modules and to check it, on one core of an AMD EPYC that compiles this file
# in `_COMPILED` seconds: exporting is Python's work, and a compiler's time tells how fast that is here and now.
_EXPORT = {"onnx": 8.0, "torch_export": 5.0, "pytorch": 0.5}
_CHECKED = 1.5  # the test split, the card, and what chooses
_MODULES, _COMPILED, _COMPILATIONS = 418, 0.0014, 50


def measure_speeds(spec: JobSpec, bench: Workbench, *, threads: int | None, expected: float) -> Speeds:
    """The speeds of a job that trains.

    Args:
        threads: the number of threads that preflight found fastest; None where that does not matter.
        expected: seconds of one evaluation with its costs and scores, as preflight reckons them; the least it takes.
    """
    import torch

    each = min(_SECONDS[1], max(_SECONDS[0], _SHARE * (spec.budget.wall_time or 0.0) / _PARTS))
    threads_before, began, computed = torch.get_num_threads(), time.perf_counter(), time.thread_time()
    torch.set_num_threads(threads or threads_before)
    try:
        step = _network_step(spec, bench, each)
        supernet_step = _supernet_step(spec, bench, each)
        evaluation = _evaluation(spec, bench, step, each)
    finally:
        torch.set_num_threads(threads_before)
    # how much of a core this thread got; on CUDA it mostly waits, and says nothing
    waited = (time.perf_counter() - began) / max(1e-9, time.thread_time() - computed)
    num_train, num_valid = len(bench.dataset.train), len(bench.dataset.valid)
    # an audit's batches may be of another size than the final training's; an image takes about as long in both
    image = step / min(spec.audit.training.batch_size, num_train)
    return Speeds(
        supernet_epoch=supernet_step * -(-num_train // spec.supernet.batch_size),
        evaluation=0.0 if waits(spec.evaluator) else max(evaluation, expected),
        audit_epoch=image * num_train,
        audit_network=image / 3 * num_valid + _WARM * step,
        delivery_epoch=image * (num_train * (2 if spec.deliver.contenders > 1 else 1) + num_valid),
        delivery=(1.0 if bench.device.type == "cuda" else waited) * _export_seconds(spec, bench),
    )


def _export_seconds(spec: JobSpec, bench: Workbench) -> float:
    """What a core takes for the exports of a network and their checks: a part for each format, the rest by the size."""
    size = min(1.0, sum(1 for _ in bench.space.build(bench.space.extremes().largest).modules()) / _MODULES)
    code, began = Path(__file__).read_text(encoding="utf-8"), time.thread_time()
    for _ in range(_COMPILATIONS):
        compile(code, __file__, "exec")
    slower = (time.thread_time() - began) / _COMPILATIONS / _COMPILED
    return slower * (_CHECKED + sum(_EXPORT[name] * (0.25 + 0.75 * size) for name in spec.deliver.formats))


class _Pace:
    """Asked before every step whether to stop; says at the end what a step takes."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds = device, seconds
        self.times: list[float] = []

    def __call__(self) -> bool:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
        self.times.append(time.perf_counter())
        steps = len(self.times) - 1
        long_enough = self.times[-1] - self.times[0] >= self.seconds and steps >= _STEPS[0]
        return long_enough or steps >= _STEPS[1]

    @property
    def step(self) -> float:
        """Mean seconds of a step: paths differ in what they take, and a training runs many."""
        times = self.times[_WARM:] if len(self.times) > _WARM + 1 else self.times
        return _AROUND * (times[-1] - times[0]) / max(1, len(times) - 1)


def _supernet_step(spec: JobSpec, bench: Workbench, seconds: float) -> float:
    """A step of the spec's recipe; 0 where nothing is trained."""
    if not needs_supernet(spec.evaluator) or spec.supernet.from_job:
        return 0.0
    from nas.recipes import REGISTRY as RECIPES
    from nas.training import Setting, train_supernet

    epochs = max(2, _STEPS[1])
    setting = Setting.of(bench.space, bench.dataset, spec.supernet, num_epochs=epochs, seed=spec.seed)
    recipe = RECIPES[spec.supernet.recipe.name](spec.supernet.recipe.config, setting)
    supernet, pace = recipe.prepare(bench.space.supernet(seed=spec.seed)), _Pace(bench.device, seconds)
    train_supernet(
        supernet,
        recipe,
        bench.dataset,
        bench.task,
        spec.supernet,
        num_epochs=epochs,
        seed=spec.seed,
        device=bench.device,
        precision=bench.precision,
        should_stop=pace,
    )
    return pace.step


def _network_step(spec: JobSpec, bench: Workbench, seconds: float) -> float:
    """A step of training alone: between what an average network takes and the largest one.

    Half of an audit's networks, and what is delivered, are good ones, which are seldom small.
    """
    largest = bench.space.extremes().largest
    drawn = [largest, *(bench.space.sample(stream(spec.seed, "speeds", i)) for i in range(_NETWORKS))]
    steps = [_training_step(spec, bench, architecture, seconds / len(drawn)) for architecture in drawn]
    return (steps[0] + statistics.mean(steps[1:])) / 2


def _training_step(spec: JobSpec, bench: Workbench, architecture: Architecture, seconds: float) -> float:
    from nas.training import train_network

    train, pace = bench.dataset.train, _Pace(bench.device, seconds)
    train_network(
        bench.space.build(architecture, seed=spec.seed),
        train.images,
        train.labels,
        bench.dataset,
        bench.task,
        spec.audit.training.model_copy(update={"epochs": _STEPS[1]}),
        seed=spec.seed,
        device=bench.device,
        precision=bench.precision,
        should_stop=pace,
    )
    return pace.step


def _evaluation(spec: JobSpec, bench: Workbench, step: float, seconds: float) -> float:
    """What the evaluator takes for one architecture; 0 where others measure, and nobody knows."""
    plugin = EVALUATORS[spec.evaluator.name]
    training = getattr(plugin.configure(spec.evaluator.config), "training", None)
    if waits(spec.evaluator):
        return 0.0
    if training is not None:
        batch = min(training.batch_size, len(bench.dataset.train))
        return float(step * training.epochs * -(-len(bench.dataset.train) // batch))
    reader = bench.untrained() if needs_supernet(spec.evaluator) else bench
    evaluator: Evaluator = plugin(spec.evaluator.config, reader)
    rng, times = stream(spec.seed, "speeds", "evaluated"), list[float]()
    began = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - began < seconds:
        batch_began = time.perf_counter()
        requests = [
            Request(f"speed-{i}", bench.space.sample(rng), Fidelity(level=level_of(spec))) for i in range(spec.batch)
        ]
        try:
            for _ in evaluator.evaluate(requests, EvaluationContext(seed=spec.seed)):
                pass
        except NASError:  # what an evaluator cannot do untrained says nothing about a job
            return step
        times.append((time.perf_counter() - batch_began) / len(requests))
    return _AROUND * statistics.mean(times[1:])
