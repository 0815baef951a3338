"""The number format: replaced and said under `auto`, refused by name where a processor lacks what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nas.spec import JobSpec
from nas.stages._preflight import preflight
from nas.training import choose_dtype, has_bf16, precision_note
from nas.workbench import Workbench
from searchspaces import ConfigError

CPU, SHAPE = torch.device("cpu"), (3, 32, 32)

ASK = """
import torch
from nas.training import choose_dtype, has_bf16, precision_note
cpu = torch.device("cpu")
print(has_bf16(cpu), choose_dtype("auto", cpu, (3, 32, 32)), precision_note("auto", cpu, (3, 32, 32)), sep="; ")
"""


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A CPU whose bf16 takes so much of fp32's time, or which has none."""
    monkeypatch.setattr("nas.training._device._bf16_over_fp32", lambda: request.param)


@pytest.mark.parametrize("processor", [None], indirect=True)
@pytest.mark.usefixtures("processor")
def test_bf16_is_refused_by_name_and_replaced_under_auto_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match=r"precision: got bf16; expected fp32 or auto, as this processor has no bf16"):
        choose_dtype("bf16", CPU, SHAPE)
    assert not has_bf16(CPU)
    assert choose_dtype("auto", CPU, SHAPE) == torch.float32
    assert "precision is fp32, not bf16: this processor has no bf16" in (precision_note("auto", CPU, SHAPE) or "")


@pytest.mark.parametrize("processor", [1.6], indirect=True)
@pytest.mark.usefixtures("processor")
def test_bf16_that_is_slower_is_only_taken_when_asked_for_and_that_is_said() -> None:
    assert choose_dtype("auto", CPU, SHAPE) == torch.float32
    assert choose_dtype("bf16", CPU, SHAPE) == torch.bfloat16
    slow = "bf16 takes 1.6 times as long as fp32 on this processor"
    assert precision_note("auto", CPU, SHAPE) == f"precision is fp32, not bf16: {slow}"
    assert precision_note("bf16", CPU, SHAPE) == f"precision: {slow}"
    assert precision_note("fp32", CPU, SHAPE) is None


@pytest.mark.parametrize("processor", [0.5], indirect=True)
@pytest.mark.usefixtures("processor")
def test_auto_is_bf16_where_it_gains_and_images_are_large_enough() -> None:
    assert choose_dtype("auto", CPU, SHAPE) == torch.bfloat16
    assert choose_dtype("auto", CPU, (1, 8, 8)) == torch.float32
    assert precision_note("auto", CPU, SHAPE) is None
    assert precision_note("auto", CPU, (1, 8, 8)) is None


@pytest.mark.parametrize("processor", [None], indirect=True)
@pytest.mark.usefixtures("processor")
def test_preflight_refuses_a_format_that_the_processor_lacks_and_notes_one_that_it_replaced() -> None:
    space = {"name": "nasbench201", "config": {"channels": 2, "cells_per_stage": 1}}
    spec = {"dataset": {"name": "digits", "config": {"limit": 40}}, "space": space, "device": "cpu"}
    with pytest.raises(ConfigError, match="precision: got bf16"):
        preflight(JobSpec.from_mapping({**spec, "precision": "bf16"}))
    replaced = Workbench(JobSpec.from_mapping(spec))
    replaced.__dict__["dataset"] = SimpleNamespace(input_shape=SHAPE)
    assert "this processor has no bf16" in (replaced.precision_note or "")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "SSE41"])
def test_what_onednn_may_use_counts_not_what_the_processor_has(isa: str) -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    asked = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True, timeout=100
    )
    assert asked.stdout.split("; ")[:2] == ["False", "torch.float32"]
    assert f"no bf16 under ONEDNN_MAX_CPU_ISA={isa}" in asked.stdout
