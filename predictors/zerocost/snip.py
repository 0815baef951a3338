"""SNIP: how much the loss would change if weights were removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class Snip(Proxy):
    """Sum over weights of |w g|, g the gradient of the loss; its layer statistic is the mean over a layer's weights."""

    records = frozenset({"gradients"})
    needs = frozenset({"weights"})

    def score(self, passes: Passes) -> Score:
        gradients = passes.labelled.gradients
        effects = {name: (w.detach() * gradients[name]).abs() for name, w in passes.weights.items()}
        layers = {name: float(effect.mean()) for name, effect in effects.items()}
        return Score(finite(sum(effect.sum() for effect in effects.values()), "the sum of |w g| overflows"), layers)


def _create(config: Config) -> Snip:
    return Snip()


PLUGIN = Plugin(
    name="snip",
    description="Effect on the loss of removing weights",
    source="Lee, Ajanthan and Torr (2019), SNIP, arXiv 1810.02340",
    create=_create,
    flags=properties(
        labels=True, layers=True, fails="weak among the best, and on NAS-Bench-101; near zero on the DARTS space"
    ),
)
