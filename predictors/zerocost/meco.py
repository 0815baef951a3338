"""MeCo: how independent the channels of feature maps are, for one random input."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import Field

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from predictors.zerocost._passes import Passes


class MecoConfig(Config):
    """Settings of `meco`."""

    pixels: int = Field(64, ge=8, le=1024, description="Height and width of the random input.")


class Meco(Proxy):
    """Sum over convolutions of the smallest eigenvalue of the correlations between their output's channels.

    One standard normal input of 64 x 64 pixels. A channel that does not vary is correlated with none. The eigenvalue is
    the layer statistic.
    """

    needs = frozenset({"numbers", "images", "convolutions", "no_attention"})

    def __init__(self, config: MecoConfig) -> None:
        self.config = config

    def score(self, passes: Passes) -> Score:
        import torch
        from torch import nn

        network, layers = passes.as_initialised(), dict[str, float]()

        def watch(name: str, layer: nn.Module) -> RemovableHandle:
            def seen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                rows = output[0].flatten(1).double()
                rows = rows - rows.mean(1, keepdim=True)
                norms = rows.norm(dim=1, keepdim=True)
                unit = torch.where(norms > 0, rows / norms, 0.0)
                layers[name] = float(torch.linalg.eigvalsh(unit @ unit.T)[0])

            return layer.register_forward_hook(seen)

        handles = [watch(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
        channels, side = passes.context.example.shape[1], self.config.pixels
        try:
            with torch.no_grad():
                network(passes.noise("meco", 1, channels, side, side))
        finally:
            for handle in handles:
                handle.remove()
        if not layers:
            raise ProxyUndefined("the network runs no convolution.")
        return Score(finite(sum(layers.values()), "an eigenvalue is not finite"), layers)


def _create(config: Config) -> Meco:
    return Meco(cast(MecoConfig, config))


PLUGIN = Plugin(
    name="meco",
    description="Independence of channels for one random input",
    source="Jiang, Wang and Bie (2023), MeCo, NeurIPS",
    create=_create,
    Config=MecoConfig,
    flags=properties(layers=True, fails="grows with depth whatever the layers do"),
)
