"""Jobs over tables: what they find, what is refused, and how far short trainings can be trusted."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from api.worker import WorkerLoop
from db import Store
from nas.admission import admit
from nas.evaluators import REGISTRY, EvaluationContext, Request
from nas.resources import Evaluation, EvaluationState, Fidelity, Job, JobState
from nas.spec import JobSpec
from nas.stages import preflight
from nas.workbench import Workbench
from predictors.ranking import Design, kendall
from searchspaces import SpecError
from searchspaces.tables import REGISTRY as TABLES
from tests.conftest import ROOT
from tests.journeys.processes import wait_for
from tests.nas.impossible import refuse_impossible

SPEC: dict[str, Any] = {
    "evaluator": "table",
    "searcher": "regularized_evolution",
    "objectives": {"accuracy": "max", "latency_pixel3": "min"},
    "budget": {"evaluations": 40},
}
AT_12 = {"name": "table", "config": {"epochs": 12}}
UNKNOWN_RUNGS = {"rungs": [5, 108]}
LADDER = {"name": "ladder", "config": {"rungs": [12, 200], "searcher": "regularized_evolution"}}


class Ran:
    """A job that has ended, in a store of its own."""

    def __init__(self, store: Store, folder: Path, spec: dict[str, Any]) -> None:
        self.store = store
        self.job_id = store.create_job(*admit(spec, datasets={})).job_id
        loop = WorkerLoop(store, folder, lease_seconds=20)
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            wait_for(lambda: self.job.state.is_terminal, seconds=60, what="the end of the job")
        finally:
            loop.stop.set()
            thread.join(30)

    @property
    def job(self) -> Job:
        return self.store.job(self.job_id)

    def evaluations(self) -> list[Evaluation]:
        candidates = self.store.candidates(self.job_id, page_size=1000).items
        return [e for c in candidates for e in self.store.candidate(self.job_id, c.digest).evaluations]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Ran]]:
    numbers, stores = itertools.count(), list[Store]()

    def begin(**changes: Any) -> Ran:
        folder = tmp_path / f"job-{next(numbers)}"
        folder.mkdir()
        stores.append(Store.open(f"sqlite:///{folder / 'nas.db'}", folder))
        return Ran(stores[-1], folder, {**SPEC, **changes})

    yield begin
    for store in stores:
        store.close()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A table of the user's own: accuracy after 3 and 9 epochs, and a cost, of a space of twelve."""
    rows = list(itertools.product([1, 2, 3], ["relu", "gelu"], [16, 32]))
    depth, gelu, width = (np.array(column) for column in zip(*((d, a == "gelu", w) for d, a, w in rows), strict=True))
    columns = {
        "decision.depth": depth,
        "decision.activation": [activation for _, activation, _ in rows],
        "decision.width": width,
        "accuracy@3": 0.5 + 0.1 * gelu + 0.001 * width,
        "accuracy@9": 0.6 + 0.05 * depth + 0.02 * gelu + 0.002 * width,
        "cost.latency_phone [ms]": 1.0 * depth * width,
    }
    path = tmp_path / "mine.parquet"
    pd.DataFrame(columns).to_parquet(path)
    return path


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_over_a_table_meets_its_bound_and_its_front_is_the_true_one(
    run: Callable[..., Ran], data_folder: Path
) -> None:
    found = run(constraints=["latency_pixel3 <= 6"])
    job = found.job
    assert (job.state, job.spent.evaluations) == (JobState.SUCCEEDED, 40)
    assert (job.progress.audits_total, job.progress.deliveries_total, job.trust, job.deliveries) == (0, 0, None, ())
    assert job.preflight is not None
    assert "no data set is given, so nothing is trained: no audit and no deliver" in job.preflight.notes
    table = TABLES["nasbench201"]()
    evaluations = found.evaluations()
    rows = {e.proposal.text: table.row(table.space.parse(e.proposal.text)) for e in evaluations}
    latency, accuracy = table.costs["latency_pixel3"].mean, table.measured["accuracy"][200.0].mean
    done = [e for e in evaluations if e.state is EvaluationState.FINISHED]
    assert len(done) == 40
    assert all(latency[rows[e.proposal.text]] <= 6 for e in done)
    assert all((e.violation > 0) == (latency[rows[e.proposal.text]] > 6) for e in evaluations)
    values = {e.proposal.text: (-accuracy[rows[e.proposal.text]], latency[rows[e.proposal.text]]) for e in done}
    best = {
        text
        for text, mine in values.items()
        if not any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in values.values())
    }
    assert {point.text for point in found.store.front(found.job_id).points} == best


def test_a_ladder_measures_many_briefly_and_only_whole_trainings_are_on_the_front(
    run: Callable[..., Ran], data_folder: Path
) -> None:
    found = run(searcher=LADDER)
    spent = [e.proposal.fidelity for e in found.evaluations()]
    brief = [fidelity for fidelity in spent if fidelity.level == "partial"]
    whole = [fidelity for fidelity in spent if fidelity.level == "full"]
    assert {f.resources["epochs"] for f in brief} == {12.0}
    assert {f.resources["epochs"] for f in whole} == {200.0}
    assert len(brief) + len(whole) == found.job.spent.evaluations == 40
    assert 3 * len(whole) <= len(brief)
    table = TABLES["nasbench201"]()
    points = found.store.front(found.job_id).points
    assert points
    for point in points:
        row = table.row(table.space.parse(point.text))
        assert point.values["accuracy@full"] == table.measured["accuracy"][200.0].mean[row]
        assert "accuracy@partial" not in point.values  # of several rungs: the evaluations keep them apart
    measured = {c.text: c.values for c in found.store.candidates(found.job_id, page_size=100).items}
    assert sum("accuracy@full" in values for values in measured.values()) == len(whole)


def test_a_table_of_the_users_own_is_searched_to_its_end(run: Callable[..., Ran], own: Path) -> None:
    space = {"name": "options", "config": {"file": str(own)}}
    found = run(space=space, objectives={"accuracy": "max", "latency_phone": "min"}, searcher="random")
    assert found.job.state is JobState.SUCCEEDED
    assert len(found.evaluations()) == found.job.spent.evaluations == 12
    front = {point.text: point.values for point in found.store.front(found.job_id).points}
    assert front["depth=3,activation=gelu,width=32"]["accuracy@full"] == pytest.approx(0.834)
    assert front["depth=1,activation=gelu,width=16"]["latency_phone@cost"] == 16.0
    assert all("activation=gelu" in text for text in front)


def test_an_audit_by_the_table_says_what_short_trainings_are_worth(run: Callable[..., Ran], data_folder: Path) -> None:
    found = run(evaluator=AT_12, audit={"networks": 8, "evaluator": "table"}, objectives={"accuracy": "max"})
    job, table = found.job, TABLES["nasbench201"]()
    assert (job.progress.audited, job.progress.audits_total, job.progress.deliveries_total) == (8, 8, 0)
    assert job.trust is not None
    assert job.trust.provenance is not None
    assert job.trust.truth == "accuracy as table measures it, epochs 200"
    assert job.trust.provenance.context["epochs"] == 12
    audited = [e for e in found.evaluations() if e.proposal.fidelity.level == "full"]
    rows = [table.row(table.space.parse(e.proposal.text)) for e in audited]
    short, long = (table.measured["accuracy"][epochs].mean[rows] for epochs in (12.0, 200.0))
    of_space = [i for i, e in enumerate(audited) if "space" in e.proposal.memo]
    assert [(p.name, p.networks) for p in job.trust.populations] == [("space", 4), ("near_front", 4)]
    strata, sizes = zip(*(audited[i].proposal.memo["space"] for i in of_space), strict=True)
    ranker = next(found for found in job.trust.rankers if found.ranker == "accuracy@short")
    expected = kendall(long[of_space], short[of_space], design=Design(strata, sizes))
    assert ranker.kendall == pytest.approx(expected)
    assert ranker.near_front is not None
    assert job.spent.evaluations == job.budget.evaluations  # what the audit adds is not the search's
    levels = {o.key for o in job.objectives}
    assert levels == {"accuracy@short"}


def test_an_audit_reports_a_few_times_however_many_units_it_has_and_at_its_end(
    run: Callable[..., Ran], data_folder: Path
) -> None:
    audit = {"networks": 40, "evaluator": "table"}
    found = run(evaluator=AT_12, audit=audit, objectives={"accuracy": "max"}, budget={"evaluations": 60})
    events = found.store.events(found.job_id, types=["trust"]).items
    # Units of eight: a report after the first, then when half as many again are known, and at the end.
    assert [event.data["audited"] for event in events] == [8, 16, 24, 40]
    assert found.job.trust is not None
    assert found.job.trust.audited == 40


@pytest.mark.slow
def test_a_search_by_a_proxy_may_be_audited_by_a_table(run: Callable[..., Ran], data_folder: Path) -> None:
    found = run(
        space={"name": "nasbench201", "config": {"channels": 4, "cells_per_stage": 1}},
        dataset={"name": "digits", "config": {"limit": 200}},
        evaluator={"name": "proxy", "config": {"proxy": "jacov", "images": 16}},
        objectives={"score": "max"},
        budget={"evaluations": 24},
        audit={"networks": 8, "evaluator": "table"},
        deliver={"networks": 0},
    )
    trust = found.job.trust
    assert trust is not None
    assert trust.audited == 8
    assert trust.truth == "accuracy as table measures it, epochs 200"
    assert {"score@proxy", "live_flops"} <= {ranker.ranker for ranker in trust.rankers}


# --- looking up -------------------------------------------------------------------------------------------------------


def looked_up(config: dict[str, Any], *, seed: int = 0, replicates: int = 1) -> list[Any]:
    bench = Workbench(JobSpec.from_mapping({**SPEC, "evaluator": {"name": "table", "config": config}}))
    request = [
        Request(f"eval_{i}", bench.space.parse(TEXT), Fidelity(level="full"), replicate=i) for i in range(replicates)
    ]
    return list(REGISTRY["table"](config, bench).evaluate(request, EvaluationContext(seed=seed)))


TEXT = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
NOISY = {"table": {"name": "nasbench201", "config": {"split": "test"}}, "noise": "run"}


def test_noise_is_one_of_the_runs_and_each_replicate_another(data_folder: Path) -> None:
    table = TABLES["nasbench201"]({"split": "test"})
    series = table.measured["accuracy"][200.0]
    assert series.runs is not None
    row = table.row(table.space.parse(TEXT))
    runs = {float(run) for run in series.runs[row] if np.isfinite(run)}
    outcomes = looked_up(NOISY | {"epochs": 200}, replicates=len(runs) + 1)
    assert {outcome.measurements[0].value for outcome in outcomes[:-1]} == runs
    assert outcomes[-1].error == f"nasbench201 has no run {len(runs) + 1} of {TEXT}."


def test_a_measurement_says_which_table_how_long_and_the_time_it_took(data_folder: Path) -> None:
    bench = Workbench(JobSpec.from_mapping({**SPEC, "space": "nasbench101", "objectives": {"accuracy": "max"}}))
    architecture = next(bench.space.iterate())
    request = Request("eval_0", architecture, Fidelity(level="partial", resources={"epochs": 36}))
    (outcome,) = REGISTRY["table"]({}, bench).evaluate([request], EvaluationContext(seed=0))
    accuracy, seconds = outcome.measurements
    table = TABLES["nasbench101"]()
    row = table.row(architecture)
    assert accuracy.value == table.measured["accuracy"][36.0].mean[row]
    assert accuracy.fidelity == Fidelity(level="partial", resources={"epochs": 36})
    assert (accuracy.context["table"], accuracy.context["digest"]) == ("nasbench101", table.digest[:16])
    clock = table.measured["accuracy"][108.0].seconds
    assert clock is not None
    assert (seconds.metric, seconds.unit) == ("train_seconds", "s")
    assert seconds.value == pytest.approx(clock[row] / 3)


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(changes: dict[str, Any], *, embedded: bool = True) -> dict[str, tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        refuse_impossible(admit({**SPEC, **changes}, datasets={}, embedded=embedded)[0])
    return {violation.field: (violation.value, violation.allowed) for violation in caught.value.violations}


@pytest.mark.parametrize(
    ("changes", "field", "value", "way_out"),
    [
        (
            {"evaluator": {"name": "table", "config": {"table": "nosuch"}}},
            "evaluator.config.table",
            "'nosuch'",
            "one of autoformer, file, macro, nasbench101, nasbench201, nasbench_graph",
        ),
        (
            {"evaluator": {"name": "table", "config": {"table": "macro"}}},
            "evaluator.config.table",
            "'macro'",
            "a table of the space nasbench201",
        ),
        (
            {"evaluator": {"name": "table", "config": {"epochs": 50}}},
            "evaluator.config.epochs",
            "50",
            "one of 12, 200, which nasbench201 knows",
        ),
        (
            {"evaluator": {"name": "table", "config": {"noise": "run"}}},
            "evaluator.config.noise",
            "'run'",
            "mean; nasbench201 knows no single runs of this metric and split",
        ),
        (
            {"evaluator": {"name": "table", "config": {"table": {"name": "nasbench201", "config": {"split": "dev"}}}}},
            "evaluator.config.table.config.split",
            "'dev'",
            "'valid' or 'test'",
        ),
        (
            {"space": {"name": "options", "config": {}}, "objectives": {"accuracy": "max"}},
            "evaluator.config.table",
            "nothing",
            "a table of the space options",
        ),
        (
            {"searcher": "ladder"},
            "searcher.config.rungs",
            "4, 36, 108",
            "lengths of training that table knows here: 12, 200",
        ),
        ({"objectives": {"latency_pixel9": "min"}}, "objectives.latency_pixel9", "'latency_pixel9'", "latency_pixel3"),
        ({"scoring": {"proxies": ["synflow"]}}, "dataset", "nothing", "a data set, since scoring.proxies reads one"),
        ({"evaluator": "supernet", "objectives": {"accuracy": "max"}}, "dataset", "nothing", "supernet reads one"),
        (
            {"space": "nasbench_graph", "evaluator": "supernet", "objectives": {"accuracy": "max"}},
            "space",
            "'nasbench_graph'",
            "an evaluator such as table or external",
        ),
        ({"audit": {"evaluator": "table"}}, "audit.evaluator", "'table'", "another level than the search's"),
        (
            {"evaluator": AT_12, "audit": {"evaluator": {"name": "table", "config": {"epochs": 50}}}},
            "audit.evaluator.config.epochs",
            "50",
            "one of 12, 200",
        ),
    ],
)
def test_what_a_table_cannot_answer_is_refused_with_the_way_out(
    changes: dict[str, Any], field: str, value: str, way_out: str, data_folder: Path
) -> None:
    got, allowed = refused(changes)[field]
    assert got == value
    assert way_out in allowed


def test_a_bound_that_nothing_meets_is_refused_with_the_range_of_the_whole_table(data_folder: Path) -> None:
    latency = TABLES["nasbench201"]().costs["latency_pixel3"].mean
    why, _ = refused({"constraints": ["latency_pixel3 >= 100"]})["constraints"]
    assert (
        why == f"latency_pixel3 >= 100, but latency_pixel3 goes from {np.nanmin(latency):g} to {np.nanmax(latency):g}"
    )
    report = preflight(JobSpec.from_mapping({**SPEC, "constraints": ["latency_pixel3 >= 100"]}))
    (priced,) = [cost for cost in report.costs if cost.metric == "latency_pixel3"]
    assert (priced.unit, priced.maximum, priced.share_feasible) == ("ms", np.nanmax(latency), 0.0)


def test_a_table_whose_file_is_missing_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    value, allowed = refused({})["evaluator"]
    assert value == "table"
    assert f"{tmp_path / 'nasbench201.npz'} does not exist" in allowed
    assert "put nasbench201.npz there" in allowed


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"audit": {"evaluator": "supernet"}, "dataset": "digits"}, "needs no supernet, since table has none trained"),
        ({"audit": {"evaluator": "standalone"}}, "or a data set under `dataset`, which standalone reads"),
        ({"audit": {"evaluator": "proxy"}, "dataset": "digits"}, "measures accuracy at its level, proxy; this one"),
        (
            {"audit": {"evaluator": "standalone"}, "dataset": "digits", "space": "nasbench101"},
            "runs no networks, such as table, since nasbench101 builds none",
        ),
        (
            {"audit": {"evaluator": {"name": "external", "config": {"metrics": {"f1": "full"}}}}},
            "measures accuracy at its level, full; this one measures f1",
        ),
    ],
)
def test_an_audit_that_cannot_be_made_is_refused(changes: dict[str, Any], way_out: str, data_folder: Path) -> None:
    epochs = 36 if "space" in changes else 12
    short = {"evaluator": {"name": "table", "config": {"epochs": epochs}}, "objectives": {"accuracy": "max"}}
    told = refused({**short, **changes})
    assert told.keys() == {"audit.evaluator"}
    assert way_out in told["audit.evaluator"][1]


def test_a_table_of_a_space_that_does_not_exist_is_refused_by_the_field(own: Path) -> None:
    table = {"name": "file", "config": {"path": str(own), "space": "nonsense"}}
    told = refused({"evaluator": {"name": "table", "config": {"table": table}}})
    assert told.keys() == {"evaluator.config.table.config.space"}
    assert "nasbench201" in told["evaluator.config.table.config.space"][1]


def test_a_service_for_others_reads_no_paths_of_a_spec(own: Path, tmp_path: Path) -> None:
    mine, none = str(own), str(tmp_path / "none.parquet")
    table = {"name": "table", "config": {"table": {"name": "file", "config": {"path": mine}}}}
    costs = {"mine": {"name": "lookup", "config": {"path": mine, "unit": "ms"}}}
    wrong = refused({"evaluator": table, "costs": costs}, embedded=False)
    assert wrong.keys() == {"evaluator.config.table.config.path", "costs.mine.config.path"}
    assert all("no path" in allowed for _, allowed in wrong.values())
    told = [refused({"space": {"name": "options", "config": {"file": path}}}, embedded=False) for path in (mine, none)]
    assert [found.keys() for found in told] == [{"space.config.file"}] * 2  # nor does it say what files there are
    audited = refused({"evaluator": AT_12, "audit": {"evaluator": table}}, embedded=False)
    assert audited.keys() == {"audit.evaluator.config.table.config.path"}


# --- the documentation ------------------------------------------------------------------------------------------------


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", ["tables.md", "searchers.md"])
def test_the_python_of_the_documentation_runs(
    page: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), {"__name__": "documentation"})
    told = capsys.readouterr().out
    assert told
    documented = (ROOT / "docs" / page).read_text("utf-8")
    for best, hours in re.findall(r"best 0(\.\d{4}) after ([\d.]+) hours", told):
        assert f"{hours} hours to {best}" in documented


def test_the_specs_of_the_documentation_are_admitted(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(blocks("tables.md", "python")[0], {})
    for block in (*blocks("tables.md", "yaml"), *blocks("searchers.md", "yaml")):
        spec, _ = admit(yaml.safe_load(block), datasets={})
        refuse_impossible(spec)


def test_a_metric_that_nobody_asked_for_may_be_missing(run: Callable[..., Ran], tmp_path: Path) -> None:
    columns = {
        "decision.a": [1, 2, 3, 4],
        "accuracy@5": [0.1, 0.2, 0.3, np.nan],
        "f1@5": [np.nan, 0.2, np.nan, 0.4],
        "seconds@5": [1.0, np.nan, 3.0, 4.0],
    }
    pd.DataFrame(columns).to_csv(tmp_path / "mine.csv", index=False)
    space = {"name": "options", "config": {"file": str(tmp_path / "mine.csv")}}
    found = run(space=space, objectives={"accuracy": "max"}, searcher="grid", budget={"evaluations": 4})
    by_text = {e.proposal.text: e for e in found.evaluations()}
    values = {text: {m.metric: m.value for m in e.measurements} for text, e in by_text.items()}
    assert values["a=1"] == {"accuracy": 0.1, "train_seconds": 1.0}
    assert values["a=2"] == {"accuracy": 0.2, "f1": 0.2}
    assert by_text["a=4"].error == "mine has no accuracy of a=4."


@pytest.mark.parametrize(
    ("changed", "field", "complaint"),
    [
        ({"searcher": {"name": "ladder", "config": {"rungs": [4, 12]}}}, "searcher.config.rungs", "108 as the last"),
        (
            {
                "searcher": {
                    "name": "assisted",
                    "config": {"searcher": {"name": "ladder", "config": {"rungs": [5, 108]}}},
                }
            },
            "searcher.config.searcher.config.rungs",
            "lengths of training that table knows here: 4, 12, 36, 108",
        ),
        (
            {"evaluator": "proxy", "dataset": "digits", "objectives": {"score": "max"}, "searcher": "ladder"},
            "evaluator",
            "an evaluator that can spend fewer epochs: external, standalone, table",
        ),
        (
            {"searcher": {"name": "ladder", "config": {"searcher": "emars"}}},
            "searcher.config.searcher",
            "measures nothing twice",
        ),
    ],
)
def test_a_ladder_that_cannot_work_is_refused(
    changed: dict[str, object], field: str, complaint: str, data_folder: Path
) -> None:
    space = "nasbench201" if "dataset" in changed else "nasbench101"
    base = {"space": space, "evaluator": "table", "objectives": {"accuracy": "max"}}
    with pytest.raises(SpecError) as caught:
        admit(base | changed, datasets={})
    assert [violation.field for violation in caught.value.violations] == [field]
    assert complaint in caught.value.violations[0].allowed
