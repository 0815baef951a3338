"""Accuracy with inherited weights, on the valid split."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nas.evaluators._evaluator import EvaluationContext, Evaluator, Outcome, Request
from nas.resources import Fidelity, Measurement
from searchspaces import (
    Architecture,
    Cancelled,
    Config,
    LeaseLost,
    MeasurementError,
    NASError,
    Plugin,
    StoreError,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nas.training import Batch
    from nas.workbench import Workbench


class SupernetConfig(Config):
    """Settings of `supernet`."""

    bn: Literal["batch", "recalibrated"] = Field(
        "batch",
        description="Normalisation by the statistics of the evaluation batch, or by those of training batches.",
    )
    eval_batch: int = Field(
        1024, ge=2, le=1_000_000, description="Largest evaluation batch; with `bn: batch` part of the result."
    )
    calibration_batches: int = Field(
        2, ge=1, le=10_000, description="Training batches (of at most 512) behind recalibrated statistics."
    )


class SupernetEvaluator(Evaluator):
    """Runs each architecture's path of the trained supernet over the valid split, without autograd.

    Architectures that are equal but for what cannot reach the output are computed once per call.
    """

    def __init__(self, config: SupernetConfig, bench: Workbench) -> None:
        self._config, self._bench = config, bench

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        known: dict[Architecture, dict[str, float]] = {}
        for number, request in enumerate(requests):
            if context.should_stop():
                return
            began = time.perf_counter()
            try:
                live = self._bench.space.live(self._bench.space.check(request.architecture))
                if live not in known:
                    known[live] = self._measure(live, context.seed)
                measurements = self._measurements(known[live])
            except (Cancelled, LeaseLost, StoreError):
                raise
            except (NASError, RuntimeError, ValueError) as error:
                yield Outcome(request.evaluation_id, error=f"{type(error).__name__}: {error}")
            else:
                yield Outcome(request.evaluation_id, measurements, seconds=time.perf_counter() - began)
            context.progress((number + 1) / len(requests))

    def _measure(self, live: Architecture, seed: int) -> dict[str, float]:
        from nas.training import batch_statistics, evaluate_batches, set_statistics

        bench, supernet = self._bench, self._bench.supernet()
        if self._config.bn == "recalibrated":
            network = set_statistics(supernet.extract(live), self._calibration(seed), dtype=bench.dtype)
            values = evaluate_batches(network, self._batches, bench.task, dtype=bench.dtype)
        else:
            with batch_statistics(supernet):
                values = evaluate_batches(
                    lambda images: supernet(images, live), self._batches, bench.task, dtype=bench.dtype
                )
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise MeasurementError(f"{', '.join(wrong)} of {live.text} is not finite.")
        return values

    def _measurements(self, values: dict[str, float]) -> tuple[Measurement, ...]:
        fidelity = Fidelity(level="supernet")
        return tuple(
            Measurement(metric=name, value=value, fidelity=fidelity, context=self._context)
            for name, value in values.items()
        )

    @cached_property
    def _batches(self) -> list[Batch]:
        from nas.training import DeviceData

        return DeviceData.of(self._bench.dataset.valid, self._bench.dataset, self._bench.device).batches(
            self._config.eval_batch
        )

    def _calibration(self, seed: int) -> list[Tensor]:
        from nas.training import DeviceData, calibration_images

        if self._calibration_of is None or self._calibration_of[0] != seed:
            data = DeviceData.of(self._bench.dataset.train, self._bench.dataset, self._bench.device)
            images = calibration_images(data, seed=seed, num_batches=self._config.calibration_batches)
            self._calibration_of = (seed, images)
        return self._calibration_of[1]

    _calibration_of: tuple[int, list[Tensor]] | None = None

    @cached_property
    def _context(self) -> dict[str, str | int | float | bool]:
        from nas.training import code_version, device_name, dtype_name

        return {
            "split": "valid",
            "dataset": self._bench.dataset.digest[:16],
            "bn": self._config.bn,
            "eval_batch": max(len(targets) for _, targets in self._batches),
            "dtype": dtype_name(self._bench.dtype),
            "device": device_name(self._bench.device),
            "code": code_version(),
        }


PLUGIN = Plugin(
    name="supernet",
    description="Accuracy and loss on the valid split with the supernet's weights",
    source="Guo et al. (2019), Single Path One-Shot NAS with Uniform Sampling, arXiv 1904.00420",
    create=SupernetEvaluator,
    Config=SupernetConfig,
    flags={
        "level": "supernet",
        "metrics": ("accuracy", "loss"),
        "needs_supernet": True,
        "stateful": True,
        "batched": True,
        "resumable": False,
    },
)
