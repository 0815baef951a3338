"""Where and how a network runs: device, number format, memory format, and the record of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch
from torch import nn

from nas.resources import JsonObject
from searchspaces import ConfigError, Violation, fused, kernel_build

Precision = Literal["auto", "fp32", "bf16"]

# Below this, bf16 gains nothing on a CPU. One training step, EPYC with AVX512-BF16, 2 threads, channels_last,
# fp32 / bf16: 20 convolutions from 16 channels, 128 images of 32x32: 204 / 106 ms; 9 convolutions from 16 channels,
# 64 images of 16x16: 9.6 / 7.3 ms; 15 convolutions from 16 channels, 64 images of 8x8: 8.3 / 12.0 ms.
_BF16_PIXELS = 256
_NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of this name; `auto` is CUDA where there is one.

    Raises:
        ConfigError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = f"cpu, or one of {torch.cuda.device_count()} CUDA devices"
        raise ConfigError([Violation("device", str(name), there)])
    return device


def choose_dtype(precision: Precision, device: torch.device, input_shape: Sequence[int] | None = None) -> torch.dtype:
    """The number format of the forward pass: fp32, or bf16 under autocast.

    `auto` takes bf16 on CUDA devices that have it, and on CPUs with AVX512-BF16 or AMX when the images are at least
    16 x 16 pixels; smaller ones are held up by calls, not by arithmetic.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    pixels = input_shape[-1] * input_shape[-2] if input_shape and len(input_shape) == 3 else 0
    gains = device.type == "cpu" and pixels >= _BF16_PIXELS and _cpu_has_bf16()
    return torch.bfloat16 if gains else torch.float32


@cache
def _cpu_has_bf16() -> bool:
    probes = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(probe is not None and bool(probe()) for probe in probes)


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, moved in place; filters are laid out channels_last, which no measured case is slower for."""
    network.to(device)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast to `dtype`; does nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


@contextmanager
def accelerated(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """How networks are run here: autocast to `dtype`, and fused operations where the device has them. First order only:
    gradients of gradients, `torch.func` and exports need the plain operations."""
    with autocast(device, dtype), fused():
        yield


def deterministic(device: torch.device) -> AbstractContextManager[object]:
    """Inside, convolutions on CUDA repeat bit for bit, which resuming needs; elsewhere they always do."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says with this error that memory is short; its CPU allocator has no class for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def dtype_name(dtype: torch.dtype) -> str:
    """`bf16` or `fp32`, as contexts and checkpoints record it."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def device_name(device: torch.device) -> str:
    """The class of device that measurements record: `cpu`, or the name of the CUDA device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def code_version() -> str:
    """Version of this software, as contexts and checkpoints record it."""
    try:
        return version("nas-service")
    except PackageNotFoundError:
        return "unknown"


def environment(device: torch.device, dtype: torch.dtype) -> JsonObject:
    """What a checkpoint records: a training resumed under the same values is bit-exact, else it is not."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "dtype": dtype_name(dtype),
        "kernels": kernel_build(device),
        "code": code_version(),
    }
