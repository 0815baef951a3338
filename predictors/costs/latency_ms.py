"""Measured time of one forward pass on this machine, in the runtime that networks are delivered for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from pydantic import Field, model_validator

from predictors.costs._cost import Cost, Reading
from predictors.runtimes import Context, Floats, OnnxModel, device_name, onnx_of, runs_onnx, timed
from searchspaces import Architecture, Config, ExportError, MeasurementError, Plugin, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn


class Settings(Config):
    """How the time is taken."""

    runtime: Literal["auto", "onnx", "torch"] = Field(
        "auto",
        description="onnx: ONNX Runtime, as delivered networks are run; torch: eager PyTorch, several times slower for "
        "small networks and in another order; auto: onnx where the space's networks can be exported and ONNX Runtime "
        "has something for the device.",
    )
    batch: int = Field(1, ge=1, le=4096, description="Inputs per forward pass.")
    warmup: int = Field(5, ge=1, le=1000, description="Passes before the clock starts.")
    repeats: int = Field(30, ge=3, le=10_000, description="Timed passes; the value is their median.")
    threads: int = Field(1, ge=1, le=1024, description="Threads of an operation.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Type of weights and inputs; other than float32 with torch only."
    )

    @model_validator(mode="after")
    def _format_runs(self) -> Settings:
        if self.runtime == "onnx" and self.dtype != "float32":
            raise ValueError(f"dtype float32, as runtime onnx takes no {self.dtype}; or runtime torch")
        return self


class Latency(Cost):
    """Median time of a forward pass of the network in evaluation mode, without gradients, fresh weights.

    The time depends on the architecture alone, not on its weights. Networks with equal live parts run the same
    operations and are measured once. The spread is 1.4826 times the median absolute deviation.
    """

    def __init__(self, config: Settings, space: SearchSpace, device: str = "cpu") -> None:
        self.config, self.space, self.device = config, space, str(device)
        self._known: dict[str, Reading] = {}

    def measure(self, architecture: Architecture) -> Reading:
        live = self.space.live(self.space.check(architecture)).text
        if live not in self._known:
            self._known[live] = self._reading(architecture)
        return self._known[live]

    def of_file(self, file: Path) -> Reading:
        """The time of an ONNX file that takes inputs of the space, whatever the networks of a search are timed in.

        On the CPU where ONNX Runtime has nothing for the device.

        Raises:
            MeasurementError: ONNX Runtime cannot run it here.
        """
        device = self.device if runs_onnx(self.device) else "cpu"
        return self._onnx(OnnxModel(file, device, threads=self.config.threads))

    @cached_property
    def runtime(self) -> Literal["onnx", "torch"]:
        """What the time is taken in: one for all networks, since times of two runtimes cannot be compared."""
        if self.config.runtime != "auto":
            return self.config.runtime
        if self.config.dtype != "float32" or not runs_onnx(self.device):
            return "torch"
        try:
            self._exported(self.space.extremes().smallest)
        except ExportError:
            return "torch"
        return "onnx"

    def _reading(self, architecture: Architecture) -> Reading:
        try:
            if self.runtime == "onnx":
                model = OnnxModel(self._exported(architecture), self.device, threads=self.config.threads)
                return self._onnx(model)
            return self._eager(architecture)
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
            raise MeasurementError(
                f"the latency of {architecture.text} on {self.device} cannot be measured: {error}; "
                "choose another device, runtime, dtype or batch."
            ) from error

    def _exported(self, architecture: Architecture) -> bytes:
        import torch

        return onnx_of(self.space.build(architecture).eval(), torch.zeros(2, *self.space.input_shape))

    def _onnx(self, model: OnnxModel) -> Reading:
        x = np.zeros((self.config.batch, *self.space.input_shape), dtype=np.float32)
        return self._of(model.times(x, warmup=self.config.warmup, repeats=self.config.repeats), model.context)

    def _eager(self, architecture: Architecture) -> Reading:
        import torch

        with _threads(self.config.threads), torch.inference_mode():
            times = self._times(*self._prepared(architecture))
        return self._of(
            times,
            {
                "runtime": "torch",
                "version": str(torch.__version__),
                "provider": "eager",
                "device": torch.device(self.device).type,
                "device_name": device_name(self.device),
                "threads": self.config.threads,
                "dtype": self.config.dtype,
            },
        )

    def _of(self, times: Floats, context: Context) -> Reading:
        """The reading of these passes: median, spread, and what it depends on (the time does not depend on values)."""
        median = float(np.median(times))
        config = self.config
        passes = {"batch": config.batch, "warmup": config.warmup, "repeats": config.repeats}
        return Reading(median, "ms", 1.4826 * float(np.median(np.abs(times - median))), {**context, **passes})

    def _prepared(self, architecture: Architecture) -> tuple[nn.Module, Tensor]:
        """The network and its input on the device."""
        import torch

        dtype: torch.dtype = getattr(torch, self.config.dtype)
        network = self.space.build(architecture).to(device=self.device, dtype=dtype).eval()
        x = torch.zeros(self.config.batch, *self.space.input_shape, device=self.device, dtype=dtype)
        if x.dim() == 4:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = x.to(memory_format=torch.channels_last)
        return network, x

    def _times(self, network: nn.Module, x: Tensor) -> Floats:
        """Milliseconds of every timed pass."""
        import torch

        synchronize = torch.get_device_module(x.device).synchronize

        def run() -> None:
            network(x)
            synchronize()

        return timed(run, warmup=self.config.warmup, repeats=self.config.repeats)


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    """torch with this number of threads; the old one is put back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _create(config: Config, space: SearchSpace, device: str = "cpu") -> Latency:
    return Latency(cast(Settings, config), space, device)


PLUGIN = Plugin(
    name="latency_ms",
    description="Measured time of one forward pass, in ONNX Runtime where the network can be exported.",
    source="median of repeated passes after warm-up",
    create=_create,
    Config=Settings,
    flags={"unit": "ms", "measured": True},
)
