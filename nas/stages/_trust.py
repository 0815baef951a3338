"""Which networks of a job are trained for real, and what they say of its ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.evaluators import level_of
from nas.ports import JobView
from nas.resources import Candidate, JsonObject, Objective, Phase, Provenance, TrustReport
from nas.spec import JobSpec
from nas.stages._search import free_costs
from nas.streams import stream
from nas.trust import trust_report as report_of

_TRUTH = "accuracy@short"
_TRAINED = ("short", "full")


def trains(spec: JobSpec) -> bool:
    """Whether the search itself trains its networks, so that there is no ranking left to check."""
    return level_of(spec.evaluator) in _TRAINED


def audited(candidates: Sequence[Candidate], objectives: Sequence[Objective], spec: JobSpec) -> list[Candidate]:
    """Which candidates are trained for real: half from the front, half stratified over the first cost."""
    num_networks = spec.audit.networks
    scored = [c for c in candidates if all(objective.key in c.values for objective in objectives)]
    on_front = sorted((c for c in scored if c.on_front), key=lambda c: c.number)
    rng = stream(spec.seed, "audit")
    half = min(len(on_front), -(-num_networks // 2))
    chosen = (
        [on_front[i] for i in np.unique(np.linspace(0, len(on_front) - 1, half).round().astype(int))] if half else []
    )
    others = [c for c in scored if c.digest not in {kept.digest for kept in chosen}]
    by_cost = sorted(others, key=lambda c: (c.values.get(_cost_key(objectives), 0.0), c.number))
    strata = np.array_split(np.arange(len(by_cost)), min(len(by_cost), num_networks - len(chosen)) or 1)
    chosen += [by_cost[int(rng.choice(stratum))] for stratum in strata if len(stratum)] if by_cost else []
    return chosen[:num_networks]


def _cost_key(objectives: Sequence[Objective]) -> str:
    costs = [objective.key for objective in objectives if objective.level == "cost"]
    return costs[0] if costs else f"{free_costs()[0]}@cost"


def trust_report(view: JobView, spec: JobSpec) -> TrustReport:
    """What the networks that were trained for real so far say of everything that ranks the candidates."""
    every = view.candidates()
    rows = [] if trains(spec) else [c for c in every if _TRUTH in c.values]
    level = level_of(spec.evaluator)
    examined = {
        **{o.key if o.direction == "max" else f"-{o.key}": o for o in view.job().objectives if o.level != "cost"},
        f"accuracy@{level}": Objective(metric="accuracy", level=level, direction="max"),
        f"-loss@{level}": Objective(metric="loss", level=level, direction="min"),
    }
    rankers = {
        name: np.array([c.values[o.key] for c in rows]) * (1 if o.direction == "max" else -1)
        for name, o in examined.items()
        if all(o.key in c.values for c in rows)
    }
    free = {
        metric: np.array([c.values[f"{metric}@cost"] for c in rows])
        for metric in free_costs()
        if all(f"{metric}@cost" in c.values for c in rows)
    }
    truth = np.array([c.values[_TRUTH] for c in rows])
    report = report_of(truth, rankers, free, seed=spec.seed, provenance=_provenance(view, spec, rows))
    if not trains(spec):
        return report
    return report.model_copy(update={"verdict": "no ranking to check: the search trained its networks for real"})


def _provenance(view: JobView, spec: JobSpec, rows: Sequence[Candidate]) -> Provenance:
    job, level = view.job(), level_of(spec.evaluator)
    measured = [m for c in rows[:1] for e in view.evaluations(c.digest) for m in e.measurements]
    return Provenance(
        truth=f"validation accuracy after {spec.audit.training.epochs} epochs of training alone",
        rule=f"at most {spec.audit.networks} of the candidates: half from the front, half stratified over "
        f"{_cost_key(job.objectives)}, seed {spec.seed}",
        context=next((dict(m.context) for m in measured if m.fidelity.level == level), {}),
        wall_seconds=job.spent.wall_seconds,
        passes={
            **_trained_passes(view.results(Phase.SUPERNET)),
            "evaluations": job.spent.evaluations,
            "audit_epochs": len(rows) * spec.audit.training.epochs,
        },
    )


def _trained_passes(results: Sequence[JsonObject]) -> dict[str, int]:
    return {"supernet_steps": int(results[-1]["steps"])} if results else {}
