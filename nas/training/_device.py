"""Where and how a network runs: device, number format, memory format, and the record of it."""

from __future__ import annotations

import os
import time
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

# Smaller images are held up by calls, not by arithmetic, and bf16 gains nothing on a CPU. One training step, EPYC with
# AVX512-BF16, 2 threads, channels_last, fp32 / bf16: 20 convolutions from 16 channels, 128 images of 32x32:
# 204 / 106 ms; 9 convolutions from 16 channels, 64 images of 16x16: 9.6 / 7.3 ms; 15 convolutions from 16 channels,
# 64 images of 8x8: 8.3 / 12.0 ms.
_BF16_PIXELS = 256
# What a CPU gains or loses by bf16 does not follow from its flags. One thread's convolution takes 1.6 times as long as
# in fp32 on a Xeon with AVX512-BF16 whose AMX is hidden by its host, and 4.4 times where plain AVX-512 has to do. The
# bound lies far from these and from what gains, so that the load of a machine does not decide.
_BF16_MUST_TAKE = 0.8
_BF16_ROUNDS = 9
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

    `auto` takes bf16 on CUDA devices that have it, and on CPUs where a convolution is faster in it, when the images are
    at least 16 x 16 pixels; `precision_note` says what it took instead, and why.

    Raises:
        ConfigError: bf16 was asked for, and the device cannot compute in it.
    """
    if precision == "bf16" and not has_bf16(device):
        raise ConfigError([Violation("precision", "bf16", f"fp32 or auto, as {_lacking(device)}")])
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    is_large = device.type == "cuda" or _has_large_images(input_shape)
    return torch.bfloat16 if is_large and _gains_by_bf16(device) else torch.float32


def precision_note(precision: Precision, device: torch.device, input_shape: Sequence[int] | None = None) -> str | None:
    """What is to be said of the number format of a job on this device: that `auto` replaced bf16, or that bf16 is slow.

    None where there is nothing to say: fp32 was asked for, bf16 gains, or images are too small for it on any CPU.
    """
    is_small = device.type == "cpu" and not _has_large_images(input_shape)
    if precision == "fp32" or _gains_by_bf16(device) or (precision == "auto" and is_small):
        return None
    share = _bf16_over_fp32() if device.type == "cpu" else None
    slow = f"bf16 takes {share:.1f} times as long as fp32 on this processor" if share else _lacking(device)
    return f"precision is fp32, not bf16: {slow}" if precision == "auto" else f"precision: {slow}"


def has_bf16(device: torch.device) -> bool:
    """Whether networks can be trained in bf16 here; on a CPU whatever oneDNN may use of it decides."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _bf16_over_fp32() is not None


def _lacking(device: torch.device) -> str:
    """That it has no bf16, in words; oneDNN may have been told to use less than there is."""
    if device.type != "cpu":
        return f"{device_name(device)} has no bf16"
    limits = [name for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ]
    return "this processor has no bf16" + "".join(f" under {name}={os.environ[name]}" for name in limits[:1])


def _has_large_images(input_shape: Sequence[int] | None) -> bool:
    return input_shape is not None and len(input_shape) == 3 and input_shape[-1] * input_shape[-2] >= _BF16_PIXELS


def _gains_by_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return has_bf16(device)
    share = _bf16_over_fp32() if device.type == "cpu" else None
    return share is not None and share <= _BF16_MUST_TAKE


@cache
def _bf16_over_fp32() -> float | None:
    """Time of a convolution, forward and backward, in bf16 over that in fp32 on this CPU; None: it has no bf16.

    It has none where oneDNN has no kernels for it: without AVX-512, or kept from it by ONEDNN_MAX_CPU_ISA. There some
    operations fail, and torch's own take ten times as long.
    """
    threads = torch.get_num_threads()
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return None
        torch.set_num_threads(1)  # others would wait for each other on a busy machine, and that is counted
        both = torch.bfloat16, torch.float32  # in turns, the best of each: what else runs here slows down both
        took = [[_seconds_of_convolution(dtype) for dtype in both] for _ in range(_BF16_ROUNDS)]
    except (AttributeError, RuntimeError):  # a torch without oneDNN; no kernel for this processor
        return None
    finally:
        torch.set_num_threads(threads)
    in_bf16, in_fp32 = map(min, zip(*took, strict=True))
    return float(in_bf16 / in_fp32)


def _seconds_of_convolution(dtype: torch.dtype) -> float:
    x = torch.ones(16, 32, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
    filters = torch.ones(32, 32, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    one, none, began = [1, 1], [0, 0], time.thread_time()
    y = torch.conv2d(x, filters, padding=1)
    torch.ops.aten.convolution_backward(y, x, filters, None, one, one, one, False, none, 1, [True, True, False])
    return time.thread_time() - began


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
