"""Accuracy of networks that are trained from scratch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nas.evaluators._evaluator import EvaluationContext, Evaluator, Outcome, Request
from nas.resources import Fidelity, Measurement
from nas.spec import JobSpec, Level, Training, digest_of
from nas.streams import stream_seed
from searchspaces import Cancelled, Config, LeaseLost, MeasurementError, NASError, Plugin, StoreError

if TYPE_CHECKING:
    from nas.workbench import Workbench


class StandaloneConfig(Config):
    """Settings of `standalone`."""

    level: Literal["short", "full"] = Field("short", description="What the measurements are called.")
    training: Training = Field(
        Training(epochs=5), description="The training; a request may name other epochs in its fidelity's resources."
    )

    def offered_epochs(self, spec: JobSpec) -> tuple[float, ...]:
        """How long it trains in full."""
        return (float(self.training.epochs),)


class StandaloneEvaluator(Evaluator):
    """Trains each architecture on the train split and measures it on the valid split.

    Equal seed, architecture and replicate give the same network; another replicate is another initialisation and order.
    """

    def __init__(self, config: StandaloneConfig, bench: Workbench) -> None:
        self._config, self._bench = config, bench

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        for number, request in enumerate(requests):
            if context.should_stop():
                return
            began = time.perf_counter()
            try:
                measurements = self._train(request, context, done=number, total=len(requests))
            except (Cancelled, LeaseLost, StoreError):
                raise
            except (NASError, RuntimeError, ValueError) as error:
                yield Outcome(request.evaluation_id, error=f"{type(error).__name__}: {error}")
            else:
                if measurements is None:
                    return
                yield Outcome(request.evaluation_id, measurements, seconds=time.perf_counter() - began)
            context.progress((number + 1) / len(requests))

    def _train(
        self, request: Request, context: EvaluationContext, *, done: int, total: int
    ) -> tuple[Measurement, ...] | None:
        """The measurements of one architecture; None when it was asked to stop."""
        from nas.training import evaluate_network, train_network

        bench, options = self._bench, self._training(request)
        dataset = bench.dataset
        seed = stream_seed(context.seed, "standalone", request.architecture.digest, request.replicate)
        network = bench.space.build(request.architecture, seed=seed)
        name = f"standalone-{request.evaluation_id}"
        summary = train_network(
            network,
            dataset.train.images,
            dataset.train.labels,
            dataset,
            bench.task,
            options,
            seed=seed,
            device=bench.device,
            precision=bench.precision,
            checkpoints=context.checkpoints,
            checkpoint_name=name,
            should_stop=context.should_stop,
            on_epoch=lambda epoch, epochs, loss: context.progress((done + epoch / epochs) / total),
        )
        if not summary.finished:
            return None
        valid = dataset.valid
        values = evaluate_network(
            network, valid.images, valid.labels, dataset, bench.task, device=bench.device, precision=bench.precision
        )
        if context.checkpoints is not None:
            context.checkpoints.drop(name)
        return self._measurements(values, options, request.fidelity.level)

    def _training(self, request: Request) -> Training:
        epochs = request.fidelity.resources.get("epochs")
        if epochs is None:
            return self._config.training
        return self._config.training.model_copy(update={"epochs": max(1, round(epochs))})

    def _measurements(self, values: dict[str, float], options: Training, level: Level) -> tuple[Measurement, ...]:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise MeasurementError(f"{', '.join(wrong)} of the trained network is not finite.")
        fidelity = Fidelity(level=level, resources={"epochs": options.epochs})
        return tuple(
            Measurement(metric=name, value=value, fidelity=fidelity, context=self._context(options))
            for name, value in values.items()
        )

    def _context(self, options: Training) -> dict[str, str | int | float | bool]:
        from nas.training import code_version, device_name, dtype_name

        return {
            "split": "valid",
            "dataset": self._bench.dataset.digest[:16],
            "bn": "tracked",
            "training": digest_of(options.model_dump(mode="json"))[:16],
            "dtype": dtype_name(self._bench.dtype),
            "device": device_name(self._bench.device),
            "code": code_version(),
        }


PLUGIN = Plugin(
    name="standalone",
    description="Accuracy and loss on the valid split after training from scratch",
    source="Yu et al. (2020), Evaluating the Search Phase of NAS, ICLR, arXiv 1902.08142",
    create=StandaloneEvaluator,
    Config=StandaloneConfig,
    flags={
        "level": "short",
        "metrics": ("accuracy", "loss"),
        "needs_supernet": False,
        "spends": ("epochs",),
        "stateful": False,
        "batched": False,
        "resumable": True,
    },
)
