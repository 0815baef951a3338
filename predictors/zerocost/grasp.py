"""GraSP: how the flow of gradients would change if weights were removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class Grasp(Proxy):
    """Minus the sum over weights of (H g) w, H the Hessian of the loss and g its gradient; one batch, temperature 1.

    Its layer statistic is the mean over a layer's weights.
    """

    records = frozenset({"curvature"})

    def score(self, passes: Passes) -> Score:
        curvature = passes.labelled.curvature
        effects = {name: -(curvature[name] * w.detach()) for name, w in passes.weights.items()}
        layers = {name: float(effect.mean()) for name, effect in effects.items()}
        return Score(finite(sum(effect.sum() for effect in effects.values()), "the sum of (H g) w overflows"), layers)


def _create(config: Config) -> Grasp:
    return Grasp()


PLUGIN = Plugin(
    name="grasp",
    description="Effect on the flow of gradients of removing weights",
    source="Wang, Zhang and Grosse (2020), Picking Winning Tickets Before Training, arXiv 2002.07376",
    create=_create,
    flags=properties(
        labels=True,
        second_order=True,
        layers=True,
        fails="negative among the best of NAS-Bench-201; zero on NAS-Bench-101",
    ),
)
