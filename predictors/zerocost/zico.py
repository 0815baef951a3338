"""ZiCo: large gradients that vary little between batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class Zico(Proxy):
    """Sum over layers of log(sum over weights of mean |g| / std |g|), over batches.

    Weights whose gradients are equal do not count, nor layers without any other. A layer's term is its statistic.
    """

    records = frozenset({"gradients"})
    needs = frozenset({"weights"})

    def score(self, passes: Passes) -> Score:
        import torch

        batches, layers = passes.labelled.batches, {}
        if len(batches) < 2:
            raise ProxyUndefined("needs two labelled batches; give more images.")
        for name in batches[0]:
            sizes = torch.stack([gradients[name].abs() for gradients in batches])
            std, mean = torch.std_mean(sizes, dim=0, correction=0)
            ratio = float(torch.where(std > 0, mean / std, 0.0).sum(dtype=torch.float64))
            if ratio > 0:
                layers[name] = float(torch.tensor(ratio).log())
        if not layers:
            raise ProxyUndefined("no weight has gradients that differ between the batches.")
        return Score(finite(sum(layers.values()), "a ratio overflows"), layers)


def _create(config: Config) -> Zico:
    return Zico()


PLUGIN = Plugin(
    name="zico",
    description="Large gradients that vary little between batches",
    source="Li et al. (2023), ZiCo, arXiv 2301.11300",
    create=_create,
    flags=properties(labels=True, layers=True),
)
