"""What every evaluator is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nas.plain import clean_text, unwritable
from nas.ports import Checkpoints, Exchange
from nas.resources import Fidelity, Measurement
from searchspaces import Architecture

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt


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


def writable(outcome: Outcome) -> Outcome:
    """The outcome; a failure with its reason where a number or a text in it is one that no store can keep.

    An evaluator may be anybody's: NaN from a diverged training, a name with NUL, a penalty that became infinite.
    """
    wrong = faults(outcome.measurements)
    seconds = outcome.seconds if outcome.seconds is None or math.isfinite(outcome.seconds) else None
    error = clean_text(outcome.error) if outcome.error else wrong
    if not wrong and (error, seconds) == (outcome.error, outcome.seconds):
        return outcome
    return Outcome(outcome.evaluation_id, () if wrong else outcome.measurements, error=error or None, seconds=seconds)


def faults(measurements: Iterable[Measurement]) -> str:
    """Why measurements cannot be kept: `accuracy.value is nan, not a finite number`; empty where they can."""
    wrong = [fault for m in measurements for fault in unwritable(m.model_dump(), clean_text(m.metric))]
    return "; ".join(f"{fault.field} is {fault.value}, not {fault.allowed}" for fault in wrong)


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


class KnownValues(NamedTuple):
    """What an evaluator will measure of every architecture that it can, known before it is asked.

    `texts`: the architectures, as their space writes them. `values`: metric -> `architectures`, or `architectures x
    runs` where a measurement is one of several runs; NaN where nothing is known.
    """

    texts: Sequence[str]
    values: Mapping[str, npt.NDArray[np.float64]]


class Evaluator(ABC):
    """Measures architectures of one space on one data set."""

    @abstractmethod
    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        """Outcomes as they come, in any order, one for each request unless `context.should_stop()` ended the call."""
