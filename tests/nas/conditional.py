"""A small space with conditional decisions to search in: a layer of a perceptron exists only when it is deep enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import networkx
import torch.nn.functional as F
from torch import Tensor, nn

from searchspaces import (
    Architecture,
    Choice,
    Config,
    Counts,
    Decision,
    Extremes,
    InvalidArchitecture,
    SearchSpace,
    Supernet,
)


class Perceptrons(SearchSpace):
    """Depth 1 to 3, a width for each layer that exists; `widths` options make `w + w^2 + w^3` architectures."""

    def __init__(self, widths: int = 5) -> None:
        self.widest = 8 * widths
        options = tuple(str(8 * (i + 1)) for i in range(widths))
        parametric = (True,) * widths
        super().__init__(
            "perceptrons",
            Config(),
            [
                Decision("depth", ("1", "2", "3"), (False,) * 3, "ordinal"),
                Decision("width1", options, parametric, "ordinal"),
                Decision("width2", options, parametric, "ordinal", ("depth", frozenset({"2", "3"}))),
                Decision("width3", options, parametric, "ordinal", ("depth", frozenset({"3"}))),
            ],
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (4,)

    def text(self, options: Mapping[str, str]) -> str:
        return "-".join(options[f"width{i + 1}"] for i in range(int(options["depth"])))

    def read(self, text: str) -> dict[str, str]:
        widths = text.split("-")
        if not all(width.isdigit() for width in widths):
            raise InvalidArchitecture(f"{text!r} is not a list of widths such as 8-16.")
        return {"depth": str(len(widths)), **{f"width{i + 1}": width for i, width in enumerate(widths)}}

    def canonical(self, architecture: Architecture) -> Architecture:
        return architecture

    def live(self, architecture: Architecture) -> Architecture:
        return architecture

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        graph = networkx.MultiDiGraph()
        for layer in range(int(architecture["depth"]) + 1):
            graph.add_node(str(layer), label=f"layer {layer}", layer=layer)
        for layer, (name, width) in enumerate(architecture.options[1:]):
            graph.add_edge(str(layer), str(layer + 1), option=width, live=True, decision=name)
        return graph

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        sizes = [4, *map(int, architecture.text.split("-"))]
        weights = sum(a * b for a, b in pairwise(sizes))
        return Counts(weights + sum(sizes[1:]), weights)

    def extremes(self) -> Extremes:
        everything = sorted(self.iterate(), key=lambda a: self.counts(a).params)
        return Extremes(everything[0], everything[-1])

    def network(self, architecture: Architecture) -> nn.Module:
        sizes = [4, *map(int, architecture.text.split("-"))]
        return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))

    def supernetwork(self) -> Supernet:
        return PerceptronSupernet(self)


class PerceptronSupernet(Supernet):
    """Every width of every layer has weights of its own, which read as much of their input as there is."""

    space: Perceptrons

    def __init__(self, space: Perceptrons) -> None:
        super().__init__(space)
        self.layers = nn.ModuleDict(
            {
                decision.name: nn.ModuleDict({o: nn.Linear(space.widest, int(o)) for o in decision.options})
                for decision in space.decisions
                if decision.name != "depth"
            }
        )

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """x: `batch x width` -> `batch x width of the last layer`."""
        assert isinstance(choice, Architecture)
        for name, width in choice.options[1:]:
            x = self._layers(name)[width](F.pad(x, (0, self.space.widest - x.shape[1])))
        return x

    def extract(self, architecture: Architecture) -> nn.Module:
        raise InvalidArchitecture("perceptrons are not extracted.")

    def restrict(self, space: SearchSpace) -> Supernet:
        assert isinstance(space, Perceptrons)
        restricted = PerceptronSupernet(space)
        held = self.state_dict()
        restricted.load_state_dict({name: held[name] for name in restricted.state_dict()})
        return restricted

    def parameters_of(self, decision: str, option: str) -> Iterator[nn.Parameter]:
        if decision in self.layers and option in self._layers(decision):
            yield from self._layers(decision)[option].parameters()

    def _layers(self, name: str) -> nn.ModuleDict:
        layers = self.layers[name]
        assert isinstance(layers, nn.ModuleDict)
        return layers
