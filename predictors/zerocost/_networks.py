"""What proxies do to a copy of a network: other initial weights, no normalisation, a look at its blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def gaussian_weights(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """The network with standard normal weights, and normalisations that neither scale nor shift."""
    return _drawn(network, generator, lambda weight: 1.0)


def kaiming_weights(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """The network with normal weights of variance 2 / fan-in, and normalisations that neither scale nor shift."""
    return _drawn(network, generator, lambda weight: (2.0 / weight[0].numel()) ** 0.5)


def _drawn(network: nn.Module, generator: torch.Generator, std: Callable[[Tensor], float]) -> nn.Module:
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                drawn = torch.randn(layer.weight.shape, generator=generator) * std(layer.weight)
                layer.weight.copy_(drawn)
                if layer.bias is not None:
                    layer.bias.zero_()
            elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm) and layer.affine:
                layer.weight.fill_(1.0)
                layer.bias.zero_()
    return network


def without_normalisation(network: nn.Module) -> nn.Module:
    """The network with every batch normalisation doing nothing."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = _same  # type: ignore[method-assign, assignment]
    return network


def _same(x: Tensor) -> Tensor:
    return x


@contextmanager
def watched(blocks: Sequence[nn.Module], seen: Callable[[Tensor], None], *, and_before: bool = False) -> Iterator[None]:
    """Inside, `seen` is shown what every block puts out, in the order in which they run.

    Args:
        and_before: first what goes into the first of `blocks`.
    """
    handles = [block.register_forward_hook(lambda module, inputs, output: seen(output)) for block in blocks]
    if and_before and blocks:
        handles.append(blocks[0].register_forward_pre_hook(lambda module, inputs: seen(inputs[0])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
