"""Settings that every space of image classifiers has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from searchspaces._registry import Config

if TYPE_CHECKING:
    from searchspaces._layers import Style

_Channels = Annotated[int, Field(ge=1, le=4096)]
_Side = Annotated[int, Field(ge=1, le=4096)]


class InputConfig(Config):
    """Input and classes, which a job fills in from its data set."""

    num_classes: int | None = Field(None, ge=2, le=100_000, description="Classes; a job fills in its data set's.")
    input_shape: tuple[_Channels, _Side, _Side] | None = Field(
        None, description="Channels, height, width of an input; a job fills in its data set's."
    )


class ImageConfig(InputConfig):
    """Input, classes, and how the layers are made: once for stand-alone networks, once for the supernet.

    The supernet's normalisations have no scale and shift by default: shared ones hurt the ranking (see the space's
    source). PA&DA's supernet is `supernet_bias: true, supernet_track_running_stats: false`. A network that is extracted
    from the supernet has the supernet's settings; one that is built afresh has the network's.
    """

    affine: bool = Field(True, description="Normalisations of stand-alone networks have a trainable scale and shift.")
    bias: bool = Field(False, description="Convolutions of stand-alone networks have a bias.")
    track_running_stats: bool = Field(
        True, description="Normalisations of stand-alone networks keep running statistics."
    )
    supernet_affine: bool = Field(False, description="Normalisations of the supernet have a trainable scale and shift.")
    supernet_bias: bool = Field(False, description="Convolutions of the supernet have a bias.")
    supernet_track_running_stats: bool = Field(
        True, description="Normalisations of the supernet keep running statistics."
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of one input; CIFAR's where none is set."""
        return self.input_shape or (3, 32, 32)

    @property
    def classes(self) -> int:
        """Number of classes; CIFAR-10's where none is set."""
        return self.num_classes or 10

    def style(self, *, supernet: bool) -> Style:
        """How layers are made, in stand-alone networks or in the supernet."""
        from searchspaces._layers import Style

        if supernet:
            return Style(self.supernet_affine, self.supernet_bias, self.supernet_track_running_stats)
        return Style(self.affine, self.bias, self.track_running_stats)
