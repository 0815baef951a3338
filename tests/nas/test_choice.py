"""What a job puts first: by audits, by the ranking that they bear out, and with a warning where there are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.admission import objectives_of
from nas.job import STAGES
from nas.ports import JobView
from nas.reports import Choice
from nas.resources import Candidate, Evaluation, Job, JobState, ParetoFront, Progress, Spent
from nas.spec import Budget, JobSpec
from nas.stages._choice import choose
from nas.stages._contest import DeliveryPlan, Rung, contests, fitting_plan, plan_of, rungs_of
from nas.stages._preflight import phases_of
from nas.stages._trust import checked
from searchspaces import REGISTRY as SPACES
from searchspaces.tables import REGISTRY as TABLES

SPEC: dict[str, Any] = {
    "dataset": {"name": "digits", "config": {"limit": 40}},
    "objectives": {"accuracy": "max"},
}


@dataclass
class View:
    """A job's candidates, without a store."""

    spec: JobSpec
    rows: list[Candidate] = field(default_factory=list)

    def job(self) -> Job:
        return Job(
            job_id="job_1",
            name="search",
            state=JobState.RUNNING,
            progress=Progress(),
            spec=self.spec.to_mapping(),
            spec_digest="",
            budget=Budget(),
            spent=Spent(),
            objectives=objectives_of(self.spec),
            version=1,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )

    def front(self) -> ParetoFront:
        return ParetoFront(job_id="job_1", objectives=objectives_of(self.spec), points=())

    def candidates(self, having: str | None = None) -> list[Candidate]:
        return [c for c in self.rows if having is None or having in c.values]

    def settled(self, *levels: str) -> list[Evaluation]:
        return []

    def evaluations(self, digest: str) -> list[Evaluation]:
        return []

    def results(self, phase: object) -> list[object]:
        return []


def view_of(
    inherited: Any, *, truth: Any = None, audited: Any = (), flops: Any = None, cost: Any = None, **changes: Any
) -> View:
    """Candidates with these inherited accuracies; the audited ones with their true accuracy too."""
    space: Any = SPACES["nasbench201"]()
    view = View(JobSpec.from_mapping({**SPEC, **changes}))
    for number, value in enumerate(inherited):
        architecture = space.at(31 * number)
        values = {"accuracy@supernet": float(value)}
        values["live_flops@cost"] = float(number if flops is None else flops[number])
        values["params@cost"] = float(1000 + number if cost is None else cost[number])
        if number in audited:
            values["accuracy@short"] = float(truth[number])
        row = Candidate(
            job_id="job_1", digest=architecture.digest, text=architecture.text, number=number, values=values
        )
        view.rows.append(row)
    return view


def chosen(view: View, num_samples: int = 1000) -> Choice:
    held: JobView = view  # type: ignore[assignment]
    found = choose(held, view.spec, checked(held, view.spec), num_samples=num_samples)
    assert found is not None
    return found


def misleading(**changes: Any) -> tuple[View, np.ndarray]:
    """The inherited ranking points the wrong way; FLOPs say nearly all; a third is audited."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0.9, 0.03, 90)
    inherited = 0.8 - (truth - 0.9) + rng.normal(0, 0.03, 90)
    flops = 1e6 * (1 + truth + 0.002 * rng.normal(size=90))
    audited = set(np.argsort(-inherited)[:15]) | set(rng.choice(90, 15, replace=False))
    return view_of(inherited, truth=truth, audited=audited, flops=flops, **changes), truth


def test_an_audited_better_network_comes_before_the_one_with_the_best_inherited_accuracy() -> None:
    inherited = np.linspace(0.95, 0.5, 6)
    truth = [0.953, 0.60, 0.981, 0.62, 0.61, 0.60]
    first = chosen(view_of(inherited, truth=truth, audited=range(6), flops=np.zeros(6)))
    assert (first.best.number, first.best.basis) == (2, "audited")
    assert first.best.mean == pytest.approx(0.981, abs=0.01)
    assert first.reason.startswith("audited accuracy 0.98")
    assert first.warning is None


def test_a_free_baseline_that_ranks_better_judges_what_was_not_audited() -> None:
    view, truth = misleading()
    first = chosen(view)
    assert first.audited >= 20
    assert first.ranker is not None
    assert "accuracy" not in first.ranker
    assert first.explained is not None
    assert first.explained > 0.8
    best_inherited = max(view.rows, key=lambda c: c.values["accuracy@supernet"])
    assert truth[first.best.number] > truth[best_inherited.number] + 0.02
    assert truth[first.best.number] >= np.sort(truth)[-5]
    assert "which ranks better than inherited accuracy" in first.reason
    unaudited = [e for e in first.estimates if e.basis == "predicted"]
    assert unaudited
    assert all(abs(truth[e.number] - e.mean) < 5 * (e.std or 0.0) for e in unaudited)


def test_equal_jobs_choose_equally() -> None:
    assert chosen(misleading()[0]) == chosen(misleading()[0])


@pytest.mark.parametrize("audited", [(), (0, 3)])
def test_without_an_audit_inherited_values_choose_and_a_warning_says_so(audited: tuple[int, ...]) -> None:
    first = chosen(view_of([0.5, 0.7, 0.9, 0.6], truth=[0.9] * 4, audited=audited))
    assert (first.best.number, first.best.basis, first.best.std) == (2, "unchecked", None)
    assert first.reason == "inherited accuracy 0.9"
    assert first.warning is not None
    assert "nothing says how far inherited accuracy can be trusted" in first.warning


def test_a_search_that_trains_its_networks_takes_what_it_measured_with_its_noise() -> None:
    view = view_of([0.5, 0.7, 0.9], evaluator="standalone")
    for row in view.rows:
        row.values["accuracy@short"] = row.values.pop("accuracy@supernet")
    first = chosen(view)
    assert (first.best.number, first.best.basis, first.ranker) == (2, "measured", None)
    assert first.best.std == pytest.approx(np.sqrt(2 * 0.9 * 0.1 / 1000), rel=0.05)
    assert first.warning is None
    assert first.reason == "accuracy after short training 0.9 ± 0.013"


def test_bounds_on_costs_hold_and_those_on_the_metric_hold_of_what_is_believed() -> None:
    inherited, truth = np.linspace(0.95, 0.5, 6), [0.60, 0.95, 0.981, 0.62, 0.61, 0.60]
    bounds = ["accuracy >= 0.9", "params <= 1001"]
    first = chosen(view_of(inherited, truth=truth, audited=range(6), flops=np.zeros(6), constraints=bounds))
    assert [estimate.number for estimate in first.estimates] == [1]
    nobody = chosen(view_of(inherited, truth=truth, audited=range(6), flops=np.zeros(6), constraints=["accuracy >= 1"]))
    assert nobody.best.number == 2
    assert nobody.warning == "no candidate is expected to meet accuracy >= 1; the nearest come first"


def test_with_several_objectives_the_front_is_that_of_the_evidence() -> None:
    inherited, truth = [0.9, 0.8, 0.7, 0.6, 0.5], [0.7, 0.8, 0.9, 0.6, 0.5]
    objectives = {"accuracy": "max", "params": "min"}
    view = view_of(
        inherited, truth=truth, audited=range(5), flops=np.zeros(5), cost=[1, 2, 3, 4, 5], objectives=objectives
    )
    first = chosen(view, num_samples=10**6)
    assert [e.number for e in first.estimates if e.on_front] == [2, 1, 0]
    assert [e.values for e in first.estimates if e.on_front] == [{"params@cost": p} for p in (3.0, 2.0, 1.0)]


def test_each_place_is_contended_for_by_those_that_cost_no_more_and_nobody_contends_twice() -> None:
    view, _ = misleading(objectives={"accuracy": "max", "params": "min"}, deliver={"networks": 3, "contenders": 4})
    first = chosen(view)
    cost = {c.digest: c.values["params@cost"] for c in view.rows}
    assert len(first.contests) == 3
    assert first.contests[0][0] == first.best.digest
    every = [digest for contest in first.contests for digest in contest]
    assert len(set(every)) == len(every)
    for point, *others in first.contests[1:]:
        assert all(cost[other] <= cost[point] for other in others)
    assert {e.digest for e in first.estimates} >= set(every)


def test_networks_that_differ_in_nothing_that_runs_contend_once() -> None:
    same = [0, 0, 1, 2]
    found = contests([0], [0, 1, 2, 3], np.zeros((4, 0)), 3, same_as=same.__getitem__)
    assert found == [[0, 2, 3]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"evaluator": "standalone"},
        {"evaluator": {"name": "proxy", "config": {"proxy": "jacov"}}, "objectives": {"score": "max"}},
        {"audit": {"networks": 0}, "deliver": {"networks": 0}},
        {"scoring": {"proxies": ["jacov"], "pool": 10}},
        {"dataset": None, "evaluator": {"name": "external", "config": {"metrics": {"accuracy": "full"}}}},
    ],
)
def test_the_phases_that_preflight_names_are_those_that_plan_work(changes: dict[str, Any]) -> None:
    view = view_of([0.5, 0.7, 0.9], **changes)
    for row in view.rows:
        row.values.update({o.key: row.values["accuracy@supernet"] for o in objectives_of(view.spec)})
    held: JobView = view  # type: ignore[assignment]
    busy = tuple(phase for phase, stage in STAGES.items() if stage.plan(view.spec, held))
    assert phases_of(view.spec) == busy


@pytest.mark.slow
def test_on_a_real_table_what_is_chosen_is_better_than_what_a_noisy_ranking_puts_first(data_folder: Path) -> None:
    """300 networks of NAS-Bench-201 ranked by their accuracy with noise, 30 audited with a tenth of that."""
    table: Any = TABLES["nasbench201"]()
    truth, gains = table.measured["accuracy"][200.0].mean, []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        numbers = rng.choice(len(truth), 300, replace=False)
        ranked = truth[numbers] + rng.normal(0, 0.05, 300)
        audited = {*np.argsort(-ranked)[:15].tolist(), *rng.choice(300, 15, replace=False).tolist()}
        view = View(JobSpec.from_mapping({**SPEC, "seed": seed}))
        for place, number in enumerate(numbers):
            architecture = table.space.at(int(number))
            counts = table.space.counts(architecture, live=True)
            values = {"accuracy@supernet": float(ranked[place]), "live_flops@cost": float(counts.flops)}
            if place in audited:
                values["accuracy@short"] = float(truth[number] + rng.normal(0, 0.005))
            named = {"digest": architecture.digest, "text": architecture.text, "number": place}
            view.rows.append(Candidate(job_id="job_1", values=values, **named))
        gains.append(truth[numbers[chosen(view, 5000).best.number]] - truth[numbers[ranked.argmax()]])
    assert np.mean(gains) > 0.008  # it is 0.016, with a standard error of 0.002


# --- rungs ------------------------------------------------------------------------------------------------------------


def test_rungs_halve_and_take_no_longer_than_the_final_training() -> None:
    assert rungs_of(4, 60) == (Rung(4, 7), Rung(2, 15))
    assert rungs_of(8, 120) == (Rung(8, 5), Rung(4, 10), Rung(2, 20))
    assert rungs_of(4, 2) == (Rung(2, 1),)
    assert rungs_of(4, 1) == rungs_of(1, 60) == ()
    for contenders in range(1, 20):
        for epochs in (1, 2, 3, 5, 9, 17, 60, 200):
            rungs = rungs_of(contenders, epochs)
            assert sum(rung.num_networks * rung.epochs for rung in rungs) <= epochs
            assert [rung.epochs for rung in rungs] == sorted(rung.epochs for rung in rungs)


def test_a_delivery_is_planned_to_fit_the_time_there_is() -> None:
    deliver = JobSpec.from_mapping({**SPEC, "deliver": {"training": {"epochs": 60}}}).deliver
    speed = {"train_epoch": 1.0, "final_epoch": 1.5}
    assert plan_of(deliver) == DeliveryPlan(4, 60)
    assert plan_of(deliver).seconds(**speed) == 4 * 7 + 2 * 15 + 60 * 1.5
    assert fitting_plan(deliver, 1e9, **speed) == plan_of(deliver)
    for seconds in (10.0, 20.0, 60.0, 100.0, 147.0):
        plan = fitting_plan(deliver, seconds, **speed)
        assert seconds - 2 * (1.0 * 4 + 1.5) < plan.seconds(**speed) <= seconds
    assert fitting_plan(deliver, 5.0, **speed) == DeliveryPlan(1, 3)
    assert fitting_plan(deliver, 0.0, **speed) == DeliveryPlan(1, 1)
