"""Sum of weight times gradient, with its sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class Plain(Proxy):
    """Sum over weights of w g, g the gradient of the loss; its layer statistic is the mean over a layer's weights."""

    records = frozenset({"gradients"})
    needs = frozenset({"weights"})

    def score(self, passes: Passes) -> Score:
        gradients = passes.labelled.gradients
        effects = {name: w.detach() * gradients[name] for name, w in passes.weights.items()}
        layers = {name: float(effect.mean()) for name, effect in effects.items()}
        return Score(finite(sum(effect.sum() for effect in effects.values()), "the sum of w g overflows"), layers)


def _create(config: Config) -> Plain:
    return Plain()


PLUGIN = Plugin(
    name="plain",
    description="Sum of weight times gradient, with its sign",
    source="Abdelfattah et al. (2021), Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134",
    create=_create,
    flags=properties(labels=True, layers=True, fails="negative on NAS-Bench-201 and the DARTS space"),
)
