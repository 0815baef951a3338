"""A small space with conditional decisions to search in: a layer of a perceptron exists only when it is deep enough."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import networkx
from torch import nn

from searchspaces import Architecture, Config, Counts, Decision, Extremes, InvalidArchitecture, SearchSpace


class Perceptrons(SearchSpace):
    """Depth 1 to 3, a width for each layer that exists; `widths` options make `w + w^2 + w^3` architectures."""

    def __init__(self, widths: int = 5) -> None:
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
        return networkx.path_graph(int(architecture["depth"]) + 1, create_using=networkx.MultiDiGraph)

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

    def supernetwork(self) -> nn.Module:
        raise InvalidArchitecture("perceptrons are only there to be searched; they have no supernet.")
