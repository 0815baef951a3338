"""AZ-NAS, first part: how evenly features use their channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class AzExpressivity(Proxy):
    """Sum over blocks of the entropy of the spectrum of the covariance between channels."""

    needs = frozenset({"numbers", "images", "weights", "convolutions", "no_attention"})

    def score(self, passes: Passes) -> Score:
        from predictors.zerocost._az import entropies

        return Score(finite(sum(entropies(passes)), "a feature is not finite"))


def _create(config: Config) -> AzExpressivity:
    return AzExpressivity()


PLUGIN = Plugin(
    name="az_expressivity",
    description="Entropy of the features' spectra, summed over blocks",
    source="Lee and Ham (2024), AZ-NAS, arXiv 2403.19232",
    create=_create,
    flags=properties(fails="made to be ranked together with the other parts, see az_nas"),
)
