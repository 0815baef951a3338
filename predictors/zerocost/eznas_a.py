"""EZNAS-A: a program over weight gradients that evolution found."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import Field

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from torch import Tensor

    from predictors.zerocost._passes import Passes


class EznasConfig(Config):
    """Settings of `eznas_a`."""

    images: int = Field(16, ge=2, le=4096, description="Random inputs of the pass.")


class EznasA(Proxy):
    """Sum over convolutions of ||sigmoid(log |det sign(g)|)||, g the weight gradient for random inputs and classes.

    The determinant is taken of every k x k filter, the norm (Frobenius) over the filters of a layer. Deviation: the
    absolute value of the determinant, so that no negative one is undefined; a singular filter counts 0.
    """

    needs = frozenset({"numbers", "images", "convolutions", "no_attention"})

    def __init__(self, config: EznasConfig) -> None:
        self.config = config

    def score(self, passes: Passes) -> Score:
        import torch

        from predictors.zerocost._labelled import labelled_pass
        from predictors.zerocost._proxy import Batch

        shape = (self.config.images, *passes.context.example.shape[1:])
        inputs, labels = passes.noise("eznas_a", *shape), passes.context.labels
        drawn = torch.randint(int(labels.max()) + 1, shape[:1], generator=passes.generator("eznas_a labels"))
        batch = Batch(inputs, drawn.to(labels.device))
        gradients = labelled_pass(
            passes.as_initialised(), [batch], passes.context.loss, frozenset({"gradients"})
        ).gradients
        layers = {
            name: float(_determinants(gradient.sign()).abs().log().sigmoid().norm())
            for name, gradient in gradients.items()
            if gradient.ndim == 4 and bool((gradient != 0).any())
        }
        return Score(finite(sum(layers.values()), "a gradient is not finite"), layers)


def _determinants(filters: Tensor) -> Tensor:
    """Of every k x k filter, `outputs x inputs`; written out where factorising each costs more than the pass."""
    import torch

    found: Tensor
    if filters.shape[-1] != 3:
        found = torch.linalg.det(filters)
        return found
    rows = filters.unbind(-2)
    found = (rows[0] * torch.linalg.cross(rows[1], rows[2])).sum(-1)
    return found


def _create(config: Config) -> EznasA:
    return EznasA(cast(EznasConfig, config))


PLUGIN = Plugin(
    name="eznas_a",
    description="A program over weight gradients that evolution found",
    source="Akhauri et al. (2022), EZNAS, arXiv 2209.07413",
    create=_create,
    Config=EznasConfig,
    flags=properties(layers=True, fails="found on NAS-Bench-201 and the NDS spaces; little is known elsewhere"),
)
