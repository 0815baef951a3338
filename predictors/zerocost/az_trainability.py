"""AZ-NAS, third part: whether gradients keep their size from block to block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class AzTrainability(Proxy):
    """Mean over blocks of 2 - s - 1 / (s + 1e-6), s the largest singular value of the Jacobian between channels.

    Where a block is the identity the release gives minus infinity, of which the rank is what counts: last. Here such a
    network has no score, and the reason; whatever ranks by scores puts it last, as `az_nas` does. Of 300 cells of
    NAS-Bench-201 8 have none, one of them for want of a way to the output.
    """

    needs = frozenset({"numbers", "images", "weights", "convolutions", "no_attention"})

    def score(self, passes: Passes) -> Score:
        from predictors.zerocost._az import trainabilities

        values = trainabilities(passes)
        if not values:
            raise ProxyUndefined("needs a network of a stem and a block, or of two blocks.")
        return Score(finite(sum(values) / len(values), "a gradient is not finite"))


def _create(config: Config) -> AzTrainability:
    return AzTrainability()


PLUGIN = Plugin(
    name="az_trainability",
    description="How well gradients keep their size from block to block",
    source="Lee and Ham (2024), AZ-NAS, arXiv 2403.19232",
    create=_create,
    flags=properties(
        fails="made to be ranked together with the other parts, see az_nas; none for blocks that are identities"
    ),
)
