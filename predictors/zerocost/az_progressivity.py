"""AZ-NAS, second part: whether every block adds to what features express."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class AzProgressivity(Proxy):
    """Smallest increase, from one block to the next, of the entropy of the spectrum between channels."""

    needs = frozenset({"numbers", "images", "weights", "convolutions", "no_attention"})

    def score(self, passes: Passes) -> Score:
        from predictors.zerocost._az import entropies

        found = entropies(passes)
        if len(found) < 2:
            raise ProxyUndefined("needs a network of a stem and a block, or of two blocks.")
        return Score(
            finite(min(later - earlier for earlier, later in itertools.pairwise(found)), "a feature is not finite")
        )


def _create(config: Config) -> AzProgressivity:
    return AzProgressivity()


PLUGIN = Plugin(
    name="az_progressivity",
    description="Smallest increase of the features' entropy from block to block",
    source="Lee and Ham (2024), AZ-NAS, arXiv 2403.19232",
    create=_create,
    flags=properties(fails="made to be ranked together with the other parts, see az_nas"),
)
