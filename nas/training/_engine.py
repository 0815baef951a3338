"""What any training needs around its steps: time, checkpoints, resuming, divergence, being stopped."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from nas.ports import Checkpoint, Checkpoints
from nas.resources import JsonObject
from nas.training._device import deterministic, environment, is_out_of_memory
from nas.training._diagnosis import GradientVariance
from searchspaces import CheckpointError, OutOfMemory, TrainingDiverged

_SAVE_EVERY = 5.0  # seconds, inside an epoch; at the end of an epoch after 1 second already
_SAVE_AT_EPOCH_END = 1.0
_SAVE_SHARE = 20.0  # a save may take at most 1/20 of the time: a large network's disk is slow
_CHECK_EVERY = 16  # steps between looks at the loss: each waits for the device
_RESTARTS = 2
SMALLEST_MICRO_BATCH = 4  # even parts of any batch then hold two samples, which batch normalisation needs

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class EpochReport:
    """One epoch of a training, as the page shows it.

    Attributes:
        epoch: how many are done, from 1.
        seconds: of its steps in this process, without what is measured at its end.
        step_ms: mean time of a step.
        distinct_share: share of the training samples seen in it.
        distribution: decision -> option -> the probability with which it was drawn; empty for a single network.
        gradient: how noisy its gradient is; None where that was not measured (see `nas.spec.Supernet.diagnosis`).
        edits: what was changed in the supernet's structure at its end, in words.
    """

    epoch: int
    epochs: int
    loss: float
    seconds: float
    step_ms: float
    images_per_second: float
    distinct_share: float
    distribution: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gradient: GradientVariance | None = None
    edits: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The fields, as the `epoch` event holds them."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingSummary:
    """How a training went. `steps`, `epochs`, `seconds` and `losses` (one per epoch) count earlier attempts too.

    `finished` is False when it was asked to stop; `notes` say what a reader of the result should know;
    `edits` what was changed in the supernet's structure.
    """

    steps: int
    epochs: int
    seconds: float
    losses: tuple[float, ...]
    finished: bool
    notes: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()


@dataclass(frozen=True)
class EpochFigures:
    """What a stepper knows of an epoch that ends; the fields of `EpochReport`."""

    distinct_share: float = 1.0
    distribution: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gradient: GradientVariance | None = None
    edits: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepOutcome:
    """Mean loss and gradient norm of a step: 0-dim, on the device."""

    loss: Tensor
    norm: Tensor


class Stepper(ABC):
    """What a training does in its steps.

    Everything that a step depends on is in `state_dict`, its number and its rate factor, so that it can be repeated bit
    for bit.

    Attributes:
        micro_batch: most samples that run at once; less than a batch where memory is short. A step then adds up the
            gradients of even parts of its batch.
    """

    num_epochs: int
    num_steps_per_epoch: int
    num_samples: int
    micro_batch: int
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def begin_epoch(self, epoch: int) -> None:
        """Prepare an epoch (from 0); also called when resuming inside it."""

    @abstractmethod
    def step(self, step: int, rate_factor: float) -> StepOutcome:
        """Do the step of this number, counted over all epochs, at the scheduled rate times `rate_factor`."""

    @abstractmethod
    def end_epoch(self, epoch: int) -> EpochFigures:
        """What is to be told of the epoch that ends; then learn from it."""

    @property
    def edits(self) -> tuple[str, ...]:
        """What has been changed in the structure so far, in words."""
        return ()

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Weights, optimizer and all else that steps change."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of `state_dict`."""


class MemoryCheckpoints:
    """Checkpoints that live as long as the process: what a training without a store falls back on."""

    def __init__(self) -> None:
        self._kept: dict[str, Checkpoint] = {}

    def save(self, name: str, tensors: Mapping[str, Tensor], meta: JsonObject) -> None:
        self._kept[name] = Checkpoint({key: t.detach().cpu().clone() for key, t in tensors.items()}, dict(meta))

    def load(self, name: str) -> Checkpoint | None:
        return self._kept.get(name)

    def drop(self, name: str) -> None:
        self._kept.pop(name, None)


class Engine:
    """Runs a stepper from wherever its last checkpoint stands to the end.

    Args:
        plan: plain values that a checkpoint must share with this training, or it belongs to another one.
    """

    def __init__(self, stepper: Stepper, *, checkpoints: Checkpoints | None, name: str, plan: JsonObject) -> None:
        self._stepper, self._name = stepper, name
        self._checkpoints: Checkpoints = MemoryCheckpoints() if checkpoints is None else checkpoints
        self._plan = {**plan, "epochs": stepper.num_epochs, "steps_per_epoch": stepper.num_steps_per_epoch}
        self._environment = environment(stepper.device, stepper.dtype)
        self._step = 0
        self._rate_factor = 1.0
        self._restarts = 0
        self._seconds_before = 0.0
        self._losses: list[float] = []
        self._notes: list[str] = []
        self._sums = torch.zeros(2, dtype=torch.float64, device=stepper.device)  # of loss and norm, in this epoch
        self._started = self._saved_at = time.monotonic()
        self._save_seconds = 0.0

    def run(
        self,
        *,
        should_stop: Callable[[], bool],
        on_step: Callable[[int, int, int], None] | None,
        on_epoch: Callable[[EpochReport], None] | None,
    ) -> TrainingSummary:
        """Train to the end, or until `should_stop()`.

        Raises:
            TrainingDiverged: the loss was not finite again after two restarts.
            CheckpointError: the checkpoint belongs to another training.
            OutOfMemory: not even a few samples fit at once.
        """
        with deterministic(self._stepper.device):
            return self._run(should_stop, on_step, on_epoch)

    def _run(
        self,
        should_stop: Callable[[], bool],
        on_step: Callable[[int, int, int], None] | None,
        on_epoch: Callable[[EpochReport], None] | None,
    ) -> TrainingSummary:
        stepper, total = self._stepper, self._stepper.num_epochs * self._stepper.num_steps_per_epoch
        self._resume_or_start()
        clock = _EpochClock()
        while self._step < total:
            epoch = self._step // stepper.num_steps_per_epoch
            if clock.epoch != epoch:
                stepper.begin_epoch(epoch)
                clock.start(epoch, self._step)
            if should_stop():
                if self._is_finite_or_rolls_back(weights=True):
                    self._save()
                return self._summary(finished=False)
            outcome = self._unless_out_of_memory(stepper.step, self._step, self._rate_factor)
            if outcome is None:
                clock.epoch = None
                continue
            self._sums[0] += outcome.loss
            self._sums[1] += outcome.norm
            self._step += 1
            ends = self._step % stepper.num_steps_per_epoch == 0
            due = self._save_is_due(ends=ends)
            if (ends or due or self._step % _CHECK_EVERY == 0) and not self._is_finite_or_rolls_back(weights=due):
                clock.epoch = None
                continue
            if ends:
                report = self._unless_out_of_memory(self._end_epoch, epoch, clock)
                if report is None:
                    clock.epoch = None
                    continue
                if on_epoch is not None:
                    on_epoch(report)
            if due:
                self._save()
            if on_step is not None:
                on_step(self._step, len(self._losses), stepper.num_epochs)
        return self._summary(finished=True)

    def _end_epoch(self, epoch: int, clock: _EpochClock) -> EpochReport:
        stepper = self._stepper
        loss = float(self._sums[0]) / stepper.num_steps_per_epoch  # waits for the device
        self._losses.append(loss)
        self._sums.zero_()
        seconds, steps = time.monotonic() - clock.started, self._step - clock.first_step
        told = stepper.end_epoch(epoch)
        return EpochReport(
            epoch=epoch + 1,
            epochs=stepper.num_epochs,
            loss=loss,
            seconds=seconds,
            step_ms=1000 * seconds / steps,
            images_per_second=steps / stepper.num_steps_per_epoch * stepper.num_samples / seconds,
            distinct_share=told.distinct_share,
            distribution=told.distribution,
            gradient=told.gradient,
            edits=told.edits,
        )

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def _save_is_due(self, *, ends: bool) -> bool:
        if self._step == self._stepper.num_epochs * self._stepper.num_steps_per_epoch:
            return True
        wait = max(_SAVE_AT_EPOCH_END if ends else _SAVE_EVERY, _SAVE_SHARE * self._save_seconds)
        return time.monotonic() - self._saved_at >= wait

    def _save(self) -> None:
        started = time.monotonic()
        meta: JsonObject = {
            "plan": self._plan,
            "environment": self._environment,
            "step": self._step,
            "epoch": self._step // self._stepper.num_steps_per_epoch,
            "rate_factor": self._rate_factor,
            "restarts": self._restarts,
            "micro_batch": self._stepper.micro_batch,
            "losses": list(self._losses),
            "notes": list(self._notes),
            "seconds": self._seconds(),
        }
        self._checkpoints.save(self._name, {"loop/sums": self._sums, **self._stepper.state_dict()}, meta)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def _resume_or_start(self) -> None:
        checkpoint = self._checkpoints.load(self._name)
        if checkpoint is None:
            self._save()
            return
        self._load(checkpoint)
        meta = checkpoint.meta
        self._rate_factor, self._restarts = float(meta["rate_factor"]), int(meta["restarts"])
        self._stepper.micro_batch = int(meta.get("micro_batch", self._stepper.micro_batch))
        self._notes, self._seconds_before = list(meta["notes"]), float(meta["seconds"])
        changed = [key for key, value in self._environment.items() if meta["environment"].get(key) != value]
        if changed:
            what = ", ".join(f"{key} {meta['environment'].get(key)} -> {self._environment[key]}" for key in changed)
            self._notes.append(f"resumed at step {self._step} in another environment, so not bit-exact: {what}")

    def _load(self, checkpoint: Checkpoint) -> None:
        tensors, meta = checkpoint
        if meta.get("plan") != self._plan:
            raise CheckpointError(
                f"the checkpoint {self._name!r} belongs to another training ({meta.get('plan')}, not {self._plan}); "
                "drop it to start anew."
            )
        try:
            self._stepper.load_state_dict({k: t for k, t in tensors.items() if not k.startswith("loop/")})
            self._sums.copy_(tensors["loop/sums"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint {self._name!r} does not fit this network: {error}.") from error
        self._step, self._losses = int(meta["step"]), [float(loss) for loss in meta["losses"]]

    # --- divergence --------------------------------------------------------------------------------------------------

    def _is_finite_or_rolls_back(self, *, weights: bool) -> bool:
        """True when loss and gradients are finite; else goes back, at half the rate, and answers False.

        With `weights`, what the last update made is looked at too: nothing else is ever saved. Only a step from it
        would show it in the loss.
        """
        sound = bool(self._sums.isfinite().all())
        if sound and (not weights or self._weights_are_finite()):
            return True
        what = f"the {'weights were' if sound else 'loss or its gradient was'} not finite by step {self._step}"
        if self._restarts == _RESTARTS:
            raise TrainingDiverged(
                f"{what}, after {_RESTARTS} restarts from the last checkpoint at half the rate each; "
                "give a smaller learning_rate."
            )
        checkpoint = self._checkpoints.load(self._name)
        if checkpoint is None:
            raise TrainingDiverged(f"{what}, and its checkpoint is gone; give a smaller learning_rate.")
        self._load(checkpoint)
        self._restarts += 1
        self._rate_factor /= 2
        self._notes.append(f"{what}: back to step {self._step}, at {self._rate_factor:g} times the rate")
        self._save()
        return False

    def _weights_are_finite(self) -> bool:
        kept = (t for name, t in self._stepper.state_dict().items() if name.startswith(("weights/", "optimizer/")))
        finite = [tensor.isfinite().all().to(self._sums.device) for tensor in kept if tensor.is_floating_point()]
        return bool(torch.stack(finite).all())

    # --- memory ------------------------------------------------------------------------------------------------------

    def _unless_out_of_memory(
        self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result | None:
        """What `work` gives; None when it ran out of memory: then all is as at the last checkpoint but the micro-batch.

        A step that broke off may have moved statistics, inner steps, even some of the weights; only a checkpoint is
        sure to hold none of it.
        """
        try:
            return work(*args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        self._halve_micro_batch(reason)  # here, since what the step held is free only when its error is gone
        return None

    def _halve_micro_batch(self, reason: str) -> None:
        stepper, size, failed = self._stepper, self._stepper.micro_batch, self._step
        checkpoint = self._checkpoints.load(self._name)
        if size // 2 < SMALLEST_MICRO_BATCH or checkpoint is None:
            raise OutOfMemory(
                f"step {failed} does not fit into the memory of {stepper.device} with {size} samples at once "
                f"({reason}); give a smaller space, or another device."
            )
        if stepper.device.type == "cuda":
            torch.cuda.empty_cache()
        stepper.micro_batch = size // 2
        self._load(checkpoint)
        self._notes.append(
            f"out of memory in step {failed} with {size} samples at once: from step {self._step} on at most "
            f"{size // 2}, their gradients added up; the updates are those of whole batches, but for batch "
            "normalisation, which sees the statistics of a part"
        )
        self._save()

    # --- summing up --------------------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _summary(self, *, finished: bool) -> TrainingSummary:
        return TrainingSummary(
            steps=self._step,
            epochs=len(self._losses),
            seconds=self._seconds(),
            losses=tuple(self._losses),
            finished=finished,
            notes=tuple(self._notes),
            edits=self._stepper.edits,
        )


@dataclass
class _EpochClock:
    """Which epoch is prepared, and since when it runs in this process."""

    epoch: int | None = None
    started: float = 0.0
    first_step: int = 0

    def start(self, epoch: int, step: int) -> None:
        self.epoch, self.started, self.first_step = epoch, time.monotonic(), step


def optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """What an optimizer remembers, as `optimizer/<parameter>/<key>` tensors; nothing for parameters never stepped."""
    return {
        f"optimizer/{name}/{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take what `optimizer_state` gave."""
    parameters = dict(network.named_parameters())
    optimizer.state.clear()
    for path, value in state.items():
        if path.startswith("optimizer/"):
            name, _, key = path.removeprefix("optimizer/").rpartition("/")
            parameter = parameters[name]
            like = value if key == "step" else value.to(parameter.device)
            kept = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(like)
            optimizer.state[parameter][key] = kept.copy_(like)


def weights_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's parameters and buffers, as `weights/<name>`."""
    return {f"weights/{name}": value for name, value in network.state_dict().items()}


def load_weights_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take what `weights_state` gave; every weight must be there."""
    network.load_state_dict({k.removeprefix("weights/"): v for k, v in state.items() if k.startswith("weights/")})
