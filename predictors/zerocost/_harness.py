"""Scoring a network by several proxies at once: what they share is run once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from predictors.zerocost._applies import why_not
from predictors.zerocost._passes import Passes
from predictors.zerocost._proxy import Proxy, ProxyContext, Record, Score, Scored, Vote, finite
from searchspaces import Architecture, ProxyUndefined, SearchSpace, raised_at


def score_network(network: nn.Module, proxies: Mapping[str, Proxy], context: ProxyContext) -> dict[str, Scored]:
    """The score of every proxy, or why it has none; votes, which need several networks, are left out.

    A proxy whose formula does not apply to the network is not asked. One that fails, whatever it raises, has no score
    and its error for a reason, with the line that raised it; the others have theirs.

    The network is left as found: weights, gradients, buffers, hooks, mode, and torch's random state.

    Args:
        network: freshly initialised, on the device of the context's batch.
        proxies: by name, as `REGISTRY[name]()` makes them.
        context: what they have in common.
    """
    own = {name: proxy for name, proxy in proxies.items() if not isinstance(proxy, Vote)}
    records: frozenset[Record] = frozenset().union(*(proxy.records for proxy in own.values()))
    passes = Passes(network, context, records)
    return {name: _scored(proxy, passes) for name, proxy in own.items()}


def score_architecture(
    space: SearchSpace, architecture: Architecture, proxies: Mapping[str, Proxy], context: ProxyContext
) -> dict[str, Scored]:
    """`score_network` of the architecture's stand-alone network with weights of the context's seed.

    Where no way leads from input to output, only proxies that do not run the network have a score.
    """
    running = {name: proxy for name, proxy in proxies.items() if proxy.runs and not isinstance(proxy, Vote)}
    cut = not space.is_connected(space.check(architecture))
    asked = {name: proxy for name, proxy in proxies.items() if name not in running} if cut else proxies
    device = context.example.device
    network = space.build(architecture, seed=context.seed)
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scored = score_network(network, asked, context)
    if cut:
        scored |= {name: Scored(None, 0.0, error="no way leads from input to output.") for name in running}
    return {name: scored[name] for name in proxies if name in scored}


def _scored(proxy: Proxy, passes: Passes) -> Scored:
    try:
        score = passes.timed(lambda: _applied(proxy, passes))
    except ProxyUndefined as error:
        return Scored(None, passes.seconds, error=str(error))
    except Exception as error:  # of torch, or a fault of the proxy: whatever it is, the other scores are kept
        passes.forget_copies()  # it may have left them changed
        reason = f"{type(error).__name__}: {error} ({raised_at(error, type(proxy))})"
        return Scored(None, passes.seconds, error=reason, is_fault=True)
    return Scored(score.value, passes.seconds, dict(score.layers))


def _applied(proxy: Proxy, passes: Passes) -> Score:
    reason = next(why_not(passes, proxy.needs), None)
    if reason is not None:
        raise ProxyUndefined(f"does not apply: {reason}.")
    score = proxy.score(passes)
    return score._replace(value=finite(score.value, "the score is not finite"))
