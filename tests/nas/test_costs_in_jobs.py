"""Costs in jobs: a file that covers a part of the space, and costs too dear to measure for every candidate."""

from __future__ import annotations

import csv
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from nas.resources import EvaluationState, JobState
from nas.spec import JobSpec
from nas.stages import preflight
from nas.stages._dear_costs import number_measured
from nas.workbench import Workbench
from predictors.costs import FEWEST, Cost, Reading
from predictors.costs import REGISTRY as COSTS
from predictors.ranking import kendall
from searchspaces import Architecture, Config, Plugin, SearchSpace, SpecError
from searchspaces.tables import REGISTRY as TABLES
from tests.nas.impossible import refuse_impossible
from tests.nas.test_table_jobs import Ran, own, run  # noqa: F401

CELLS = 300


@pytest.fixture
def phone(tmp_path: Path, data_folder: Path) -> Path:
    """A file of the latencies of 300 cells, as somebody would measure them."""
    table = TABLES["nasbench201"]()
    rows = np.random.default_rng(0).choice(len(table.texts), CELLS, replace=False)
    path = tmp_path / "phone.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "ms"])
        writer.writerows([table.texts[row], float(table.costs["latency_pixel3"].mean[row])] for row in rows)
    return path


def spec_with(path: Path, **settings: Any) -> dict[str, Any]:
    config = {"path": str(path), "column": "ms", "unit": "ms", **settings}
    return {
        "evaluator": "table",
        "searcher": "regularized_evolution",
        "objectives": {"accuracy": "max", "latency_phone": "min"},
        "costs": {"latency_phone": {"name": "lookup", "config": config}},
        "constraints": ["latency_phone <= 12"],
        "budget": {"evaluations": 60},
    }


def test_a_search_keeps_to_the_cells_whose_cost_is_known(run: Callable[..., Ran], phone: Path) -> None:  # noqa: F811
    found = run(**spec_with(phone))
    assert found.job.state is JobState.SUCCEEDED
    assert found.job.preflight is not None
    note = "phone.csv knows 300 of 15,625 architectures (1.92%); only these are searched (missing: predict takes all)"
    assert note.split("(missing", maxsplit=1)[0] in " ".join(found.job.preflight.notes)
    assert found.job.preflight.space_size == CELLS
    evaluations = found.evaluations()
    assert sum(e.state is EvaluationState.FINISHED for e in evaluations) == 60
    assert not [e.error for e in evaluations if e.error]
    known = {row[0] for row in csv.reader(StringIO(phone.read_text(encoding="utf-8")))}
    assert {e.proposal.text for e in evaluations} <= known


def test_a_search_goes_beyond_the_known_cells_where_the_others_may_be_predicted(
    run: Callable[..., Ran],  # noqa: F811
    phone: Path,
) -> None:
    found = run(**spec_with(phone, missing="predict"))
    job, evaluations = found.job, found.evaluations()
    assert job.state is JobState.SUCCEEDED
    assert job.preflight is not None
    assert job.preflight.space_size == 15_625
    (cost,) = (cost for cost in job.preflight.costs if cost.metric == "latency_phone")
    assert cost.predicted is not None
    assert cost.predicted.networks == CELLS
    assert any("the others are predicted, held-out error" in note for note in job.preflight.notes)
    costs = [m for e in evaluations for m in e.measurements if m.metric == "latency_phone"]
    predicted = [m for m in costs if m.context.get("predicted")]
    assert len(predicted) > len(costs) / 2
    assert all(m.context["error"] == cost.predicted.error for m in predicted)


def test_the_error_that_is_said_of_predictions_is_that_on_the_other_cells(phone: Path) -> None:
    spec = JobSpec.from_mapping(spec_with(phone, missing="predict"))
    cost = Workbench(spec).costs(["latency_phone"])["latency_phone"]
    table = TABLES["nasbench201"]()
    rows = np.random.default_rng(1).choice(len(table.texts), 1000, replace=False)
    true = table.costs["latency_pixel3"].mean[rows]
    guessed = np.array([cost.measure(table.space.parse(table.texts[row])).value for row in rows])
    assert cost.error is not None
    assert cost.error.kendall == pytest.approx(kendall(guessed, true), abs=0.04)
    assert cost.error.relative == pytest.approx(np.median(np.abs(guessed - true) / true), abs=0.02)
    assert cost.error.kendall is not None
    assert cost.error.kendall > 0.7


def test_a_file_that_covers_a_part_is_refused_where_all_is_asked_for(phone: Path) -> None:
    with pytest.raises(SpecError, match=r"knows 300 of 15,625 architectures.*missing: restrict or predict"):
        refuse_impossible(JobSpec.from_mapping(spec_with(phone, missing="refuse")))


def test_too_few_cells_to_learn_from_are_refused(tmp_path: Path, data_folder: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("architecture,ms\n|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,1\n", encoding="utf-8")
    with pytest.raises(SpecError, match="restrict, or at least 8 architectures to learn from"):
        refuse_impossible(JobSpec.from_mapping(spec_with(path, missing="predict")))


def test_files_that_have_nothing_in_common_are_refused(phone: Path, tmp_path: Path) -> None:
    lines = phone.read_text(encoding="utf-8").splitlines()
    spec = spec_with(phone)
    (tmp_path / "half.csv").write_text("\n".join(lines[:150]), encoding="utf-8")
    (tmp_path / "other.csv").write_text("\n".join([lines[0], *lines[150:]]), encoding="utf-8")
    spec["costs"] = {
        f"latency_{name}": {"name": "lookup", "config": {"path": str(tmp_path / name), "column": "ms", "unit": "ms"}}
        for name in ("half.csv", "other.csv")
    }
    spec["objectives"], spec["constraints"] = {"accuracy": "max"}, []
    with pytest.raises(SpecError, match="knows no architecture of this part"):
        refuse_impossible(JobSpec.from_mapping(spec))


def test_options_without_a_value_are_left_out(data_folder: Path) -> None:
    space = Workbench(JobSpec.from_mapping({"evaluator": "table"})).space
    values = {d.name: {option: 1.0 for option in d.options if option != "avg_pool_3x3"} for d in space.decisions}
    spec = spec_with(Path("none"))
    spec["costs"]["latency_phone"]["config"] = {"operations": values, "unit": "ms"}
    bench = Workbench(JobSpec.from_mapping(spec))
    assert bench.space.size() == 4**6
    assert all("avg_pool_3x3" not in dict(bench.space.sample(np.random.default_rng(i))).values() for i in range(20))
    assert any("operations knows 24 of 30 options" in note for note in preflight(bench.spec, bench=bench).notes)


def test_a_table_that_has_a_cost_of_some_rows_is_searched_where_it_has_it(
    run: Callable[..., Ran],  # noqa: F811
    own: Path,  # noqa: F811
) -> None:
    rows = pd.read_parquet(own)
    rows.loc[[1, 4, 5], "cost.latency_phone [ms]"] = np.nan
    rows.to_parquet(own)
    changes = {
        "space": {"name": "options", "config": {"file": str(own)}},
        "evaluator": "table",
        "searcher": "random",
        "budget": {"evaluations": 9},
    }
    found = run(**changes, objectives={"accuracy": "max", "latency_phone": "min"})
    assert found.job.state is JobState.SUCCEEDED, found.job.reason
    assert {e.state for e in found.evaluations()} == {EvaluationState.FINISHED}
    assert len(found.evaluations()) == 9
    assert found.job.preflight is not None
    assert any("latency_phone of 9 of its 12 architectures" in note for note in found.job.preflight.notes)
    others = run(**changes, objectives={"accuracy": "max"})
    assert others.job.preflight is not None
    assert others.job.preflight.space_size == 12


# --- costs that run the network --------------------------------------------------------------------------------------


class Slow(Cost):
    """A cost as a device would have it: mostly FLOPs, and something of each network's own; counts its calls."""

    asked: ClassVar[list[str]] = []
    moves_after: ClassVar[int | None] = None

    def __init__(self, config: Config, space: SearchSpace, device: str) -> None:
        self.space = space

    def measure(self, architecture: Architecture) -> Reading:
        self.asked.append(architecture.text)
        factor = 1 + 0.3 * (int(self.space.live(architecture).digest, 16) % 100) / 100
        device = "cuda" if self.moves_after is not None and len(self.asked) > self.moves_after else "cpu"
        return Reading(
            factor * (1 + self.space.counts(architecture, live=True).flops / 1e7), "ms", 0.1, {"device": device}
        )


SLOW = Plugin("slow_ms", "As a device would have it", "this test", Slow, flags={"unit": "ms", "measured": True})
SLOW_SPEC: dict[str, Any] = {
    "evaluator": "table",
    "searcher": "regularized_evolution",
    "objectives": {"accuracy": "max", "slow_ms": "min"},
    "constraints": ["slow_ms <= 9"],
    "budget": {"evaluations": 60},
}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, data_folder: Path) -> list[str]:
    """The networks that the registered cost `slow_ms` was measured of."""
    monkeypatch.setitem(COSTS._targets, "slow_ms", f"{__name__}:SLOW")
    monkeypatch.setattr(Slow, "asked", [])
    return Slow.asked


def test_the_front_is_measured_where_a_search_could_not_measure_all_it_proposed(
    run: Callable[..., Ran],  # noqa: F811
    slow: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nas.stages._dear_costs._SECONDS", 0.0)
    found = run(**SLOW_SPEC)
    job, evaluations = found.job, found.evaluations()
    assert job.state is JobState.SUCCEEDED
    assert job.preflight is not None
    (cost,) = (cost for cost in job.preflight.costs if cost.metric == "slow_ms")
    assert cost.predicted is not None
    assert cost.predicted.networks == FEWEST
    assert any(f"slow_ms is measured for {FEWEST} networks" in note for note in job.preflight.notes)
    searched = [e for e in evaluations if e.proposal.fidelity.level == "full"]
    assert job.spent.evaluations == 60
    predicted = [m for e in searched for m in e.measurements if m.metric == "slow_ms" and m.context.get("predicted")]
    assert len(predicted) > 40
    assert {m.context["error"] for m in predicted} == {cost.predicted.error}
    again = [e for e in evaluations if e.proposal.fidelity.level == "cost"]
    assert len(slow) <= FEWEST + len(again) + 2  # whether this is the device of preflight is tried twice
    truth = Slow(Config(), TABLES["nasbench201"]().space, "cpu")
    points = found.store.front(found.job_id).points
    assert points
    for point in points:
        assert point.values["slow_ms@cost"] == truth.measure(truth.space.parse(point.text)).value <= 9


@pytest.mark.parametrize(
    ("moves_after", "device", "said"),
    [
        (
            FEWEST,
            "cuda",
            "was measured at preflight otherwise than it is here (device cpu, here cuda), so it is",
        ),
        (FEWEST + 1, "cpu", "slow_ms stays predicted on the front: this worker cannot measure it like the others"),
    ],
)
def test_a_front_holds_one_device_though_the_work_moves_to_another(
    run: Callable[..., Ran],  # noqa: F811
    slow: list[str],
    monkeypatch: pytest.MonkeyPatch,
    moves_after: int,
    device: str,
    said: str,
) -> None:
    monkeypatch.setattr("nas.stages._dear_costs._SECONDS", 0.0)
    monkeypatch.setattr(Slow, "moves_after", moves_after)
    found = run(**SLOW_SPEC | {"constraints": [], "budget": {"evaluations": 30}})
    assert found.job.state is JobState.SUCCEEDED
    front = found.store.front(found.job_id)
    assert front.contexts["slow_ms@cost"] == {"device": device}
    log = [event.data["message"] for event in found.store.events(found.job_id, types=["log"]).items]
    assert any(said in message for message in log)
    for point in front.points:
        every = [m for e in found.store.candidate(found.job_id, point.digest).evaluations for m in e.measurements]
        assert {m.context["device"] for m in every if m.metric == "slow_ms"} == {device}


def test_all_is_measured_where_the_time_is_there(run: Callable[..., Ran], slow: list[str]) -> None:  # noqa: F811
    found = run(**SLOW_SPEC | {"constraints": []})
    measured = [m for e in found.evaluations() for m in e.measurements if m.metric == "slow_ms"]
    assert len(measured) >= 60
    assert not any(m.context.get("predicted") for m in measured)
    assert found.job.preflight is not None
    assert all(cost.predicted is None for cost in found.job.preflight.costs)


@pytest.mark.parametrize(
    ("seconds", "wall_time", "number"),
    [(1.0, None, 30), (0.1, None, 48), (20.0, None, 8), (1.0, 800, 40), (0.002, 60, None)],
)
def test_as_many_networks_are_measured_as_the_budget_carries(
    seconds: float, wall_time: float | None, number: int | None
) -> None:
    budget = {"evaluations": 1000, "wall_time": wall_time}
    spec = JobSpec.from_mapping({"budget": budget, "objectives": {"accuracy": "max", "latency_ms": "min"}})
    assert number_measured("latency_ms", seconds, spec) == number
