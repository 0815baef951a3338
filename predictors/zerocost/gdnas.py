"""GDNAS: how far activations have spread before each normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes

_MOMENTUM = 0.1


class Gdnas(Proxy):
    """Sum over batch normalisations of log sqrt(mean running variance) after one batch.

    Running variances begin at 1 and move a tenth of the way to the batch's.
    """

    records = frozenset({"variances"})

    def score(self, passes: Passes) -> Score:
        import torch

        variances = passes.labelled.variances
        if not variances:
            raise ProxyUndefined("the network runs no batch normalisation (BatchNorm2d).")
        running = torch.stack([(1 - _MOMENTUM) + _MOMENTUM * variance.mean() for variance in variances.values()])
        return Score(finite(0.5 * running.double().log().sum(), "a variance is not finite"))


def _create(config: Config) -> Gdnas:
    return Gdnas()


PLUGIN = Plugin(
    name="gdnas",
    description="Spread of the activations before the normalisations",
    source="the GDNAS score as published with ParZC (Dong et al., 2024, arXiv 2402.02105)",
    create=_create,
    flags=properties(
        data=True, fails="negative on NAS-Bench-201 with default initial weights, whose variances are below 1"
    ),
)
