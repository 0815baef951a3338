"""PREFLIGHT: what a job will meet, measured before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.admission import can_train
from nas.evaluators import needs_supernet, waits
from nas.ports import JobView
from nas.reports import Plan
from nas.resources import JsonObject, Phase, PreflightReport, UnitPlan
from nas.searchers import within_notes
from nas.spec import JobSpec
from nas.stages._apart import Examined, examine_apart
from nas.stages._dear_costs import Measured, expected_seconds, measure_some, notes_of
from nas.stages._inputs import INPUTS, audit_gaps, refuse_replaced
from nas.stages._known import unknown_ranges, with_known
from nas.stages._memory import refuse_batches
from nas.stages._planned import plan_at_preflight, promises, with_numbers
from nas.stages._refusals import refuse_unfit, refuse_unmet
from nas.stages._speeds import measure_speeds
from nas.stages._strangers import refuse_broken
from nas.stages._survey import Survey
from nas.stages._timing import passes_per_step, phase_seconds, steps_per_epoch, time_paths, time_scoring
from nas.stages._trust import audits

if TYPE_CHECKING:
    from nas.stages._context import UnitContext
    from nas.workbench import Workbench


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
        job = context.journal.job()
        repeats = job.plan is not None and job.plan.fixed
        spec = context.spec if repeats else context.spec.model_copy(update={"budget": job.budget})
        report, result = _examined(context, spec)
        refuse_replaced(context, result[INPUTS])
        plan = (job.plan or Plan()).model_copy(update={} if repeats else {"promises": promises(spec, job.budget)})
        report = within_time(report, spec, plan, elapsed=context.journal.elapsed())
        context.journal.report(report)
        refuse_unmet(report.unmet)
        threads = plan.threads if repeats else report.threads
        known = report.plan or (plan if repeats else with_numbers(plan, spec))
        # what is given may have changed while this measured: a budget may be raised at any time
        context.journal.plan(**{**known.model_dump(mode="json", exclude={"given"}), "threads": threads})
        epochs = known.epochs if report.plan and known.epochs else result["epochs"]
        context.journal.progress(fraction=1.0, seconds_left=report.expected_seconds, epochs_total=epochs)
        return {**result, "threads": threads}


def _examined(context: UnitContext, spec: JobSpec) -> Examined:
    """The examination, in a process of its own where the worker sets limits to it."""
    if context.limits is None:
        return examine(spec, bench=context.bench)
    found = examine_apart(
        spec,
        device=context.device,
        threads=context.max_threads,
        limits=context.limits,
        must_leave=context.must_leave,
    )
    if found is None:
        raise context.leave()
    return found


def examine(spec: JobSpec, *, bench: Workbench) -> Examined:
    """Whether a job can succeed on this machine, what it would meet, and what later stages have to know of that.

    Raises:
        SpecError: the data cannot be read, what the spec names does not fit together, a plug-in of others breaks its
            contract, or a batch is larger than the memory of this machine.
        ConfigError: the device lacks the number format that is asked for.
        OutOfMemory: not even a few samples of the largest path's step fit at once.
    """
    inputs = refuse_unfit(spec, bench)
    refuse_broken(spec, bench)
    measured = measure_some(spec, bench)
    report = _reported(spec, bench, measured)
    steps = report.train_steps
    epochs = steps // steps_per_epoch(spec, len(bench.dataset.train)) if steps else 0
    kept = {metric: found.to_json() for metric, found in measured.items()}
    return Examined(report, {"epochs": epochs, "threads": report.threads, "measured": kept, INPUTS: inputs})


def preflight(
    spec: JobSpec, *, bench: Workbench | None = None, measured: Mapping[str, Measured] | None = None
) -> PreflightReport:
    """The report of a spec: spread of every cost, whether the constraints can be met, memory, expected time.

    Args:
        bench: the spec's parts; made where none are given.
        measured: the costs that were measured with this bench; none: they are now.

    Raises:
        DataError: the data set's file is missing or broken.
        ConfigError: the space does not fit the data set, or the device lacks the number format asked for.
        OutOfMemory: not even a few samples of the largest path's step fit at once.
    """
    from nas.workbench import Workbench

    bench = bench or Workbench(spec)
    measured = measure_some(spec, bench) if measured is None else measured
    plan = Plan(promises=promises(spec, spec.budget), given=spec.given_numbers())
    return within_time(_reported(spec, bench, measured), spec, plan, elapsed=0.0)


def within_time(report: PreflightReport, spec: JobSpec, plan: Plan, *, elapsed: float) -> PreflightReport:
    """The report with what fits into the time that a job promises; as it is where it promises none."""
    if plan.promises != "time" or report.speeds is None:
        return report
    pool, size = report.phase_seconds[Phase.SCORE], report.space_size
    plan, notes = plan_at_preflight(spec, plan, report.speeds, space_size=size, elapsed=elapsed + pool)
    seconds = {Phase.SCORE.value: pool, **plan.seconds}
    steps = report.train_steps and report.train_steps // spec.budget.epochs * (plan.epochs or 0)
    return report.model_copy(
        update={
            "train_steps": steps,
            "expected_seconds": None if waits(spec.evaluator) else sum(seconds.values()),
            "phase_seconds": seconds,
            "plan": plan,
            "notes": (*report.notes, *notes),
        }
    )


def _reported(spec: JobSpec, bench: Workbench, measured: Mapping[str, Measured]) -> PreflightReport:
    """What is measured, without what fits into a time."""
    survey, size = Survey.of(spec, bench), bench.space.size()
    notes = [*survey.why(), *notes_of(spec, bench, measured)]
    if size < spec.budget.evaluations:
        notes.append(f"budget.evaluations is {spec.budget.evaluations}, but there are {size} architectures")
    notes += within_notes(spec.searcher, spec.budget.evaluations)
    if waits(spec.evaluator):
        notes.append(f"how long the search takes is not known: {spec.evaluator.name} waits for devices of yours")
    notes += [*unknown_ranges(spec), *audit_gaps(spec, bench)]
    report = PreflightReport(
        space_size=size,
        costs=survey.ranges(),
        satisfiable=survey.satisfiable,
        share_feasible=survey.share_feasible,
        unmet=survey.unmet(),
        notes=tuple(notes),
        phases=phases_of(spec),
    )
    report = with_known(report, spec, bench)
    if not can_train(spec):
        return _without_training(report, spec)
    return report if report.unmet else _with_training(report, spec, bench, expected_seconds(measured, spec))


def phases_of(spec: JobSpec) -> tuple[Phase, ...]:
    """The phases in which a job has something to do, as far as that is known before it runs."""
    busy = {
        Phase.SCORE: bool(spec.scoring.pool and spec.scoring.proxies),
        Phase.SUPERNET: needs_supernet(spec.evaluator),
        Phase.AUDIT: audits(spec) and spec.audit.networks > 0,
        Phase.DELIVER: can_train(spec) and spec.deliver.networks > 0,
    }
    return tuple(phase for phase in Phase if busy.get(phase, True))


def _without_training(report: PreflightReport, spec: JobSpec) -> PreflightReport:
    """The report of a job that trains nothing; what its evaluator takes is not known before."""
    left_out = ["deliver"] * (spec.deliver.networks > 0)
    if spec.audit.evaluator is None and spec.audit.networks > 0:
        left_out.insert(0, "audit")
    why = "no data set is given" if spec.dataset is None else f"{spec.space.name} builds no networks"
    notes = [f"{why}, so nothing is trained: no {' and no '.join(left_out)}"] if left_out else []
    return report.model_copy(update={"notes": (*report.notes, *notes)})


def _with_training(report: PreflightReport, spec: JobSpec, bench: Workbench, pricing: float) -> PreflightReport:
    """The report with the time and memory of what is trained and scored; `pricing`: seconds of measured costs."""
    notes = [*report.notes, *bench.dataset.notes, *filter(None, [bench.precision_note])]
    timing = time_paths(spec, bench)
    notes += refuse_batches(spec, bench)
    passes = passes_per_step(spec, bench)
    per_epoch = steps_per_epoch(spec, len(bench.dataset.train))
    if timing.at_once < min(spec.supernet.batch_size, len(bench.dataset.train)):
        notes.append(f"memory is short: batches run in parts of at most {timing.at_once} samples")
    epochs, shared = spec.budget.epochs, needs_supernet(spec.evaluator)
    scoring = time_scoring(spec, bench)
    notes += scoring.undefined
    seconds = phase_seconds(spec, bench, timing.pass_seconds, scoring.seconds, epochs=epochs, passes=passes)
    seconds[Phase.SEARCH] += pricing
    around = seconds[Phase.SEARCH] / spec.budget.evaluations
    is_timed = promises(spec, spec.budget) == "time"
    known = {
        "speeds": measure_speeds(spec, bench, threads=timing.threads, expected=around) if is_timed else None,
        "largest_path_bytes": timing.largest_path_bytes,
        "threads": timing.threads,
        "train_steps": epochs * per_epoch if shared else None,
        "expected_seconds": None if waits(spec.evaluator) else sum(seconds.values()),
        "phase_seconds": seconds,
        "notes": tuple(notes),
    }
    return report.model_copy(update=known)
