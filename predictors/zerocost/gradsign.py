"""GradSign: how far the gradients of single images agree in sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class GradSign(Proxy):
    """Sum over weights of |sum over images of sign(g_i)|, g_i the gradient of the loss of image i alone.

    Every image is normalised by its own statistics, as in a batch of one. Weights of convolutions and linear layers
    only. The mean over weights, which some published scripts take, ranks against accuracy on NAS-Bench-201. The sum
    grows with the batch: compare at one size only. The layer statistic is the mean over its weights, between 0 and 1.
    """

    needs = frozenset({"weights"})

    def score(self, passes: Passes) -> Score:
        try:
            signs = {name: total.abs() for name, total in passes.signs.items()}
        except ValueError as error:  # of torch, which cannot normalise one value
            raise ProxyUndefined(f"a sample alone cannot be normalised: {error}.") from error
        images = len(passes.context.labels)
        layers = {name.removesuffix(".weight"): float(s.double().mean()) / images for name, s in signs.items()}
        return Score(finite(sum(float(s.double().sum()) for s in signs.values()), "the sum overflows"), layers)


def _create(config: Config) -> GradSign:
    return GradSign()


PLUGIN = Plugin(
    name="gradsign",
    description="Agreement in sign of the gradients of single images",
    source="Zhang and Jia (2022), GradSign, arXiv 2110.08616",
    create=_create,
    flags=properties(
        labels=True, layers=True, fails="says little beyond the number of weights in use; weak on NAS-Bench-101"
    ),
)
