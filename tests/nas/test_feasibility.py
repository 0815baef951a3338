"""Constraints that nothing meets: refused where that is known, and else the search ends early with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from db import Store
from nas.admission import admit
from nas.evaluators import Request
from nas.evaluators.table import TableEvaluator
from nas.quantities import parse_constraint
from nas.resources import Evaluation, EvaluationState, Fidelity, JobState, Measurement, PreflightReport, Proposal
from nas.stages import preflight
from nas.stages._feasibility import Failures, Feasibility
from searchspaces import MeasurementError, SpecError
from tests.nas.test_odd_numbers import table
from tests.nas.test_table_jobs import Ran

TRAINED: dict[str, Any] = {"dataset": "digits", "objectives": {"accuracy": "max"}}


def refused(mapping: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        admit(mapping, datasets={})
    return {violation.field: violation.allowed for violation in caught.value.violations}


@pytest.mark.parametrize(
    ("evaluator", "bound", "said"),
    [
        ("supernet", "accuracy >= 90", "from 0 to 1; did you mean accuracy >= 90%?"),
        ("standalone", "accuracy >= 101%", "from 0 to 1"),
        ("standalone", "accuracy <= -0.1", "from 0 to 1"),
        ("supernet", "loss <= -1", "from 0 up"),
    ],
)
def test_a_bound_outside_what_a_metric_can_be_is_refused(evaluator: str, bound: str, said: str) -> None:
    wrong = refused({**TRAINED, "evaluator": evaluator, "constraints": ["params <= 1M", bound]})
    assert list(wrong) == ["constraints.1"]
    assert said in wrong["constraints.1"]


@pytest.mark.parametrize("bound", ["accuracy >= 100%", "accuracy >= 1", "accuracy <= 0", "loss >= 100", "loss <= 0"])
def test_a_bound_that_can_be_met_is_not_refused(bound: str) -> None:
    assert admit({**TRAINED, "constraints": [bound]}, datasets={})


def test_a_bound_beyond_a_tables_values_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    spec = table(tmp_path / "t.csv")
    wrong = refused({**spec, "constraints": ["accuracy >= 95", "accuracy <= 90%"]})
    assert list(wrong) == ["constraints.0", "constraints.1"]
    assert wrong["constraints.0"].startswith("a bound that accuracy can meet, which goes from 50.")
    assert "did you mean accuracy <= 90?" in wrong["constraints.1"]
    assert admit({**spec, "constraints": ["accuracy >= 89", "accuracy <= 51"]}, datasets={})


def reported(mapping: dict[str, Any]) -> PreflightReport:
    return preflight(admit(mapping, datasets={})[0])


@pytest.mark.parametrize("bounds", [["accuracy >= 85", "accuracy <= 55"], ["accuracy >= 89", "latency <= 1.01"]])
def test_bounds_that_no_row_of_a_table_meets_together_are_refused(bounds: list[str], tmp_path: Path) -> None:
    spec = {**table(tmp_path / "t.csv"), "constraints": bounds}
    report = reported(spec)
    rows = pd.read_csv(tmp_path / "t.csv")
    alone = (rows["accuracy"] >= float(bounds[0].split()[-1])).sum()
    assert report.satisfiable is False
    assert report.unmet == (report.unmet[0],)
    assert report.unmet[0].startswith("none of 400 architectures meets these bounds together: accuracy >= 8")
    assert f" is met by {alone}, " in report.unmet[0]
    job = Ran(Store.open(None, tmp_path), tmp_path, spec).job
    assert (job.state, job.spent.evaluations) == (JobState.FAILED, 0)
    assert [violation.field for violation in job.violations] == ["constraints"]


def test_how_many_rows_of_a_table_meet_all_bounds_is_said(tmp_path: Path) -> None:
    spec = {**table(tmp_path / "t.csv"), "constraints": ["accuracy >= 60", "latency <= 1.5"]}
    rows = pd.read_csv(tmp_path / "t.csv")
    num = ((rows["accuracy"] >= 60) & (rows["cost.latency"] <= 1.5)).sum()
    report = reported(spec)
    assert f"{num} of 400 architectures meet all constraints" in report.notes
    assert report.share_feasible == num / 400


def test_bounds_on_costs_that_a_table_does_not_know_are_counted_too(tmp_path: Path) -> None:
    spec = table(tmp_path / "t.csv")
    lines = [f'"a={a},b={b}",{a + 1}' for a in range(20) for b in range(20)]
    (tmp_path / "own.csv").write_text("\n".join(["architecture,value", *lines]))
    own = {"name": "lookup", "config": {"path": str(tmp_path / "own.csv"), "unit": "ms"}}
    rows = pd.read_csv(tmp_path / "t.csv")
    num = ((rows["accuracy"] >= 80) & (rows["decision.a"] <= 3)).sum()
    report = reported({**spec, "costs": {"own": own}, "constraints": ["accuracy >= 80", "own <= 4"]})
    assert f"{num} of 400 architectures meet all constraints" in report.notes


def test_a_metric_whose_range_nobody_knows_is_named_where_it_is_bounded() -> None:
    spec = {"space": "macro", "evaluator": "external", "objectives": {"accuracy": "max"}, "audit": {"networks": 0}}
    (note,) = (n for n in reported({**spec, "constraints": ["accuracy >= 90"]}).notes if "constraints.0" in n)
    assert "nothing says how far accuracy goes" in note


def test_a_search_whose_evaluations_all_fail_alike_ends_early_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(self: TableEvaluator, request: Request, seed: int) -> None:
        raise MeasurementError(
            f"{request.architecture.text} took {int(request.architecture.digest[:4], 16) / 7} s: no licence."
        )

    monkeypatch.setattr(TableEvaluator, "look_up", look_up)
    spec = {**table(tmp_path / "t.csv"), "budget": {"evaluations": 300}}
    job = Ran(Store.open(None, tmp_path), tmp_path, spec).job
    assert job.state is JobState.FAILED
    assert 50 <= job.spent.evaluations < 60
    assert "evaluations failed for one reason: " in str(job.reason)
    assert "no licence" in str(job.reason)


def test_a_search_without_a_feasible_candidate_ends_early_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.stages._known.known_values_of", lambda spec: None)  # as of an evaluator that knows nothing
    spec = {**table(tmp_path / "t.csv"), "constraints": ["accuracy >= 85", "accuracy <= 55"]}
    job = Ran(Store.open(None, tmp_path), tmp_path, {**spec, "budget": {"evaluations": 300}}).job
    assert job.state is JobState.FAILED
    assert job.spent.evaluations < 150
    assert job.reason is not None
    assert "measured architectures meets the constraints, the nearest has accuracy" in job.reason
    assert "where >= 85 is asked" in job.reason or "where <= 55 is asked" in job.reason


# --- the rule ---------------------------------------------------------------------------------------------------------


def ended(values: list[float], bound: str, budget: int) -> int | None:
    """After how many values the rule ends a search; None: never."""
    constraint, found = parse_constraint(bound), Feasibility()
    for number, value in enumerate(values, 1):
        violation = constraint.violation(value)
        measured = Measurement(metric=constraint.metric, value=value, fidelity=Fidelity(level="full"))
        evaluation = Evaluation(
            evaluation_id=f"eval_1_{number}",
            job_id="job_1",
            number=number,
            proposal=Proposal(text="a", digest="d", fidelity=measured.fidelity),
            state=EvaluationState.INFEASIBLE if violation else EvaluationState.FINISHED,
            violation=violation,
            measurements=(measured,),
        )
        found.note(evaluation)
        if found.why_hopeless([constraint], budget):
            return number
    return None


def draws(seed: int, number: int = 400) -> list[float]:
    return list(map(float, np.random.default_rng(seed).normal(0.9, 0.01, number)))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_far_out_of_reach_ends_soon(seed: int) -> None:
    assert (ended(draws(seed), "accuracy >= 90", 10_000) or 10_000) < 100
    assert (ended(draws(seed), "accuracy >= 97%", 400) or 400) <= 200


@pytest.mark.parametrize("bound", [0.92054, 0.92326])  # what one in fifty meets, and one in a hundred
def test_what_some_meet_is_given_its_time(bound: float) -> None:
    to_come = [seed for seed in range(100) if max(draws(seed)) >= bound]
    assert len(to_come) >= 90
    assert sum(ended(draws(seed), f"accuracy >= {bound}", 400) is not None for seed in to_come) <= 1


def test_a_heap_of_one_in_twenty_is_nearly_always_given_its_time() -> None:
    def heaps(seed: int) -> list[float]:
        rng = np.random.default_rng(seed)
        return list(map(float, np.where(rng.random(150) < 0.05, 0.9, 0.1) + rng.normal(0, 0.01, 150)))

    assert sum(ended(heaps(seed), "accuracy >= 0.8", 400) is not None for seed in range(100)) <= 3


def test_a_searcher_that_comes_nearer_is_given_the_whole_budget() -> None:
    climbing = [0.5 + 0.001 * step for step in range(400)]
    assert ended(climbing, "accuracy >= 0.89", 400) is None
    assert ended(climbing, "accuracy >= 1.5", 400) == 100  # at three times its pace it ends at 1.4


def test_what_comes_no_nearer_ends_when_the_rest_of_the_budget_holds_no_more() -> None:
    falling = [*draws(1, 5), *(0.85 + 0.04 * (number % 2) for number in range(395))]
    assert [ended(falling, "accuracy >= 0.935", budget) for budget in (120, 400, 4000)] == [90, 115, 339]


def failed(number: int, error: str) -> Evaluation:
    fidelity = Fidelity(level="full")
    proposal = Proposal(text=f"network {number}", digest="d", fidelity=fidelity)
    state = EvaluationState.FAILED if error else EvaluationState.INFEASIBLE
    each = f"eval_1_{number}"
    return Evaluation(
        evaluation_id=each, job_id="j", number=number, proposal=proposal, state=state, error=error or None
    )


@pytest.mark.parametrize(("budget", "after"), [(1000, 50), (60, 30), (30, 20), (10, None)])
def test_one_reason_for_all_failures_ends_a_search(budget: int, after: int | None) -> None:
    found = Failures()
    for number in range(budget):
        found.note(failed(number, f"network {number} needs {number * 1.5:g} GB"))
        if found.why_hopeless(budget):
            break
    assert (number + 1 if found.why_hopeless(budget) else None) == after


@pytest.mark.parametrize(("other", "after"), [("", None), ("another reason", 200)])
def test_of_a_search_that_fails_for_several_reasons_more_is_seen_before_it_ends(other: str, after: int | None) -> None:
    found, ended_after = Failures(), list[int]()
    found.note(failed(0, other))
    for number in range(1, 500):
        found.note(failed(number, f"network {number} is broken"))
        if found.why_hopeless(1000):
            ended_after.append(number + 1)
    assert ended_after[:1] == ([after] if after else [])
    assert after is None or "failed for 2 reasons, the last: network 499 is broken" in str(found.why_hopeless(1000))


def test_one_feasible_candidate_is_enough_to_go_on() -> None:
    assert ended([0.95, *draws(0)], "accuracy >= 0.95", 400) is None
