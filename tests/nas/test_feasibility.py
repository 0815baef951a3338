"""Constraints that nothing meets: refused where that is known, and else the search ends early with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db import Store
from nas.admission import admit
from nas.quantities import parse_constraint
from nas.resources import Evaluation, EvaluationState, Fidelity, JobState, Measurement, Proposal
from nas.stages._feasibility import Feasibility
from searchspaces import SpecError
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


def test_a_search_without_a_feasible_candidate_ends_early_and_says_why(tmp_path: Path) -> None:
    spec = {**table(tmp_path / "t.csv"), "constraints": ["accuracy >= 85", "accuracy <= 55"]}
    job = Ran(Store.open(None, tmp_path), tmp_path, {**spec, "budget": {"evaluations": 300}}).job
    assert job.state is JobState.FAILED
    assert job.spent.evaluations < 40
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
    assert (ended(draws(seed), "accuracy >= 99.9%", 400) or 400) <= 200


def test_what_one_in_fifty_meets_is_nearly_always_given_its_time() -> None:
    lost = sum(ended(draws(seed), "accuracy >= 0.92054", 400) is not None for seed in range(100))
    assert lost <= 5  # of 98 % of random searches a feasible one is among the first half


def test_a_searcher_that_comes_nearer_is_given_the_whole_budget() -> None:
    climbing = [0.5 + 0.001 * step for step in range(400)]
    assert ended(climbing, "accuracy >= 0.95", 400) is None


def test_what_comes_no_nearer_ends_at_half_of_the_budget() -> None:
    falling = [*draws(1, 5), *(0.85 + 0.04 * (number % 2) for number in range(395))]
    assert ended(falling, "accuracy >= 0.935", 400) == 200


def test_one_feasible_candidate_is_enough_to_go_on() -> None:
    assert ended([0.95, *draws(0)], "accuracy >= 0.95", 400) is None
