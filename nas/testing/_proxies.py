"""The contract of a proxy: a pure function of network and context, whoever else is scored with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nas.streams import stream_seed, torch_stream
from predictors.costs import REGISTRY as COSTS
from predictors.zerocost import REGISTRY, Batch, Proxy, ProxyContext, Scored, Vote
from searchspaces import Architecture, ContractViolation, Plugin, ProxyUndefined, SearchSpace

if TYPE_CHECKING:
    from torch import nn

_FLAGS = {"data": bool, "labels": bool, "second_order": bool, "layers": bool, "direction": str, "fails": str}
_TOLERANCE = 1e-3


def check_proxy(
    plugin: Plugin[Proxy],
    space: SearchSpace,
    architecture: Architecture,
    *,
    beside: Mapping[str, Scored] | None = None,
) -> None:
    """Checks what a proxy promises, on one architecture that has a value.

    A finite value, the same every time, alone and beside all others, and whatever the flags say it does not read; a
    statistic for layers with weights when its flag says so. On networks that its formula was not made for (a language
    model, attention, no convolution, no normalisation, GELU ...) a value or ProxyUndefined, and no other error.

    Args:
        beside: what `scored_together` gives, where it is known.

    Raises:
        ContractViolation: a promise is broken.
    """
    _require(dict.fromkeys(plugin.flags) == dict.fromkeys(_FLAGS), "a proxy has its flags", dict(plugin.flags))
    typed = all(isinstance(plugin.flags[name], kind) for name, kind in _FLAGS.items())
    _require(typed and plugin.flags["direction"] == "max", "flags have their types, more is better", plugin.flags)
    proxy = plugin()
    if isinstance(proxy, Vote):
        _check_vote(proxy)
        return
    context = example_context(space)
    first = _alone(plugin, space, architecture, context)
    _require(first.value is not None, "a whole network has a score", first.error)
    _check_score(plugin, first, space, architecture)
    _require(_is_near(first, _alone(plugin, space, architecture, context)), "equal contexts give equal scores", first)
    _check_reads(plugin, space, architecture, context, first)
    _check_elsewhere(plugin, proxy)
    found = scored_together(space, architecture, plugin) if beside is None else beside
    _require(_is_near(first, found[plugin.name]), "a score is the same beside others", first, found[plugin.name])


def check_leaves_network(plugin: Plugin[Proxy], space: SearchSpace, architecture: Architecture) -> None:
    """Scoring changes neither the network nor any random state.

    Raises:
        ContractViolation: something is not as it was.
    """
    import torch

    from predictors.zerocost import score_network

    network = space.build(architecture)
    network.eval()
    before = _state(network)
    states = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002 - read, to see that nobody draws from it
    score_network(network, {plugin.name: plugin()}, example_context(space))
    _require(_same(before, _state(network)), "weights, buffers, gradients, hooks and mode are as found", plugin.name)
    after = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    _require(bool((states[0] == after[0]).all()) and states[1] == after[1], "random states are as found", plugin.name)


def scored_together(space: SearchSpace, architecture: Architecture, *plugins: Plugin[Proxy]) -> dict[str, Scored]:
    """The scores of all our own proxies, and of these, from shared passes."""
    from predictors.zerocost import score_architecture

    every: Mapping[str, Proxy] = {plugin.name: plugin() for plugin in (*REGISTRY.own().values(), *plugins)}
    return score_architecture(space, architecture, every, example_context(space))


def example_context(space: SearchSpace, *, images: int = 8, seed: int = 0) -> ProxyContext:
    """Two batches of smooth random images in two classes."""
    import torch
    from torch.nn import functional

    generator = torch_stream(seed, "proxy contract")
    coarse = torch.randn(2 * images, space.input_shape[0], 3, 3, generator=generator)
    inputs = functional.interpolate(coarse, space.input_shape[1:], mode="bilinear")
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(2 * images) % 2
    batches = tuple(Batch(inputs[part], labels[part]) for part in (slice(images), slice(images, None)))
    return ProxyContext(batches, functional.cross_entropy, seed=stream_seed(seed, "proxies") % 2**31)


def _alone(plugin: Plugin[Proxy], space: SearchSpace, architecture: Architecture, context: ProxyContext) -> Scored:
    from predictors.zerocost import score_architecture

    return score_architecture(space, architecture, {plugin.name: plugin()}, context)[plugin.name]


def _check_score(plugin: Plugin[Proxy], scored: Scored, space: SearchSpace, architecture: Architecture) -> None:
    from torch import nn

    _require(scored.value is not None and math.isfinite(scored.value), "a score is finite", scored.value)
    _require(scored.seconds >= 0, "seconds are not negative", scored.seconds)
    _require(bool(scored.layers) == plugin.flags["layers"], "layers have a statistic as the flag says", scored.layers)
    network = space.build(architecture)
    known = {name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    _require(scored.layers.keys() <= known, "statistics are of layers with weights", scored.layers.keys() - known)
    _require(all(map(math.isfinite, scored.layers.values())), "statistics are finite", scored.layers)


def _check_reads(
    plugin: Plugin[Proxy], space: SearchSpace, architecture: Architecture, context: ProxyContext, first: Scored
) -> None:
    """What the flags say is not read does not change the score."""
    if not plugin.flags["labels"]:
        other = replace(context, batches=tuple(Batch(b.inputs, b.labels.roll(1)) for b in context.batches))
        _require(_is_near(first, _alone(plugin, space, architecture, other)), "labels are not read", plugin.name)
    if not plugin.flags["data"]:
        other = replace(context, batches=tuple(Batch(b.inputs.flip(0) * 2 + 1, b.labels) for b in context.batches))
        _require(_is_near(first, _alone(plugin, space, architecture, other)), "images are not read", plugin.name)


def _check_elsewhere(plugin: Plugin[Proxy], proxy: Proxy) -> None:
    """On networks of other kinds there is a value, or ProxyUndefined; see `Proxy.needs`."""
    from nas.testing._zoo import ZOO, zoo_network
    from predictors.zerocost import score_network

    for name in ZOO:
        network, context = zoo_network(name)
        found = score_network(network, {plugin.name: proxy}, context)[plugin.name]
        _require(
            not found.is_fault, f"a network of the kind {name} has a score, or ProxyUndefined says why", found.error
        )


def _check_vote(proxy: Vote) -> None:
    unknown = [part for part in proxy.parts if part not in REGISTRY and part not in COSTS]
    _require(bool(proxy.parts) and not unknown, "the parts of a vote are proxies or costs", unknown)
    try:
        proxy.score(None)  # type: ignore[arg-type]
    except ProxyUndefined:
        return
    raise ContractViolation("a vote has no score of a single network.")


def _is_near(first: Scored, second: Scored) -> bool:
    if first.value is None or second.value is None:
        return first.value == second.value
    return math.isclose(first.value, second.value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _state(network: nn.Module) -> dict[str, object]:
    found: dict[str, object] = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        found[f"{name} gradient"] = parameter.grad
    for name, module in network.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        found[f"{name} mode"] = (module.training, *map(len, hooks), "forward" in vars(module))
    return found


def _same(first: dict[str, object], second: dict[str, object]) -> bool:
    import torch

    def equal(a: object, b: object) -> bool:
        return (
            bool(torch.equal(a, b)) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a is b or a == b
        )

    return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)


def _require(holds: object, promise: str, *examples: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {', '.join(map(str, examples))}.")
