"""Counted costs against the public tables, and the measured latency."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from predictors.costs import REGISTRY, ready_costs
from predictors.costs.latency_ms import Latency
from predictors.runtimes import onnx_of
from searchspaces import REGISTRY as SPACES
from searchspaces import ConfigError, ExportError, InvalidArchitecture, MeasurementError, SearchSpace

SMALL = {"input_shape": (1, 8, 8), "num_classes": 10, "channels": 4, "cells_per_stage": 1}


@pytest.fixture
def space() -> SearchSpace:
    return SPACES["nasbench201"](SMALL)


def test_params_and_flops_are_the_public_table_s(data_folder: Path) -> None:
    space = SPACES["nasbench201"]({})
    with np.load(data_folder / "nasbench201.npz", allow_pickle=False) as table:
        texts, params, flops = table["arch_str"][::25], table["params_m"][::25], table["flops_m"][::25]
    costs = {name: REGISTRY[name]({}, space, "cpu") for name in ("params", "flops")}
    measured = {name: [cost.measure(space.parse(str(text))).value for text in texts] for name, cost in costs.items()}
    np.testing.assert_allclose(np.array(measured["params"]) / 1e6, params, rtol=1e-6)
    np.testing.assert_allclose(np.array(measured["flops"]) / 1e6, flops, rtol=1e-6)


def test_live_costs_leave_out_what_is_on_no_path(space: SearchSpace) -> None:
    dead_end = space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|")
    without = space.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    for name in ("params", "flops"):
        live, full = (REGISTRY[f"{prefix}{name}"]({}, space, "cpu") for prefix in ("live_", ""))
        assert live.measure(dead_end).value == full.measure(without).value < full.measure(dead_end).value


def test_ranking_by_live_flops_is_ranking_by_nine_per_3x3_and_one_per_1x1(space: SearchSpace) -> None:
    cost, rng = REGISTRY["live_flops"]({}, space, "cpu"), np.random.default_rng(0)
    base = cost.measure(space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")).value
    unit = cost.measure(space.parse("|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|")).value - base
    for _ in range(50):
        architecture = space.sample(rng)
        options = [option for _, option in space.live(architecture)]
        edges = 9 * options.count("nor_conv_3x3") + options.count("nor_conv_1x1")
        assert cost.measure(architecture).value == base + unit * edges


@pytest.mark.parametrize(
    ("settings", "runtime", "provider"),
    [({}, "onnxruntime", "CPUExecutionProvider"), ({"runtime": "torch", "threads": 2}, "torch", "eager")],
)
def test_a_latency_says_what_it_was_measured_on(
    space: SearchSpace, settings: dict[str, object], runtime: str, provider: str
) -> None:
    given = {"batch": 2, "repeats": 5, **settings}
    reading = REGISTRY["latency_ms"](given, space, "cpu").measure(space.extremes().largest)
    expected = {"device": "cpu", "dtype": "float32", "batch": 2, "warmup": 5, "repeats": 5}
    expected |= {"runtime": runtime, "provider": provider, "threads": settings.get("threads", 1)}
    assert expected.items() <= reading.context.items()
    assert reading.context["device_name"]
    assert reading.context["version"]
    assert reading.unit == "ms"
    assert reading.std is not None
    json.dumps(dict(reading.context))


def test_without_a_network_that_can_be_exported_the_latency_is_torch_s(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(network: object, x: object) -> bytes:
        raise ExportError("no")

    monkeypatch.setattr("predictors.costs.latency_ms.onnx_of", refuse)
    smallest = space.extremes().smallest
    assert REGISTRY["latency_ms"]({"repeats": 3}, space, "cpu").measure(smallest).context["runtime"] == "torch"
    with pytest.raises(MeasurementError, match=r"cannot be measured: no; choose another device, runtime"):
        REGISTRY["latency_ms"]({"runtime": "onnx"}, space, "cpu").measure(smallest)


def test_the_runtime_that_takes_float32_alone_is_not_asked_for_another_format(space: SearchSpace) -> None:
    half = {"dtype": "bfloat16", "repeats": 3}
    assert REGISTRY["latency_ms"](half, space, "cpu").measure(space.extremes().smallest).context["runtime"] == "torch"
    with pytest.raises(ConfigError, match="takes no bfloat16"):
        REGISTRY["latency_ms"]({**half, "runtime": "onnx"}, space, "cpu")


def test_an_exported_file_is_timed_as_its_network_is(space: SearchSpace, tmp_path: Path) -> None:
    cost, largest = REGISTRY["latency_ms"]({"repeats": 3}, space, "cpu"), space.extremes().largest
    assert isinstance(cost, Latency)
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx_of(space.build(largest).eval(), torch.zeros(2, *space.input_shape)))
    assert cost.of_file(file).context == cost.measure(largest).context


def test_architectures_that_run_the_same_operations_have_one_latency(space: SearchSpace) -> None:
    cost = REGISTRY["latency_ms"]({"repeats": 3}, space, "cpu")
    dead_end = space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|")
    assert cost.measure(dead_end) is cost.measure(space.live(dead_end))


def test_measuring_a_latency_leaves_the_number_of_threads_and_the_generator_alone(space: SearchSpace) -> None:
    threads, state = torch.get_num_threads(), torch.default_generator.get_state()
    REGISTRY["latency_ms"]({"repeats": 3, "threads": threads + 1, "runtime": "torch"}, space, "cpu").measure(
        space.extremes().smallest
    )
    assert torch.get_num_threads() == threads
    assert torch.equal(state, torch.default_generator.get_state())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without the device that is asked for")
def test_a_latency_on_a_missing_device_is_a_failure_with_its_reason(space: SearchSpace) -> None:
    with pytest.raises(MeasurementError, match="cuda cannot be measured"):
        REGISTRY["latency_ms"]({}, space, "cuda").measure(space.extremes().smallest)


@pytest.mark.parametrize("name", ready_costs())
def test_an_architecture_of_another_space_is_refused(name: str, space: SearchSpace) -> None:
    foreign = SPACES["macro"]({}).parse("01201201")
    with pytest.raises(InvalidArchitecture, match="not in nasbench201"):
        REGISTRY[name]({}, space, "cpu").measure(foreign)
