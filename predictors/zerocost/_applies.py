"""Whether a proxy's formula applies to a network: what the network is made of and what it runs, against what is needed.

Most published proxies were written down for convolutions, batch normalisations and ReLU. Elsewhere many of them still
give a number, of a part of the network or of nothing; here such a network has no score, and a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from predictors.zerocost._proxy import Need

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes

_NORMALISATIONS = {F.layer_norm: "LayerNorm", F.group_norm: "GroupNorm", F.instance_norm: "InstanceNorm"} | {
    function: name
    for function, name in (
        (getattr(F, "rms_norm", None), "RMSNorm"),
        (F.local_response_norm, "LocalResponseNorm"),
        (F.normalize, "normalize"),
    )
    if function is not None
}
_ATTENTION = {
    F.scaled_dot_product_attention: "scaled dot-product attention",
    F.multi_head_attention_forward: "multi-head attention",
}
_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
_CONVOLUTIONS = (F.conv2d, torch.conv2d)


class Survey(TorchFunctionMode):
    """Inside, it notes what a network runs: names of normalisations but BatchNorm2d, attention, convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.normalisations: set[str] = set()
        self.attention: set[str] = set()
        self.has_convolution = False

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if func in _NORMALISATIONS:
            self.normalisations.add(_NORMALISATIONS[func])
        elif func is F.batch_norm and result.ndim != 4:
            self.normalisations.add(f"a BatchNorm of {result.ndim} axes")
        elif func in _ATTENTION:
            self.attention.add(_ATTENTION[func])
        elif func in _SOFTMAX and result.ndim > 2:  # of two axes it is that of a classifier
            self.attention.add("a softmax over places")
        self.has_convolution |= func in _CONVOLUTIONS
        return result


def survey(network: nn.Module, inputs: Tensor) -> Survey:
    """What the network runs for these inputs, `batch x ...`; its buffers change."""
    found = Survey()
    with torch.no_grad(), found:
        network(inputs)
    return found


def uncounted_weight(network: nn.Module) -> str | None:
    """A weight of two axes or more that no Conv2d and no Linear holds, named with its layer; None: there is none."""
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    counted = {id(layer.weight) for _, layer in layers}
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and id(parameter) not in counted:
            layer = network.get_submodule(name.rpartition(".")[0])
            return f"{name} of {type(layer).__name__}"
    return None


def why_not(passes: Passes, needs: frozenset[Need]) -> Iterator[str]:
    """Every reason why a formula with these needs does not apply to the network behind `passes`."""
    for need, found in _ANSWERS.items():
        if need in needs and (reason := found(passes)) is not None:
            yield reason


def _numbers(passes: Passes) -> str | None:
    dtype = passes.context.example.dtype
    if dtype.is_floating_point:
        return None
    return f"it varies or differentiates inputs as real numbers; those of this network are {dtype}".replace(
        "torch.", ""
    )


def _images(passes: Passes) -> str | None:
    shape = tuple(passes.context.example.shape)
    return None if len(shape) == 4 else f"it needs images, channels x height x width; an input here is {shape[1:]}"


def _weights(passes: Passes) -> str | None:
    if not passes.weights:
        return "the network has no convolution (Conv2d) and no linear layer, whose weights it is about"
    missed = uncounted_weight(passes.network)
    return missed and f"it is about the weights of convolutions (Conv2d) and linear layers, and would miss {missed}"


def _convolutions(passes: Passes) -> str | None:
    if any(isinstance(layer, nn.Conv2d) for layer in passes.network.modules()) and passes.survey.has_convolution:
        return None
    return "the network runs no convolution (Conv2d), which it is about"


def _no_attention(passes: Passes) -> str | None:
    found = sorted(passes.survey.attention)
    return f"its formula is one for networks without attention; this one runs {', '.join(found)}" if found else None


def _batch_norms(passes: Passes) -> str | None:
    found = sorted(passes.survey.normalisations)
    return (
        f"of normalisations its formula knows BatchNorm2d alone; this network runs {', '.join(found)}"
        if found
        else None
    )


_ANSWERS: Mapping[Need, Callable[[Passes], str | None]] = {
    "numbers": _numbers,
    "images": _images,
    "weights": _weights,
    "convolutions": _convolutions,
    "no_attention": _no_attention,
    "batch_norms": _batch_norms,
}
