"""Measurements that devices of the user's make: they claim evaluations over REST and post what they measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from nas.claims import Answer, Offer
from nas.evaluators._evaluator import EvaluationContext, Evaluator, Outcome, Request
from nas.resources import Fidelity, Measurement
from nas.spec import JobSpec, Level, Seconds
from nas.streams import stream_seed
from predictors.costs import REGISTRY as COSTS
from searchspaces import Config, MeasurementError, NASError, Plugin

if TYPE_CHECKING:
    from nas.workbench import Workbench

_POLL_SECONDS = (0.05, 1.0)  # grows while nothing comes
_LOOK_SECONDS = 0.2  # how often it asks whether to go on
_MetricLevel = Literal["cost", "proxy", "supernet", "short", "full"]
_Metric = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$", max_length=100)]


class ExternalConfig(Config):
    """Settings of `external`."""

    target: str = Field(
        "device",
        pattern=r"^[\w.-]+$",
        examples=["phone"],
        max_length=100,
        description="Which devices measure: those that ask for this name.",
    )
    metrics: dict[_Metric, _MetricLevel] = Field(
        {"accuracy": "full"},
        min_length=1,
        max_length=64,
        description="What they measure, each with its level: `cost` for what does not depend on training.",
    )
    units: dict[_Metric, Annotated[str, Field(max_length=40)]] = Field(
        default_factory=dict, max_length=64, description="Units of metrics, such as {phone_latency: ms}."
    )
    lease: Seconds = Field(60.0, ge=1, le=604_800, description="How long a claim holds unless it is renewed.")
    timeout: Seconds = Field(
        0.0, ge=0, le=31_536_000, description="Time after which an unanswered evaluation fails; 0: it waits."
    )
    attempts: int = Field(
        3, ge=1, le=1000, description="So many devices may claim an evaluation and go silent before it fails."
    )

    @field_validator("metrics")
    @classmethod
    def _metrics_are_told_apart(cls, metrics: dict[str, _MetricLevel]) -> dict[str, _MetricLevel]:
        taken = [metric for metric in metrics if metric in COSTS]
        if taken:
            raise ValueError(f"another name than {taken[0]}, which is measured here; such as device_{taken[0]}")
        if len(set(metrics.values()) - {"cost"}) != 1:
            raise ValueError("one level beside cost for all metrics, such as {accuracy: full, phone_latency: cost}")
        return metrics

    def offered_metrics(self, spec: JobSpec) -> dict[str, Level]:
        """What devices measure, with the levels it stands at."""
        return dict(self.metrics)

    def offered_level(self, spec: JobSpec) -> Level:
        """The level of an evaluation: that of the metrics that are no costs."""
        return next(level for level in self.metrics.values() if level != "cost")


class ExternalEvaluator(Evaluator):
    """Offers the architectures of a call to devices, and waits for their answers.

    What was offered stays offered when the call ends early, and answers that came meanwhile are there for whoever asks
    for the same evaluations again.
    """

    def __init__(self, config: ExternalConfig, bench: Workbench) -> None:
        self._config, self._bench = config, bench

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        exchange = context.exchange
        if exchange is None:
            raise MeasurementError("devices claim evaluations of a running service only; submit the job to one.")
        if context.should_stop():
            return
        asked: dict[str, Request] = {}
        for request in requests:
            try:
                self._bench.space.check(request.architecture)
            except NASError as error:
                yield Outcome(request.evaluation_id, error=f"{type(error).__name__}: {error}")
            else:
                asked[request.evaluation_id] = request
        exchange.offer([self._offer(request, context.seed) for request in asked.values()])
        shortest, longest = _POLL_SECONDS
        pause, num_asked = shortest, len(asked)
        while asked:
            answers = exchange.collect(list(asked))
            for answer in answers:
                yield self._outcome(asked.pop(answer.evaluation_id), answer)
                context.progress(1 - len(asked) / num_asked)
            pause = shortest if answers else min(longest, 2 * pause)
            if asked and _must_end(context, pause):
                return
        if not num_asked:
            context.progress(1.0)

    def _offer(self, request: Request, seed: int) -> Offer:
        config, space, architecture = self._config, self._bench.space, request.architecture
        return Offer(
            evaluation_id=request.evaluation_id,
            target=config.target,
            space={"name": space.name, "config": space.config.model_dump(mode="json")},
            options=dict(architecture.options),
            metrics=self._levels(request),
            seed=stream_seed(seed, "external", architecture.digest, request.replicate),
            lease_seconds=config.lease,
            timeout_seconds=config.timeout or None,
            attempts=config.attempts,
        )

    def _levels(self, request: Request) -> dict[str, Level]:
        """Metric -> level: costs stay costs, the others stand at what was asked for."""
        asked = request.fidelity.level
        return {metric: level if level == "cost" else asked for metric, level in self._config.metrics.items()}

    def _outcome(self, request: Request, answer: Answer) -> Outcome:
        if answer.error is not None:
            return Outcome(request.evaluation_id, error=answer.error, seconds=answer.seconds)
        config = self._config
        context: Mapping[str, str | int | float | bool] = {"device": config.target, **answer.context}
        measurements = tuple(
            Measurement(
                metric=metric,
                value=answer.measurements[metric],
                unit=config.units.get(metric, ""),
                std=answer.std.get(metric),
                fidelity=Fidelity(level=level, resources={} if level == "cost" else request.fidelity.resources),
                context=dict(context),
            )
            for metric, level in self._levels(request).items()
        )
        return Outcome(request.evaluation_id, measurements, seconds=answer.seconds)


def _must_end(context: EvaluationContext, seconds: float) -> bool:
    """Wait so long; True as soon as the call is to end."""
    until = time.monotonic() + seconds
    while not (ended := context.should_stop()) and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_SECONDS))
    return ended


PLUGIN = Plugin(
    name="external",
    description="What devices of yours measure: they claim evaluations over REST and post measurements",
    source="Golovin et al. (2017), Google Vizier, KDD (trials that clients lease and complete)",
    create=ExternalEvaluator,
    Config=ExternalConfig,
    flags={
        "level": "full",
        "metrics": ("accuracy",),
        "needs_supernet": False,
        "needs_data": False,
        "spends": ("epochs",),
        "stateful": False,
        "batched": True,
        "resumable": False,
        "waits": True,
    },
)
