"""GraSP: how the flow of gradients would change if weights were removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import Field

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class GraspConfig(Config):
    """Settings of `grasp`."""

    images: int = Field(
        16, ge=2, le=4096, description="Images that derivatives are taken over: the second ones cost six passes."
    )


class Grasp(Proxy):
    """Minus the sum over weights of (H g) w, H the Hessian of the loss and g its gradient; temperature 1.

    Of the first images only. Differences of gradients in place of H g are no way around its cost: along g the
    rectifications switch, and the sum comes out wrong whatever the step. The layer statistic is the mean over a layer's
    weights.
    """

    needs = frozenset({"weights"})

    def __init__(self, config: GraspConfig) -> None:
        self.config = config

    def score(self, passes: Passes) -> Score:
        import torch

        from predictors.zerocost._labelled import by_layer, weights

        # second derivatives of torch's normalisations are faster on contiguous images
        network = passes.copy().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        parameters, images = weights(network), self.config.images
        inputs = passes.context.inputs[:images].contiguous()
        with torch.enable_grad():
            loss = passes.context.loss(network(inputs), passes.context.labels[:images])
            given = torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
            flow = torch.stack([(g * g.detach()).sum() for g in given if g is not None]).sum()
            turned = torch.autograd.grad(flow, list(parameters.values()), allow_unused=True)
        effects = {name: -(h * parameters[name].detach()) for name, h in by_layer(parameters, turned).items()}
        layers = {name: float(effect.mean()) for name, effect in effects.items()}
        return Score(finite(sum(effect.sum() for effect in effects.values()), "the sum of (H g) w overflows"), layers)


def _create(config: Config) -> Grasp:
    return Grasp(cast(GraspConfig, config))


PLUGIN = Plugin(
    name="grasp",
    description="Effect on the flow of gradients of removing weights",
    source="Wang, Zhang and Grosse (2020), Picking Winning Tickets Before Training, arXiv 2002.07376",
    create=_create,
    Config=GraspConfig,
    flags=properties(
        labels=True,
        second_order=True,
        layers=True,
        fails="negative among the best of NAS-Bench-201, zero on NAS-Bench-101",
    ),
)
