"""A proxy that fails on networks that are not what it was made for."""

from __future__ import annotations

from torch import nn

from predictors.zerocost import Passes, Proxy, Score
from searchspaces import Config, Plugin


class Second(Proxy):
    """Norm of the fourth convolution."""

    def score(self, passes: Passes) -> Score:
        layers = [layer for layer in passes.network.modules() if isinstance(layer, nn.Conv2d)]
        return Score(float(layers[3].weight.detach().norm()))


def make(config: Config) -> Second:
    return Second()


FLAGS = {"data": False, "labels": False, "second_order": False, "layers": False, "direction": "max", "fails": ""}
PLUGIN = Plugin("indexing", "Norm of one convolution.", "nobody", make, flags=FLAGS)
