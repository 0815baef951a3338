"""Networks in ONNX Runtime: the file that is timed is what is delivered, and what cannot be run is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from nas.export._formats import Deliverable, exported_program, onnx_bytes
from nas.testing._spaces import spaces_with
from predictors.runtimes import OnnxModel, onnx_of, runs_onnx
from searchspaces import REGISTRY as SPACES
from searchspaces import ExportError, MeasurementError, SearchSpace

SMALL = {"input_shape": (3, 16, 16), "num_classes": 10}


def optimised(content: bytes, folder: Path) -> Counter[str]:
    """The operations that ONNX Runtime runs for a file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def drawn(space: SearchSpace) -> nn.Module:
    rng = np.random.default_rng(3)
    return space.build(next(a for a in iter(lambda: space.sample(rng), None) if space.is_connected(a))).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", spaces_with("networks"))
def test_the_runtime_makes_the_same_graph_of_the_timed_and_of_the_delivered_file(name: str, tmp_path: Path) -> None:
    space = SPACES[name](SMALL)
    network, x = drawn(space), torch.zeros(2, *space.input_shape)
    delivered = exported_program(Deliverable(network, [0.5] * 3, [0.25] * 3), x)
    assert optimised(onnx_of(network, x), tmp_path) == optimised(onnx_bytes(delivered, ["a"] * 10), tmp_path)


def test_statistics_of_the_batch_are_fixed_before_a_network_is_written(tmp_path: Path) -> None:
    settings = {**SMALL, "channels": 4, "cells_per_stage": 1}
    spaces = [SPACES["nasbench201"]({**settings, "track_running_stats": tracks}) for tracks in (True, False)]
    fixed, of_batch = (drawn(space) for space in spaces)
    x = torch.zeros(2, *spaces[0].input_shape)
    assert optimised(onnx_of(fixed, x), tmp_path) == optimised(onnx_of(of_batch, x), tmp_path)
    assert all(norm.running_mean is None for norm in of_batch.modules() if isinstance(norm, nn.BatchNorm2d))


def test_a_network_that_no_way_leads_through_is_run_without_its_input() -> None:
    space = SPACES["nasbench201"]({**SMALL, "channels": 4, "cells_per_stage": 1})
    network = space.build(space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")).eval()
    model = OnnxModel(onnx_of(network, torch.zeros(2, *space.input_shape)))
    assert (model.times(np.zeros((1, *space.input_shape), dtype=np.float32), warmup=1, repeats=3) > 0).all()


@pytest.mark.slow
def test_what_cannot_be_written_is_refused_with_the_reason() -> None:
    class Twisted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eig(x)[0].real

    with pytest.raises(ExportError, match="cannot be written as ONNX"):
        onnx_of(Twisted(), torch.zeros(2, 1, 4, 4))


def test_what_is_no_onnx_file_is_refused_with_the_reason() -> None:
    with pytest.raises(MeasurementError, match="does not load the file"):
        OnnxModel(b"nothing")


@pytest.mark.skipif(runs_onnx("cuda"), reason="needs a runtime without CUDA")
def test_a_device_that_the_runtime_has_nothing_for_is_refused_with_the_way_out() -> None:
    with pytest.raises(MeasurementError, match=r"has nothing for cuda:0 here.*runtime: torch"):
        OnnxModel(b"", "cuda:0")
