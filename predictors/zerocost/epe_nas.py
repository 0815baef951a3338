"""EPE-NAS: correlations of Jacobians within classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes

_JITTER = 1e-5


class EpeNas(Proxy):
    """Mean over classes of sum |log(|r| + 1e-5)|, r the correlations between Jacobians of images of the class.

    Classes with fewer than two images do not count.
    """

    records = frozenset({"jacobian"})
    needs = frozenset({"numbers"})

    def score(self, passes: Passes) -> Score:
        from predictors.zerocost._jacobians import correlations

        alike, labels = correlations(passes), passes.context.labels.cpu()
        sums = []
        for label in sorted(set(labels.tolist())):
            inside = labels == label
            if int(inside.sum()) > 1:
                sums.append((alike[inside][:, inside].abs() + _JITTER).log().abs().sum())
        if not sums:
            raise ProxyUndefined("no class has two images in the batch; give more images.")
        return Score(finite(sum(sums) / len(sums), "the correlations are not finite"))


def _create(config: Config) -> EpeNas:
    return EpeNas()


PLUGIN = Plugin(
    name="epe_nas",
    description="Correlations between input Jacobians within classes",
    source="Lopes, Alirezazadeh and Alexandre (2021), EPE-NAS, arXiv 2102.08099",
    create=_create,
    flags=properties(labels=True, fails="zero among the best of NAS-Bench-201, and on NAS-Bench-101"),
)
