"""NAS-Bench-Macro: a chain of eight layers, each an identity or one of two inverted residuals.

Su et al., 2021, "Prioritized Architecture Sampling with Monto-Carlo Tree Search" (which made the table), arXiv
2103.11922; the inverted residual is MobileNetV2's, arXiv 1801.04381. Text, order, parameters and FLOPs are the public
table's. Layers 0, 2 and 5 halve the image; where a layer changes the shape, its identity is a 1x1 convolution.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

from pydantic import Field

from searchspaces._architecture import Architecture
from searchspaces._errors import InvalidArchitecture
from searchspaces._images import ImageConfig
from searchspaces._registry import Plugin
from searchspaces._space import Counts, Decision, Extremes, SearchSpace, total

if TYPE_CHECKING:
    import networkx

    from searchspaces._macro_networks import MacroNetwork, MacroSupernet

IDENTITY = "Identity"
OPTIONS = (IDENTITY, "MB3_K3", "MB6_K5")
RESIDUALS = {"MB3_K3": (3, 3), "MB6_K5": (6, 5)}
"""Option -> (expansion, kernel size)."""
NAMES = tuple(f"layer_{index}" for index in range(8))
CHANNELS = (64, 64, 128, 128, 128, 256, 256, 256)
STRIDES = (2, 1, 2, 1, 1, 2, 1, 1)
STEM, HEAD = 32, 1280
_RUNS = ((3, 4), (6, 7))
"""Neighbouring layers that keep the shape, so that an identity may stand before or after the other layer."""


class Config(ImageConfig):
    """Settings of the chain; the defaults give the networks of the public table."""

    width: float = Field(1.0, gt=0, le=8, description="Factor on all channels, rounded to a multiple of 8, at least 8.")


@dataclass(frozen=True)
class Layer:
    """The shape of one layer: channels in and out, stride, height and width that come out."""

    inputs: int
    outputs: int
    stride: int
    height_in: int
    width_in: int

    @property
    def keeps_shape(self) -> bool:
        """Whether what comes out has the shape of what goes in."""
        return self.stride == 1 and self.inputs == self.outputs

    @property
    def pixels_in(self) -> int:
        """Pixels of an image that goes in."""
        return self.height_in * self.width_in

    @property
    def pixels(self) -> int:
        """Pixels of an image that comes out."""
        return -(-self.height_in // self.stride) * -(-self.width_in // self.stride)


class MacroSpace(SearchSpace):
    """6,561 chains; see the module for what a layer is."""

    def __init__(self, config: Config) -> None:
        keeps = [layer.keeps_shape for layer in _layers(config)]
        decisions = [Decision(name, OPTIONS, (not keep, True, True)) for name, keep in zip(NAMES, keeps, strict=True)]
        super().__init__("macro", config, decisions)

    @property
    def settings(self) -> Config:
        """The space's own settings."""
        return cast(Config, self.config)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.settings.shape

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The shapes of the eight layers."""
        return tuple(_layers(self.settings))

    def channels(self, full: int) -> int:
        """What `full` channels of the public table's networks are at this space's width."""
        return _scaled(full, self.settings.width)

    # --- text and sameness -------------------------------------------------------------------------------------------

    def text(self, options: Mapping[str, str]) -> str:
        return "".join(str(OPTIONS.index(options[name])) for name in NAMES)

    def read(self, text: str) -> dict[str, str]:
        if re.fullmatch(r"[0-2]{8}", text) is None:
            raise InvalidArchitecture(f"{text!r} is no chain; write eight digits, each 0 to 2: {', '.join(OPTIONS)}.")
        return {name: OPTIONS[int(digit)] for name, digit in zip(NAMES, text, strict=True)}

    def canonical(self, architecture: Architecture) -> Architecture:
        """The first architecture with the same layers in the same order, not counting identities that are nothing."""
        options = dict(architecture.options)
        for run in _RUNS:
            names = [NAMES[index] for index in run]
            held = [options[name] for name in names if options[name] != IDENTITY]
            allowed = [decision.options for decision in self.decisions if decision.name in names]
            same = (c for c in itertools.product(*allowed) if [option for option in c if option != IDENTITY] == held)
            options.update(zip(names, next(same), strict=True))
        return self._make(options)

    def live(self, architecture: Architecture) -> Architecture:
        """The architecture itself: in a chain everything reaches the output."""
        return architecture

    def reduced(self) -> MacroSpace:
        """At most a quarter of the channels."""
        space = MacroSpace(self.settings.model_copy(update={"width": min(0.25, self.settings.width)}))
        space.decisions = self.decisions
        return space

    # --- costs -------------------------------------------------------------------------------------------------------

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        """Parameters and FLOPs in the table's convention; `live` changes nothing, all of a chain is live.

        FLOPs are multiply-accumulates of convolutions and the classifier; biases and normalisation are free.
        """
        base, prices = self._prices
        return total([base, *(prices[pair] for pair in architecture.options)])

    def extremes(self) -> Extremes:
        """In every layer the option with fewest and with most parameters."""
        ranked = {decision.name: self._by_params(decision) for decision in self.decisions}
        smallest = self.architecture({name: options[0] for name, options in ranked.items()})
        return Extremes(smallest, self.architecture({name: options[-1] for name, options in ranked.items()}))

    def _by_params(self, decision: Decision) -> list[str]:
        return sorted(decision.options, key=lambda option: self._prices[1][decision.name, option].params)

    @cached_property
    def _prices(self) -> tuple[Counts, dict[tuple[str, str], Counts]]:
        """Of the network without its layers, and of every option of every layer."""
        config, last = self.settings, self.layers[-1]
        image, stem, head = config.shape, self.channels(STEM), self.channels(HEAD)
        classifier = Counts((head + 1) * config.classes, head * config.classes)
        ends = [
            self._conv(image[0], stem, image[1] * image[2], kernel=3),
            self._conv(last.outputs, head, last.pixels),
            classifier,
        ]
        prices = {
            (name, option): self._price(layer, option)
            for name, layer in zip(NAMES, self.layers, strict=True)
            for option in OPTIONS
        }
        return total(ends), prices

    def _price(self, layer: Layer, option: str) -> Counts:
        if option == IDENTITY:
            return Counts(0, 0) if layer.keeps_shape else self._conv(layer.inputs, layer.outputs, layer.pixels)
        expansion, kernel = RESIDUALS[option]
        hidden = expansion * layer.inputs
        depthwise = self._conv(1, hidden, layer.pixels, kernel=kernel)
        expand = self._conv(layer.inputs, hidden, layer.pixels_in)
        return total([expand, depthwise, self._conv(hidden, layer.outputs, layer.pixels)])

    def _conv(self, inputs: int, outputs: int, pixels: int, *, kernel: int = 1) -> Counts:
        weights = kernel * kernel * inputs * outputs
        config = self.settings
        return Counts(weights + (config.bias + 2 * config.affine) * outputs, weights * pixels)

    # --- networks and drawing ----------------------------------------------------------------------------------------

    def network(self, architecture: Architecture) -> MacroNetwork:
        from searchspaces._macro_networks import MacroNetwork

        return MacroNetwork(self, architecture, self.settings.style(supernet=False))

    def supernetwork(self) -> MacroSupernet:
        from searchspaces._macro_networks import MacroSupernet

        return MacroSupernet(self)

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        """A chain from `input` to `output`, a node for every tensor between two layers."""
        import networkx

        graph = networkx.MultiDiGraph()
        for index in range(9):
            shape = None if index == 0 else self.layers[index - 1]
            label = "input" if shape is None else f"{shape.outputs} channels"
            graph.add_node(str(index), label="output" if index == 8 else label, layer=index)
        for index, (name, option) in enumerate(architecture.options):
            graph.add_edge(str(index), str(index + 1), option=option, live=True, decision=name)
        return graph


def _scaled(full: int, width: float) -> int:
    return max(8, 8 * round(full * width / 8))


def _layers(config: Config) -> list[Layer]:
    inputs, (_, height, width) = _scaled(STEM, config.width), config.shape
    layers = []
    for full, stride in zip(CHANNELS, STRIDES, strict=True):
        outputs = _scaled(full, config.width)
        layers.append(Layer(inputs, outputs, stride, height, width))
        inputs, height, width = outputs, -(-height // stride), -(-width // stride)
    return layers


PLUGIN = Plugin(
    name="macro",
    description="Chain of eight layers, an identity or one of two inverted residuals each: 6,561 architectures.",
    source="Su et al., 2021, NAS-Bench-Macro, arXiv 2103.11922",
    create=MacroSpace,
    Config=Config,
)
