"""What every cost is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from searchspaces import Architecture


@dataclass(frozen=True)
class Reading:
    """One number with its unit and what it depends on (device, dtype, threads, batch ...)."""

    value: float
    unit: str
    std: float | None = None
    context: Mapping[str, str | int | float] = field(default_factory=dict)


class Cost(ABC):
    """A number about an architecture of one space that needs no accuracy."""

    @abstractmethod
    def measure(self, architecture: Architecture) -> Reading:
        """The cost of this architecture.

        Raises:
            MeasurementError: it cannot be computed; the reason is the message.
        """
