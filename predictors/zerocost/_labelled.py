"""The labelled pass: forward and backward over every batch, from which most proxies read."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from predictors.zerocost._proxy import Batch, Record

_RECTIFIERS = (
    *(F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
    *(F.relu6, F.hardtanh, F.leaky_relu, F.prelu),  # ReLU6 is a hardtanh from 0 to 6
)
"""What lets through what is positive, in pieces that are linear: whether a unit is on says which piece it is on. Smooth
ones, as GELU, have no pieces, so that codes and regions mean nothing there."""
_CONVOLUTIONS = (F.conv2d, torch.conv2d)

Loss = Callable[[Tensor, Tensor], Tensor]


def weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all convolutions and linear layers by the layers' names, in the order of the network."""
    named = network.named_modules()
    return {name: cast(nn.Parameter, layer.weight) for name, layer in named if isinstance(layer, nn.Conv2d | nn.Linear)}


@dataclass
class Labelled:
    """What the passes in training mode left; empty where it was not asked for.

    Attributes:
        batches: gradients of every batch's mean loss by every weight, by layer; zeros for layers that are not run.
        channels: for every layer that ran, the sum over places of activation times the gradient by it of the mean loss
            of all, `images x channels`.
        jacobian: of the sum of an image's logits by its pixels, `images x inputs`.
        codes: of the first batch, K = sum over rectifications of c c' + (1 - c)(1 - c)', c 1 where a unit is active,
            `batch x batch`. A rectification counts once for every convolution that reads it, as if each had its own.
        variances: for every batch normalisation that ran, the unbiased variance of each channel, mean over batches.
    """

    batches: list[dict[str, Tensor]] = field(default_factory=list)
    channels: dict[str, Tensor] = field(default_factory=dict)
    jacobian: Tensor | None = None
    codes: Tensor | None = None
    variances: dict[str, Tensor] = field(default_factory=dict)

    @property
    def gradients(self) -> dict[str, Tensor]:
        """Of the mean loss of all images, by layer."""
        first = self.batches[0]
        return {name: sum((b[name] for b in self.batches[1:]), g) / len(self.batches) for name, g in first.items()}


def labelled_pass(network: nn.Module, batches: Sequence[Batch], loss: Loss, records: frozenset[Record]) -> Labelled:
    """A forward pass of every batch, and the backward passes that the records need; the network's buffers change.

    Batches are of equal size, and each is normalised by its own statistics. What only the first one gives ends there.
    """
    found = Labelled()
    has_jacobian = "jacobian" in records and batches[0].inputs.is_floating_point()
    jacobians: list[Tensor] = []
    channels: list[dict[str, Tensor]] = []
    norms = _noted(network, batches[0].inputs.device) if "variances" in records else {}
    variances: list[dict[str, Tensor]] = []
    for number, batch in enumerate(batches if records - {"codes"} else batches[:1]):
        inputs = batch.inputs.detach().requires_grad_(has_jacobian)
        codes = _Codes() if "codes" in records and number == 0 else None
        with torch.enable_grad(), _Channels(network, active="channels" in records) as products, codes or nullcontext():
            logits = network(inputs)
        if codes is not None:
            found.codes = codes.kernel()
        if has_jacobian:
            jacobians.append(torch.autograd.grad(logits.sum(), inputs, retain_graph=True)[0].flatten(1))
        if records & {"gradients", "channels"}:
            products.clear()
            found.batches.append(_gradients(loss(logits, batch.labels), weights(network)))
            channels.append({name: product / len(batches) for name, product in products.items()})
        variances.append({name: cast(Tensor, norm.running_var).clone() for name, norm in norms.items()})
    if jacobians:
        found.jacobian = torch.cat(jacobians)
    if "channels" in records:
        found.channels = {name: torch.cat([each[name] for each in channels]) for name in channels[0]}
    ran = [name for name, norm in norms.items() if int(cast(Tensor, norm.num_batches_tracked))]
    found.variances = {name: torch.stack([each[name] for each in variances]).mean(0) for name in ran}
    return found


def _gradients(value: Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    given = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return by_layer(parameters, given)


def by_layer(parameters: dict[str, nn.Parameter], given: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """Derivatives by layer; zeros for layers that are not run."""
    pairs = zip(parameters.items(), given, strict=True)
    return {name: torch.zeros_like(weight) if g is None else g.detach() for (name, weight), g in pairs}


class _Channels:
    """Inside, every layer that runs is watched; its dictionary then fills as gradients arrive."""

    def __init__(self, network: nn.Module, *, active: bool) -> None:
        layers = network.named_modules() if active else ()
        self._layers = [(name, layer) for name, layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> dict[str, Tensor]:
        products: dict[str, Tensor] = {}
        self._handles = [layer.register_forward_hook(_watch(name, products)) for name, layer in self._layers]
        return products

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _watch(name: str, products: dict[str, Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept = output.detach()

        def arrived(gradient: Tensor) -> None:
            product = kept * gradient
            of_places = range(2, product.ndim) if isinstance(layer, nn.Conv2d) else range(1, product.ndim - 1)
            products[name] = product.sum(tuple(of_places)) if of_places else product

        output.register_hook(arrived)  # type: ignore[no-untyped-call]

    return hook


def _noted(network: nn.Module, device: torch.device) -> dict[str, nn.BatchNorm2d]:
    """The normalisations, whose running statistics will be those of the last batch: torch computes them anyway."""
    found = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    for norm in found.values():
        note_variance(norm, device)
    return found


def note_variance(norm: nn.BatchNorm2d, device: torch.device) -> None:
    """From now on `running_var` is the unbiased variance of the last batch."""
    norm.momentum, norm.track_running_stats = 1.0, True
    norm.running_mean = torch.zeros(norm.num_features, device=device)
    norm.running_var = torch.ones(norm.num_features, device=device)
    norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=device)


def activity(rectified: Tensor) -> Tensor:
    """Which units are on, `batch x units`, in an order that needs no copy where the channels come last."""
    active = rectified.detach() > 0
    if active.ndim == 4 and active.is_contiguous(memory_format=torch.channels_last):
        active = active.permute(0, 2, 3, 1)
    return active.flatten(1)


class Rectifications(TorchFunctionMode):
    """Inside, `seen` is shown what every rectification gives, in the order in which they run.

    A tensor that several layers rectify, each for itself, has one set of units: it is shown once.
    """

    def __init__(self, seen: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._seen = seen
        self._known: dict[int, tuple[weakref.ref[Tensor], int]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        is_shown = func in _RECTIFIERS and self._is_new(args[0] if args else kwargs["input"])
        result = func(*args, **(kwargs or {}))
        if is_shown:
            self._seen(result)
        return result

    def _is_new(self, x: Tensor) -> bool:
        """Whether this tensor, as it is now, was not rectified before."""
        known, version = self._known.get(id(x)), x._version
        self._known[id(x)] = (weakref.ref(x), version)
        return known is None or known[0]() is not x or known[1] != version


class _Codes(Rectifications):
    """Counts for each two images the units that are active, or not, for both; a rectification as often as it is run."""

    def __init__(self) -> None:
        super().__init__(self._add)
        self._found: list[tuple[Tensor, Tensor, int]] = []

    def _is_new(self, x: Tensor) -> bool:
        return True

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func in _CONVOLUTIONS and args:
            known = next((i for i, (output, _, _) in enumerate(self._found) if output is args[0]), None)
            if known is not None:
                output, agreeing, readers = self._found[known]
                self._found[known] = (output, agreeing, readers + 1)
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]

    def kernel(self) -> Tensor | None:
        """The sum over all rectifications, `batch x batch`; None where there was none."""
        if not self._found:
            return None
        return torch.stack([agreeing * max(1, readers) for _, agreeing, readers in self._found]).sum(0)

    def _add(self, rectified: Tensor) -> None:
        active = activity(rectified).float()  # batch x units
        sums = active.sum(1)
        agreeing = 2 * active @ active.T + (active.shape[1] - sums[:, None] - sums[None, :])
        self._found.append((rectified, agreeing, 0))
