"""Costs that run the network: where they are too dear to measure for every candidate, some are, and the rest predicted.

Preflight measures as many networks as the budget carries; every unit after it predicts from these. What is on the
front when the search ends is measured: no front is reported on predictions where it could be measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nas.contexts import comparable, differences
from nas.resources import EvaluationState, Fidelity, FrontPoint, JsonObject, Measurement, Proposal, Settlement
from nas.spec import JobSpec
from nas.stages._pricing import Pricing, measurement_of
from nas.streams import stream
from predictors.costs import FEWEST, Estimated, Reading, ready_costs
from searchspaces import Architecture, MeasurementError

if TYPE_CHECKING:
    from nas.stages._context import UnitContext
    from nas.workbench import Workbench

MOST = 48
"""Networks that are measured before the others are predicted; more of them made predictions little better."""

_SHARE, _SECONDS = 0.05, 30.0  # of the wall time, or where there is none: what measuring candidates may cost a search
_TRIED = 4  # networks by which the time of one is known
_INFEASIBLE = 4  # proposals for an evaluation, where a bound is on the cost
_FRONT = 24  # networks measured at the end, as expected
_ROUNDS = 20
_MOST_ON_FRONT = 400


@dataclass
class Measured:
    """What was measured of one cost: seconds of one network, and the networks where the others are to be predicted."""

    seconds: float
    networks: dict[Architecture, Reading] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        context = next((dict(reading.context) for reading in self.networks.values()), {})
        unit = next((reading.unit for reading in self.networks.values()), "")
        rows = [[a.text, reading.value, reading.std] for a, reading in self.networks.items()]
        return {"seconds": self.seconds, "unit": unit, "context": context, "networks": rows}


def measure_some(spec: JobSpec, bench: Workbench) -> dict[str, Measured]:
    """Measure networks of every cost that runs them; the bench predicts from these where a search cannot measure all.

    A cost that no network has a value of is left to the survey, which says why.
    """
    found: dict[str, Measured] = {}
    for metric in bench.needed_costs():
        if not bench.is_measured(metric):
            continue
        measured = _measured(metric, spec, bench)
        if measured is not None:
            found[metric] = measured
            if len(measured.networks) >= FEWEST:
                bench.predict_cost(metric, measured.networks)
    return found


def expected_seconds(measured: Mapping[str, Measured], spec: JobSpec) -> float:
    """What measuring costs of candidates and of the front adds to a search."""
    evaluations = spec.budget.evaluations
    return sum(each.seconds * (_FRONT if each.networks else evaluations) for each in measured.values())


def notes_of(spec: JobSpec, bench: Workbench, measured: Mapping[str, Measured]) -> list[str]:
    """What a user should know of the costs: how much of the space they cover, and how far predictions are off."""
    told = [note for cost in bench.given_costs().values() if (note := cost.about(bench.measurable))]
    return told + [
        f"{metric} is measured for {len(found.networks)} networks ({found.seconds:.2g} s each) and predicted for the "
        f"others, {bench.costs([metric])[metric].error}; what is on the front in the end is measured"
        for metric, found in measured.items()
        if found.networks
    ]


def restored(kept: JsonObject, bench: Workbench) -> None:
    """Let a bench predict from what preflight measured, as `to_json` wrote it."""
    for metric, measured in kept.items():
        networks = {
            bench.space.parse(text): Reading(value, measured["unit"], std, measured["context"])
            for text, value, std in measured["networks"]
        }
        if len(networks) >= FEWEST:
            bench.predict_cost(metric, networks)


def _measured(metric: str, spec: JobSpec, bench: Workbench) -> Measured | None:
    cost, times, networks = bench.measuring_cost(metric), list[float](), dict[Architecture, Reading]()
    wanted: int | None = MOST
    for architecture in _drawn(metric, spec, bench):
        began = time.perf_counter()
        try:
            networks[architecture] = cost.measure(architecture)
        except MeasurementError:
            if not networks:
                return None
            continue
        times.append(time.perf_counter() - began)
        if len(times) == _TRIED:
            wanted = number_measured(metric, statistics.median(times), spec)
        if wanted is None or len(networks) >= wanted:
            break
    seconds = statistics.median(times)
    return Measured(seconds, networks if wanted is not None and len(networks) >= FEWEST else {})


def number_measured(metric: str, seconds: float, spec: JobSpec) -> int | None:
    """How many networks are measured to predict the others; None: the search can measure all that it proposes."""
    limit = spec.budget.wall_time
    carried = int((_SHARE * limit if limit else _SECONDS) / seconds)
    bounded = any(bound.metric == metric for bound in spec.bounds())
    if spec.budget.evaluations * (_INFEASIBLE if bounded else 1) <= carried:
        return None
    return min(MOST, max(FEWEST, carried))


def _drawn(metric: str, spec: JobSpec, bench: Workbench) -> Iterator[Architecture]:
    """The smallest, the largest and uniform architectures that run different operations."""
    rng = stream(spec.seed, "preflight", "cost", metric)
    seen: set[Architecture] = set()
    for architecture in bench.space.extremes():
        seen.add(bench.space.live(architecture))
        yield architecture
    for _ in range(4 * MOST):
        architecture = bench.space.sample(rng)
        if bench.space.live(architecture) not in seen:
            seen.add(bench.space.live(architecture))
            yield architecture


# --- what is delivered ------------------------------------------------------------------------------------------------


def of_file(context: UnitContext, file: Path) -> tuple[Measurement, ...]:
    """What the costs that run networks say of a delivered ONNX file: each of the job, and those that need no settings.

    One that cannot be measured here is left out and said.
    """
    bench, found = context.bench, list[Measurement]()
    ready = [metric for metric in ready_costs() if bench.is_measured(metric)]
    asked = [metric for metric in bench.needed_costs() if bench.is_measured(metric)]
    for metric in dict.fromkeys([*asked, *ready]):
        try:
            reading = bench.measuring_cost(metric).of_file(file)
        except MeasurementError as error:
            message = f"{metric} of the delivered {file.name} is not known: {error}"
            context.journal.event("log", {"level": "warning", "message": message})
            continue
        if reading is not None:
            measured = measurement_of(metric, reading)
            found.append(measured.model_copy(update={"context": {"file": file.name, **measured.context}}))
    return tuple(found)


# --- on another device -----------------------------------------------------------------------------------------------


def measure_here(context: UnitContext) -> None:
    """Measure networks anew where preflight did so on another device than this worker's, and nothing else stands yet.

    Values of two devices cannot be compared. Once a job has some of another than this one, its predictions go on, and
    what would be measured here is of no use to it.
    """
    bench, contexts = context.bench, context.journal.front().contexts
    for metric, cost in Pricing.of(context).predicted.items():
        difference = _otherwise(metric, cost, context)
        if not difference:
            continue
        first = contexts.get(f"{metric}@cost")
        if first is not None and first == comparable(measurement_of(metric, cost.like)):
            continue  # said when the front is measured
        measured = _measured(metric, context.spec, bench)
        if measured is not None and len(measured.networks) >= FEWEST:
            bench.predict_cost(metric, measured.networks)
        message = f"{metric} was measured at preflight otherwise than it is here ({difference}), so it is measured anew"
        context.journal.event("log", {"level": "info", "message": message})


def _otherwise(metric: str, cost: Estimated, context: UnitContext) -> str:
    """In what a measurement here differs from those that predictions are made from; empty: in nothing that matters."""
    try:
        mine = measurement_of(metric, cost.cost.measure(context.bench.space.extremes().smallest))
    except MeasurementError as error:
        return str(error)
    given = measurement_of(metric, cost.like)
    return differences(comparable(given), comparable(mine))


# --- the front -------------------------------------------------------------------------------------------------------


def measure_front(context: UnitContext, pricing: Pricing) -> None:
    """Measure what is predicted of the front's networks, until nothing that can be measured on it is a prediction.

    A network that turns out dearer may leave the front and let others on, so it is looked at again after each round.
    """
    metrics = [metric for metric, cost in pricing.predicted.items() if _can_measure(metric, cost, context)]
    if not metrics:
        return
    tried: set[str] = set()
    for _ in range(_ROUNDS):
        untried = [point for point in context.journal.front().points if point.digest not in tried]
        left = [point for point in untried if _is_predicted(context, point, metrics)]
        if not left or len(tried) >= _MOST_ON_FRONT:
            break
        _measure(context, left[: _MOST_ON_FRONT - len(tried)], pricing)
        tried |= {point.digest for point in left}
    still = sum(_is_predicted(context, point, metrics) for point in context.journal.front().points)
    message = f"measured {', '.join(metrics)} of {len(tried)} networks that were on the front"
    level = "warning" if still else "info"
    message += f"; of {still} on it they are still predicted" if still else ""
    if tried or still:
        context.journal.event("log", {"level": level, "message": message})


def _can_measure(metric: str, cost: Estimated, context: UnitContext) -> bool:
    difference = _otherwise(metric, cost, context)
    if difference:
        message = f"{metric} stays predicted on the front: this worker cannot measure it like the others ({difference})"
        context.journal.event("log", {"level": "warning", "message": message})
    return not difference


def _is_predicted(context: UnitContext, point: FrontPoint, metrics: Sequence[str]) -> bool:
    """Whether the newest value of a cost that could be measured is a prediction."""
    newest = {
        m.metric: m
        for e in context.view.evaluations(point.digest)
        for m in e.measurements
        if m.fidelity.level == "cost"
    }
    return any(newest[metric].context.get("predicted", False) for metric in metrics if metric in newest)


def _measure(context: UnitContext, points: list[FrontPoint], pricing: Pricing) -> None:
    fidelity = Fidelity(level="cost")
    asked = [Proposal(text=p.text, digest=p.digest, fidelity=fidelity, reason="front") for p in points]
    context.journal.propose(asked)
    mine = {point.digest for point in points}
    for number, evaluation in enumerate(e for e in context.journal.pending("cost") if e.proposal.digest in mine):
        if context.must_leave():
            raise context.leave()
        context.journal.progress(message=f"measuring costs of the front, {number + 1} of {len(points)} networks")
        began = time.monotonic()
        price = pricing.price(evaluation.proposal, really=True)
        state = EvaluationState.INFEASIBLE if price.violation > 0 else EvaluationState.FINISHED
        context.journal.settle(
            [
                Settlement(
                    evaluation_id=evaluation.evaluation_id,
                    state=EvaluationState.FAILED if price.error else state,
                    measurements=price.measurements,
                    violation=price.violation,
                    error=price.error,
                    seconds=time.monotonic() - began,
                )
            ]
        )
