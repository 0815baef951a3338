"""Training one stand-alone network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from nas import spec
from nas.datasets import Dataset
from nas.ports import Checkpoints
from nas.streams import stream, torch_stream
from nas.tasks import Task
from nas.training._calibration import calibration_images, set_statistics
from nas.training._data import DeviceData, Images, Integers, even_parts, even_slices
from nas.training._device import Precision, accelerated, choose_device, choose_dtype, to_device
from nas.training._engine import (
    Engine,
    EpochFigures,
    EpochReport,
    StepOutcome,
    Stepper,
    TrainingSummary,
    load_optimizer_state,
    load_weights_state,
    optimizer_state,
    weights_state,
)
from searchspaces import track_statistics

_WARM_UP = 0.25  # share of the steps in which the rate rises
_FIRST_RATE = 1 / 25  # of the peak


def train_network(  # noqa: PLR0917
    network: nn.Module,
    images: Images,
    labels: Integers,
    dataset: Dataset,
    task: Task,
    options: spec.Training,
    *,
    seed: int,
    device: torch.device | str = "auto",
    precision: Precision = "auto",
    statistics: Precision | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_name: str = "network",
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> TrainingSummary:
    """Train a network on these samples, in place: AdamW, its rate rising and falling once.

    From here on the network's batch normalisation tracks statistics, whatever it did before; when finished they are
    those of the training images under the final weights, so that `network.eval()` does not depend on its batch.

    Args:
        images, labels: as in a Split: `samples x channels x height x width` uint8, `samples`.
        dataset: whose normalisation and augmentation hold for the images.
        statistics: in which format the final statistics are computed: that in which the network will be run; none
            given, as `precision`.
        on_epoch: told (epochs done, epochs, mean loss).

    Raises:
        TrainingDiverged: the loss was not finite again after two restarts.
        CheckpointError: the checkpoint belongs to another training.
        OutOfMemory: not even a few samples fit at once.
    """
    place = choose_device(device)
    data = DeviceData(images, labels, dataset, place)
    track_statistics(network)
    stepper = _NetworkStepper(network, data, task, options, seed=seed, device=place)
    stepper.dtype = choose_dtype(precision, place, dataset.input_shape)
    plan = {"seed": seed, "samples": len(data), "options": options.model_dump(mode="json")}
    engine = Engine(stepper, checkpoints=checkpoints, name=checkpoint_name, plan=plan)

    def tell(report: EpochReport) -> None:
        if on_epoch is not None:
            on_epoch(report.epoch, report.epochs, report.loss)

    summary = engine.run(should_stop=should_stop, on_step=None, on_epoch=tell)
    if summary.finished:
        dtype = choose_dtype(statistics or precision, place, dataset.input_shape)
        set_statistics(network, calibration_images(data, seed=seed), dtype=dtype)
        network.eval()
    return summary


def one_cycle(step: int, num_steps: int) -> float:
    """Rate of a step as a share of the peak: up for a quarter of the steps, then down to zero, both as cosines.

    Smith and Topin (2018), Super-Convergence, arXiv 1708.07120; cosines in place of their straight lines.
    """
    top = max(1.0, _WARM_UP * num_steps)
    if step < top:
        return _FIRST_RATE + (1 - _FIRST_RATE) * 0.5 * (1 - math.cos(math.pi * step / top))
    return 0.5 * (1 + math.cos(math.pi * (step - top) / max(1.0, num_steps - top)))


class _NetworkStepper(Stepper):
    def __init__(
        self,
        network: nn.Module,
        data: DeviceData,
        task: Task,
        options: spec.Training,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.network = to_device(network, device).train()
        self.data, self.task, self.options, self.seed, self.device = data, task, options, seed, device
        self.num_epochs, self.num_samples = options.epochs, len(data)
        self.micro_batch = min(options.batch_size, self.num_samples)
        self.num_steps_per_epoch = len(even_parts(torch.empty(self.num_samples), options.batch_size))
        self.optimizer = torch.optim.AdamW(
            _groups(network, options.weight_decay), lr=options.learning_rate, foreach=True
        )

    def begin_epoch(self, epoch: int) -> None:
        order = torch.from_numpy(stream(self.seed, "data", epoch).permutation(self.num_samples)).to(self.device)
        self._indices = even_parts(order, self.options.batch_size)

    def step(self, step: int, rate_factor: float) -> StepOutcome:
        rate = one_cycle(step, self.num_epochs * self.num_steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * rate_factor * rate
        generator = torch_stream(self.seed, "augment", step, device=self.device) if self.options.augment else None
        images, targets = self.data.batch(self._indices[step % self.num_steps_per_epoch], generator)
        self.optimizer.zero_grad(set_to_none=True)
        parts = even_slices(len(targets), self.micro_batch)
        loss = torch.stack([self._backward(images[rows], targets[rows], len(targets)) for rows in parts]).sum()
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        self.optimizer.step()
        return StepOutcome(loss, norm)

    def _backward(self, images: Tensor, targets: Tensor, num_samples: int) -> Tensor:
        """Adds the gradients of a part of a batch; its share of the batch's mean loss, 0-dim, detached."""
        with accelerated(self.device, self.dtype):
            logits = self.network(images)
        losses = self.task.losses(logits, targets, label_smoothing=self.options.label_smoothing)
        loss = losses.sum() / num_samples
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def end_epoch(self, epoch: int) -> EpochFigures:
        return EpochFigures()

    def state_dict(self) -> dict[str, Tensor]:
        return {**weights_state(self.network), **optimizer_state(self.optimizer, self.network)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        load_weights_state(self.network, state)
        load_optimizer_state(self.optimizer, self.network, state)


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on matrices and filters only: on biases and scales it does harm."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
