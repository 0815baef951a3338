"""PREFLIGHT: what a job will meet, measured before anything is spent."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nas.admission import can_train
from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import needs_data, needs_supernet, waits
from nas.ports import JobView
from nas.resources import CostRange, JsonObject, Phase, PreflightReport, UnitPlan
from nas.searchers import REGISTRY as SEARCHERS
from nas.spec import Constraint, JobSpec, PluginRef
from nas.stages._score import scored_space, scoring_context
from nas.stages._trust import audits
from nas.streams import stream
from searchspaces import (
    Architecture,
    ConfigError,
    DataError,
    InfeasibleSpace,
    MeasurementError,
    OutOfMemory,
    SpecError,
    Violation,
)

if TYPE_CHECKING:
    from nas.stages._context import UnitContext
    from nas.workbench import Workbench
    from predictors.costs import Cost

_SAMPLE = 400
_MEASURED_SAMPLE = 10
_EXHAUSTIVE = 30_000
_TIMED_PATHS = 8
_SCORED = 5
_TRAINING_SHARE = 0.5
_THREADS_MUST_GAIN = 1.3


class PreflightStage:
    """One unit: its report is kept with the job, and it fixes the length of the supernet's training."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        return [UnitPlan(key="preflight")]

    def run(self, context: UnitContext) -> JsonObject:
        context.journal.progress(
            phase=Phase.PREFLIGHT,
            message="measuring costs, memory and speed",
            evaluations_total=context.job.budget.evaluations,
            audits_total=context.spec.audit.networks if audits(context.spec) else 0,
            deliveries_total=context.spec.deliver.networks if can_train(context.spec) else 0,
        )
        report = preflight(context.spec, bench=context.bench)
        context.journal.report(report)
        if report.satisfiable is False:
            raise InfeasibleSpace("the constraints cannot be met: " + "; ".join(report.notes) + ".")
        steps = report.train_steps
        epochs = steps // steps_per_epoch(context.spec, len(context.bench.dataset.train)) if steps else 0
        context.journal.progress(fraction=1.0, seconds_left=report.expected_seconds, epochs_total=epochs)
        return {"epochs": epochs, "threads": report.threads}


def steps_per_epoch(spec: JobSpec, num_samples: int) -> int:
    """Steps of one pass over the training data, in batches as even as can be."""
    return -(-num_samples // spec.supernet.batch_size)


def refuse_impossible(spec: JobSpec) -> None:
    """Read the data, fit the space to it, and look for an architecture that meets the constraints on costs.

    Raises:
        SpecError: the data cannot be read, the space does not fit, or nothing meets a bound (with what there is).
    """
    from nas.workbench import Workbench

    bench = Workbench(spec)
    try:
        _ = bench.space
    except DataError as error:
        named = repr(spec.dataset.name) if spec.dataset else str(spec.evaluator)
        raise SpecError([Violation("dataset" if spec.dataset else "evaluator", named, str(error))]) from error
    except ConfigError as error:
        raise SpecError(error.violations) from error
    _refuse_searcher(spec.searcher, spec, bench)
    _refuse_costs(spec, bench)
    if not spec.constraints:
        return
    survey = _Survey.of(spec, bench)
    if survey.satisfiable is False:
        raise SpecError([Violation("constraints", why, "a bound that some architecture meets") for why in survey.why()])


def _refuse_searcher(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    """Say now, and not when the supernet is trained, that the searcher, or one it holds, cannot do what is asked."""
    flags, name = SEARCHERS[ref.name].flags, ref.name
    if len(spec.objectives) > 1 and not flags.get("multi_objective"):
        raise SpecError([Violation("objectives", ", ".join(spec.objectives), f"one, as {name} takes no more")])
    kind = flags.get("decisions")
    if kind and not any(decision.kind == kind for decision in bench.space.decisions):
        raise SpecError([Violation("searcher", name, f"one that does without {kind} decisions, as {bench.space.name}")])
    held = getattr(SEARCHERS[ref.name].configure(ref.config), "searcher", None)
    if isinstance(held, PluginRef):
        _refuse_searcher(held, spec, bench)


def _refuse_costs(spec: JobSpec, bench: Workbench) -> None:
    for name, ref in spec.costs.items():
        try:
            bench.costs([name])
        except ConfigError as error:
            prefix = f"costs.{name}.config"
            found = [Violation(f"{prefix}.{v.field}", v.value, v.allowed) for v in error.violations]
            raise SpecError(found) from error
        except DataError as error:
            raise SpecError([Violation(f"costs.{name}", str(ref), str(error))]) from error


def preflight(spec: JobSpec, *, bench: Workbench | None = None) -> PreflightReport:
    """The report of a spec: spread of every cost, whether the constraints can be met, memory, expected time.

    Raises:
        DataError: the data set's file is missing or broken.
        ConfigError: the space does not fit the data set.
        OutOfMemory: not even a few samples of the largest path's step fit at once.
    """
    from nas.workbench import Workbench

    bench = bench or Workbench(spec)
    survey, size = _Survey.of(spec, bench), bench.space.size()
    notes = survey.why()
    if size < spec.budget.evaluations:
        notes.append(f"budget.evaluations is {spec.budget.evaluations}, but there are {size} architectures")
    if waits(spec.evaluator):
        notes.append(f"how long the search takes is not known: {spec.evaluator.name} waits for devices of yours")
    report = PreflightReport(
        space_size=size,
        costs=survey.ranges(),
        satisfiable=survey.satisfiable,
        share_feasible=survey.share_feasible,
        notes=tuple(notes),
    )
    return _with_training(report, spec, bench) if can_train(spec) else _without_training(report, spec)


def _without_training(report: PreflightReport, spec: JobSpec) -> PreflightReport:
    """The report of a job that trains nothing; what its evaluator takes is not known before."""
    left_out = ["deliver"] * (spec.deliver.networks > 0)
    if spec.audit.evaluator is None and spec.audit.networks > 0:
        left_out.insert(0, "audit")
    why = "no data set is given" if spec.dataset is None else f"{spec.space.name} builds no networks"
    notes = [f"{why}, so nothing is trained: no {' and no '.join(left_out)}"] if left_out else []
    return report.model_copy(update={"notes": (*report.notes, *notes)})


def _with_training(report: PreflightReport, spec: JobSpec, bench: Workbench) -> PreflightReport:
    """The report with the time and memory of what is trained and scored."""
    timing = _time_paths(spec, bench)
    passes = _passes_per_step(spec, bench)
    per_epoch = steps_per_epoch(spec, len(bench.dataset.train))
    notes = list(report.notes)
    if timing.at_once < min(spec.supernet.batch_size, len(bench.dataset.train)):
        notes.append(f"memory is short: batches run in parts of at most {timing.at_once} samples")
    epochs, limit = spec.budget.epochs, spec.budget.wall_time
    epoch_seconds = timing.pass_seconds * passes * per_epoch
    if limit and epoch_seconds * epochs > _TRAINING_SHARE * limit:
        epochs = max(1, min(epochs, int(_TRAINING_SHARE * limit / epoch_seconds)))
        notes.append(f"budget.wall_time leaves half its time, {epochs} of {spec.budget.epochs} epochs, for training")
    scoring = _time_scoring(spec, bench)
    notes += scoring.undefined
    seconds = _phase_seconds(spec, bench, timing.pass_seconds, scoring.seconds, epochs=epochs, passes=passes)
    known = {
        "largest_path_bytes": timing.largest_path_bytes,
        "threads": timing.threads,
        "train_steps": epochs * per_epoch,
        "expected_seconds": None if waits(spec.evaluator) else sum(seconds.values()),
        "phase_seconds": seconds,
        "notes": tuple(notes),
    }
    return report.model_copy(update=known)


@dataclass
class _Survey:
    """Costs of a uniform sample of the space, and what the constraints on them leave."""

    space_values: dict[str, list[float]]
    units: dict[str, str]
    measured: set[str]
    bounds: tuple[Constraint, ...]
    satisfiable: bool | None
    share_feasible: float | None

    @classmethod
    def of(cls, spec: JobSpec, bench: Workbench) -> _Survey:
        rng = stream(spec.seed, "preflight")
        costs = bench.costs(bench.needed_costs())
        sample = [*bench.space.extremes(), *(bench.space.sample(rng) for _ in range(_SAMPLE))]
        values: dict[str, list[float]] = {}
        units: dict[str, str] = {}
        for metric, cost in costs.items():
            chosen = sample[: _MEASURED_SAMPLE + 2] if bench.is_measured(metric) else sample
            values[metric], units[metric] = _readings(cost, chosen)
        measured = {metric for metric in costs if bench.is_measured(metric)}
        bounds = tuple(bound for bound in spec.bounds() if bound.metric in costs)
        survey = cls(values, units, measured, bounds, satisfiable=True, share_feasible=None)
        if bounds:
            survey.share_feasible = survey._share()
            survey.satisfiable = bool(survey.share_feasible) or survey._search_all(bench, costs)
        return survey

    @property
    def _num_sampled(self) -> int:
        return min(len(self.space_values[bound.metric]) for bound in self.bounds)

    def _share(self) -> float:
        met = [
            all(_holds(bound, self.space_values[bound.metric][i]) for bound in self.bounds)
            for i in range(self._num_sampled)
        ]
        return sum(met) / self._num_sampled

    def _search_all(self, bench: Workbench, costs: dict[str, Cost]) -> bool | None:
        """Whether any architecture meets the bounds, where the sample held none; None when the space is too large."""
        if bench.space.size() > _EXHAUSTIVE:
            return None
        on_paper = [bound for bound in self.bounds if bound.metric not in self.measured]
        seen: dict[str, list[float]] = {bound.metric: [] for bound in on_paper}
        for architecture in bench.space.iterate():
            values = {metric: _value(costs[metric], architecture) for metric in seen}
            if all(_holds(bound, values[bound.metric]) for bound in on_paper):
                return True if len(on_paper) == len(self.bounds) else None
            for metric, value in values.items():
                seen[metric].append(value)
        self.space_values |= seen  # the whole range, to say what there is
        return False

    def ranges(self) -> tuple[CostRange, ...]:
        """Least, median and largest of each cost in the sample; of the whole space where all of it had to be asked."""
        return tuple(
            CostRange(
                metric=metric,
                unit=self.units[metric],
                minimum=min(values),
                median=statistics.median(values),
                maximum=max(values),
                share_feasible=self._share_of(metric),
            )
            for metric in self.space_values
            if (values := self._known(metric))
        )

    def _known(self, metric: str) -> list[float]:
        return [value for value in self.space_values[metric] if math.isfinite(value)]

    def _share_of(self, metric: str) -> float | None:
        mine = [bound for bound in self.bounds if bound.metric == metric]
        return self._share_within(*mine) if mine else None

    def _share_within(self, first: Constraint, *more: Constraint) -> float:
        """The share of the values of a metric that lies within these bounds on it."""
        values = self.space_values[first.metric]
        met = [value for value in values if all(_holds(bound, value) for bound in (first, *more))]
        return len(met) / len(values)

    def why(self) -> list[str]:
        """For every bound that nothing meets alone: what it asks and what there is; else what each bound leaves.

        Where the space is too large to look at all of it, that is said of the sample, and no bound is refused.
        """
        if self.satisfiable:
            return []
        shares = {bound: self._share_within(bound) for bound in self.bounds}
        alone = [
            f"{b.metric} {b.operator} {b.bound:g}, but {b.metric} goes from {min(v):g} to {max(v):g}"
            for b, share in shares.items()
            if share == 0 and (v := self._known(b.metric))
        ]
        if alone:
            return alone
        left = ", ".join(f"{b.metric} {b.operator} {b.bound:g} leaves {share:.3%}" for b, share in shares.items())
        which = "no architecture" if self.satisfiable is False else f"none of {self._num_sampled} architectures drawn"
        return [f"{which} meets these bounds together: {left}"]


def _holds(bound: Constraint, value: float) -> bool:
    return math.isfinite(value) and bound.violation(value) == 0


def _value(cost: Cost, architecture: Architecture) -> float:
    """A cost; NaN where it is not known."""
    try:
        return cost.measure(architecture).value
    except MeasurementError:
        return math.nan


def _readings(cost: Cost, architectures: Sequence[Architecture]) -> tuple[list[float], str]:
    """The cost of each, NaN where it is not known, and its unit.

    Raises:
        MeasurementError: it is known of none, with the reason of the last.
    """
    values, unit, reason = list[float](), None, None
    for architecture in architectures:
        try:
            found = cost.measure(architecture)
            unit = found.unit
            values.append(found.value)
        except MeasurementError as error:
            reason = error
            values.append(math.nan)
    if unit is None and reason is not None:
        raise reason
    return values, unit or ""


def _passes_per_step(spec: JobSpec, bench: Workbench) -> int:
    """How often a step of the spec's recipe runs a path forward and backward."""
    from nas.recipes import REGISTRY as RECIPES
    from nas.training import Setting

    epochs, recipe = spec.budget.epochs, spec.supernet.recipe
    setting = Setting.of(bench.space, bench.dataset, spec.supernet, num_epochs=epochs, seed=spec.seed)
    return RECIPES[recipe.name](recipe.config, setting).passes_per_step


class _Timing(NamedTuple):
    """A training step of one random path (median seconds), with the fastest number of threads; None where on CUDA.

    `at_once`: how many of its samples fit into the memory together; less than a batch where it is short.
    """

    pass_seconds: float
    threads: int | None
    largest_path_bytes: int
    at_once: int


def _time_paths(spec: JobSpec, bench: Workbench) -> _Timing:
    """Time one training step with one thread and with all there are, and count what the largest path's step holds.

    Where a batch does not fit into the memory, training halves it; so does this.

    Raises:
        OutOfMemory: not even a few samples fit at once.
    """
    from nas.training import SMALLEST_MICRO_BATCH, is_out_of_memory

    whole = at_once = min(spec.supernet.batch_size, len(bench.dataset.train))
    while True:
        try:
            timing = _time_steps(spec, bench, at_once)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        else:
            return timing._replace(pass_seconds=timing.pass_seconds * whole / at_once)
        if at_once // 2 < SMALLEST_MICRO_BATCH:
            raise OutOfMemory(
                f"a step of {at_once} samples does not fit into the memory of {bench.device} ({reason}); give a "
                "smaller space, or another device."
            )
        at_once //= 2


def _time_steps(spec: JobSpec, bench: Workbench, at_once: int) -> _Timing:
    """The timing of steps of so many samples."""
    import torch

    from nas.training import DeviceData, accelerated, to_device

    supernet = to_device(bench.space.supernet(seed=spec.seed), bench.device).train()
    data = DeviceData.of(bench.dataset.train, bench.dataset, bench.device)
    x, y = data.batch(torch.arange(at_once))
    paths = [bench.space.sample(stream(spec.seed, "preflight", "path", i)) for i in range(_TIMED_PATHS)]
    held = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal held
        held += tensor.numel() * tensor.element_size()
        return tensor

    def step(path: Architecture) -> float:
        began = time.perf_counter()
        with accelerated(bench.device, bench.dtype):
            logits = supernet(x, path)
        torch.autograd.backward(bench.task.losses(logits, y).mean())
        supernet.zero_grad(set_to_none=True)
        if bench.device.type == "cuda":
            torch.cuda.synchronize(bench.device)
        return time.perf_counter() - began

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        step(bench.space.extremes().largest)
    all_threads = torch.get_num_threads()
    seconds = {}
    try:
        for threads in sorted({1, all_threads} if bench.device.type == "cpu" else {all_threads}):
            torch.set_num_threads(threads)
            seconds[threads] = statistics.median([step(path) for path in (*paths, *paths)][len(paths) :])
    finally:
        torch.set_num_threads(all_threads)
    best = min(seconds, key=lambda threads: seconds[threads] * (1 if threads == 1 else _THREADS_MUST_GAIN))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in supernet.parameters())
    largest = held + 3 * weights  # weights, gradients, momentum
    return _Timing(seconds[best], best if bench.device.type == "cpu" else None, largest, at_once)


def _phase_seconds(
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
        Phase.DELIVER: per_image * (num_train + num_valid) * spec.deliver.training.epochs * spec.deliver.networks,
    }


class _Scoring(NamedTuple):
    """Seconds of the proxies for one architecture; those without a score of any that was tried, and why."""

    seconds: float
    undefined: list[str]


def _time_scoring(spec: JobSpec, bench: Workbench) -> _Scoring:
    from nas.scoring import proxies_of, score_many

    proxies = proxies_of(spec.scoring.proxies)
    if not proxies:
        return _Scoring(0.0, [])
    rng = stream(spec.seed, "preflight", "scored")
    drawn = [bench.space.extremes().largest, *(bench.space.sample(rng) for _ in range(_SCORED))]
    began, times, errors = time.perf_counter(), list[float](), dict[str, list[str | None]]()
    for found in score_many(scored_space(bench), drawn, proxies, scoring_context(bench)):
        times.append(time.perf_counter() - began)
        for name, score in found.scores.items():
            errors.setdefault(name, []).append(score.error)
        began = time.perf_counter()
    undefined = [f"{name} has no score of any network that was tried: {e[0]}" for name, e in errors.items() if all(e)]
    return _Scoring(statistics.median(times), undefined)


def describe(report: PreflightReport) -> Sequence[str]:
    """The report in lines, for a terminal."""
    lines = [f"{report.space_size:,} architectures"]
    for cost in report.costs:
        share = "" if cost.share_feasible is None else f", {cost.share_feasible:.0%} feasible"
        lines.append(f"{cost.metric}: {cost.minimum:g} to {cost.maximum:g} {cost.unit}, median {cost.median:g}{share}")
    return [*lines, *report.notes]
