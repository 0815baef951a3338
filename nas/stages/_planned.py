"""What a job does and how much of it: by its time, by its numbers, or as another job did.

A job with `budget.wall_time` promises time: its numbers follow from what was measured, and are planned again before
each stage. Numbers that its spec gives are never exceeded. A job that names the `plan` of another does what that did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from nas.admission import can_train
from nas.evaluators import level_of, needs_supernet
from nas.ports import JobView
from nas.reports import Plan, Speeds
from nas.resources import AUDITED, Job, Phase
from nas.spec import NUMBERS, Budget, JobSpec
from nas.stages._schedule import AIM, Amounts, Limits, Range, fitting, replanned, seconds_of
from nas.stages._trust import audit_level, audits, num_audit_units

_CEILING = 20  # times the usual epochs: beyond it more training hardly helps
_MOST_EVALUATIONS, _MOST_AUDITED, _MOST_AUDIT_EPOCHS = 5_000, 200, 30
_LEAST_EVALUATIONS = 8
_MARGIN = 0.01  # of the time: what passes between preflight's end and the next stage


def promises(spec: JobSpec, budget: Budget) -> Literal["time", "numbers"]:
    """What a job promises: time where it has a time and something to spend it on, else its numbers."""
    return "time" if budget.wall_time is not None and can_train(spec) else "numbers"


def planned(spec: JobSpec, plan: Plan | None) -> JobSpec:
    """The spec with the numbers of the plan, where those are not the spec's own."""
    if plan is None or not (plan.fixed or plan.promises == "time"):
        return spec
    changed = {name: value for name in NUMBERS if (value := getattr(plan, name)) is not None}
    budget: dict[str, object] = {name: changed[name] for name in ("epochs", "evaluations") if name in changed}
    audit = spec.audit.model_copy(
        update={
            **({"networks": changed["audit_networks"]} if "audit_networks" in changed else {}),
            "training": spec.audit.training.model_copy(update=_epochs(changed.get("audit_epochs"))),
        }
    )
    training = spec.deliver.training.model_copy(update=_epochs(changed.get("delivery_epochs")))
    final: dict[str, object] = {"training": training}
    if plan.fixed and plan.contenders:
        final["contenders"] = plan.contenders
    more = {"precision": plan.precision} if plan.fixed and plan.precision else {}
    return spec.model_copy(
        update={
            "budget": spec.budget.model_copy(update=budget),
            "audit": audit,
            "deliver": spec.deliver.model_copy(update=final),
            **more,
        }
    )


def _epochs(epochs: int | None) -> dict[str, int]:
    return {} if epochs is None else {"epochs": epochs}


def limits_of(spec: JobSpec, budget: Budget, given: Sequence[str], *, space_size: int) -> Limits:
    """How little and how much of everything may be done: at most what is given, else up to where it still helps."""

    def free(name: str, usual: int, least: int, most: int) -> Range:
        return Range(min(least, usual), usual, usual if name in given else max(most, usual))

    trains = needs_supernet(spec.evaluator) and not spec.supernet.from_job
    training = spec.audit.evaluator is None and audits(spec)
    networks = spec.audit.networks if audits(spec) else 0
    evaluations = min(budget.evaluations, space_size)
    final = spec.deliver.training.epochs
    return Limits(
        epochs=free("epochs", budget.epochs, 1, _CEILING * budget.epochs) if trains else Range(0, 0, 0),
        evaluations=free("evaluations", evaluations, _LEAST_EVALUATIONS, min(_MOST_EVALUATIONS, space_size)),
        audit_networks=free("audit_networks", networks, 0, _MOST_AUDITED)
        if training
        else Range(networks, *[networks] * 2),
        audit_epochs=free("audit_epochs", spec.audit.training.epochs, 1, _MOST_AUDIT_EPOCHS),
        delivery_epochs=free("delivery_epochs", final, 1, _CEILING * final),
        delivered=spec.deliver.networks,
    )


def with_numbers(plan: Plan, spec: JobSpec) -> Plan:
    """The plan of a job that promises its numbers: those of its spec, as far as they mean anything in it."""
    trains, reads = needs_supernet(spec.evaluator) and not spec.supernet.from_job, can_train(spec)
    known = {
        "epochs": spec.budget.epochs if trains else None,
        "evaluations": spec.budget.evaluations,
        "audit_networks": spec.audit.networks if audits(spec) else None,
        "audit_epochs": spec.audit.training.epochs if audits(spec) and spec.audit.evaluator is None else None,
        "delivery_epochs": spec.deliver.training.epochs if reads and spec.deliver.networks else None,
    }
    return plan.model_copy(update=known)


def amounts_of(plan: Plan) -> Amounts | None:
    """The numbers of a plan; None where it has none yet."""
    found = [getattr(plan, name) for name in NUMBERS]
    return None if None in found else Amounts(*found)


def with_amounts(plan: Plan, amounts: Amounts, speeds: Speeds, limits: Limits, first: Phase) -> Plan:
    """The plan with these numbers, and what each stage from `first` on then takes."""
    seconds = {phase.value: each for phase, each in seconds_of(amounts, speeds, limits, first).items()}
    return plan.model_copy(update={**amounts._asdict(), "seconds": seconds})


def plan_at_preflight(
    spec: JobSpec, plan: Plan, speeds: Speeds, *, space_size: int, elapsed: float
) -> tuple[Plan, list[str]]:
    """What fits into the time of a job, and that in words."""
    limit = spec.budget.wall_time or 0.0
    limits = limits_of(spec, spec.budget, plan.given, space_size=space_size)
    amounts = fitting(limits, speeds, (AIM - _MARGIN) * limit - elapsed)
    found = with_amounts(plan, amounts, speeds, limits, Phase.SUPERNET)
    took = elapsed + sum(found.seconds.values())
    notes = [f"in {limit:g} s fit {in_words(found, spec)}: about {took:.0f} s"]
    if took > 1.05 * limit:
        notes.append(f"the least of everything takes longer than budget.wall_time; give about {took / AIM:.0f} s")
    elif took < 0.8 * limit:
        held = ", ".join(NUMBERS[name] for name in plan.given) or "what still helps"
        notes.append(f"the job ends long before its {limit:g} s: {held} leaves no more to do")
    return found, notes


def with_final_epochs(spec: JobSpec, epochs: int) -> JobSpec:
    """The spec with another length of the final training."""
    training = spec.deliver.training.model_copy(update={"epochs": epochs})
    return spec.model_copy(update={"deliver": spec.deliver.model_copy(update={"training": training})})


def in_words(plan: Plan, spec: JobSpec) -> str:
    """The numbers of a plan."""
    parts = [f"{plan.epochs} epochs of the supernet"] if plan.epochs else []
    parts.append(f"{plan.evaluations} evaluations")
    if plan.audit_networks:
        epochs = "" if spec.audit.evaluator else f" for {plan.audit_epochs} epochs each"
        parts.append(f"an audit of {plan.audit_networks} networks{epochs}")
    if spec.deliver.networks:
        parts.append(f"{plan.delivery_epochs} epochs of final training")
    return ", ".join(parts)


class Promise(NamedTuple):
    """What a job that promises time is planned by; `speeds` as preflight measured them, at the pace seen since."""

    plan: Plan
    speeds: Speeds
    seconds: float
    limits: Limits
    spec: JobSpec


def promise_of(job: Job) -> Promise | None:
    """What is planned by, with the budget as it stands; None where the job promises no time, or is not measured yet."""
    plan, report, limit = job.plan, job.preflight, job.budget.wall_time
    if plan is None or report is None or report.speeds is None or limit is None or plan.promises != "time":
        return None
    spec = JobSpec.from_mapping(job.spec)
    limits = limits_of(spec, job.budget, plan.given, space_size=report.space_size)
    return Promise(plan, paced(report.speeds, plan.pace), limit, limits, spec)


def ahead(phase: Phase, view: JobView) -> Plan | None:
    """The plan as a stage begins, by the time that is really left; None where it stays as it is."""
    job = view.job()
    promise, order = promise_of(job), list(Phase)
    if promise is None or order.index(phase) < order.index(Phase.SUPERNET):
        return None
    plan, speeds, limit, limits, spec = promise
    before = amounts_of(plan)
    if before is None:
        return None
    speeds = measured_since(job, view, spec, speeds)
    before, limits = _with_what_is_done(before, limits, phase, view, spec)
    speeds = _side_by_side(speeds, before.audit_networks, view.workers())
    paid = job.spent.evaluations * speeds.evaluation if phase is Phase.SEARCH else 0.0
    amounts = replanned(before, limits, speeds, AIM * limit - view.elapsed() + paid, phase)
    found = with_amounts(plan, amounts, speeds, limits, phase)
    notes = [*plan.notes, *_what_changed(before, amounts, phase)]
    if phase is Phase.DELIVER:
        came = sum(e.proposal.reason == AUDITED for e in view.settled(audit_level(spec)))
        notes += _left_out(before.audit_networks, came)
    return found.model_copy(update={"notes": tuple(notes)})


def _side_by_side(speeds: Speeds, audited: int, workers: int) -> Speeds:
    """The speeds where so many workers share the audit's units; those of other stages do not run side by side.

    Workers that slow each other down come to fewer networks than planned, which the audit leaves out in time.
    """
    num_units = num_audit_units(audited)
    at_once = num_units / -(-num_units // workers) if num_units else 1.0
    shared = {"audit_epoch": speeds.audit_epoch / at_once, "audit_network": speeds.audit_network / at_once}
    return speeds.model_copy(update=shared)


def paced(speeds: Speeds, pace: float) -> Speeds:
    """The speeds where training takes `pace` times as long: all of them on a machine that is busier than it was.

    Where it is faster, only what was seen to be.
    """
    slower = {name: max(1.0, pace) * value for name, value in speeds.model_dump().items()}
    return speeds.model_copy(update={**slower, "supernet_epoch": pace * speeds.supernet_epoch})


def measured_since(job: Job, view: JobView, spec: JobSpec, speeds: Speeds) -> Speeds:
    """The speeds, by what the stages that are done took."""
    known: dict[str, float] = {}
    settled = [e.seconds for e in view.settled(level_of(spec)) if e.seconds]
    if len(settled) >= _LEAST_EVALUATIONS:
        known["evaluation"] = max(speeds.evaluation, sum(settled) / len(settled))
    trained = [e for e in view.settled(audit_level(spec)) if e.seconds and e.proposal.reason == AUDITED]
    if len(trained) >= 4 and spec.audit.evaluator is None and job.plan and job.plan.audit_epochs:
        each = sum(e.seconds or 0.0 for e in trained) / len(trained)
        expected = job.plan.audit_epochs * speeds.audit_epoch + speeds.audit_network
        factor = each / expected if expected else 1.0
        known |= {"audit_epoch": factor * speeds.audit_epoch, "audit_network": factor * speeds.audit_network}
        known["delivery_epoch"] = factor * speeds.delivery_epoch
    return speeds.model_copy(update=known)


def _with_what_is_done(
    before: Amounts, limits: Limits, phase: Phase, view: JobView, spec: JobSpec
) -> tuple[Amounts, Limits]:
    """Numbers that no plan can undo: what was trained, evaluated and audited already."""
    trained = view.results(Phase.SUPERNET)
    if trained:
        before = before._replace(epochs=int(trained[-1]["epochs"]))
        limits = limits._replace(epochs=Range(*[before.epochs] * 3))
    done = view.job().spent.evaluations
    if phase is Phase.SEARCH:
        limits = limits._replace(evaluations=limits.evaluations.from_least(done))
        before = before._replace(evaluations=max(done, before.evaluations))
    else:
        limits = limits._replace(evaluations=Range(*[before.evaluations] * 3))
    audited = sum(e.proposal.reason == AUDITED for e in view.settled(audit_level(spec)))
    if phase is Phase.DELIVER:
        limits = limits._replace(audit_networks=Range(*[before.audit_networks] * 3))
    if phase is Phase.DELIVER or audited:
        limits = limits._replace(audit_epochs=Range(*[before.audit_epochs] * 3))
        limits = limits._replace(audit_networks=limits.audit_networks.from_least(audited))
    return before, limits


def _left_out(asked: int, came: int) -> list[str]:
    """What the audit did not come to, in words."""
    return [f"late, so the audit left out {asked - came} of {asked} networks"] if came < asked else []


def _what_changed(before: Amounts, after: Amounts, phase: Phase) -> list[str]:
    """What the time that is left costs, in words."""
    cut = [
        f"{name} from {was} to {now}"
        for name, was, now in (
            ("networks of the audit", before.audit_networks, after.audit_networks),
            ("epochs of the final training", before.delivery_epochs, after.delivery_epochs),
            ("evaluations", before.evaluations, after.evaluations),
        )
        if now < was
    ]
    return [f"late before {phase.value}, so budget.wall_time leaves less: {', '.join(cut)}"] if cut else []
