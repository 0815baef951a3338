"""What a spec must pass before a job is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nas.admission import admit
from nas.resources import DatasetInfo
from nas.spec import JobSpec
from nas.stages import preflight
from nas.workbench import Workbench
from searchspaces import OutOfMemory, SpecError
from tests.nas.impossible import refuse_impossible

SMALL: dict[str, Any] = {
    "space": {"name": "nasbench201", "config": {"channels": 4, "cells_per_stage": 1}},
    "dataset": "digits",
    "audit": {"networks": 2, "training": {"epochs": 1}},
    "budget": {"evaluations": 10, "epochs": 2},
}


def refused(mapping: dict[str, Any], **given: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        admit(mapping, **{"datasets": {}, **given})
    return {violation.field: violation.allowed for violation in caught.value.violations}


def test_all_violations_are_told_at_once() -> None:
    wrong = refused(
        {
            "dataset": "nosuch",
            "space": "nosuch",
            "searcher": {"name": "gp_its", "config": {"initial": 0, "colour": 1}},
            "objectives": {"acuracy": "max"},
            "constraints": ["parms <= 3"],
        }
    )
    assert set(wrong) == {
        "dataset", "space", "searcher.config.initial", "searcher.config.colour", "objectives.acuracy", "constraints.0",
    }  # fmt: skip
    assert "nas data add" in wrong["dataset"]
    assert "nasbench201" in wrong["space"]
    assert "accuracy" in wrong["objectives.acuracy"]


def test_objectives_are_read_where_the_evaluator_measures() -> None:
    alone = {"name": "standalone", "config": {"level": "full"}}
    _, objectives = admit({**SMALL, "evaluator": alone, "objectives": {"accuracy": "max"}}, datasets={})
    assert [objective.key for objective in objectives] == ["accuracy@full"]
    _, objectives = admit({**SMALL, "objectives": {"loss": "min", "latency_ms": "min"}}, datasets={})
    assert [objective.key for objective in objectives] == ["loss@supernet", "latency_ms@cost"]


def test_a_registered_data_set_is_resolved_and_raw_paths_are_for_embedded_mode(tmp_path: Path) -> None:
    info = DatasetInfo(name="mine", plugin="npz", config={"path": "/data/mine.npz"})
    spec, _ = admit({"dataset": "mine"}, datasets={"mine": info}, embedded=False)
    assert (spec.dataset.name, spec.dataset.config) == ("npz", {"path": "/data/mine.npz"})
    changed = {"dataset": {"name": "mine", "config": {"seed": 1}}}
    assert "mine is registered with its settings" in refused(changed, datasets={"mine": info})["dataset.config"]
    raw = {"dataset": {"name": "npz", "config": {"path": "/data/mine.npz"}}}
    assert "dataset.config.path" in refused(raw, embedded=False)
    (tmp_path / "mine.npz").touch()
    there = {"dataset": {"name": "npz", "config": {"path": str(tmp_path / "mine.npz")}}}
    assert admit(there, datasets={})[0].dataset.name == "npz"
    split = {"dataset": {"name": "cifar10", "config": {"split_path": "/etc/shadow"}}}
    assert set(refused(split, embedded=False)) == {"dataset.config.split_path"}
    named = {"name": "options", "config": {"decisions": {"file": ["a", "b"], "path": ["1", "2"]}}}
    theirs = {"space": named, "evaluator": "external", "objectives": {"accuracy": "max"}}
    assert admit(theirs, datasets={}, embedded=False)[0].space.config == named["config"]


def test_a_supernet_is_taken_over_only_for_the_same_space_data_and_task() -> None:
    origin = JobSpec.from_mapping(SMALL)
    again = {**SMALL, "supernet": {"from": "job_1"}}
    assert admit(again, datasets={}, supernet_of=lambda _: origin)[0].supernet.from_job == "job_1"
    assert set(refused(again, supernet_of=lambda _: None)) == {"supernet.from"}
    assert set(refused({**again, "space": "nasbench201"}, supernet_of=lambda _: origin)) == {"space"}
    other_split = {**again, "dataset": {"name": "digits", "config": {"seed": 7}}}
    assert set(refused(other_split, supernet_of=lambda _: origin)) == {"dataset"}
    without = {key: value for key, value in again.items() if key != "dataset"}
    wrong = refused({**without, "evaluator": "external"}, supernet_of=lambda _: origin)
    assert wrong == {"dataset": "that of job_1, digits"}


def test_bounds_that_nothing_meets_are_refused_beside_a_measured_one_too() -> None:
    for bounds in (["params <= 10"], ["params <= 10", "latency_ms <= 1000"], ["params <= 5k", "params >= 20k"]):
        with pytest.raises(SpecError, match="params"):
            refuse_impossible(JobSpec.from_mapping({**SMALL, "constraints": bounds}))
    refuse_impossible(JobSpec.from_mapping({**SMALL, "constraints": ["params <= 4822", "latency_ms <= 1000"]}))


def test_bounds_that_only_together_nothing_meets_are_not_blamed_alone() -> None:
    bounds = ["params <= 4822", "flops >= 100k", "params >= 10"]
    with pytest.raises(SpecError) as caught:
        refuse_impossible(JobSpec.from_mapping({**SMALL, "constraints": bounds}))
    (told,) = [violation.value for violation in caught.value.violations]
    assert "goes from" not in told
    assert told.startswith("no architecture meets these bounds together: params <= 4822 leaves ")
    assert told.endswith("params >= 10 leaves 100.000%")
    with pytest.raises(SpecError, match="params <= 10, but params goes from 4822 to 23302") as caught:
        refuse_impossible(JobSpec.from_mapping({**SMALL, "constraints": [*bounds, "params <= 10"]}))
    assert len(caught.value.violations) == 1


def test_a_searcher_that_cannot_do_what_is_asked_is_refused() -> None:
    two, one = {"accuracy": "max", "params": "min"}, {"accuracy": "max"}

    def within(searcher: dict[str, Any]) -> dict[str, Any]:
        return {"name": "assisted", "config": {"searcher": searcher}}

    for name, objectives, complaint in (
        ("evopress", two, "one, as evopress takes no more"),
        ({"name": "ladder", "config": {"searcher": "robot"}}, two, "one, as robot takes no more"),
        ("cmaes", one, "ordinal decisions"),
        (within({"name": "warm_start", "config": {"searcher": "cmaes"}}), one, "cmaes; expected .* ordinal decisions"),
    ):
        with pytest.raises(SpecError, match=complaint):
            refuse_impossible(JobSpec.from_mapping({**SMALL, "searcher": name, "objectives": objectives}))
    refuse_impossible(JobSpec.from_mapping({**SMALL, "searcher": "evopress", "objectives": one}))


def test_data_that_cannot_be_read_and_a_space_that_does_not_fit_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "cut.npz"
    broken.write_bytes(b"PK\x03\x04 cut short")
    for path in (str(tmp_path / "missing.npz"), str(broken)):
        spec = JobSpec.from_mapping({**SMALL, "dataset": {"name": "npz", "config": {"path": path}}})
        with pytest.raises(SpecError, match=Path(path).name) as caught:
            refuse_impossible(spec)
        assert [violation.field for violation in caught.value.violations] == ["dataset"]
    unfit = {"name": "nasbench201", "config": {"num_classes": 3}}
    with pytest.raises(SpecError, match="num_classes"):
        refuse_impossible(JobSpec.from_mapping({**SMALL, "space": unfit}))


def test_preflight_reports_costs_memory_and_time_and_fits_the_training_into_the_wall_time() -> None:
    report = preflight(JobSpec.from_mapping({**SMALL, "constraints": ["params <= 12k"]}))
    params = next(cost for cost in report.costs if cost.metric == "params")
    assert (params.minimum, params.maximum) == (4822, 23_302)
    assert params.share_feasible is not None
    assert 0 < params.share_feasible < 1
    assert report.satisfiable is True
    assert report.largest_path_bytes is not None
    assert report.largest_path_bytes > 100_000
    hurried = {**SMALL, "budget": {"evaluations": 10, "epochs": 10_000, "wall_time": 5}}
    short = preflight(JobSpec.from_mapping(hurried))
    assert short.train_steps is not None
    assert short.train_steps < 10_000 * 17
    assert any("wall_time" in note for note in short.notes)


@pytest.mark.parametrize(("largest", "fits"), [(20, 16), (3, None)])
def test_a_batch_that_does_not_fit_is_measured_in_halves(
    monkeypatch: pytest.MonkeyPatch, largest: int, fits: int | None
) -> None:
    spec = JobSpec.from_mapping({**SMALL, "supernet": {"batch_size": 64}})
    bench, threads = Workbench(spec), torch.get_num_threads()
    narrow = bench.space.supernet(seed=0)

    def refuse(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > largest:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    narrow.register_forward_pre_hook(refuse)
    monkeypatch.setattr(type(bench.space), "supernet", lambda *_, **__: narrow)
    if fits is None:
        with pytest.raises(OutOfMemory, match="a step of 4 samples does not fit"):
            preflight(spec, bench=bench)
    else:
        assert f"parts of at most {fits} samples" in preflight(spec, bench=bench).notes[-1]
    assert torch.get_num_threads() == threads


def test_scoring_names_proxies_of_single_networks_once_and_a_pool_where_one_is_chosen_from() -> None:
    twice = [
        "swap",
        {"name": "swap", "config": {"repeats": 8}},
        "az_nas",
        "nosuch",
        {"name": "zen", "config": {"images": 0}},
    ]
    wrong = refused({**SMALL, "scoring": {"proxies": twice}, "searcher": "warm_start"})
    assert set(wrong) == {
        *(f"scoring.proxies.{number}" for number in (1, 2, 3)), "scoring.proxies.4.config.images", "scoring.pool",
    }  # fmt: skip
    assert "az_expressivity" in wrong["scoring.proxies.2"]
    held = {"name": "assisted", "config": {"searcher": {"name": "warm_start"}}}
    assert set(refused({**SMALL, "scoring": {"proxies": ["jacov"]}, "searcher": held})) == {"scoring.pool"}


def test_an_objective_may_name_a_proxy_that_the_job_scores() -> None:
    mapping = {**SMALL, "scoring": {"proxies": ["jacov"]}, "objectives": {"jacov": "max", "params": "min"}}
    _, objectives = admit(mapping, datasets={})
    assert [objective.key for objective in objectives] == ["jacov@proxy", "params@cost"]
    assert set(refused({**mapping, "scoring": {}})) == {"objectives.jacov"}


def test_a_held_searcher_or_predictor_that_does_not_exist_is_refused() -> None:
    config = {"searcher": {"name": "nosuch"}, "predictor": {"name": "gp", "config": {"colour": 1}}}
    wrong = refused({**SMALL, "searcher": {"name": "assisted", "config": config}})
    assert set(wrong) == {"searcher.config.searcher", "searcher.config.predictor"}
    assert "nosuch" in wrong["searcher.config.searcher"]


def test_preflight_says_which_proxies_have_no_score_here_and_expects_their_time() -> None:
    mapping = {
        **SMALL,
        "space": {"name": "macro", "config": {"width": 0.25}},
        "dataset": {"name": "digits", "config": {"limit": 60}},
    }
    mapping |= {"scoring": {"proxies": ["gradsign", "l2_norm"], "images": 4, "pool": 40}, "evaluator": "standalone"}
    report = preflight(JobSpec.from_mapping(mapping))
    assert [note for note in report.notes if note.startswith("gradsign has no score")]
    assert not [note for note in report.notes if note.startswith("l2_norm")]
    assert report.phase_seconds["SCORE"] > 0
