"""Which networks of a job are trained for real, and what they say of its ranking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas.admission import can_train
from nas.evaluators import level_of, needs_data
from nas.ports import JobView
from nas.reports import Provenance, TrustReport
from nas.resources import Candidate, JsonObject, Objective, Phase
from nas.scoring import FREE, free_costs
from nas.spec import JobSpec, Level
from nas.stages._drawing import drawn_of
from nas.streams import stream
from nas.trust import Drawn
from nas.trust import trust_report as report_of
from predictors.encoding import Columns, SpaceEncoder, every_block
from predictors.ranking import rank_vote
from predictors.surrogates import REGISTRY as PREDICTORS
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture

_TRAINED = ("short", "full")
_PREDICTOR = "fused"
_FOLDS = 10

Floats = npt.NDArray[np.float64]


def trains(spec: JobSpec) -> bool:
    """Whether the search itself measures trained networks, so that there is no ranking left to check."""
    return level_of(spec) in _TRAINED and spec.audit.evaluator is None


def audits(spec: JobSpec) -> bool:
    """Whether networks are measured to check the ranking."""
    if spec.audit.evaluator is not None:
        return not needs_data(spec.audit.evaluator) or can_train(spec)
    return not trains(spec) and can_train(spec)


def audit_level(spec: JobSpec) -> Level:
    """The level that the audit measures at."""
    return level_of(spec, spec.audit.evaluator) if spec.audit.evaluator else "short"


def _truth_key(spec: JobSpec) -> str:
    return f"accuracy@{audit_level(spec)}"


def stratified_by(spec: JobSpec, known: Collection[str]) -> str | None:
    """The cost that networks of the space are stratified by: the first objective that is one, else one on paper."""
    return next((metric for metric in (*spec.objectives, *free_costs(spec.space)) if metric in known), None)


def trust_report(view: JobView, spec: JobSpec) -> TrustReport:
    """What the networks that were trained for real so far say of everything that ranks the candidates."""
    truth_key, level = _truth_key(spec), level_of(spec)
    rows = [] if trains(spec) else view.candidates(having=truth_key)
    asked = {e.proposal.digest: e.proposal for e in view.settled(audit_level(spec))} if rows else {}
    drawn = [drawn_of(asked[c.digest].memo) if c.digest in asked else Drawn() for c in rows]
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
    rankers |= _proxies(rows)
    free = {
        metric: np.array([c.values[f"{metric}@cost"] for c in rows])
        for metric in free_costs(spec.space)
        if all(f"{metric}@cost" in c.values for c in rows)
    }
    truth = np.array([c.values[truth_key] for c in rows])
    costs = {name: free[name] for name in FREE if name in free}
    rankers |= _fused(spec, rows, truth, {**costs, **{name.partition("@proxy")[0]: rankers[name] for name in rankers}})
    voters = [costs[name] for name in FREE[:1] if name in costs] + list(_proxies(rows).values())
    rankers |= {"vote": rank_vote(voters)} if len(voters) > 1 else {}
    provenance = _provenance(view, spec, rows)
    report = report_of(truth, rankers, free, seed=spec.seed, provenance=provenance, drawn=drawn)
    if not trains(spec):
        return report
    return report.model_copy(update={"verdict": "no ranking to check: the search trained its networks for real"})


def _proxies(rows: Sequence[Candidate]) -> dict[str, Floats]:
    """Ranks by the scores of untrained networks, larger is better; those without a score share the last place, and no
    score is made up for them. A proxy with none for most is left out."""
    from scipy.stats import rankdata

    names = sorted({key for c in rows for key in c.values if key.endswith("@proxy")})
    columns = {name: np.array([c.values.get(name, np.nan) for c in rows]) for name in names}
    return {
        name: np.asarray(rankdata(np.where(np.isnan(column), -np.inf, column)))
        for name, column in columns.items()
        if np.isfinite(column).mean() > 0.5
    }


def _fused(spec: JobSpec, rows: Sequence[Candidate], truth: Floats, known: Mapping[str, Floats]) -> dict[str, Floats]:
    """What the predictor makes of all that is known and of labels of the other networks.

    Every network is predicted by what the predictor learned on nine tenths of the networks that do not hold it.
    """
    if len(rows) < _FOLDS or not known:
        return {}
    columns = Columns(tuple(known), np.stack(list(known.values()), axis=1))
    space = SPACES[spec.space.name](spec.space.config)
    audited = [space.parse(c.text) for c in rows]
    place = {architecture: row for row, architecture in enumerate(audited)}

    def scores(architectures: Sequence[Architecture]) -> Columns:
        return columns._replace(values=columns.values[[place[architecture] for architecture in architectures]])

    predictor = PREDICTORS[_PREDICTOR](None, SpaceEncoder(space, every_block(space), scores=scores))
    folds = stream(spec.seed, "trust", "folds").permutation(len(rows)) % _FOLDS
    expected = np.zeros(len(rows))
    for fold in range(_FOLDS):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        rng = stream(spec.seed, "trust", "fused", fold)
        predictor.fit([audited[i] for i in outside], truth[outside], rng=rng)
        expected[inside] = predictor.predict([audited[i] for i in inside]).mean
    return {"fused (cross-validated)": expected}


def _provenance(view: JobView, spec: JobSpec, rows: Sequence[Candidate]) -> Provenance:
    job, level = view.job(), level_of(spec)
    cost = stratified_by(spec, {*spec.costs, *free_costs(spec.space)})
    by = spec.audit.evaluator
    trained = f"validation accuracy after {spec.audit.training.epochs} epochs of training alone"
    measured = [m for c in rows[:1] for e in view.evaluations(c.digest) for m in e.measurements]
    ranked = next((m for m in measured if m.fidelity.level == level), None)
    true = next((m for m in measured if f"{m.metric}@{m.fidelity.level}" == _truth_key(spec)), None)
    spent = "".join(f", {name} {amount:g}" for name, amount in true.fidelity.resources.items()) if true else ""
    return Provenance(
        truth=f"accuracy as {by} measures it{spent}" if by else trained,
        rule=f"at most {spec.audit.networks} networks: half from near the front, half from the whole space, "
        f"seed {spec.seed}",
        populations={
            "space": "architectures of the space that meet the bounds on costs, drawn uniformly"
            + (f" in strata of {cost}" if cost else ""),
            "near_front": "the candidates of the best ranks, four times as many as were drawn: the best of them, and "
            f"others in strata of {job.objectives[0].key}",
        },
        context={**ranked.context, **ranked.fidelity.resources} if ranked else {},
        wall_seconds=job.spent.wall_seconds,
        passes={
            **_trained_passes(view.results(Phase.SUPERNET)),
            "evaluations": job.spent.evaluations,
            "audit_epochs": 0 if by else len(rows) * spec.audit.training.epochs,
        },
    )


def _trained_passes(results: Sequence[JsonObject]) -> dict[str, int]:
    return {"supernet_steps": int(results[-1]["steps"])} if results else {}
