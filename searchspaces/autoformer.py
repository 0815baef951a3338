"""AutoFormer-T as Auto-Prox measured it: vision transformers of 12 to 14 layers.

Chen et al., 2021, "AutoFormer: Searching Transformers for Visual Recognition", arXiv 2107.00651; Wei et al., 2024,
"Auto-Prox: Training-Free Vision Transformer Architecture Search via Automatic Proxy Discovery", arXiv 2312.09059. The
width is chosen once, heads and the ratio of the perceptron layer by layer; a head has 64 channels whatever the width.
The networks are not built here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from pydantic import Field

from searchspaces._architecture import Architecture
from searchspaces._errors import InvalidArchitecture
from searchspaces._images import InputConfig
from searchspaces._registry import Plugin
from searchspaces._space import Counts, Decision, Extremes, SearchSpace, total

if TYPE_CHECKING:
    import networkx

WIDTH, DEPTH = "hidden_dim", "depth"
WIDTHS, DEPTHS = ("192", "216", "240"), ("12", "13", "14")
RATIOS, HEADS = ("3.5", "4.0"), ("3", "4")
HEAD_CHANNELS = 64
_LAYER = re.compile(r"([\d.]+)x(\d+)")


class Config(InputConfig):
    """Settings of the transformers; the defaults are those for ImageNet."""

    patch_size: int = Field(16, ge=1, le=1024, description="Height and width of a patch.")
    max_relative_position: int = Field(
        14, ge=0, le=1024, description="Farthest relative position that attention knows; 0: it knows none."
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of one input; ImageNet's where none is set."""
        return self.input_shape or (3, 224, 224)

    @property
    def classes(self) -> int:
        """Number of classes; ImageNet's where none is set."""
        return self.num_classes or 1000


class AutoFormer(SearchSpace):
    """Three widths and 12 to 14 layers of four kinds; see the module."""

    has_networks = False

    def __init__(self, config: Config) -> None:
        decisions = [Decision(WIDTH, WIDTHS, (True,) * 3, "ordinal"), Decision(DEPTH, DEPTHS, (False,) * 3, "ordinal")]
        for layer in range(1, int(DEPTHS[-1]) + 1):
            deep = frozenset(depth for depth in DEPTHS if int(depth) >= layer)
            when = None if len(deep) == len(DEPTHS) else (DEPTH, deep)
            decisions.append(Decision(_ratio(layer), RATIOS, (True,) * 2, "ordinal", when))
            decisions.append(Decision(_heads(layer), HEADS, (True,) * 2, "ordinal", when))
        super().__init__("autoformer", config, decisions)

    @property
    def settings(self) -> Config:
        """The space's own settings."""
        return cast(Config, self.config)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.settings.shape

    # --- text and sameness -------------------------------------------------------------------------------------------

    def text(self, options: Mapping[str, str]) -> str:
        layers = range(1, int(options[DEPTH]) + 1)
        return _text(options[WIDTH], [(options[_ratio(layer)], options[_heads(layer)]) for layer in layers])

    def read(self, text: str) -> dict[str, str]:
        width, colon, rest = text.partition(":")
        layers = [_LAYER.fullmatch(part) for part in rest.split(",")]
        found = {WIDTH: width, DEPTH: str(len(layers))}
        for layer, match in enumerate(layers, 1):
            if match is None or not colon:
                example = _text(WIDTHS[0], [(RATIOS[0], HEADS[0])])
                raise InvalidArchitecture(f"{text!r} is no transformer; write width:ratio x heads, ..., as {example}.")
            found[_ratio(layer)], found[_heads(layer)] = match.groups()
        return found

    def texts(self, widths: Sequence[object], ratios: Sequence[str], heads: Sequence[str]) -> list[str]:
        """The texts of the public table's networks.

        Args:
            widths: channels.
            ratios: what the perceptrons widen to, one per layer, with spaces between.
            heads: of the attention, one per layer, with spaces between.
        """
        rows = zip(widths, ratios, heads, strict=True)
        return [_text(str(width), list(zip(r.split(), h.split(), strict=True))) for width, r, h in rows]

    def canonical(self, architecture: Architecture) -> Architecture:
        """The architecture itself: no two are the same network."""
        return architecture

    def live(self, architecture: Architecture) -> Architecture:
        """The architecture itself: in a chain everything reaches the output."""
        return architecture

    # --- costs and drawing -------------------------------------------------------------------------------------------

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        """Parameters, and multiply-accumulates of linear layers and of attention; normalisation and biases are free."""
        config, width = self.settings, int(architecture[WIDTH])
        channels, height, columns = config.shape
        patches = -(-height // config.patch_size) * -(-columns // config.patch_size)
        embedding = _linear(channels * config.patch_size**2, width, patches)
        known = Counts((patches + 2) * width, 0)  # where a patch lies, and the token of the class
        layers = [
            self._layer(width, float(architecture[_ratio(layer)]), int(architecture[_heads(layer)]), patches + 1)
            for layer in range(1, int(architecture[DEPTH]) + 1)
        ]
        return total([embedding, known, *layers, Counts(2 * width, 0), _linear(width, config.classes, 1)])

    def _layer(self, width: int, ratio: float, heads: int, tokens: int) -> Counts:
        inner, wide, farthest = heads * HEAD_CHANNELS, int(width * ratio), self.settings.max_relative_position
        attention = Counts(0, 2 * tokens**2 * inner)  # of keys with queries, and of values
        if farthest:  # rows and columns, for keys and values; 0 and the class have a place too
            attention = Counts(4 * (2 * farthest + 2) * HEAD_CHANNELS, 2 * attention.flops)
        linear = [(width, 3 * inner), (inner, width), (width, wide), (wide, width)]
        return total([attention, Counts(4 * width, 0), *(_linear(i, o, tokens) for i, o in linear)])

    def extremes(self) -> Extremes:
        """The first and the last option of every decision."""
        return Extremes(self._with_option(0), self._with_option(-1))

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        """A chain: the patches, then attention and perceptron of every layer."""
        import networkx

        graph = networkx.MultiDiGraph()
        graph.add_node("0", label="input", layer=0)
        steps = [("patches", WIDTH)]
        for layer in range(1, int(architecture[DEPTH]) + 1):
            steps += [(f"attention {layer}", _heads(layer)), (f"layer {layer}", _ratio(layer))]
        for place, (label, name) in enumerate(steps, 1):
            graph.add_node(str(place), label="output" if place == len(steps) else label, layer=place)
            graph.add_edge(str(place - 1), str(place), option=architecture[name], live=True, decision=name)
        return graph


def _ratio(layer: int) -> str:
    return f"mlp_ratio_{layer}"


def _heads(layer: int) -> str:
    return f"num_heads_{layer}"


def _text(width: str, layers: Sequence[tuple[str, str]]) -> str:
    return f"{width}:{','.join(f'{ratio}x{heads}' for ratio, heads in layers)}"


def _linear(inputs: int, outputs: int, times: int) -> Counts:
    return Counts((inputs + 1) * outputs, inputs * outputs * times)


PLUGIN = Plugin(
    name="autoformer",
    description="Vision transformers of three widths and 12 to 14 layers, heads and ratio by layer; tables only.",
    source="Chen et al., 2021, AutoFormer, arXiv 2107.00651; Wei et al., 2024, Auto-Prox, arXiv 2312.09059",
    create=AutoFormer,
    Config=Config,
    flags={"networks": False},
)
