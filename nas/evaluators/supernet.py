"""Accuracy with inherited weights, on the valid split."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from nas.evaluators._evaluator import EvaluationContext, Evaluator, Outcome, Request
from nas.resources import Fidelity, Measurement
from searchspaces import Architecture, Config, NASError, Plugin

if TYPE_CHECKING:
    import torch

    from nas.training import PathMeter
    from nas.workbench import Workbench

_Device = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]


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
    devices: tuple[_Device, ...] = Field(
        (), max_length=64, description="Devices that share the architectures of a call; none: the job's device alone."
    )


class SupernetEvaluator(Evaluator):
    """Runs each architecture's path of the trained supernet over the valid split, without autograd.

    What paths share is computed once per call (`Supernet.forward_many`), statistics of normalisations too, and so are
    architectures that are equal but for what cannot reach the output. Every value is what the architecture gets when
    it is evaluated alone. Several devices each hold a copy of the weights and the images.
    """

    def __init__(self, config: SupernetConfig, bench: Workbench) -> None:
        self._config, self._bench = config, bench
        self._made: tuple[int, list[PathMeter]] | None = None

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        if context.should_stop():
            return
        asked: dict[Architecture, list[str]] = {}
        for request in requests:
            try:
                live = self._bench.space.live(self._bench.space.check(request.architecture))
            except (NASError, ValueError) as error:
                yield Outcome(request.evaluation_id, error=f"{type(error).__name__}: {error}")
            else:
                asked.setdefault(live, []).append(request.evaluation_id)
        if asked:
            yield from self._measured(asked, context)
        else:
            context.progress(1.0)

    def _measured(self, asked: Mapping[Architecture, Sequence[str]], context: EvaluationContext) -> Iterator[Outcome]:
        """Outcomes of distinct live architectures, each for all who asked for it."""
        from nas.training import measure_paths

        tree = sorted(asked, key=lambda architecture: architecture.options)  # equal beginnings side by side
        meters = self._meters(context.seed)
        pieces, told = len(tree) * meters[0].num_pieces, 0.0
        for done, found in enumerate(measure_paths(meters, tree), 1):
            if found is not None:
                measurements = self._measurements(found.values, meters[found.meter])
                seconds = found.seconds
                for evaluation_id in asked[tree[found.place]]:
                    yield Outcome(evaluation_id, measurements, error=found.error, seconds=seconds)
                    seconds = 0.0
            told = min(1.0, done / pieces)
            context.progress(told)
            if context.should_stop():
                return
        if told < 1.0:  # a path that failed ran over fewer batches
            context.progress(1.0)

    def _measurements(self, values: Mapping[str, float], meter: PathMeter) -> tuple[Measurement, ...]:
        fidelity, context = Fidelity(level="supernet"), self._context(meter.device, meter.eval_batch)
        return tuple(
            Measurement(metric=name, value=value, fidelity=fidelity, context=context) for name, value in values.items()
        )

    # --- what is on the devices --------------------------------------------------------------------------------------

    def _meters(self, seed: int) -> list[PathMeter]:
        """One for every device; a device that is named twice works twice, on the same weights."""
        if self._made is None or self._made[0] != seed:
            self._made = (seed, [self._meter(device, seed) for device in self._devices])
        return self._made[1]

    @cached_property
    def _devices(self) -> list[torch.device]:
        from nas.training import choose_device

        return [choose_device(name) for name in self._config.devices] or [self._bench.device]

    def _meter(self, device: torch.device, seed: int) -> PathMeter:
        from nas.training import DeviceData, PathMeter, calibration_images, to_device

        bench, config = self._bench, self._config
        supernet, calibration = bench.supernet(), None
        if device != bench.device:
            supernet = copy.deepcopy(supernet)
            to_device(supernet, device)
        if config.bn == "recalibrated":
            train = DeviceData.of(bench.dataset.train, bench.dataset, device)
            calibration = calibration_images(train, seed=seed, num_batches=config.calibration_batches)
        return PathMeter(
            supernet,
            DeviceData.of(bench.dataset.valid, bench.dataset, device).batches(config.eval_batch),
            bench.task,
            num_classes=bench.dataset.num_classes,
            dtype=bench.dtype,
            calibration=calibration,
        )

    def _context(self, device: torch.device, eval_batch: int) -> dict[str, str | int | float | bool]:
        from nas.training import code_version, device_name, dtype_name

        return {
            "split": "valid",
            "dataset": self._bench.dataset.digest[:16],
            "bn": self._config.bn,
            "eval_batch": eval_batch,
            "dtype": dtype_name(self._bench.dtype),
            "device": device_name(device),
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
