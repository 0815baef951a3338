"""The one supernet loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nas import spec
from nas.datasets import Dataset
from nas.ports import Checkpoints
from nas.streams import torch_stream
from nas.tasks import Task
from nas.training._data import DeviceData, even_parts, even_slices
from nas.training._device import Precision, accelerated, choose_device, choose_dtype, to_device
from nas.training._diagnosis import GradientVariance, gradient_variance, num_pairs
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
from nas.training._gradients import GradientNorms, clear_gradients
from nas.training._recipe import Child, Recipe, Step, StepReport
from nas.training._splitting import Probe, StructureEditor
from searchspaces import Architecture, Supernet


def train_supernet(
    supernet: Supernet,
    recipe: Recipe,
    dataset: Dataset,
    task: Task,
    options: spec.Supernet,
    *,
    num_epochs: int,
    seed: int,
    device: torch.device | str = "auto",
    precision: Precision = "auto",
    checkpoints: Checkpoints | None = None,
    checkpoint_name: str = "supernet",
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> TrainingSummary:
    """Train the shared weights on the train split, in place: SGD with momentum, its rate falling to zero as a cosine.

    A step touches only the parameters of its children. Goes on from the last checkpoint, if there is one, bit for bit.

    Args:
        supernet: what `recipe.prepare` gave.
        recipe: made for the same space, data set and number of epochs (see `Setting.of`).
        should_stop: asked before every step; when True a checkpoint is written and the summary is not `finished`.
        on_step: told (steps done, epochs done, epochs) after every step.

    Raises:
        TrainingDiverged: the loss was not finite again after two restarts.
        CheckpointError: the checkpoint belongs to another training.
        OutOfMemory: not even a few samples fit at once.
    """
    stepper = SupernetStepper(
        supernet,
        recipe,
        dataset,
        task,
        options,
        num_epochs=num_epochs,
        seed=seed,
        device=choose_device(device),
        precision=precision,
    )
    plan = {"seed": seed, "dataset": dataset.digest, "options": options.model_dump(mode="json", exclude={"diagnosis"})}
    engine = Engine(stepper, checkpoints=checkpoints, name=checkpoint_name, plan=plan)
    return engine.run(should_stop=should_stop, on_step=on_step, on_epoch=on_epoch)


class SupernetStepper(Stepper):
    def __init__(
        self,
        supernet: Supernet,
        recipe: Recipe,
        dataset: Dataset,
        task: Task,
        options: spec.Supernet,
        *,
        num_epochs: int,
        seed: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.supernet = supernet
        if recipe.structure is not None:
            recipe.structure.check(supernet)
        self.recipe, self.task, self.options, self.seed, self.device = recipe, task, options, seed, device
        self.dtype = choose_dtype(precision, device, dataset.input_shape)
        self.data = DeviceData.of(dataset.train, dataset, device)
        self.num_epochs, self.num_samples = num_epochs, len(self.data)
        self.micro_batch = min(options.batch_size, self.num_samples)
        self.num_steps_per_epoch = len(even_parts(torch.empty(self.num_samples), options.batch_size))
        self._take_parameters()

    def _take_parameters(self) -> None:
        """Train the supernet's parameters as they are now, from rest."""
        to_device(self.supernet, self.device).train()
        self.optimizer = torch.optim.SGD(
            self.supernet.parameters(),
            lr=self.options.learning_rate,
            momentum=self.options.momentum,
            weight_decay=self.options.weight_decay,
            foreach=True,
        )

    def begin_epoch(self, epoch: int) -> None:
        drawn = self.recipe.data.order(epoch)
        order = torch.from_numpy(drawn)
        self._distinct_share = len(np.unique(drawn)) / self.num_samples
        self._indices = even_parts(order, self.options.batch_size)
        self._device_indices = even_parts(order.to(self.device), self.options.batch_size)
        weights = self.recipe.reweighting.weights(self.recipe.data.probability(drawn), self.num_samples)
        self._weights: tuple[Tensor, ...] | None = None
        if weights is not None:
            on_device = torch.tensor(weights, dtype=torch.float32, device=self.device)
            self._weights = even_parts(on_device, self.options.batch_size)

    def step(self, step: int, rate_factor: float) -> StepOutcome:
        factor = rate_factor * self._cosine(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * factor
        run = self._prepared(step, self.recipe.paths.plan(step))
        run.rate_factor, run.restart_factor = factor, rate_factor
        norm = self.recipe.gradients.run(run)
        return StepOutcome(run.loss(), norm)

    def _prepared(self, step: int, children: Sequence[Child]) -> _Step:
        """These children on the batch of a step of the present epoch."""
        within = step % self.num_steps_per_epoch
        generator = torch_stream(self.seed, "augment", step, device=self.device) if self.options.augment else None
        batch = self.data.batch(self._device_indices[within], generator)
        run = _Step(self, step, children, batch.images, batch.targets, self._indices[within])
        run.weights = self._weights[within] if self._weights is not None else None
        return run

    def _cosine(self, step: int) -> float:
        first, end = 0, self.num_epochs
        if self.recipe.structure is not None:
            first, end = self.recipe.structure.cycle(step // self.num_steps_per_epoch)
        since, length = step - first * self.num_steps_per_epoch, (end - first) * self.num_steps_per_epoch
        return 0.5 * (1 + math.cos(math.pi * since / length))

    def end_epoch(self, epoch: int) -> EpochFigures:
        told = EpochFigures(self._distinct_share, self.recipe.paths.distribution(), self._gradient_variance(epoch))
        self.recipe.end_epoch(epoch)
        if self.recipe.structure is None or not self.recipe.structure.due(epoch):
            return told
        known = len(self.edits)
        self._edit(self.recipe.structure, epoch)
        return replace(told, edits=self.edits[known:])

    @property
    def edits(self) -> tuple[str, ...]:
        return () if self.recipe.structure is None else self.recipe.structure.edits

    def _edit(self, structure: StructureEditor, epoch: int) -> None:
        """Change the structure; parameters that inherit a value inherit its momentum too."""
        probe = Probe(
            self.data,
            self.task,
            self.dtype,
            batch_size=self.micro_batch,
            num_steps=self.num_epochs * self.num_steps_per_epoch,
            augment=self.options.augment,
            seed=self.seed,
        )
        origins, remembered = structure.edit(self.supernet, probe, epoch), self.optimizer.state
        self._take_parameters()
        for parameter in self.supernet.parameters():
            held = remembered.get(origins.get(parameter, parameter), {})
            if held:
                self.optimizer.state[parameter] = {
                    key: value.clone() if isinstance(value, Tensor) else value for key, value in held.items()
                }

    def _gradient_variance(self, epoch: int) -> GradientVariance | None:
        first, num_steps = epoch * self.num_steps_per_epoch, self.num_steps_per_epoch
        pairs = num_pairs(epoch, num_steps, self.options.diagnosis)
        if not pairs:
            return None

        def backward(paths: int, data: int) -> None:
            run = self._prepared(first + data, self.recipe.paths.plan(first + paths))
            for child in run.children:
                run.backward(child)

        return gradient_variance(self.supernet, backward, num_steps=num_steps, pairs=pairs, seed=self.seed, epoch=epoch)

    def state_dict(self) -> dict[str, Tensor]:
        recipe = {f"recipe/{key}": value for key, value in self.recipe.state_dict().items()}
        return {**weights_state(self.supernet), **optimizer_state(self.optimizer, self.supernet), **recipe}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        prefix = "recipe/"
        self.recipe.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        if self.recipe.structure is not None:
            self.recipe.structure.rebuild(self.supernet)
            self._take_parameters()
        clear_gradients(self.supernet.parameters())  # a step that broke off leaves some, on a path of its own
        load_weights_state(self.supernet, state)
        load_optimizer_state(self.optimizer, self.supernet, state)


class _Step(Step):
    """One step on one batch. `images`: `batch x channels x height x width`; `weights`: `batch`, or None for ones."""

    weights: Tensor | None = None
    rate_factor = 1.0

    def __init__(  # noqa: PLR0917
        self,
        stepper: SupernetStepper,
        number: int,
        children: Sequence[Child],
        images: Tensor,
        targets: Tensor,
        indices: Tensor,
    ) -> None:
        self.children, self.supernet, self.optimizer = children, stepper.supernet, stepper.optimizer
        self.clip_norm, self.learning_rate = stepper.options.clip_norm, stepper.options.learning_rate
        self._stepper, self._number, self._images, self._targets = stepper, number, images, targets
        self._indices = indices
        self._run: list[Child] = []
        self._logits: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._output_norms: dict[str, list[Tensor]] = {}

    def backward(self, child: Child) -> None:
        known = {decision: len(kept) for decision, kept in self._output_norms.items()}
        parts = [self._part(child, rows) for rows in even_slices(len(self._targets), self._stepper.micro_batch)]
        if len(parts) > 1:
            for decision, kept in self._output_norms.items():
                first = known.get(decision, 0)
                kept[first:] = torch.stack(kept[first:]).view(len(parts), -1).norm(dim=0).unbind()
        self._run.append(child)
        self._logits.append(parts[0][0] if len(parts) == 1 else torch.cat([logits for logits, _ in parts]))
        self._losses.append(torch.stack([loss for _, loss in parts]).sum())

    def _part(self, child: Child, rows: slice) -> tuple[Tensor, Tensor]:
        """Adds the gradients of these samples; their logits, and their share of the mean loss, 0-dim, both detached."""
        stepper, targets = self._stepper, self._targets[rows]
        with accelerated(stepper.device, stepper.dtype):
            logits = self._logits_of(child, self._images[rows])
        outputs = {done.role: output[rows] for done, output in zip(self._run, self._logits, strict=True)}
        losses = stepper.recipe.loss.losses(child, logits, targets, task=stepper.task, outputs=outputs)
        loss = (losses if self.weights is None else losses * self.weights[rows]).sum() / len(self._targets)
        weighted = loss if child.weight == 1 else loss * child.weight
        weighted.backward()  # type: ignore[no-untyped-call]
        return logits.detach(), loss.detach()

    def _logits_of(self, child: Child, images: Tensor) -> Tensor:
        """What comes out, `batch x classes`; where a part asked for it, gradients at the options' outputs are kept."""
        if not (self._stepper.recipe.paths.reads_outputs and isinstance(child.choice, Architecture)):
            logits: Tensor = self.supernet(images, child.choice)
            return logits
        tapped = self.supernet.taps(images, child.choice)
        for decision, outputs in tapped.outputs.items():
            kept = self._output_norms.setdefault(decision, [])
            for output in outputs:
                output.register_hook(partial(_keep_norm, kept))  # type: ignore[no-untyped-call]
        return tapped.logits

    def observe(self, norms: GradientNorms) -> None:
        stepper = self._stepper
        report = StepReport(
            self._number,
            self._run,
            self._indices,
            self._targets,
            self._logits,
            stepper.task,
            self.supernet,
            norms,
            {decision: kept for decision, kept in self._output_norms.items() if kept},
        )
        stepper.recipe.observe(report)

    def loss(self) -> Tensor:
        """Mean loss of the children, before their own weights, 0-dim."""
        return torch.stack(self._losses).mean()


def _keep_norm(kept: list[Tensor], gradient: Tensor) -> None:
    kept.append(torch.linalg.vector_norm(gradient))
