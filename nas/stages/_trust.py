"""Which networks of a job are trained for real, and what they say of its ranking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

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
from predictors.surrogates import Predictor
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture

_TRAINED = ("short", "full")
_PREDICTOR, _VOTE = "fused", "vote"
FUSED = "fused (cross-validated)"
_FOLDS = 10
_PER_UNIT = 8  # networks of an audit

Floats = npt.NDArray[np.float64]


def trains(spec: JobSpec) -> bool:
    """Whether the search itself measures trained networks, so that there is no ranking left to check."""
    return level_of(spec) in _TRAINED and spec.audit.evaluator is None


def audits(spec: JobSpec) -> bool:
    """Whether networks are measured to check the ranking."""
    if spec.audit.evaluator is not None:
        return not needs_data(spec.audit.evaluator) or can_train(spec)
    return not trains(spec) and can_train(spec)


def num_audit_units(networks: int) -> int:
    """How many units an audit of so many networks is, each of which another worker may do."""
    return -(-networks // _PER_UNIT)


def audit_level(spec: JobSpec) -> Level:
    """The level that the audit measures at."""
    return level_of(spec, spec.audit.evaluator) if spec.audit.evaluator else "short"


def truth_key_of(spec: JobSpec) -> str:
    """Under which `metric@level` the audit keeps what it measures."""
    return f"accuracy@{audit_level(spec)}"


def stratified_by(spec: JobSpec, known: Collection[str]) -> str | None:
    """The cost that networks of the space are stratified by: the first objective that is one, else one on paper."""
    return next((metric for metric in (*spec.objectives, *free_costs(spec.space)) if metric in known), None)


class Checked(NamedTuple):
    """A trust report, and what it was made from.

    Attributes:
        rows: the candidates with a true value.
        truth: their true values, one each.
        rankers: everything that ranked them, the free baselines too: name -> a score each, larger is better.
    """

    report: TrustReport
    rows: tuple[Candidate, ...]
    truth: Floats
    rankers: Mapping[str, Floats]


def trust_report(view: JobView, spec: JobSpec) -> TrustReport:
    """What the networks that were trained for real so far say of everything that ranks the candidates."""
    return checked(view, spec).report


def checked(view: JobView, spec: JobSpec) -> Checked:
    """The trust report, with the scores behind it."""
    truth_key = truth_key_of(spec)
    rows = [] if trains(spec) else view.candidates(having=truth_key)
    asked = {e.proposal.digest: e.proposal for e in view.settled(audit_level(spec))} if rows else {}
    drawn = [drawn_of(asked[c.digest].memo) if c.digest in asked else Drawn() for c in rows]
    provenance = _provenance(view, spec, rows)
    if not rows:
        return Checked(_nothing_to_rank(spec, provenance), (), np.empty(0), {})
    objectives = view.job().objectives
    known = Rankings.of(rows, spec, objectives)
    rankers = known.examined | _proxies(rows)
    free = {metric: scores for metric, scores in known.free.items() if np.isfinite(scores).all()}
    truth = np.array([c.values[truth_key] for c in rows])
    columns = _columns(rankers, free)
    rankers |= {FUSED: _cross_validated(spec, rows, truth, columns)} if len(rows) >= _FOLDS and columns else {}
    voters = _voters(free, rankers)
    rankers |= {_VOTE: rank_vote(voters)} if len(voters) > 1 else {}
    report = report_of(truth, rankers, free, seed=spec.seed, provenance=provenance, drawn=drawn)
    return Checked(report, tuple(rows), truth, {**free, **rankers})


def _nothing_to_rank(spec: JobSpec, provenance: Provenance) -> TrustReport:
    """What applies instead of a table of rankers, where no ranking was held against anything."""
    if trains(spec):
        verdict = (
            f"no ranking to check: the search measured every network itself, as {spec.evaluator.name} does, "
            f"at level {level_of(spec)}"
        )
        return TrustReport(audited=0, verdict=verdict, truth="nothing, as none is needed", rankers=())
    verdict = "too few: 0 audited networks, so that nothing says how far the ranking can be trusted"
    return TrustReport(audited=0, verdict=verdict, truth=provenance.truth, rankers=(), provenance=provenance)


class Rankings(NamedTuple):
    """What ranks candidates by itself: the measured objectives with accuracy and loss, and the free costs."""

    examined: dict[str, Floats]
    free: dict[str, Floats]

    @classmethod
    def of(cls, rows: Sequence[Candidate], spec: JobSpec, objectives: Sequence[Objective]) -> Rankings:
        """Larger is better; costs are NaN where they are not known."""
        level = level_of(spec)
        keys = {
            **{o.key if o.direction == "max" else f"-{o.key}": o for o in objectives if o.level != "cost"},
            f"accuracy@{level}": Objective(metric="accuracy", level=level, direction="max"),
            f"-loss@{level}": Objective(metric="loss", level=level, direction="min"),
        }
        examined = {
            name: np.array([c.values[o.key] for c in rows]) * (1 if o.direction == "max" else -1)
            for name, o in keys.items()
            if all(o.key in c.values for c in rows)
        }
        free = {
            metric: np.array([c.values.get(f"{metric}@cost", np.nan) for c in rows])
            for metric in free_costs(spec.space)
        }
        return cls(examined, free)


def scores_of(
    name: str, candidates: Sequence[Candidate], spec: JobSpec, found: Checked, objectives: Sequence[Objective]
) -> Floats | None:
    """What one ranker of a trust report gives these candidates, one each and larger is better; None: not to all.

    The predictor is fitted on all audited networks, so it has seen the labels of those among the candidates.
    """
    known = Rankings.of(candidates, spec, objectives)
    rankers = known.examined | _proxies(candidates)
    free = {metric: known.free[metric] for metric in known.free if metric in found.rankers}
    if name == FUSED:
        columns = _columns({key: rankers[key] for key in rankers if key in found.rankers}, free)
        return _predicted(spec, found, candidates, columns)
    if name == _VOTE:
        voters = _voters(free, {key: rankers[key] for key in rankers if key in found.rankers})
        return rank_vote(voters) if voters else None
    scores = {**free, **rankers}.get(name)
    return None if scores is None or not np.isfinite(scores).all() else scores


def _columns(rankers: Mapping[str, Floats], free: Mapping[str, Floats]) -> dict[str, Floats]:
    """What the predictor may know of every network: costs that count as scores, and what ranks."""
    costs = {name: free[name] for name in FREE if name in free}
    return {**costs, **{name.partition("@proxy")[0]: rankers[name] for name in rankers}}


def _voters(free: Mapping[str, Floats], rankers: Mapping[str, Floats]) -> list[Floats]:
    """A size, and the scores of untrained networks."""
    sizes = [free[name] for name in FREE[:1] if name in free]
    return sizes + [rankers[name] for name in rankers if name.endswith("@proxy")]


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


def _cross_validated(spec: JobSpec, rows: Sequence[Candidate], truth: Floats, known: Mapping[str, Floats]) -> Floats:
    """What the predictor makes of all that is known and of labels of the other networks.

    Every network is predicted by what the predictor learned on nine tenths of the networks that do not hold it.
    """
    architectures, predictor = _predictor(spec, rows, known)
    folds = stream(spec.seed, "trust", "folds").permutation(len(rows)) % _FOLDS
    expected = np.zeros(len(rows))
    for fold in range(_FOLDS):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        rng = stream(spec.seed, "trust", "fused", fold)
        predictor.fit([architectures[i] for i in outside], truth[outside], rng=rng)
        expected[inside] = predictor.predict([architectures[i] for i in inside]).mean
    return expected


def _predicted(
    spec: JobSpec, found: Checked, candidates: Sequence[Candidate], known: Mapping[str, Floats]
) -> Floats | None:
    """What the predictor makes of all candidates, after it learned from all audited ones."""
    place = {candidate.digest: row for row, candidate in enumerate(candidates)}
    if any(c.digest not in place for c in found.rows) or not known:
        return None
    architectures, predictor = _predictor(spec, candidates, known)
    labelled = [architectures[place[c.digest]] for c in found.rows]
    predictor.fit(labelled, found.truth, rng=stream(spec.seed, "trust", "fused", "all"))
    return predictor.predict(architectures).mean


def _predictor(
    spec: JobSpec, rows: Sequence[Candidate], known: Mapping[str, Floats]
) -> tuple[list[Architecture], Predictor]:
    """The architectures of these candidates, and a predictor that knows the columns of each."""
    columns = Columns(tuple(known), np.stack(list(known.values()), axis=1))
    space = SPACES[spec.space.name](spec.space.config)
    architectures = [space.parse(c.text) for c in rows]
    place = {architecture: row for row, architecture in enumerate(architectures)}

    def scores(asked: Sequence[Architecture]) -> Columns:
        return columns._replace(values=columns.values[[place[architecture] for architecture in asked]])

    return architectures, PREDICTORS[_PREDICTOR](None, SpaceEncoder(space, every_block(space), scores=scores))


def _provenance(view: JobView, spec: JobSpec, rows: Sequence[Candidate]) -> Provenance:
    job, level = view.job(), level_of(spec)
    cost = stratified_by(spec, {*spec.costs, *free_costs(spec.space)})
    by = spec.audit.evaluator
    trained = f"validation accuracy after {spec.audit.training.epochs} epochs of training alone"
    measured = [m for c in rows[:1] for e in view.evaluations(c.digest) for m in e.measurements]
    ranked = next((m for m in measured if m.fidelity.level == level), None)
    true = next((m for m in measured if f"{m.metric}@{m.fidelity.level}" == truth_key_of(spec)), None)
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
