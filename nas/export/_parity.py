"""Runs a delivered file on real images, as its user would."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from searchspaces import ExportError

# What model.py needs must be on the user's machine, and this software is not: its packages are hidden from the child.
_CHILD = """
import importlib.util, sys
file, inputs, outputs, *hidden = sys.argv[1:]
sys.modules.update(dict.fromkeys(hidden))
spec = importlib.util.spec_from_file_location("model", file)
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)
import torch
from safetensors.torch import load_file, save_file
torch.set_num_threads(int(sys.stdin.read()))
network = model.load()
with torch.inference_mode():
    logits = {name: network(images).contiguous() for name, images in load_file(inputs).items()}
save_file(logits, outputs)
"""
_OURS = ("api", "db", "nas", "predictors", "searchspaces")
_LIMIT_SECONDS = 300


def run_onnx(file: Path, batches: Iterable[Tensor]) -> list[Tensor]:
    """Logits of onnxruntime on the CPU for each batch; of an iterator one batch is held at a time."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        EPFail,
        Fail,
        InvalidArgument,
        InvalidGraph,
        RuntimeException,
    )

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return [torch.from_numpy(session.run(["logits"], {"images": b.numpy()})[0]) for b in batches]
    except (EPFail, Fail, InvalidArgument, InvalidGraph, RuntimeException) as error:
        raise ExportError(f"onnxruntime does not run the exported model: {error}") from error


def run_program(file: Path, batches: Sequence[Tensor]) -> list[Tensor]:
    """Logits of the loaded torch.export program for each batch."""
    try:
        program = torch.export.load(file).module()
        with torch.inference_mode():
            return [program(batch) for batch in batches]
    except (RuntimeError, AssertionError) as error:
        raise ExportError(f"the exported torch program does not run: {error}") from error


def run_source(file: Path, batches: Sequence[Tensor]) -> list[Tensor]:
    """Logits of `model.py` in a fresh process that cannot import this software, for each batch."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch, "inputs.safetensors"), Path(scratch, "outputs.safetensors")
        safetensors.torch.save_file({str(i): batch.clone() for i, batch in enumerate(batches)}, inputs)
        command = [
            sys.executable,
            "-B",
            "-P",
            "-I",
            "-c",
            _CHILD,
            str(file.resolve()),
            str(inputs),
            str(outputs),
            *_OURS,
        ]
        threads = str(torch.get_num_threads())
        try:
            done = subprocess.run(  # noqa: S603
                command, input=threads, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False, cwd=scratch
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"model.py did not answer within {_LIMIT_SECONDS} s.") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ExportError(f"model.py does not run by itself: {last}")
        found = safetensors.torch.load_file(outputs)
    return [found[str(i)] for i in range(len(batches))]
