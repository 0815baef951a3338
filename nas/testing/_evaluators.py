"""The contract of an evaluator as plain functions; every one raises `ContractViolation` with what it found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nas.claims import Answer, Offer
from nas.evaluators import EvaluationContext, Evaluator, Outcome, Request
from nas.resources import Fidelity, Measurement
from nas.spec import Level
from nas.streams import stream
from searchspaces import Architecture, ContractViolation, Plugin

if TYPE_CHECKING:
    from nas.workbench import Workbench


def check_evaluator(plugin: Plugin[Evaluator], bench: Workbench, *, settings: dict[str, object] | None = None) -> None:
    """Checks everything that an evaluator promises, on a few architectures of the bench's space.

    Raises:
        ContractViolation: the first promise that is broken.
    """
    check_values(plugin, bench, settings=settings)
    check_failures(plugin, bench, settings=settings)
    check_stopping(plugin, bench, settings=settings)
    check_digests(plugin, bench, settings=settings)


def check_digests(plugin: Plugin[Evaluator], bench: Workbench, *, settings: dict[str, object] | None = None) -> None:
    """One that looks up in files says a digest of what they say, so that a job sees when they change."""
    offered = getattr(plugin.configure(settings), "offered_digests", None)
    _require(
        offered is not None or not plugin.flags.get("reads_tables"),
        "what reads tables has offered_digests",
        plugin.name,
    )
    if offered is not None:
        found = offered(bench.spec)
        _require(bool(found) and all(map(str.isalnum, found.values())), "what is read has a digest", found)
        _require(offered(bench.spec) == found, "the digest of what did not change is the same", found)


def small_bench(folder: Path) -> Workbench:
    """A bench for quick checks: 60 small digits, a narrow cell space, and a supernet with fresh weights in `folder`."""
    from nas.spec import JobSpec
    from nas.workbench import Workbench, save_supernet

    spec = JobSpec.from_mapping(
        {
            "space": {"name": "nasbench201", "config": {"channels": 2, "cells_per_stage": 1}},
            "dataset": {"name": "digits", "config": {"limit": 60}},
            "device": "cpu",
        }
    )
    file = folder / "supernet.safetensors"
    save_supernet(Workbench(spec).space.supernet(seed=1), file)
    return Workbench(spec, supernet_file=file)


def check_values(plugin: Plugin[Evaluator], bench: Workbench, *, settings: dict[str, object] | None = None) -> None:
    """Every request gets one outcome with every metric and its context; equal requests get equal values."""
    asked = _requests(plugin, bench, 2)
    twice = [*asked, Request("again", asked[0].architecture, asked[0].fidelity)]
    first, second = (_outcomes(plugin(settings, bench), twice) for _ in range(2))
    for request in twice:
        outcome = first[request.evaluation_id]
        _require(outcome.error is None, f"{request.architecture.text} can be measured", outcome.error)
        measured = {m.metric: m for m in outcome.measurements}
        _require(set(measured) == set(_metrics(plugin)), "the metrics are those of the flag", sorted(measured))
        for m in outcome.measurements:
            _require(math.isfinite(m.value), "a value is finite", m.metric, m.value)
            _require(m.fidelity.level == plugin.flags["level"], "the level is that of the flag", m.fidelity.level)
            _require(
                _needed(plugin, m) <= m.context.keys(), "the context says what a value depends on", sorted(m.context)
            )
        again = second[request.evaluation_id].measurements
        _require(outcome.measurements == again, "equal requests get equal measurements", request.architecture.text)
    _require(
        first["again"].measurements == first[asked[0].evaluation_id].measurements,
        "an architecture that is asked for twice has one value",
        asked[0].architecture.text,
    )


def check_failures(plugin: Plugin[Evaluator], bench: Workbench, *, settings: dict[str, object] | None = None) -> None:
    """An architecture that cannot be measured is an outcome with its reason, and the others are measured."""
    good = _requests(plugin, bench, 1)[0]
    foreign = Architecture((("nowhere", "nothing"),), "of another space")
    outcomes = _outcomes(plugin(settings, bench), [Request("bad", foreign, good.fidelity), good])
    bad = outcomes["bad"]
    _require(bool(bad.error) and not bad.measurements, "a failure has a reason and no measurement", bad)
    _require(outcomes[good.evaluation_id].error is None, "a failure leaves the others alone", outcomes)


def check_stopping(plugin: Plugin[Evaluator], bench: Workbench, *, settings: dict[str, object] | None = None) -> None:
    """Asked to stop before the first request, it answers none."""
    context = EvaluationContext(seed=0, should_stop=lambda: True, exchange=Devices())
    answered = list(plugin(settings, bench).evaluate(_requests(plugin, bench, 2), context))
    _require(not answered, "an evaluator that is asked to stop ends early", len(answered))


def _requests(plugin: Plugin[Evaluator], bench: Workbench, number: int) -> list[Request]:
    rng = stream(0, "contract")
    fidelity = Fidelity(level=cast(Level, plugin.flags["level"]))
    return [Request(f"request-{i}", bench.space.sample(rng), fidelity) for i in range(number)]


def _outcomes(evaluator: Evaluator, requests: Sequence[Request]) -> dict[str, Outcome]:
    told: list[float] = []
    context = EvaluationContext(seed=0, progress=told.append, exchange=Devices())
    outcomes = list(evaluator.evaluate(requests, context))
    answered = sorted(outcome.evaluation_id for outcome in outcomes)
    _require(answered == sorted(r.evaluation_id for r in requests), "every request is answered once", answered)
    _require(told == sorted(told) and told[-1:] == [1.0], "progress grows to 1", told)
    return {outcome.evaluation_id: outcome for outcome in outcomes}


def _needed(plugin: Plugin[Evaluator], measurement: Measurement) -> set[str]:
    """What the context of a value must tell: nothing of what was not measured here, more where a network was run."""
    if not plugin.flags.get("needs_data", True):
        return set()
    ran = measurement.fidelity.level in ("supernet", "short", "full")
    return {"code", "device", "dtype", "bn"} if ran else {"code"}


class Devices:
    """Devices that answer every offer at once, with numbers that depend on the architecture alone (an `Exchange`)."""

    def __init__(self) -> None:
        self.offered: dict[str, Offer] = {}

    def offer(self, offers: Sequence[Offer]) -> None:
        self.offered |= {offer.evaluation_id: offer for offer in offers}

    def collect(self, evaluation_ids: Sequence[str]) -> list[Answer]:
        return [self._answer(self.offered[evaluation_id]) for evaluation_id in evaluation_ids]

    def _answer(self, offer: Offer) -> Answer:
        rng = stream(0, *offer.options.values())
        values = {metric: float(rng.random()) for metric in offer.metrics}
        return Answer(evaluation_id=offer.evaluation_id, attempt=1, measurements=values)


def _metrics(plugin: Plugin[Evaluator]) -> tuple[str, ...]:
    metrics = plugin.flags["metrics"]
    _require(isinstance(metrics, tuple), "the flag `metrics` is a tuple of names", metrics)
    return cast(tuple[str, ...], metrics)


def _require(holds: bool, promise: str, *examples: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {', '.join(map(str, examples))}.")
