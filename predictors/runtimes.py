"""A network in ONNX Runtime, which is what it is delivered for: written quickly, run, and timed."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from searchspaces import ExportError, MeasurementError

if TYPE_CHECKING:
    from torch import Tensor, nn

Floats = npt.NDArray[np.float64]
Context = dict[str, str | int | float]

INPUT, OUTPUT = "images", "logits"
"""What a delivered ONNX file calls its input and its output."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LOGGERS = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")
_MEAN, _STD = 0.5, 0.25  # neither 0 nor 1, which the runtime would leave out
_REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, LookupError, ImportError)


def onnx_of(network: nn.Module, x: Tensor) -> bytes:
    """An ONNX file of a network in evaluation mode, with the normalisation of its input, its batch free.

    By torch's tracing exporter: 0.1 to 0.6 s, where the one that delivery uses takes 3 to 12 (two cores of an EPYC,
    networks of nasbench201 and macro). ONNX Runtime makes the same graph of either file, which a test holds. Where the
    tracing exporter fails, delivery's is used.

    Args:
        network: takes `batch x input shape`, on the CPU; is left as it is.
        x: an example, `batch x input shape`.

    Raises:
        ExportError: the network cannot be written as ONNX.
    """
    import torch

    from searchspaces import fused

    module = _delivered(network)
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    file = io.BytesIO()
    with quiet(), torch.no_grad(), fused(enabled=False):
        try:
            axes = {INPUT: {0: "batch"}}
            torch.onnx.export(module, (x,), file, dynamo=False, dynamic_axes=axes, **names)  # type: ignore[arg-type]
            return file.getvalue()
        except _REFUSALS:
            pass  # it knows fewer operations than the other
        try:
            program = torch.onnx.export(module, (x,), dynamo=True, verbose=False, optimize=True, **names)
        except _REFUSALS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExportError(f"the network cannot be written as ONNX: {reason}") from error
    if program is None:
        raise ExportError("the network cannot be written as ONNX: torch.onnx gave no program.")
    content: bytes = program.model_proto.SerializeToString()
    return content


def _delivered(network: nn.Module) -> nn.Module:
    """As it is delivered: statistics fixed, its input normalised inside."""
    import torch
    from torch import nn

    from searchspaces import track_statistics

    class Normalised(nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.full(shape, _MEAN))
            self.register_buffer("std", torch.full(shape, _STD))

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network((images - self.mean) / self.std)
            return logits

    fixed = track_statistics(copy.deepcopy(network)).requires_grad_(False)
    return Normalised(fixed, (1, 1, 1, 1)).eval()


class OnnxModel:
    """An ONNX file in ONNX Runtime on a device.

    Args:
        model: the file, or its content.
        device: `cpu` or `cuda`.
        threads: of one operation.

    Raises:
        MeasurementError: the runtime cannot load the file, or has nothing for the device.
    """

    def __init__(self, model: Path | bytes, device: str = "cpu", *, threads: int = 1) -> None:
        import onnxruntime

        kind = device.partition(":")[0]
        if not runs_onnx(device):
            raise MeasurementError(
                f"ONNX Runtime {onnxruntime.__version__} has nothing for {device} here; install onnxruntime-gpu, or "
                "choose runtime: torch."
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        index = int(device.partition(":")[2] or 0)
        provider: Any = (_PROVIDERS[kind], {"device_id": index}) if kind == "cuda" else _PROVIDERS[kind]
        self.device, self._kind, self._index = device, kind, index
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=[provider]
            )
        except _runtime_errors() as error:
            raise MeasurementError(f"ONNX Runtime does not load the file: {error}") from error
        self.context: Context = {
            "runtime": "onnxruntime",
            "version": onnxruntime.__version__,
            "provider": self._session.get_providers()[0],
            "device": kind,
            "device_name": device_name(device),
            "threads": threads,
            "dtype": "float32",
        }

    def times(self, x: npt.NDArray[np.float32], *, warmup: int, repeats: int) -> Floats:
        """Milliseconds of every timed pass over `x`, `batch x input shape`; what lies on a GPU is not copied.

        Raises:
            MeasurementError: the runtime cannot run it.
        """
        try:
            return timed(self._pass(x), warmup=warmup, repeats=repeats)
        except _runtime_errors() as error:
            raise MeasurementError(f"ONNX Runtime does not run the file: {error}") from error

    def _pass(self, x: npt.NDArray[np.float32]) -> Callable[[], object]:
        import onnxruntime

        # A network that no way leads through is a constant: it has no input.
        feed = {entry.name: x for entry in self._session.get_inputs()}
        if self._kind == "cpu":
            return lambda: self._session.run(None, feed)
        binding = self._session.io_binding()
        for name, value in feed.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, self._kind, self._index))
        for entry in self._session.get_outputs():
            binding.bind_output(entry.name, self._kind, self._index)
        return lambda: self._session.run_with_iobinding(binding)


def runs_onnx(device: str) -> bool:
    """Whether ONNX Runtime is here and has something for the device."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return _PROVIDERS.get(device.partition(":")[0]) in onnxruntime.get_available_providers()


def timed(run: Callable[[], object], *, warmup: int, repeats: int) -> Floats:
    """Milliseconds of every run after the first `warmup` ones; `run` returns when its work is done."""
    times = []
    for _ in range(warmup + repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * np.array(times[warmup:])


def device_name(device: str) -> str:
    """The model of the processor or accelerator."""
    if device.partition(":")[0] == "cuda":
        import torch

        return str(torch.cuda.get_device_name(device))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the exporters' warnings and log lines, which a user can do nothing about, from the caller."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    output = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(output):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
    return (*(getattr(state, name) for name in (*names, "RuntimeException")), RuntimeError)
