"""What every supernet is: one set of shared weights that can run any architecture of its space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from searchspaces._architecture import Architecture
from searchspaces._space import SearchSpace, Split


@dataclass(frozen=True)
class Mixture:
    """A soft choice: for every decision a weight for each of its options (`number of options`, gradients flow)."""

    weights: Mapping[str, Tensor]


Choice = Architecture | Mixture


@dataclass(frozen=True)
class Tapped:
    """What a supernet computed for an architecture, with what its options put out on the way.

    Attributes:
        logits: `batch x classes`.
        outputs: decision -> what its option put out in every cell, `batch x channels x height x width`, part of the
            graph of `logits`; without those that do not reach it.
    """

    logits: Tensor
    outputs: Mapping[str, Sequence[Tensor]]


class Supernet(nn.Module, ABC):
    """Shared weights of a space. The choice is an argument of `forward`, never a state set from afar.

    Attributes:
        splits: how the space is divided among parts with weights of their own; empty for one set of weights.
    """

    splits: tuple[Split, ...] = ()

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space

    @abstractmethod
    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Logits, `batch x classes`. An Architecture runs only its operations; a Mixture the weighted sum of all."""

    def forward_many(self, x: Tensor, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Tensor]]:
        """(place in `architectures`, its logits `batch x classes`), in whatever order lets them share the most.

        Every value is that of `forward`; nothing is computed ahead of what is asked for. A space whose architectures
        share what they compute overrides this; here they run one by one.
        """
        for place, architecture in enumerate(architectures):
            yield place, self(x, architecture)

    def taps(self, x: Tensor, architecture: Architecture) -> Tapped:
        """`forward`, with the outputs of the options; by plain operations, so slower, and equal up to rounding.

        Optional: without an override there are no outputs.
        """
        return Tapped(self(x, architecture), {})

    @abstractmethod
    def extract(self, architecture: Architecture) -> nn.Module:
        """The stand-alone network with copies of the inherited weights and the same settings, equal in function."""

    @abstractmethod
    def restrict(self, space: SearchSpace) -> Supernet:
        """A supernet over a sub-space (see `SearchSpace.partition`) with copies of the weights that it still needs.

        They keep their names.
        """

    @abstractmethod
    def parameters_of(self, decision: str, option: str) -> Iterator[nn.Parameter]:
        """The weights that only this option of this decision uses, in all cells; none for a parameter-free option."""
