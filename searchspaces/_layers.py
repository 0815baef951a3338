"""Layers that the networks and supernets of several spaces share, and the one place that seeds torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from searchspaces._kernels import Normalised, Signal

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def initialised(seed: int) -> Iterator[None]:
    """Weights made inside are drawn on the CPU from `seed`; torch's global generators are left as they were found."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would re-seed the accelerators as well
        yield


class StridedPointwise(nn.Conv2d):
    """A convolution of one pixel with a stride, which on a CPU is trained on the pixels that it reads and no others.

    Left to itself, oneDNN gathers those pixels into a workspace that is too small where the input is channels_last and
    has fewer channels than a block (8 with AVX2, 16 with AVX-512), and its gradient of the weights writes past the end:
    wrong gradients, an endless loop, or an abort for "double free or corruption" some calls later (uxlfoundation/oneDNN
    issue 6035; torch 2.13). Evaluated, exported or traced it is an ordinary convolution.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        is_traced = torch.compiler.is_compiling() or isinstance(input, torch.fx.Proxy)
        if is_traced or input.device.type != "cpu" or not torch.is_grad_enabled():
            whole: Tensor = super()._conv_forward(input, weight, bias)
            return whole
        down, right = self.stride
        return F.conv2d(input[..., ::down, ::right], weight, bias, groups=self.groups)


@dataclass(frozen=True)
class Style:
    """How convolutions and normalisations of a network are made.

    Attributes:
        affine: batch normalisation has a trainable scale and shift.
        bias: convolutions have a bias.
        frame_bias: the same for those of the frame that a space puts around what is chosen; none: as the others.
        track_running_stats: batch normalisation keeps running statistics for evaluation.
    """

    affine: bool = True
    bias: bool = False
    track_running_stats: bool = True
    frame_bias: bool | None = None

    def conv(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """A convolution that keeps the image's size but for the stride (odd kernels)."""
        made = StridedPointwise if kernel == 1 and stride > 1 else nn.Conv2d
        return made(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=self.bias)

    def frame_conv(self, inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
        """A convolution of the frame, such as a stem or a shortcut."""
        bias = self.bias if self.frame_bias is None else self.frame_bias
        return replace(self, bias=bias).conv(inputs, outputs, kernel)

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """A batch normalisation."""
        return nn.BatchNorm2d(channels, affine=self.affine, track_running_stats=self.track_running_stats)


class ReLUConvNorm(nn.Sequential):
    """ReLU, convolution, batch normalisation: `batch x inputs x height x width` -> `batch x outputs x ...`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, style: Style, *, stride: int = 1) -> None:
        parts = (
            ("relu", nn.ReLU()),
            ("conv", style.conv(inputs, outputs, kernel, stride=stride)),
            ("norm", style.norm(outputs)),
        )
        super().__init__(OrderedDict(parts))

    def convolved(self, x: Signal) -> Normalised:
        """The convolution of the positive part, and the normalisation that is still to come."""
        _, conv, norm = self
        return conv(x.rectified()), cast(nn.BatchNorm2d, norm)


def inherit(child: Module, parent: nn.Module) -> Module:
    """`child` (made on the meta device) with copies of the tensors that `parent` holds under the same names.

    Device, memory format and training mode are the parent's.
    """
    held = parent.state_dict()
    child.load_state_dict({name: held[name].clone() for name in child.state_dict()}, assign=True)
    return child.train(parent.training)


def normalisations(network: nn.Module) -> Iterator[_BatchNorm]:
    """Every batch normalisation of a network."""
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


def track_statistics(network: nn.Module) -> nn.Module:
    """Let every batch normalisation of the network track its statistics, in place; returns the network.

    Layers that did so already keep theirs.
    """
    for norm in normalisations(network):
        if norm.running_mean is None or norm.running_var is None:
            like = next(network.parameters())
            norm.track_running_stats = True
            norm.running_mean = torch.zeros(norm.num_features, device=like.device)
            norm.running_var = torch.ones(norm.num_features, device=like.device)
            norm.num_batches_tracked = torch.tensor(0, dtype=torch.long, device=like.device)
    return network
