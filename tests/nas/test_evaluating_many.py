"""Many architectures in one call: what they share is computed once, and each gets the value it gets alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.evaluators import REGISTRY, EvaluationContext, Outcome, Request
from nas.resources import Fidelity
from nas.spec import JobSpec
from nas.streams import stream
from nas.training import DeviceData, calibration_images, evaluate_batches, set_statistics
from nas.workbench import Workbench, save_supernet
from searchspaces import Architecture

SPACES: Mapping[str, Mapping[str, object]] = {
    "macro": {"width": 0.125},
    "nasbench201": {"channels": 2, "cells_per_stage": 1},
}


def bench_of(space: str, folder: Path) -> Workbench:
    spec = JobSpec.from_mapping(
        {
            "space": {"name": space, "config": dict(SPACES[space])},
            "dataset": {"name": "digits", "config": {"limit": 60}},
            "device": "cpu",
            "precision": "fp32",
        }
    )
    file = folder / f"{space}.safetensors"
    save_supernet(Workbench(spec).space.supernet(seed=1), file)
    return Workbench(spec, supernet_file=file)


@pytest.fixture(params=list(SPACES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Workbench:
    return bench_of(request.param, tmp_path)


@pytest.fixture
def chains(tmp_path: Path) -> Workbench:
    return bench_of("macro", tmp_path)


def drawn(bench: Workbench, number: int) -> list[Architecture]:
    rng = stream(0, "test")
    return list(dict.fromkeys(bench.space.sample(rng) for _ in range(number)))


def evaluated(
    bench: Workbench, architectures: Sequence[Architecture], settings: Mapping[str, object] | None = None, **more: Any
) -> list[Outcome]:
    requests = [Request(a.text, a, Fidelity(level="supernet")) for a in architectures]
    evaluator = REGISTRY["supernet"](settings, bench)
    return list(evaluator.evaluate(requests, EvaluationContext(seed=3, **more)))


def values(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return {outcome.evaluation_id: {m.metric: m.value for m in outcome.measurements} for outcome in outcomes}


@pytest.mark.parametrize("eval_batch", [1024, 7])
@pytest.mark.parametrize("bn", ["batch", "recalibrated"])
def test_together_each_has_the_value_it_has_alone(bench: Workbench, bn: str, eval_batch: int) -> None:
    architectures, settings = drawn(bench, 12), {"bn": bn, "eval_batch": eval_batch}
    together = values(evaluated(bench, architectures, settings))
    for architecture in architectures:
        assert values(evaluated(bench, [architecture], settings)) == {architecture.text: together[architecture.text]}


def test_recalibrated_values_are_those_of_the_network_that_would_be_delivered(bench: Workbench) -> None:
    architectures = drawn(bench, 6)
    settings = {"bn": "recalibrated", "calibration_batches": 3}
    together = values(evaluated(bench, architectures, settings))
    data = [DeviceData.of(split, bench.dataset, "cpu") for split in (bench.dataset.train, bench.dataset.valid)]
    images = calibration_images(data[0], seed=3, num_batches=3)
    for architecture in architectures:
        network = set_statistics(bench.supernet().extract(bench.space.live(architecture)), images)
        alone = evaluate_batches(network, data[1].batches(1024), bench.task)
        assert together[architecture.text] == pytest.approx(alone, abs=1e-6)


def test_equal_beginnings_of_chains_run_once(chains: Workbench) -> None:
    runs: Counter[str] = Counter()

    def count(name: str) -> Any:
        return lambda module, inputs: runs.update([name])

    for name, module in chains.supernet().named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(count(name))
    ends = [chains.space.parse("22222" + end) for end in ("111", "112", "121", "122", "211", "212", "221", "222")]
    evaluated(chains, ends)
    assert {count for name, count in runs.items() if "layers.4." in name} == {1}
    assert {count for name, count in runs.items() if "layers.5." in name} == {1}
    assert {count for name, count in runs.items() if "layers.6." in name} == {2}
    assert {count for name, count in runs.items() if "layers.7." in name} == {4}
    assert {count for name, count in runs.items() if "head." in name} == {8}


def test_what_is_equal_where_it_is_live_runs_once(tmp_path: Path) -> None:
    bench = bench_of("nasbench201", tmp_path)
    dead = "|none~0|+|{}~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|none~2|"
    twins = [bench.space.parse(dead.format(option)) for option in ("nor_conv_3x3", "skip_connect", "none")]
    runs: list[object] = []
    bench.supernet().register_forward_pre_hook(lambda module, inputs: runs.append(module))
    outcomes = evaluated(bench, twins)
    assert len(runs) == 1
    assert len({tuple(found.items()) for found in values(outcomes).values()}) == 1


@pytest.mark.parametrize("bn", ["batch", "recalibrated"])
def test_devices_share_a_call(bench: Workbench, bn: str) -> None:
    architectures = drawn(bench, 20)
    one = values(evaluated(bench, architectures, {"bn": bn}))
    two = evaluated(bench, architectures, {"bn": bn, "devices": ["cpu", "cpu"]})
    assert values(two) == one
    assert len(two) == len(architectures)


def test_devices_stop_when_they_are_asked_to(chains: Workbench) -> None:
    asked = iter([False, False, True])
    outcomes = evaluated(chains, drawn(chains, 40), {"devices": ["cpu", "cpu"]}, should_stop=lambda: next(asked, True))
    assert len(outcomes) == 2


def test_a_weight_that_is_not_finite_fails_its_paths_and_no_other(chains: Workbench) -> None:
    with torch.no_grad():
        next(iter(chains.supernet().parameters_of("layer_6", "MB6_K5"))).fill_(float("nan"))
    outcomes = evaluated(
        chains, [chains.space.parse(text) for text in ("00000000", "00000020", "00000022", "00000010")]
    )
    failed = {outcome.evaluation_id: outcome.error for outcome in outcomes if outcome.error}
    assert set(failed) == {"00000020", "00000022"}
    assert all("not finite" in reason for reason in failed.values())
    assert all(not outcome.measurements for outcome in outcomes if outcome.error)


@pytest.mark.parametrize("settings", [{}, {"eval_batch": 7}, {"bn": "recalibrated"}, {"devices": ["cpu", "cpu"]}])
def test_a_path_that_breaks_off_leaves_the_others_their_values(chains: Workbench, settings: dict[str, object]) -> None:
    architectures = [chains.space.parse(text) for text in ("00000000", "00000010", "00000011", "00000002", "00000020")]
    expected = values(evaluated(chains, architectures, settings))

    def refuse(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise RuntimeError("no kernel for this layer")

    def layer(index: int, option: str) -> nn.Module:
        return chains.supernet().get_submodule(f"chain.layers.{index}.{option}")

    layer(6, "MB3_K3").register_forward_pre_hook(refuse)
    told: list[float] = []
    outcomes = evaluated(chains, architectures, settings, progress=told.append)
    reason = "RuntimeError: no kernel for this layer"
    assert {o.evaluation_id: o.error for o in outcomes if o.error} == {"00000010": reason, "00000011": reason}
    left = values([o for o in outcomes if not o.error])
    assert left == {text: expected[text] for text in ("00000000", "00000002", "00000020")}
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("bn", ["batch", "recalibrated"])
def test_a_caller_that_leaves_in_the_middle_finds_everything_as_it_was(bench: Workbench, bn: str) -> None:
    before = {name: tensor.clone() for name, tensor in bench.supernet().state_dict().items()}
    modes = {name: module.training for name, module in bench.supernet().named_modules()}
    requests = [Request(a.text, a, Fidelity(level="supernet")) for a in drawn(bench, 6)]
    running = iter(REGISTRY["supernet"]({"bn": bn}, bench).evaluate(requests, EvaluationContext(seed=0)))
    next(running)
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")
    after = bench.supernet().state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert modes == {name: module.training for name, module in bench.supernet().named_modules()}
