"""Norm of the initial weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class L2Norm(Proxy):
    """Sum over layers of the Euclidean norm of the initial weights, which is a layer's statistic too."""

    needs = frozenset({"weights"})

    runs = False

    def score(self, passes: Passes) -> Score:
        layers = {name: float(weight.detach().norm()) for name, weight in passes.weights.items()}
        return Score(finite(sum(layers.values()), "the norm of the weights overflows"), layers)


def _create(config: Config) -> L2Norm:
    return L2Norm()


PLUGIN = Plugin(
    name="l2_norm",
    description="Sum over layers of the norm of the initial weights",
    source="Abdelfattah et al. (2021), Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134",
    create=_create,
    flags=properties(layers=True, fails="counts weights that reach no output"),
)
