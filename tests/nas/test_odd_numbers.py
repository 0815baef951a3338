"""Numbers and texts that cannot be kept, and penalties as large as floats get: the search goes on without them."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db import Store
from nas.admission import admit
from nas.evaluators import EvaluationContext, Outcome, Request, writable
from nas.evaluators.table import TableEvaluator
from nas.pareto import Hypervolume
from nas.resources import Fidelity, JobState, Measurement, Objective
from nas.searchers import REGISTRY as SEARCHERS
from nas.searchers import make_searcher
from nas.simulation import Measured, simulate
from nas.spec import PluginRef
from searchspaces import REGISTRY as SPACES
from searchspaces import SpecError
from tests.nas.test_table_jobs import Ran

LARGEST = sys.float_info.max


def table(path: Path, penalty: float = 3.0) -> dict[str, Any]:
    """A spec over a table of 400 rows, a tenth of which has a penalty as its latency."""
    draw = random.Random(0)
    rows = [
        f"{a},{b},{50 + 40 * draw.random()},{penalty if draw.random() < 0.1 else 1 + draw.random()!r}\n"
        for a in range(20)
        for b in range(20)
    ]
    path.write_text("decision.a,decision.b,accuracy,cost.latency\n" + "".join(rows))
    return {
        "space": {"name": "options", "config": {"file": str(path)}},
        "evaluator": "table",
        "objectives": {"accuracy": "max", "latency": "min"},
        "searcher": "random",
        "batch": 4,
        "budget": {"evaluations": 60},
    }


def ended(tmp_path: Path, spec: dict[str, Any]) -> Ran:
    return Ran(Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path), tmp_path, spec)


def test_a_penalty_of_the_largest_float_leaves_out_the_hypervolume_and_the_search_goes_on(tmp_path: Path) -> None:
    spec = table(tmp_path / "t.csv", LARGEST)
    found = ended(tmp_path, {**spec, "constraints": ["latency <= 1.8"]})
    assert (found.job.state, found.job.reason, found.job.spent.evaluations) == (JobState.SUCCEEDED, None, 60)
    assert found.job.progress.infeasible > 0


def test_the_hypervolume_of_penalties_is_not_written(tmp_path: Path) -> None:
    job = ended(tmp_path, table(tmp_path / "t.csv", LARGEST)).job
    assert (job.state, job.spent.evaluations, job.progress.hypervolume) == (JobState.SUCCEEDED, 60, None)


def test_a_ladder_on_a_table_without_lengths_of_training_is_refused(tmp_path: Path) -> None:
    for searcher in ("random", "regularized_evolution"):
        ladder = {"name": "ladder", "config": {"searcher": searcher}}
        with pytest.raises(SpecError, match="ladder goes from short ones to long ones") as caught:
            admit({**table(tmp_path / "t.csv"), "searcher": ladder}, datasets={})
        assert [violation.field for violation in caught.value.violations] == ["evaluator"]


def test_a_hypervolume_beyond_a_float_is_infinite_and_stays_so() -> None:
    volume = Hypervolume((LARGEST, 1.0))
    assert volume.add((0.0, -9.0)) == math.inf
    assert volume.add((-5.0, -20.0)) == math.inf
    assert volume.value == math.inf


def test_what_cannot_be_kept_fails_its_evaluation_with_the_reason_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(self: TableEvaluator, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        for number, outcome in enumerate(honest(self, requests, context)):
            (first, *others) = outcome.measurements
            changes: list[dict[str, Any]] = [{"value": math.nan}, {"std": math.inf}, {"context": {"note": "a\0b"}}, {}]
            changed = (first.model_copy(update=changes[number % 4]), *others)
            yield Outcome(outcome.evaluation_id, changed)

    honest = TableEvaluator.evaluate
    monkeypatch.setattr(TableEvaluator, "evaluate", odd)
    found = ended(tmp_path, table(tmp_path / "t.csv"))
    assert (found.job.state, found.job.progress.failures) == (JobState.SUCCEEDED, 45)
    reasons = {e.error for e in found.evaluations() if e.error}
    assert {str(reason).partition(",")[0] for reason in reasons} == {
        "accuracy.value is nan", "accuracy.std is inf", r"accuracy.context.note is 'a\x00b'",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"value": math.nan}, "accuracy.value is nan"),
        ({"value": -math.inf}, "accuracy.value is -inf"),
        ({"std": math.nan}, "accuracy.std is nan"),
        ({"unit": "\ud800"}, "accuracy.unit is"),
        ({"metric": "a\0b"}, "metric is"),
        ({"context": {"runs": 10**400}}, "accuracy.context.runs is"),
        ({"context": {"share": math.inf}}, "accuracy.context.share is inf"),
        ({"fidelity": Fidelity(level="full", resources={"epochs": math.inf})}, "epochs is inf"),
    ],
)
def test_an_outcome_that_no_store_can_keep_is_a_failure(changes: dict[str, Any], said: str) -> None:
    measurement = Measurement(metric="accuracy", value=0.5, fidelity=Fidelity(level="full"))
    assert writable(Outcome("eval_1_1", (measurement,))).measurements == (measurement,)
    found = writable(Outcome("eval_1_1", (measurement.model_copy(update=changes),), seconds=math.nan))
    assert said in str(found.error)
    assert (found.measurements, found.seconds) == ((), None)
    json.dumps(found.error).encode()
    assert writable(Outcome("eval_1_1", error="broken\0\ud800")).error == r"broken\x00\ud800"


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name not in ("bananas", "gp", "cmaes", "assisted")])
def test_searchers_go_on_beside_penalties_of_the_largest_float(name: str) -> None:
    space = SPACES["options"]({"decisions": {n: [str(i) for i in range(12)] for n in "ab"}})
    objectives = (
        Objective(metric="latency", level="full", direction="min"),
        Objective(metric="accuracy", level="full", direction="max"),
    )[: 1 + bool(SEARCHERS[name].flags.get("multi_objective"))]
    draw = random.Random(0)

    def measure(*_: object) -> Measured:
        values = (LARGEST if draw.random() < 0.2 else 1 + draw.random(), 50 + 40 * draw.random())
        return Measured(values[: len(objectives)])

    run = simulate(make_searcher(PluginRef(name=name), space, objectives), measure, evaluations=30, batch=5)
    assert run.history.num_proposals == 30
    assert np.isfinite(run.history.losses()).all()
