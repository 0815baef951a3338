"""Networks that contend to be delivered: trained in rungs on train alone, compared on valid; the better half stays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import EvaluationContext, Request
from nas.evidence import measured_noise, updated
from nas.reports import Choice, Contender
from nas.resources import Evaluation, EvaluationState, Fidelity, Phase, Proposal, Settlement
from nas.spec import Level
from nas.stages._contest import Rung, rungs_of
from nas.stages._context import UnitContext
from nas.stages._pacing import ContestPace
from searchspaces import Architecture, TrainingDiverged

_LEVEL: Level = "contender"
_ACCURACY = "accuracy"
_EXACT = 1e-4  # what a value without noise, such as a table's, is taken to be off by


class Outcome(NamedTuple):
    """Who won, and how everybody did, the winner first."""

    winner: Architecture
    contenders: tuple[Contender, ...]


class _Standing(NamedTuple):
    """What a network's last rung came to: epochs, value as measured, expected value with all evidence."""

    epochs: int
    value: float | None
    mean: float | None


class DeliveryTeller:
    """Progress of one delivered network: epochs of its contest and of its final training, as one sum.

    Args:
        total: epochs of all its trainings.
    """

    def __init__(self, context: UnitContext, total: float) -> None:
        self.context, self.total = context, float(total)
        self.done = 0.0
        self.began: tuple[float, float] | None = None

    def skip(self, epochs: float) -> None:
        """These are done, whoever did them."""
        self.done += epochs

    def tell(self, message: str, epochs: float) -> None:
        """So far into the training at hand."""
        now, reached = time.monotonic(), self.done + epochs
        if self.began is None:
            self.began = (now, reached)
        since, first = self.began
        delivered, networks = len(self.context.journal.job().deliveries), self.context.spec.deliver.networks
        left = self.total - reached + self.total * max(0, networks - delivered - 1)
        each = (now - since) / (reached - first) if reached > first else 0.0
        self.context.journal.progress(
            phase=Phase.DELIVER,
            fraction=min(1.0, (delivered + reached / max(1, self.total)) / max(1, networks)),
            message=message,
            seconds_left=left * each if each else None,
            delivered=delivered,
            deliveries_total=networks,
        )


def contend(context: UnitContext, architectures: Sequence[Architecture], teller: DeliveryTeller) -> Outcome:
    """Train these in rungs, the most promising first in the list; what was done before is not done again.

    After every rung the networks are ordered by what its values on valid and the evidence before it say together. Where
    there is no time for a whole rung, that and those after it are left out, and what is known by then chooses.

    Raises:
        Cancelled: the unit has to be given back.
        TrainingDiverged: no network could be trained.
    """
    left, pace, done = list(architectures), ContestPace(context), 0
    rungs = rungs_of(len(left), context.spec.deliver.training.epochs)
    standings: dict[str, _Standing] = {}
    for place, rung in enumerate(rungs, 1):
        competing = left[: rung.num_networks]
        values = _run_rung(context, competing, rung, teller, pace, name=f"rung {place} of {len(rungs)}")
        if values is None:
            break
        done, left = place, competing
        means = _judged(context, {digest: value for digest, value in values.items() if value is not None})
        for digest, value in values.items():
            standings[digest] = _Standing(rung.epochs, value, means.get(digest))
        left = sorted((a for a in left if a.digest in means), key=lambda a: -means[a.digest])
        if not left:
            raise TrainingDiverged(
                "none of the networks that contend to be delivered could be trained; see their errors."
            )
    pace.end(len(rungs), done)
    return Outcome(left[0], _listed(context, architectures, standings, left[0]))


def _listed(
    context: UnitContext,
    architectures: Sequence[Architecture],
    standings: Mapping[str, _Standing],
    winner: Architecture,
) -> tuple[Contender, ...]:
    """Everybody who was trained: those of later rungs first, better ones first; expected values as measured."""
    sign = _sign(context.journal.job().choice)
    ran = [a for a in architectures if a.digest in standings]
    ran.sort(key=lambda a: (-standings[a.digest].epochs, -(standings[a.digest].mean or -np.inf)))
    last = max((standing.epochs for standing in standings.values()), default=0)
    return tuple(
        Contender(
            digest=a.digest,
            text=a.text,
            epochs=standing.epochs,
            value=standing.value,
            mean=standing.mean * sign if standing.mean is not None and standing.epochs == last else None,
            won=a == winner,
        )
        for a in ran
        if (standing := standings[a.digest])
    )


def _run_rung(
    context: UnitContext,
    architectures: Sequence[Architecture],
    rung: Rung,
    teller: DeliveryTeller,
    pace: ContestPace,
    *,
    name: str,
) -> dict[str, float | None] | None:
    """What each measures on valid after a training of this length, by digest; None where it failed.

    None of all where time does not allow the whole rung: networks of which only some were trained are not compared.
    """
    fidelity = Fidelity(level=_LEVEL, resources={"epochs": rung.epochs})

    def of_rung(evaluations: Sequence[Evaluation]) -> dict[str, Evaluation]:
        wanted = [e for e in evaluations if e.proposal.fidelity.resources == fidelity.resources]
        return {e.proposal.digest: e for e in wanted}

    settled = of_rung(context.journal.settled(_LEVEL))
    for number, each in enumerate(architectures, 1):
        if each.digest not in settled:
            if not pace.allows(sum(a.digest not in settled for a in architectures[number - 1 :]), rung.epochs):
                return None
            # proposed one by one: what is left out leaves nothing pending
            proposal = Proposal(text=each.text, digest=each.digest, fidelity=fidelity, reason="contender")
            context.journal.propose([proposal])
            pending = of_rung(context.journal.pending(_LEVEL))[each.digest]
            place = f"comparing networks, {name}: {number} of {len(architectures)}"
            _train_one(context, pending, each, teller, f"{place}, {rung.epochs} epochs each")
        pace.trained += 1
        teller.skip(rung.epochs)
    teller.skip(rung.epochs * (rung.num_networks - len(architectures)))  # of those that failed in a rung before
    metric, settled = _metric(context.journal.job().choice), of_rung(context.journal.settled(_LEVEL))
    return {
        a.digest: next((m.value for m in settled[a.digest].measurements if m.metric == metric), None)
        for a in architectures
    }


def _train_one(
    context: UnitContext, evaluation: Evaluation, architecture: Architecture, teller: DeliveryTeller, message: str
) -> None:
    """Train and measure one network, and settle that; a checkpoint keeps what a lost worker had done."""
    settings = {"level": "short", "training": context.spec.deliver.training.model_dump()}
    evaluator = EVALUATORS["standalone"](settings, context.bench)
    epochs = evaluation.proposal.fidelity.resources["epochs"]
    request = Request(evaluation.evaluation_id, architecture, evaluation.proposal.fidelity)
    how = EvaluationContext(
        seed=context.spec.seed,
        should_stop=context.must_leave,
        progress=lambda fraction: teller.tell(message, fraction * epochs),
        checkpoints=context.checkpoints,
        exchange=context.exchange,
    )
    found = list(evaluator.evaluate([request], how))
    if not found:
        raise context.leave()
    (outcome,) = found
    context.journal.settle(
        [
            Settlement(
                evaluation_id=evaluation.evaluation_id,
                state=EvaluationState.FAILED if outcome.error else EvaluationState.FINISHED,
                measurements=outcome.measurements,
                error=outcome.error,
                seconds=outcome.seconds,
            )
        ]
    )
    values = {m.metric: m.value for m in outcome.measurements}
    told = {"digest": architecture.digest, "epochs": epochs, **values}
    context.journal.event("contender", told | ({"error": outcome.error} if outcome.error else {}))


def _judged(context: UnitContext, values: Mapping[str, float]) -> dict[str, float]:
    """Expected value of each with all evidence, larger is better."""
    if not values:
        return {}
    choice = context.journal.job().choice
    sign, metric = _sign(choice), _metric(choice)
    known = {e.digest: e for e in choice.estimates} if choice is not None and choice.metric == metric else {}
    before = [known.get(digest) for digest in values]
    means = np.array([sign * e.mean if e else np.nan for e in before])
    stds = np.array([max(e.std, _EXACT) if e and e.std is not None else np.nan for e in before])
    if np.isnan(stds).any():  # differences to those of whom nothing is known are not known either
        means, stds = np.zeros(len(values)), np.full(len(values), np.nan)
    measured = np.array(list(values.values()))
    noise = measured_noise(measured, len(context.bench.dataset.valid) if metric == _ACCURACY else None)
    belief = updated(means, stds, sign * measured, noise)
    return dict(zip(values, belief.mean.tolist(), strict=True))


def _metric(choice: Choice | None) -> str:
    """What is compared: the metric of the choice where training measures it, else accuracy."""
    measured = EVALUATORS["standalone"].flags["metrics"]
    is_measured = choice is not None and isinstance(measured, tuple) and choice.metric in measured
    return choice.metric if choice is not None and is_measured else _ACCURACY


def _sign(choice: Choice | None) -> float:
    is_less = choice is not None and choice.direction == "min" and _metric(choice) == choice.metric
    return -1.0 if is_less else 1.0
