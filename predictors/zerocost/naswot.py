"""NASWOT: how differently the rectifiers of a network code the images of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class Naswot(Proxy):
    """log det K, where K counts for each two images the rectifications that are on, or off, for both."""

    records = frozenset({"codes"})

    def score(self, passes: Passes) -> Score:
        codes = passes.labelled.codes
        if codes is None:
            raise ProxyUndefined(
                "the network runs no rectification (ReLU and its like) whose activity could be counted."
            )
        sign, logarithm = codes.double().slogdet()
        if sign <= 0:
            raise ProxyUndefined("two images have the same code, the kernel is singular; give fewer images.")
        return Score(finite(logarithm, "the determinant of the kernel overflows"))


def _create(config: Config) -> Naswot:
    return Naswot()


PLUGIN = Plugin(
    name="naswot",
    description="Log-determinant of the kernel of activation codes",
    source="Mellor et al. (2021), Neural Architecture Search without Training, arXiv 2006.04647",
    create=_create,
    flags=properties(data=True, fails="weak among the best of NAS-Bench-201"),
)
