"""SynFlow: how much flows through the network's weights, without data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class SynFlow(Proxy):
    """log of the sum over weights of |w dR/dw|, R the sum of the logits for an input of ones, in double precision.

    All parameters are replaced by their absolute values, batch normalisations are left out. The layer statistic is the
    mean over a layer's weights.
    """

    needs = frozenset({"numbers", "weights", "no_attention", "batch_norms"})

    def score(self, passes: Passes) -> Score:
        import torch

        from predictors.zerocost._labelled import weights
        from predictors.zerocost._networks import without_normalisation

        network = without_normalisation(passes.copy()).double()
        for parameter in network.parameters():
            parameter.data.abs_()
        parameters = weights(network)
        with torch.enable_grad():
            flow = network(torch.ones_like(passes.context.example, dtype=torch.float64)).sum()
            gradients = torch.autograd.grad(flow, list(parameters.values()), allow_unused=True)
        effects = {
            name: torch.zeros_like(w) if g is None else (w.detach() * g).abs()
            for (name, w), g in zip(parameters.items(), gradients, strict=True)
        }
        total = float(torch.stack([effect.sum() for effect in effects.values()]).sum())
        if total <= 0:
            raise ProxyUndefined("nothing flows from the input to the logits.")
        layers = {name: float(effect.mean()) for name, effect in effects.items()}
        return Score(finite(torch.tensor(total, dtype=torch.float64).log(), "the flow overflows"), layers)


def _create(config: Config) -> SynFlow:
    return SynFlow()


PLUGIN = Plugin(
    name="synflow",
    description="What flows through the weights, without data",
    source="Tanaka et al. (2020), Pruning neural networks without any data, arXiv 2006.05467",
    create=_create,
    flags=properties(layers=True, fails="weak on the DARTS space and on NAS-Bench-101"),
)
