"""Gradients of every sample's own loss, in one batched pass.

A sample's own gradient is that of a batch of this sample alone: batch normalisation uses its spatial statistics. Where
every normalisation does so for each sample of a batch, samples are not coupled, and the gradient of the sum of their
losses flows back to every layer as each sample's own; only there, at the weight, a batch would be summed up. For the
time of a pass convolutions and linear layers run as operations that do something else there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from searchspaces import Geometry, add_sample_signs, fused, normalised_alone, sample_gradients

Loss = Callable[[Tensor, Tensor], Tensor]
Visit = Callable[[str, Tensor, Tensor, Geometry], None]
"""(name of a weight, what goes into its layer, the gradient of what comes out); a linear layer is a 1x1 convolution."""

# Samples per pass: calls weigh more with fewer, memory with more. A NAS-Bench-201 network, 64 images of 32 x 32, fp32,
# one thread of an EPYC, 8 / 16 / 32 / 64 at once: 478 / 390 / 364 / 334 ms.
_AT_ONCE = 64


def gradient_signs(
    network: nn.Module, inputs: Tensor, labels: Tensor, loss: Loss, *, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Sum over samples of the sign of each sample's own gradient, for every Conv2d and Linear weight, by its name.

    Signs of zero and of NaN are 0; a weight that gets no gradient has zeros. Batch normalisations use each sample's own
    statistics, whatever their mode; all else runs as in evaluation. The network is left as found; it must compute a
    sample's logits from this sample alone. Memory is O(parameters) and that of a plain pass of 64 samples. Where a
    weight is used twice, or otherwise than by its layer, there is one pass per sample.

    Args:
        inputs: `batch x channels x height x width`, on the network's device.
        labels: `batch x ...`.
        loss: (logits, labels) -> their mean loss.
        dtype: float32, or bfloat16 for products of the backward pass. The forward pass is float32 always: on 100
            networks of NAS-Bench-201 scores rank as in float32 by .9999 (Spearman), with it in bf16 by .996.

    Returns:
        float32 tensors of the weights' shapes, whole numbers.

    Raises:
        ValueError: a normalisation has one value per sample and channel.
    """
    weights = _weights(network)
    totals = {name: _total(weight) for name, weight in weights.items()}

    def add(name: str, x: Tensor, gradient: Tensor, geometry: Geometry) -> None:
        add_sample_signs(totals[name].view(geometry.weight), x, gradient, geometry)

    def own(at: slice) -> Tensor:
        logits = network(_laid_out(inputs[at]))
        return loss(logits.float(), labels[at]) * len(logits)

    with _alone(network, inputs.device):
        watched = _Watched(weights, add, dtype)
        passes = (slice(start, start + _AT_ONCE) for start in range(0, len(inputs), _AT_ONCE))
        if not all(watched.run(network, partial(own, at)) for at in passes):
            for total in totals.values():
                total.zero_()
            for gradients in _one_by_one(weights, own, len(inputs)):
                for name, gradient in gradients.items():
                    totals[name] += (gradient > 0).int() - (gradient < 0).int()
    return {name: total.float() for name, total in totals.items()}


def gradient_gram(network: nn.Module, inputs: Tensor, of: Callable[[Tensor], Tensor] = torch.sum) -> Tensor:
    """Inner products of the samples' own gradients of a sum over their logits: the empirical neural tangent kernel.

    All Conv2d and Linear weights count, normalisations as in `gradient_signs`, in float32. Memory beside that of a
    plain pass is that of the per-sample gradients of one weight, or of all where there is one pass per sample.

    Args:
        inputs: `batch x channels x height x width`, on the network's device.
        of: logits, `batch x classes` -> the sum over samples of what is differentiated.

    Returns:
        `batch x batch`, symmetric.

    Raises:
        ValueError: a normalisation has one value per sample and channel.
    """
    weights = _weights(network)
    gram = torch.zeros((len(inputs), len(inputs)), device=inputs.device)

    def add(_: str, x: Tensor, gradient: Tensor, geometry: Geometry) -> None:
        rows = sample_gradients(x, gradient, geometry)
        gram.addmm_(rows, rows.T)

    def own(at: slice) -> Tensor:
        return of(network(_laid_out(inputs[at])).float())

    with _alone(network, inputs.device):
        if not _Watched(weights, add, torch.float32).run(network, partial(own, slice(None))):
            each = _one_by_one(weights, own, len(inputs))
            rows = torch.stack([torch.cat([g.flatten() for g in gradients.values()]) for gradients in each])
            gram = rows @ rows.T
    return gram


def _laid_out(inputs: Tensor) -> Tensor:
    """Images with their channels last, as the kernels want them; anything else as it is."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights of convolutions and linear layers that gradients are wanted of; each once, by its first name."""
    found: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not any(module.weight is weight for weight in found.values()):
            found[f"{name}.weight" if name else "weight"] = module.weight
    return found


def _total(weight: Tensor) -> Tensor:
    """Zeros in the weight's shape, laid out as `add_sample_signs` asks for."""
    total = torch.zeros(weight.shape, dtype=torch.int32, device=weight.device)
    return total.contiguous(memory_format=torch.channels_last) if total.ndim == 4 else total


def _one_by_one(
    weights: Mapping[str, Tensor], own: Callable[[slice], Tensor], num_samples: int
) -> Iterator[dict[str, Tensor]]:
    """The gradients of one sample after the other."""
    trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
    for at in range(num_samples):
        found = torch.autograd.grad(own(slice(at, at + 1)), list(trained.values()), allow_unused=True)
        pairs = zip(trained.items(), found, strict=True)
        yield {name: torch.zeros_like(weight) if g is None else g for (name, weight), g in pairs}


# --- a network whose samples are not coupled -------------------------------------------------------------------------


@contextmanager
def _alone(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside, normalisations use each sample's own statistics, and nothing draws or keeps anything."""
    modes = [(module, module.training) for module in network.modules()]
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    network.eval()
    try:
        with (
            _replaced({norm: partial(normalised_alone, norm=norm) for norm in norms}),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            fused(per_sample=True),
        ):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _replaced(forwards: Mapping[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    """Inside, these modules run these functions."""
    found = [(module, module.__dict__.get("forward")) for module in forwards]
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, before in found:
            if before is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = before


class _Watched:
    """Passes that show, in place of the gradients of weights, what these would be made of."""

    def __init__(self, weights: Mapping[str, Tensor], visit: Visit, dtype: torch.dtype) -> None:
        self.visit, self.dtype = visit, dtype
        self._weights = weights
        self._name_of = {id(weight): name for name, weight in weights.items()}
        self._used: list[int] = []

    def run(self, network: nn.Module, value: Callable[[], Tensor]) -> bool:
        """Differentiate value(), which runs the network; False where a weight is used in a way that is not seen."""
        self._used.clear()
        with _replaced(dict(self._forwards(network))):
            total = value()
            if len(set(self._used)) < len(self._used):
                return False
            trained = [weight for weight in self._weights.values() if weight.requires_grad]
            if not trained or not total.requires_grad:
                return True
            return all(g is None for g in torch.autograd.grad(total, trained, allow_unused=True))

    def _forwards(self, network: nn.Module) -> Iterator[tuple[nn.Module, Callable[..., Tensor]]]:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d) and type(layer).forward is nn.Conv2d.forward:
                if (geometry := Geometry.of(layer)) is not None:
                    yield layer, partial(self._convolve, layer, geometry)
            elif isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward:
                yield layer, partial(self._multiply, layer)

    def _convolve(self, layer: nn.Conv2d, geometry: Geometry, x: Tensor) -> Tensor:
        return self._applied(layer, geometry, x)

    def _multiply(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """As a 1x1 convolution of an image of one column: `batch x ... x inputs` -> `batch x ... x outputs`."""
        geometry = Geometry((*layer.weight.shape, 1, 1), (1, 1), (0, 0), (1, 1), 1)
        image = x.reshape(len(x), -1, x.shape[-1]).transpose(1, 2).unsqueeze(3)  # batch x inputs x ... x 1
        made = self._applied(layer, geometry, image)
        return made.squeeze(3).transpose(1, 2).reshape(*x.shape[:-1], -1)

    def _applied(self, layer: nn.Conv2d | nn.Linear, geometry: Geometry, x: Tensor) -> Tensor:
        self._used.append(id(layer.weight))
        seen = _Seen(self.visit, self._name_of[id(layer.weight)], geometry, self._dtype_of(layer))
        made: Tensor = _Convolve.apply(seen, x, layer.weight, layer.bias)  # type: ignore[no-untyped-call]
        return made

    def _dtype_of(self, layer: nn.Conv2d | nn.Linear) -> torch.dtype:
        """Of products: one filter of one pixel moves more than it computes, and gains nothing in bf16."""
        return self.dtype if math.prod(layer.weight.shape[2:]) > 1 else torch.float32


class _Seen(NamedTuple):
    """A layer in use."""

    visit: Visit
    name: str
    geometry: Geometry
    dtype: torch.dtype


class _Convolve(torch.autograd.Function):
    """(x, weight, bias) -> convolved; the weight's gradient is not made, but its parts are visited."""

    @staticmethod
    def forward(ctx, seen, x, weight, bias):  # type: ignore[no-untyped-def]
        filters = weight.view(seen.geometry.weight)
        y = F.conv2d(x, filters, bias, *seen.geometry[1:])
        ctx.save_for_backward(x, filters)
        ctx.seen, ctx.is_trained = seen, weight.requires_grad
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (x, filters), seen = ctx.saved_tensors, ctx.seen
        gradient = gradient.to(seen.dtype, memory_format=torch.channels_last)
        if ctx.is_trained:
            seen.visit(seen.name, x, gradient, seen.geometry)
        of_x = None
        if ctx.needs_input_grad[1]:
            _, stride, padding, dilation, groups = seen.geometry
            narrow, mask = filters.to(seen.dtype), (True, False, False)
            of_x = torch.ops.aten.convolution_backward(
                gradient, x, narrow, None, stride, padding, dilation, False, (0, 0), groups, mask
            )[0]
        return None, of_x, None, None
