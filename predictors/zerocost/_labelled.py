"""The labelled pass: one forward and one backward over a batch, from which most proxies read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from predictors.zerocost._proxy import Batch, Record

_RECTIFIERS = (
    *(F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
    *(F.relu6, F.hardtanh, F.leaky_relu, F.gelu, F.silu, F.hardswish),  # ReLU6 is a hardtanh from 0 to 6
)
"""What lets through what is positive."""


def weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all convolutions and linear layers by the layers' names, in the order of the network."""
    named = network.named_modules()
    return {name: cast(nn.Parameter, layer.weight) for name, layer in named if isinstance(layer, nn.Conv2d | nn.Linear)}


@dataclass
class Labelled:
    """What one forward and backward pass in training mode left; empty where it was not asked for.

    Attributes:
        gradients: of the mean loss by every weight, by layer; zeros for layers that are not run.
        curvature: the Hessian of the mean loss times its gradient, by layer; zeros for layers that are not run.
        channels: for every layer that ran, the sum over places of activation times its gradient, `batch x channels`.
        jacobian: of the sum of an image's logits by its pixels, `batch x inputs`.
        codes: K = sum over rectifications of c c' + (1 - c)(1 - c)', c 1 where a unit is active, `batch x batch`.
        moments: for every batch normalisation that ran, the unbiased variance of each channel.
    """

    gradients: dict[str, Tensor] = field(default_factory=dict)
    curvature: dict[str, Tensor] = field(default_factory=dict)
    channels: dict[str, Tensor] = field(default_factory=dict)
    jacobian: Tensor | None = None
    codes: Tensor | None = None
    moments: dict[str, Tensor] = field(default_factory=dict)


def labelled_pass(
    network: nn.Module, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor], records: frozenset[Record]
) -> Labelled:
    """One forward pass, and the backward passes that the records need; the network's buffers change."""
    found, parameters = Labelled(), weights(network)
    inputs = batch.inputs.detach().requires_grad_("jacobian" in records)
    with torch.enable_grad(), _recorded(network, found, records):
        logits = network(inputs)
        if "jacobian" in records:
            found.jacobian = torch.autograd.grad(logits.sum(), inputs, retain_graph=True)[0].flatten(1)
        if records & {"gradients", "channels", "curvature"}:
            _differentiate(loss(logits, batch.labels), parameters, found, records)
    return found


def _differentiate(
    value: Tensor, parameters: dict[str, nn.Parameter], found: Labelled, records: frozenset[Record]
) -> None:
    second = "curvature" in records
    given = torch.autograd.grad(value, list(parameters.values()), create_graph=second, allow_unused=True)
    found.gradients = _by_layer(parameters, given)
    if second:
        product = torch.stack([(g * g.detach()).sum() for g in given if g is not None]).sum()
        turned = torch.autograd.grad(product, list(parameters.values()), allow_unused=True)
        found.curvature = _by_layer(parameters, turned)


def _by_layer(parameters: dict[str, nn.Parameter], given: Sequence[Tensor | None]) -> dict[str, Tensor]:
    pairs = zip(parameters.items(), given, strict=True)
    return {name: torch.zeros_like(weight) if g is None else g.detach() for (name, weight), g in pairs}


@contextmanager
def _recorded(network: nn.Module, found: Labelled, records: frozenset[Record]) -> Iterator[None]:
    handles = []
    for name, module in network.named_modules():
        if "channels" in records and isinstance(module, nn.Conv2d | nn.Linear):
            handles.append(module.register_forward_hook(_channels(name, found)))
        if "moments" in records and isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(_moments(name, found)))
    try:
        if "codes" in records:
            with Rectifications(lambda y: _add_codes(found, y)):
                yield
        else:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _channels(name: str, found: Labelled) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        def arrived(gradient: Tensor) -> None:
            # a Jacobian's gradients come before the loss's, which replace them; second-order ones come after
            if not found.gradients:
                product = output.detach() * gradient.detach()
                found.channels[name] = product.flatten(2).sum(2) if product.ndim > 2 else product

        output.register_hook(arrived)  # type: ignore[no-untyped-call]

    return hook


def _moments(name: str, found: Labelled) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.moments[name] = inputs[0].detach().float().var(dim=(0, 2, 3))

    return hook


def _add_codes(found: Labelled, rectified: Tensor) -> None:
    active = (rectified.detach() > 0).flatten(1).float()  # batch x units
    sums = active.sum(1)
    agreeing = 2 * active @ active.T + (active.shape[1] - sums[:, None] - sums[None, :])
    found.codes = agreeing if found.codes is None else found.codes + agreeing


class Rectifications(TorchFunctionMode):
    """Inside, `seen` is shown what every rectification gives, in the order in which they run."""

    def __init__(self, seen: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if func in _RECTIFIERS:
            self._seen(result)
        return result
