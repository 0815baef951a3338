"""Which candidates a job puts first: by audits, by whatever ranking they bear out, else by what the search measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nas.admission import can_train, metric_levels
from nas.evaluators import needs_data
from nas.evidence import FEWEST, Audits, believed, measured_noise
from nas.pareto import nondominated
from nas.ports import JobView
from nas.reports import Choice, Estimate
from nas.resources import Candidate, Objective
from nas.spec import JobSpec
from nas.stages._contest import contests, spread_over
from nas.stages._trust import FUSED, Checked, audit_level, audits, scores_of, trains
from searchspaces import REGISTRY as SPACES

if TYPE_CHECKING:
    from nas.stages._context import UnitContext

_AUDITED = "accuracy"
_PREDICTED = 3_000  # candidates that a predictor is asked about: those that rank high by what is known anyway
_FRONT, _FIRST = 24, 8  # estimates that are kept with the job
_LEVELS = {
    "supernet": "inherited {}",
    "proxy": "the score {} of untrained networks",
    "short": "{} after short training",
}

Floats = npt.NDArray[np.float64]


class _Known(NamedTuple):
    """Candidates with what each is worth; `values` larger is better, `stds` NaN where nobody knows."""

    pool: Sequence[Candidate]
    values: Floats
    stds: Floats
    audited: frozenset[str]
    target: Objective
    ranker: str | None = None
    explained: float | None = None


def choose(view: JobView, spec: JobSpec, found: Checked | None, *, num_samples: int | None) -> Choice | None:
    """What a job puts first, by all that is known so far; None while it has no feasible candidate.

    Args:
        found: what the audit says; None before there is one.
        num_samples: of the split that accuracies are measured on; None where nobody knows.
    """
    objectives = view.job().objectives
    if (found is not None and found.rows) or can_train(spec):
        every = view.candidates()
    else:  # nothing but its own values speaks for a candidate, so the front is theirs
        points = view.front().points
        every = [Candidate(job_id="", feasible=True, **point.model_dump(), on_front=True) for point in points]
    every = [c for c in every if all(objective.key in c.values for objective in objectives)]
    untrusted = untrusted_of(objectives)
    inside = {c.digest for c in every}
    if found is not None and sum(c.digest in inside for c in found.rows) >= FEWEST:
        known = _by_audit(view, spec, every, untrusted, found=found, num_samples=num_samples)
    else:
        known = _by_values(spec, every, untrusted, num_samples)
    return _chosen(spec, known, objectives, untrusted)


def tell_choice(context: UnitContext, found: Checked | None) -> None:
    """Keep with the job what it puts first by now."""
    spec = context.spec
    measures = spec.audit.evaluator if spec.audit.evaluator and found is not None else spec.evaluator
    is_trained = found is not None and spec.audit.evaluator is None
    reads = spec.dataset is not None and (is_trained or needs_data(measures))
    choice = choose(context.view, spec, found, num_samples=len(context.bench.dataset.valid) if reads else None)
    if choice is not None:
        context.journal.report(choice)


def _by_values(spec: JobSpec, pool: Sequence[Candidate], untrusted: Objective, num_samples: int | None) -> _Known:
    """What the search measured: true where it trained its networks itself, else a ranking that nothing has checked."""
    sign = 1.0 if untrusted.direction == "max" else -1.0
    values = np.array([c.values[untrusted.key] for c in pool])
    unknown = untrusted.level != "cost" and not trains(spec)
    is_share = untrusted.metric == _AUDITED
    stds = measured_noise(values, num_samples if is_share else None)
    return _Known(pool, sign * values, np.full(len(pool), np.nan) if unknown else stds, frozenset(), untrusted)


def _by_audit(
    view: JobView,
    spec: JobSpec,
    every: Sequence[Candidate],
    untrusted: Objective,
    *,
    found: Checked,
    num_samples: int | None,
) -> _Known:
    """The audit's own values, and what the ranking that it bears out best says of everything else."""
    ranker, pool, scores = _ranked(view, spec, every, untrusted, found)
    place = {candidate.digest: row for row, candidate in enumerate(pool)}
    used = [number for number, c in enumerate(found.rows) if c.digest in place]
    rows = np.array([place[found.rows[number].digest] for number in used])
    left_out = found.rankers[FUSED][used] if ranker == FUSED else scores[rows]
    values = found.truth[used]
    spreads = _spreads(view, spec)
    noise = measured_noise(values, num_samples, [spreads.get(found.rows[n].digest, np.nan) for n in used])
    belief = believed(scores, left_out, Audits(rows, values, noise))
    return _Known(
        pool,
        belief.mean,
        belief.std,
        frozenset(found.rows[number].digest for number in used),
        Objective(metric=_AUDITED, level=audit_level(spec), direction="max"),
        ranker,
        belief.explained,
    )


def _ranked(
    view: JobView, spec: JobSpec, every: Sequence[Candidate], untrusted: Objective, found: Checked
) -> tuple[str, Sequence[Candidate], Floats]:
    """What ranks, whom, and their scores: the best of the trust report, else what the search ranked by."""
    objectives = view.job().objectives
    sign = 1.0 if untrusted.direction == "max" else -1.0
    inherited = sign * np.array([c.values[untrusted.key] for c in every])
    best = found.report.best
    if best == FUSED and len(every) > _PREDICTED:
        kept = {c.digest for c in found.rows} | {c.digest for c in every if c.on_front}
        promising = (every[row] for row in np.argsort(-inherited, kind="stable"))
        kept |= {c.digest for c, _ in zip(promising, range(_PREDICTED), strict=False)}
        pool: Sequence[Candidate] = [c for c in every if c.digest in kept]
    else:
        pool = every
    scores = scores_of(best, pool, spec, found, objectives) if best else None
    if best is None or scores is None:
        name = untrusted.key if untrusted.direction == "max" else f"-{untrusted.key}"
        return name, every, inherited
    return best, pool, scores


def _spreads(view: JobView, spec: JobSpec) -> dict[str, float]:
    """What the audit's own measurements say of their spread over seeds, by digest."""
    return {
        e.proposal.digest: m.std
        for e in view.settled(audit_level(spec))
        for m in e.measurements
        if m.metric == _AUDITED and m.std is not None
    }


# --- from what is known to a choice -----------------------------------------------------------------------------------


def _chosen(spec: JobSpec, known: _Known, objectives: Sequence[Objective], untrusted: Objective) -> Choice | None:
    """The feasible candidates in order, their front, and who contends to be delivered."""
    feasible, note = _feasible(spec, known, untrusted)
    if not feasible:
        return None
    others = [o for o in objectives if o != untrusted]
    costs = np.array([[_loss(o, known.pool[i].values) for o in others] for i in range(len(known.pool))])
    costs = costs.reshape(len(known.pool), len(others))
    order = sorted(
        feasible,
        key=lambda i: (-known.values[i], -_inherited(known.pool[i], untrusted), *costs[i], known.pool[i].number),
    )
    losses = np.concatenate([-known.values[order][:, None], costs[order]], axis=1)
    front = [i for i, is_member in zip(order, nondominated(losses), strict=True) if is_member]
    points = spread_over(front, spec.deliver.networks if can_train(spec) else 0)
    held = contests(points, order, costs, spec.deliver.contenders, same_as=_identity(spec, known.pool))
    kept = {*spread_over(front, _FRONT), *order[:_FIRST], *(i for contest in held for i in contest)}
    on_front = set(front)
    estimates = tuple(_estimate(known, i, others, on_front=i in on_front) for i in order if i in kept)
    best, metric = estimates[0], known.target.metric
    return Choice(
        metric=metric,
        level=known.target.level,
        direction=known.target.direction,
        ranker=known.ranker,
        explained=known.explained,
        audited=len(known.audited),
        reason=in_words(best, metric, known.ranker, objectives),
        warning="; ".join(filter(None, (_doubt(spec, best, untrusted), note))) or None,
        estimates=estimates,
        contests=tuple(tuple(known.pool[i].digest for i in contest) for contest in held),
    )


def _feasible(spec: JobSpec, known: _Known, untrusted: Objective) -> tuple[list[int], str]:
    """Who meets all bounds; those on what is estimated hold of the estimate. Where nobody meets these, all others."""
    levels = metric_levels(spec) if spec.constraints else {}
    sign = 1.0 if known.target.direction == "max" else -1.0
    bounds = spec.bounds()
    own = [b for b in bounds if b.metric == known.target.metric == untrusted.metric]
    keys = {b: f"{b.metric}@{levels.get(b.metric, '')}" for b in bounds if b not in own}
    rest = [
        i
        for i, c in enumerate(known.pool)
        if all(keys[b] not in c.values or b.violation(c.values[keys[b]]) == 0 for b in keys)
    ]
    met = [i for i in rest if all(b.violation(sign * float(known.values[i])) == 0 for b in own)]
    if met or not rest:
        return met, ""
    asked = " and ".join(f"{b.metric} {b.operator} {b.bound:g}" for b in own)
    return rest, f"no candidate is expected to meet {asked}; the nearest come first"


def _loss(objective: Objective, values: Mapping[str, float]) -> float:
    return values[objective.key] * (1.0 if objective.direction == "min" else -1.0)


def _inherited(candidate: Candidate, untrusted: Objective) -> float:
    """Breaks ties."""
    return -_loss(untrusted, candidate.values)


def _identity(spec: JobSpec, pool: Sequence[Candidate]) -> Callable[[int], str]:
    """Which network a candidate is: architectures that differ in what reaches no output are the same."""
    space = SPACES[spec.space.name](spec.space.config)
    return lambda i: space.live(space.parse(pool[i].text)).digest


def _estimate(known: _Known, i: int, others: Sequence[Objective], *, on_front: bool) -> Estimate:
    candidate, std = known.pool[i], float(known.stds[i])
    basis: Literal["audited", "predicted", "measured", "unchecked"] = "predicted"
    if known.ranker is None:
        basis = "unchecked" if np.isnan(std) else "measured"
    elif candidate.digest in known.audited:
        basis = "audited"
    return Estimate(
        digest=candidate.digest,
        text=candidate.text,
        number=candidate.number,
        mean=float(known.values[i]) * (1.0 if known.target.direction == "max" else -1.0),
        std=None if np.isnan(std) else std,
        basis=basis,
        on_front=on_front,
        values={o.key: candidate.values[o.key] for o in others},
    )


def in_words(estimate: Estimate, metric: str, ranker: str | None, objectives: Sequence[Objective]) -> str:
    """What speaks for a candidate."""
    untrusted = untrusted_of(objectives)
    searched = _named(untrusted)
    value = f"{estimate.mean:.4g}" + (f" ± {estimate.std:.2g}" if estimate.std else "")
    if estimate.basis in ("measured", "unchecked"):
        return f"{searched} {value}"
    judge = _ranker_named(ranker or "", untrusted)
    if estimate.basis == "audited":
        return f"audited {metric} {value} (what was not audited is judged by {judge})"
    return f"{judge}: expected {metric} in an audit {value}"


def _doubt(spec: JobSpec, best: Estimate, untrusted: Objective) -> str:
    """Why a choice is not to be trusted; empty where it is."""
    if best.basis != "unchecked":
        return ""
    waits = audits(spec) and spec.audit.networks > 0
    why = f"fewer than {FEWEST} networks are audited" if waits else "no audit holds it against trained networks"
    return f"nothing says how far {_named(untrusted)} can be trusted: {why}"


def untrusted_of(objectives: Sequence[Objective]) -> Objective:
    """The first objective that is no cost: what evidence is about."""
    return next((o for o in objectives if o.level != "cost"), objectives[0])


def _named(objective: Objective) -> str:
    return _LEVELS.get(objective.level, "{}").format(objective.metric)


def _ranker_named(ranker: str, untrusted: Objective) -> str:
    searched = _named(untrusted)
    if ranker.lstrip("-") == untrusted.key:
        return f"{searched}, as far as the audit bears it out"
    metric, _, level = ranker.lstrip("-").partition("@")
    name = "what the audit teaches (fused)" if ranker == FUSED else _LEVELS.get(level, "{}").format(metric)
    return f"{name}, which ranks better than {searched}"
