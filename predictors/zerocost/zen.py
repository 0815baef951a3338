"""Zen-score: how far a network with Gaussian weights moves when its Gaussian input moves a little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from pydantic import Field

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn

    from predictors.zerocost._passes import Passes


class ZenConfig(Config):
    """Settings of `zen`."""

    images: int = Field(16, ge=2, le=4096, description="Random inputs of a draw.")
    repeats: int = Field(2, ge=1, le=1024, description="Draws of weights and inputs; the score is their mean.")
    step: float = Field(0.01, gt=0, le=1, description="How far the inputs move.")


class Zen(Proxy):
    """log E |f(x) - f(x + 0.01 y)| + sum over normalisations before f of log sqrt(mean batch variance).

    f is what the last block puts out, before pooling; x and y are standard normal, and so are the weights.
    """

    needs = frozenset({"numbers", "images", "weights", "convolutions", "no_attention", "batch_norms"})

    def __init__(self, config: ZenConfig) -> None:
        self.config = config

    def score(self, passes: Passes) -> Score:
        drawn = [self._drawn(passes, repeat) for repeat in range(self.config.repeats)]
        return Score(finite(sum(drawn) / len(drawn), "the network's output does not move"))

    def _drawn(self, passes: Passes, repeat: int) -> float:
        import torch
        from torch import nn

        from predictors.zerocost._labelled import note_variance
        from predictors.zerocost._networks import gaussian_weights, watched

        zeros = torch.zeros((), device=passes.context.example.device)
        network = gaussian_weights(passes.to_reinitialise(), passes.generator(f"zen weights {repeat}"))
        shape = (self.config.images, *passes.context.example.shape[1:])
        x = passes.noise(f"zen input {repeat}", *shape)
        moved = x + self.config.step * passes.noise(f"zen step {repeat}", *shape)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            note_variance(norm, x.device)
        seen: list[tuple[Tensor, list[nn.BatchNorm2d]]] = []
        with torch.no_grad(), watched(passes.blocks(network), lambda y: seen.append((y, _that_ran(norms)))):
            network(x)
            first, before = seen[-1]
            spread = sum((norm.running_var.mean().log() for norm in before if norm.running_var is not None), zeros)
            network(moved)
        distance = (first - seen[-1][0]).abs().flatten(1).sum(1).mean()
        return float(distance.log() + spread / 2)


def _that_ran(norms: Sequence[nn.BatchNorm2d]) -> list[nn.BatchNorm2d]:
    return [norm for norm in norms if norm.num_batches_tracked is not None and bool(norm.num_batches_tracked)]


def _create(config: Config) -> Zen:
    return Zen(cast(ZenConfig, config))


PLUGIN = Plugin(
    name="zen",
    description="Sensitivity of a network with Gaussian weights to its input",
    source="Lin et al. (2021), Zen-NAS, arXiv 2102.01063",
    create=_create,
    Config=ZenConfig,
    flags=properties(fails="weak over all of NAS-Bench-201, good among its best"),
)
