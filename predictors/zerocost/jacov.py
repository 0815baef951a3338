"""Covariance of Jacobians: how differently the network reacts to the images of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes

_JITTER = 1e-5


class Jacov(Proxy):
    """-sum of log(e + k) + 1 / (e + k), e the eigenvalues of the correlations between input Jacobians, k = 1e-5."""

    records = frozenset({"jacobian"})
    needs = frozenset({"numbers"})

    def score(self, passes: Passes) -> Score:
        import torch

        from predictors.zerocost._jacobians import correlations

        shifted = torch.linalg.eigvalsh(correlations(passes)) + _JITTER
        return Score(finite(-(shifted.log() + 1 / shifted).sum(), "the spectrum of the correlations is not positive"))


def _create(config: Config) -> Jacov:
    return Jacov()


PLUGIN = Plugin(
    name="jacov",
    description="Spectrum of the correlations between input Jacobians",
    source="Mellor et al. (2020), Neural Architecture Search without Training, first version, arXiv 2006.04647v1",
    create=_create,
    flags=properties(data=True, fails="negative on NAS-Bench-101; zero on the DARTS space"),
)
