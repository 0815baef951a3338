"""The gradients of a convolution's weights that each sample alone gives: their signs summed up, or themselves.

From what goes into the convolution and the gradient of what comes out, both `batch x channels x height x width`. By a
kernel of `_kernels.cpp` where the machine has one for the case, else by torch, on any device, some samples at a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from searchspaces._kernels import _DTYPES, _can_fuse, _loaded, _pointer

_VALUES_AT_ONCE = 2**23  # of gradients and unfolded images: 32 MiB, which leaves a pass's memory what it is
Pair = tuple[int, int]


class Geometry(NamedTuple):
    """What a convolution is beside its weight, `outputs x inputs / groups x height x width`."""

    weight: tuple[int, ...]
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Geometry | None:
        """A module's; None where its borders are not zeros of equal width on both sides."""
        if conv.padding_mode != "zeros" or conv.padding == "same":
            return None
        padding = (0, 0) if conv.padding == "valid" else cast(Pair, conv.padding)
        return cls(tuple(conv.weight.shape), cast(Pair, conv.stride), padding, cast(Pair, conv.dilation), conv.groups)

    @property
    def is_depthwise(self) -> bool:
        """Every channel has one filter of its own."""
        return self.groups == self.weight[0] and self.weight[1] == 1

    @property
    def has_kernel(self) -> bool:
        """Whether a kernel is made for it."""
        is_square = all(a == b for a, b in (self.weight[2:], self.stride, self.padding))
        return is_square and self.dilation == (1, 1) and (self.groups == 1 or self.is_depthwise)


class _Convolution(ctypes.Structure):
    """As `Convolution` in `_kernels.cpp`."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("batch", "height", "width", "inputs", "out_height", "out_width", "outputs"),
            *("kernel", "stride", "padding", "depthwise"),
        )
    ]


def add_sample_signs(total: Tensor, x: Tensor, gradient: Tensor, geometry: Geometry) -> None:
    """Add the signs of each sample's gradient of the weight, summed over samples; NaN counts as 0.

    total: int32, of the weight's shape, channels_last. Products are in the gradient's number format, to which x is
    rounded. Memory beside the arguments is O(weight).
    """
    x, gradient = _laid_out(x, gradient)
    if _has_kernel(x, gradient, geometry):
        conv, dtypes = _convolution(x, gradient, geometry), (_DTYPES[x.dtype], _DTYPES[gradient.dtype])
        _loaded().sign_sums(*dtypes, ctypes.byref(conv), _pointer(x), _pointer(gradient), _pointer(total))
        return
    for some in _by_torch(x, gradient, geometry):
        total += (some > 0).sum(0, dtype=torch.int32) - (some < 0).sum(0, dtype=torch.int32)


def sample_gradients(x: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    """Each sample's gradient of the weight in a row, `batch x size`, fp32.

    Order in a row, and zeros between, are the kernel's: rows may be added to and multiplied with one another, not read.
    """
    x, gradient = _laid_out(x.float(), gradient.float())
    if _has_kernel(x, gradient, geometry):
        conv = _convolution(x, gradient, geometry)
        rows = torch.empty((len(x), _loaded().sample_gradient_size(ctypes.byref(conv))))
        _loaded().sample_gradients(ctypes.byref(conv), _pointer(x), _pointer(gradient), _pointer(rows))
        return rows
    return torch.cat([some.flatten(1) for some in _by_torch(x, gradient, geometry)])


def _laid_out(x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    layout = torch.channels_last
    return x.detach().contiguous(memory_format=layout), gradient.detach().contiguous(memory_format=layout)


def _has_kernel(x: Tensor, gradient: Tensor, geometry: Geometry) -> bool:
    is_narrower = x.dtype == torch.bfloat16 and gradient.dtype != x.dtype
    return geometry.has_kernel and not is_narrower and _can_fuse([x], []) and _can_fuse([gradient], [])


def _convolution(x: Tensor, gradient: Tensor, geometry: Geometry) -> _Convolution:
    B, C, H, W = x.shape
    return _Convolution(
        *(B, H, W, C, *gradient.shape[2:], gradient.shape[1]),
        *(geometry.weight[2], geometry.stride[0], geometry.padding[0], geometry.is_depthwise),
    )


def _by_torch(x: Tensor, gradient: Tensor, geometry: Geometry) -> Iterator[Tensor]:
    """Gradients of the weight, `some samples x outputs x inputs / groups x height x width`, for all samples in turn."""
    O, I, H, W = geometry.weight  # noqa: E741
    G, area = geometry.groups, gradient.shape[2] * gradient.shape[3]
    at_once = max(1, _VALUES_AT_ONCE // (G * I * H * W * max(area, O // G)))
    for start in range(0, len(x), at_once):
        own, of_output = x[start : start + at_once].to(gradient.dtype), gradient[start : start + at_once]
        B = len(own)
        seen = F.unfold(own, (H, W), geometry.dilation, geometry.padding, geometry.stride)  # B x (C H W) x area
        product = of_output.reshape(B * G, O // G, area) @ seen.reshape(B * G, I * H * W, -1).transpose(1, 2)
        yield product.view(B, O, I, H, W)
