"""What every cost is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from predictors.costs._estimate import EstimateError
from searchspaces import Architecture, SearchSpace


@dataclass(frozen=True)
class Reading:
    """One number with its unit and what it depends on (device, dtype, threads, batch ...)."""

    value: float
    unit: str
    std: float | None = None
    context: Mapping[str, str | int | float] = field(default_factory=dict)


class Cost(ABC):
    """A number about an architecture of one space that needs no accuracy.

    Attributes:
        error: how far its predictions are off where it predicts what it does not know; None where it never does. A
            reading that is predicted has `predicted` in its context.
    """

    error: EstimateError | None = None

    @abstractmethod
    def measure(self, architecture: Architecture) -> Reading:
        """The cost of this architecture.

        Raises:
            MeasurementError: it cannot be computed; the reason is the message.
        """

    def of_file(self, file: Path) -> Reading | None:
        """The cost of a network of the space that was exported as this ONNX file; None where it is not one of files.

        Raises:
            MeasurementError: it cannot be measured; the reason is the message.
        """
        return None

    def within(self, space: SearchSpace) -> SearchSpace:
        """The part of `space` that this cost is known of: all of it, where a plug-in does not say otherwise.

        Raises:
            InfeasibleSpace: it is known of nothing there.
        """
        return space

    def about(self, space: SearchSpace) -> str | None:
        """What is to be said before a job uses it on `space`, such as of how much it is known; None: nothing."""
        return None
