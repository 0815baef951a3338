"""Norm of the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class GradNorm(Proxy):
    """Sum over layers of the Euclidean norm of the loss's gradient, which is a layer's statistic too."""

    records = frozenset({"gradients"})
    needs = frozenset({"weights"})

    def score(self, passes: Passes) -> Score:
        layers = {name: float(gradient.norm()) for name, gradient in passes.labelled.gradients.items()}
        return Score(finite(sum(layers.values()), "the norm of the gradient overflows"), layers)


def _create(config: Config) -> GradNorm:
    return GradNorm()


PLUGIN = Plugin(
    name="grad_norm",
    description="Sum over layers of the norm of the gradient",
    source="Abdelfattah et al. (2021), Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134",
    create=_create,
    flags=properties(
        labels=True, layers=True, fails="weak among the best, and on NAS-Bench-101; near zero on the DARTS space"
    ),
)
