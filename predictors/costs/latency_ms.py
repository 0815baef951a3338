"""Measured time of one forward pass on this machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from predictors.costs._cost import Cost, Reading
from searchspaces import Architecture, Config, MeasurementError, Plugin, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn


class Settings(Config):
    """How the time is taken."""

    batch: int = Field(1, ge=1, le=4096, description="Inputs per forward pass.")
    warmup: int = Field(5, ge=1, le=1000, description="Passes before the clock starts.")
    repeats: int = Field(30, ge=3, le=10_000, description="Timed passes; the value is their median.")
    threads: int | None = Field(None, ge=1, le=1024, description="Threads of an operation; none leaves torch's number.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Type of weights and inputs.")


class Latency(Cost):
    """Median time of a forward pass of the network in evaluation mode, without gradients, fresh weights.

    The time depends on the architecture alone, not on its weights. Networks with equal live parts run the same
    operations and are measured once. The spread is 1.4826 times the median absolute deviation.
    """

    def __init__(self, config: Settings, space: SearchSpace, device: str = "cpu") -> None:
        self.config, self.space, self.device = config, space, device
        self._known: dict[str, Reading] = {}

    def measure(self, architecture: Architecture) -> Reading:
        live = self.space.live(self.space.check(architecture)).text
        if live not in self._known:
            self._known[live] = self._reading(architecture)
        return self._known[live]

    def _reading(self, architecture: Architecture) -> Reading:
        import torch

        try:
            with _threads(self.config.threads) as threads, torch.inference_mode():
                times = self._times(*self._prepared(architecture))
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
            raise MeasurementError(
                f"the latency of {architecture.text} on {self.device} cannot be measured: {error}; "
                "choose another device, dtype or batch."
            ) from error
        median = float(np.median(times))
        context: dict[str, str | int | float] = {
            "device": torch.device(self.device).type,
            "device_name": device_name(self.device),
            "threads": threads,
            "dtype": self.config.dtype,
            "batch": self.config.batch,
            "warmup": self.config.warmup,
            "repeats": self.config.repeats,
            "torch": str(torch.__version__),
        }
        return Reading(median, "ms", 1.4826 * float(np.median(np.abs(times - median))), context)

    def _prepared(self, architecture: Architecture) -> tuple[nn.Module, Tensor]:
        """The network and its input (zeros: the time does not depend on values) on the device."""
        import torch

        dtype: torch.dtype = getattr(torch, self.config.dtype)
        network = self.space.build(architecture).to(device=self.device, dtype=dtype).eval()
        x = torch.zeros(self.config.batch, *self.space.input_shape, device=self.device, dtype=dtype)
        if x.dim() == 4:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = x.to(memory_format=torch.channels_last)
        return network, x

    def _times(self, network: nn.Module, x: Tensor) -> npt.NDArray[np.float64]:
        """Milliseconds of every timed pass."""
        import torch

        synchronize = torch.get_device_module(x.device).synchronize
        times = []
        for _ in range(self.config.warmup + self.config.repeats):
            synchronize()
            start = time.perf_counter()
            network(x)
            synchronize()
            times.append(time.perf_counter() - start)
        return 1000 * np.array(times[self.config.warmup :])


@contextmanager
def _threads(wanted: int | None) -> Iterator[int]:
    """torch with this number of threads; gives the number and puts the old one back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def device_name(device: str) -> str:
    """The model of the processor or accelerator."""
    import torch

    if torch.device(device).type == "cuda":
        return str(torch.cuda.get_device_name(device))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _create(config: Config, space: SearchSpace, device: str = "cpu") -> Latency:
    return Latency(cast(Settings, config), space, device)


PLUGIN = Plugin(
    name="latency_ms",
    description="Measured time of one forward pass.",
    source="median of repeated passes after warm-up",
    create=_create,
    Config=Settings,
    flags={"unit": "ms", "measured": True},
)
