"""The ladder: what goes up, when, and what the held searcher sees of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.history import History, Record
from nas.resources import EvaluationState, Fidelity, Objective, Proposal
from nas.searchers import REGISTRY, Searcher
from nas.searchers.ladder import Ladder
from nas.simulation import Measured, Simulation, simulate
from nas.streams import stream
from predictors.surrogates.co_kriging import CoKriging
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, ConfigError
from searchspaces.tables import REGISTRY as TABLES

SPACE = SPACES["macro"]()
ACCURACY = Objective(metric="accuracy", level="full", direction="max")
COST = Objective(metric="cost", level="cost", direction="min")
RUNGS = (1.0, 3.0, 9.0)


def ladder(objectives: tuple[Objective, ...] = (ACCURACY,), **settings: object) -> Searcher:
    found: Searcher = REGISTRY["ladder"]({"searcher": "random", "rungs": RUNGS, **settings}, SPACE, objectives)
    return found


def worth(made: Proposal, architecture: Architecture) -> Measured:
    """More large layers are better, and the longer it is trained the more of that shows."""
    spent = made.fidelity.resources["epochs"]
    return Measured((spent / 9 * architecture.text.count("2"),), seconds=spent)


def rungs(run: Simulation) -> Counter[float]:
    return Counter(record.fidelity.resources["epochs"] for record in run.history.settled)


@pytest.mark.parametrize("mode", ["asynchronous", "halving"])
@pytest.mark.parametrize("workers", [None, 3])
def test_a_third_of_each_rung_goes_up(mode: str, workers: int | None) -> None:
    run = simulate(ladder(mode=mode, bracket=27), worth, evaluations=200, workers=workers, batch=1 if workers else 5)
    counts = rungs(run)
    assert counts[3.0] == pytest.approx(counts[1.0] / 3, abs=9)
    assert counts[9.0] == pytest.approx(counts[3.0] / 3, abs=4)
    assert counts[9.0] >= 9


def test_the_best_of_a_bracket_go_up_once_all_of_it_is_measured() -> None:
    run = simulate(ladder(mode="halving", bracket=9), worth, evaluations=40, batch=9)
    bracket = [r for r in run.history.settled if r.group == "bracket 0"]
    first, second, last = bracket[:9], bracket[9:12], bracket[12:]
    assert [r.fidelity.resources["epochs"] for r in bracket] == [1.0] * 9 + [3.0] * 3 + [9.0]
    by_worth = sorted((r.architecture.text.count("2") for r in first), reverse=True)
    assert [r.architecture.text.count("2") for r in second] == by_worth[:3]
    assert {r.architecture for r in second} <= {r.architecture for r in first}
    assert [r.architecture for r in last] == [second[0].architecture]


def test_what_is_measured_in_full_has_the_level_of_the_objectives() -> None:
    run = simulate(ladder(), worth, evaluations=120)
    levels = {(r.fidelity.level, r.fidelity.resources["epochs"]) for r in run.history.settled}
    assert levels == {("partial", 1.0), ("partial", 3.0), ("full", 9.0)}
    assert len(run.history.losses()) == rungs(run)[9.0]


def test_several_objectives_go_up_by_their_rank() -> None:
    def two(made: Proposal, architecture: Architecture) -> Measured:
        return Measured((float(architecture.text.count("2")), float(architecture.text.count("1"))))

    run = simulate(ladder((ACCURACY, COST), mode="halving", bracket=27), two, evaluations=36, batch=27)
    points = [(-r.architecture.text.count("2"), r.architecture.text.count("1")) for r in run.history.settled]
    begun, raised = points[:27], points[27:]
    front = {a for a in begun if not any(b[0] <= a[0] and b[1] <= a[1] and b != a for b in begun)}
    assert rungs(run) == {1.0: 27, 3.0: 9}
    assert front <= set(raised) or set(raised) <= front


def test_what_breaks_a_bound_or_fails_stays_down() -> None:
    def spoiled(made: Proposal, architecture: Architecture) -> Measured:
        if architecture.text[0] == "2":
            return Measured(None)
        return worth(made, architecture)._replace(violation=float(architecture.text[0] == "1"))

    run = simulate(ladder(), spoiled, evaluations=150)
    assert all(r.architecture.text[0] == "0" for r in run.history.settled if r.fidelity.resources["epochs"] > 1)
    assert rungs(run)[3.0] > 5


class Watching(Searcher):
    """Remembers the histories that it is asked with."""

    seen: list[tuple[int, tuple[int, ...]]]

    def ask(self, history: History, n: int, rng: Any) -> list[Proposal]:
        self.seen.append((len(history.losses()), tuple(len(lower.losses()) for lower in history.cheaper)))
        return self.filled([], history, n, rng)


def test_the_held_searcher_learns_from_the_highest_rung_with_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def watching(*given: object) -> Watching:
        made = Watching(SPACE, (ACCURACY,))
        made.seen = seen
        return made

    monkeypatch.setattr("nas.searchers.ladder.make_searcher", watching)
    simulate(ladder(labels=10), worth, evaluations=150)
    heights = [len(cheaper) for _, cheaper in seen]
    assert heights == sorted(heights)
    assert set(heights) == {0, 1, 2}
    assert all(own >= 10 and all(below >= own for below in cheaper) for own, cheaper in seen if cheaper)


@pytest.mark.parametrize("held", ["tpe", "regularized_evolution", {"name": "gp_its", "config": {"samples": 40}}])
def test_a_fresh_ladder_proposes_the_same_whatever_the_order_in_which_workers_finish(held: object) -> None:
    searcher, asked = ladder(searcher=held, labels=12), 0
    run = simulate(searcher, worth, evaluations=60, workers=4, seed=3)
    history = History((ACCURACY,))
    finished = {r.number: place for place, r in enumerate(run.history.settled)}
    records = {r.number: r for r in run.history.settled}
    old = ladder(searcher=held, labels=12)
    for number in range(4, 56):  # by turns: one more is proposed, one more finishes
        for one in range(asked, number):
            pending = records[one]
            history.add(Record(one, pending.architecture, EvaluationState.PENDING, None, fidelity=pending.fidelity))
        asked = number
        done = run.history.settled[len(history)]
        if done.number < number:
            history.add(done)
        again = History((ACCURACY,))
        for one in (*history.settled, *history.pending.values()):
            again.add(one)
        fresh = ladder(searcher=held, labels=12)
        assert old.ask(history, 2, stream(7, number)) == fresh.ask(again, 2, stream(7, number)), finished[number]


def record(number: int, text: str, epochs: float, value: float) -> Record:
    level: Any = "full" if epochs == RUNGS[-1] else "partial"
    return Record(
        number,
        SPACE.parse(text),
        EvaluationState.FINISHED,
        (value,),
        fidelity=Fidelity(level=level, resources={"epochs": epochs}),
    )


def test_pending_promotions_are_not_made_twice() -> None:
    history, searcher = History((ACCURACY,)), ladder()
    for number, text in enumerate(["00000000", "00000001", "00000002"]):
        history.add(record(number, text, 1.0, float(number)))
    (promoted, *_) = searcher.ask(history, 1, stream(0))
    assert (promoted.text, promoted.fidelity.resources) == ("00000002", {"epochs": 3.0})
    pending = record(3, promoted.text, 3.0, 0.0)
    history.add(Record(3, pending.architecture, EvaluationState.PENDING, None, fidelity=pending.fidelity))
    assert all(made.fidelity.resources["epochs"] == 1.0 for made in searcher.ask(history, 3, stream(1)))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"rungs": [9, 3]}, "rungs"),
        ({"rungs": [0, 3]}, "rungs"),
        ({"searcher": "no_such_searcher"}, "searcher"),
        ({"searcher": {"name": "gp_its", "config": {"initial": 0}}}, "searcher"),
    ],
)
def test_wrong_settings_are_refused(settings: Mapping[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        REGISTRY["ladder"].configure(settings)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_predictor_across_fidelities_is_told_of_the_rungs_below(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, ...]] = []
    fit = CoKriging.fit

    def spy(self: CoKriging, architectures: Any, values: Any, **given: Any) -> CoKriging:
        told.append((len(architectures), *(len(below[0]) for below in given.get("cheaper", ()))))
        return fit(self, architectures, values, **given)

    monkeypatch.setattr(CoKriging, "fit", spy)
    held = {"name": "model_based", "config": {"predictor": "co_kriging", "labels": 8, "refit": 8, "samples": 30}}
    simulate(ladder(searcher=held, rungs=[1, 9], labels=8), worth, evaluations=60, batch=6)
    assert isinstance(ladder(searcher=held), Ladder)
    across = [sizes for sizes in told if len(sizes) == 2]
    assert across
    assert all(below > own for own, below in across)


@pytest.mark.slow
def test_at_equal_time_the_ladder_finds_better_fronts_on_nasbench201(data_folder: Path) -> None:
    # Four simulated workers, the time of 40 full trainings; over 5 seeds evolution alone has a hypervolume of 1.173, on
    # the ladder 1.195; random 1.097 and 1.111. Asked for here: better in the mean of 5 seeds of both.
    from nas.pareto import hypervolume

    table = TABLES["nasbench201"]()
    accuracy = {epochs: series.mean for epochs, series in table.measured["accuracy"].items()}
    latency = table.costs["latency_pixel3"].mean
    corner = (-float(np.median(accuracy[200.0])), float(latency.max()))

    def measure(made: Proposal, architecture: Architecture) -> Measured:
        epochs, row = made.fidelity.resources.get("epochs", 200.0), table.row(architecture)
        return Measured((accuracy[epochs][row], latency[row]), seconds=epochs)

    def volume(name: str, settings: Mapping[str, object], seed: int) -> float:
        searcher: Searcher = REGISTRY[name](settings, table.space, (ACCURACY, COST))
        run = simulate(searcher, measure, evaluations=2_000, seconds=8_000, workers=4, seed=seed)
        return hypervolume(run.history.losses(), corner)

    for name in ("random", "regularized_evolution"):
        alone = [volume(name, {}, seed) for seed in range(5)]
        raised = [volume("ladder", {"searcher": name, "rungs": [12, 200]}, seed) for seed in range(5)]
        assert np.mean(raised) > np.mean(alone), name
