"""Networks and supernets of NAS-Bench-Macro: a chain of inverted residuals."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from searchspaces._architecture import Architecture
from searchspaces._errors import InvalidArchitecture
from searchspaces._layers import Style, inherit
from searchspaces._supernet import Choice, Mixture, Supernet, Tapped
from searchspaces.macro import HEAD, NAMES, RESIDUALS, STEM, Layer, MacroSpace

if TYPE_CHECKING:
    from searchspaces._space import SearchSpace


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, project 1x1; added to its input where the shape stays.

    x: `batch x inputs x height x width` -> `batch x outputs x ceil(height / stride) x ceil(width / stride)`.
    """

    def __init__(self, layer: Layer, expansion: int, kernel: int, style: Style) -> None:
        super().__init__()
        hidden = expansion * layer.inputs
        self.residual = layer.keeps_shape
        parts = (
            ("expand", style.conv(layer.inputs, hidden, 1)),
            ("expand_norm", style.norm(hidden)),
            ("expand_relu", nn.ReLU6()),
            ("depthwise", style.conv(hidden, hidden, kernel, stride=layer.stride, groups=hidden)),
            ("depthwise_norm", style.norm(hidden)),
            ("depthwise_relu", nn.ReLU6()),
            ("project", style.conv(hidden, layer.outputs, 1)),
            ("project_norm", style.norm(layer.outputs)),
        )
        self.body = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        """What comes out of the layer."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


def _operation(layer: Layer, option: str, style: Style) -> nn.Module | None:
    if option in RESIDUALS:
        return InvertedResidual(layer, *RESIDUALS[option], style)
    if layer.keeps_shape:
        return None
    conv = style.conv(layer.inputs, layer.outputs, 1, stride=layer.stride)
    return nn.Sequential(OrderedDict(conv=conv, norm=style.norm(layer.outputs)))


class Chain(nn.Module):
    """Stem, eight layers that hold the options in `held`, head, classifier. An identity of equal shape is no module."""

    def __init__(self, space: MacroSpace, held: Sequence[Sequence[str]], style: Style) -> None:
        super().__init__()
        stem, head = space.channels(STEM), space.channels(HEAD)
        self.stem = nn.Sequential(style.conv(space.settings.shape[0], stem, 3), style.norm(stem))
        self.layers = nn.ModuleList()
        for layer, options in zip(space.layers, held, strict=True):
            made = {option: _operation(layer, option, style) for option in options}
            self.layers.append(nn.ModuleDict({option: module for option, module in made.items() if module is not None}))
        self.head = nn.Sequential(style.conv(space.layers[-1].outputs, head, 1), style.norm(head), nn.ReLU6())
        self.classifier = nn.Linear(head, space.settings.classes)

    def layer(self, index: int) -> nn.ModuleDict:
        """The operations of one layer by option."""
        layer = self.layers[index]
        assert isinstance(layer, nn.ModuleDict)
        return layer

    def operate(self, index: int, option: str, x: Tensor) -> Tensor:
        """What `option` of a layer makes of x."""
        operations = self.layer(index)
        return operations[option](x) if option in operations else x

    def forward(self, x: Tensor) -> Tensor:
        """Of a chain that holds one option per layer, x: `batch x channels x height x width` -> logits."""
        x = self.stem(x)
        for index in range(len(self.layers)):
            for operation in self.layer(index).values():  # none where it is an identity
                x = operation(x)
        return self.logits(x)

    def run(self, x: Tensor, options: Sequence[str]) -> Tensor:
        """x: `batch x channels x height x width`, an option per layer -> logits, `batch x classes`."""
        x = self.stem(x)
        for index, option in enumerate(options):
            x = self.operate(index, option, x)
        return self.logits(x)

    def mix(self, x: Tensor, weights: Sequence[Sequence[tuple[str, Tensor]]]) -> Tensor:
        """The same with every layer a weighted sum of its options."""
        x = self.stem(x)
        for index, terms in enumerate(weights):
            first, *rest = [weight * self.operate(index, option, x) for option, weight in terms]
            x = sum(rest, start=first)
        return self.logits(x)

    def logits(self, x: Tensor) -> Tensor:
        """What comes out of the last layer -> logits, `batch x classes`."""
        logits: Tensor = self.classifier(self.head(x).mean(dim=(2, 3)))
        return logits


class MacroNetwork(nn.Module):
    """The stand-alone network of one architecture."""

    def __init__(self, space: MacroSpace, architecture: Architecture, style: Style) -> None:
        super().__init__()
        self.options = tuple(option for _, option in architecture.options)
        self.chain = Chain(space, [(option,) for option in self.options], style)

    def blocks(self) -> list[nn.Module]:
        """The layers that `forward` runs one after the other, without identities."""
        return [module for index in range(len(self.options)) for module in self.chain.layer(index).values()]

    def forward(self, x: Tensor) -> Tensor:
        """x: `batch x channels x height x width` -> logits, `batch x classes`."""
        logits: Tensor = self.chain(x)
        return logits


class MacroSupernet(Supernet):
    """Shared weights: every layer holds all of its options."""

    space: MacroSpace

    def __init__(self, space: MacroSpace) -> None:
        super().__init__(space)
        held = [decision.options for decision in space.decisions]
        self.chain = Chain(space, held, space.settings.style(supernet=True))

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """x: `batch x channels x height x width`, a choice -> logits, `batch x classes`."""
        if isinstance(choice, Architecture):
            return self.chain.run(x, [option for _, option in choice.options])
        return self.chain.mix(x, self._weighted(choice))

    def taps(self, x: Tensor, architecture: Architecture) -> Tapped:
        """As in `Supernet`."""
        x, outputs = self.chain.stem(x), {}
        for index, (decision, option) in enumerate(architecture):
            y = self.chain.operate(index, option, x)
            x = y.view_as(y)  # an identity's output is a tensor of its own
            outputs[decision] = [x]
        return Tapped(self.chain.logits(x), outputs)

    def forward_many(self, x: Tensor, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Tensor]]:
        """As in `Supernet`, depth first: layers that begin several chains alike run once, one tensor per depth is held.

        All 6,561 chains take 9,840 runs of layers in place of 52,488, most of them where images are small.
        """
        paths = sorted((tuple(option for _, option in a.options), place) for place, a in enumerate(architectures))
        if paths:
            yield from self._descend(self.chain.stem(x), 0, paths)

    def _descend(
        self, x: Tensor, depth: int, paths: Sequence[tuple[tuple[str, ...], int]]
    ) -> Iterator[tuple[int, Tensor]]:
        """The logits of sorted paths that are equal before `depth`; x: what comes out there."""
        if depth == len(self.chain.layers):
            logits = self.chain.logits(x)
            for _, place in paths:
                yield place, logits
            return
        for option, alike in itertools.groupby(paths, key=lambda path: path[0][depth]):
            yield from self._descend(self.chain.operate(depth, option, x), depth + 1, list(alike))

    def extract(self, architecture: Architecture) -> MacroNetwork:
        """The stand-alone network with copies of its weights, in the supernet's style."""
        self.space.check(architecture)
        with torch.device("meta"):
            network = MacroNetwork(self.space, architecture, self.space.settings.style(supernet=True))
        return inherit(network, self)

    def restrict(self, space: SearchSpace) -> MacroSupernet:
        """A supernet over a sub-space with copies of the weights that it still needs."""
        if not isinstance(space, MacroSpace) or not space.is_within(self.space):
            raise InvalidArchitecture(f"{space.name} is not a sub-space of the supernet's; take one from `partition`.")
        with torch.device("meta"):
            supernet = MacroSupernet(space)
        return inherit(supernet, self)

    def parameters_of(self, decision: str, option: str) -> Iterator[nn.Parameter]:
        """The weights that only this option of this layer uses."""
        operations = self.chain.layer(NAMES.index(decision))
        if option in operations:
            yield from operations[option].parameters()

    def _weighted(self, choice: Mixture) -> list[list[tuple[str, Tensor]]]:
        return [
            [(option, choice.weights[decision.name][k]) for k, option in enumerate(decision.options)]
            for decision in self.space.decisions
        ]
