"""Fisher information of activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class Fisher(Proxy):
    """Sum over layers and channels of half the mean over images of (sum over places of a da)^2, a the activation.

    `da` is the gradient of the mean loss by it. Its layer statistic is the mean over a layer's channels.
    """

    records = frozenset({"channels"})

    def score(self, passes: Passes) -> Score:
        found = passes.labelled.channels  # layer -> batch x channels
        informed = {name: (0.5 * effect.square().mean(0)) for name, effect in found.items()}
        layers = {name: float(effect.mean()) for name, effect in informed.items()}
        return Score(finite(sum(effect.sum() for effect in informed.values()), "the information overflows"), layers)


def _create(config: Config) -> Fisher:
    return Fisher()


PLUGIN = Plugin(
    name="fisher",
    description="Fisher information of activations",
    source="Turner et al. (2020), BlockSwap, arXiv 1906.04113",
    create=_create,
    flags=properties(labels=True, layers=True, fails="negative among the best of NAS-Bench-201 and on the DARTS space"),
)
