"""What every evaluator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nas.ports import Checkpoints, Exchange
from nas.resources import Fidelity, Measurement
from searchspaces import Architecture


@dataclass(frozen=True)
class Request:
    """One architecture to measure, at one fidelity. `replicate` numbers repeated measurements: another seed."""

    evaluation_id: str
    architecture: Architecture
    fidelity: Fidelity
    replicate: int = 0


@dataclass(frozen=True)
class Outcome:
    """Measurements, or a failure with its reason; never a made-up number."""

    evaluation_id: str
    measurements: tuple[Measurement, ...] = ()
    error: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluator may use while it works.

    Attributes:
        seed: root of the random streams.
        should_stop: asked between pieces of work; when True the evaluator ends early, unfinished requests unanswered.
        progress: told the fraction done of the call, 0 to 1.
        checkpoints: where an evaluator flagged `resumable` keeps its state; None when nothing is to be kept.
        exchange: where an evaluator flagged `waits` offers evaluations to the user's devices; None outside a service.
    """

    seed: int
    should_stop: Callable[[], bool] = lambda: False
    progress: Callable[[float], None] = lambda fraction: None
    checkpoints: Checkpoints | None = None
    exchange: Exchange | None = None


class Evaluator(ABC):
    """Measures architectures of one space on one data set."""

    @abstractmethod
    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        """Outcomes as they come, in any order, one for each request unless `context.should_stop()` ended the call."""
