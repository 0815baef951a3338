"""What a recipe is made of. The loop in `_supernet` runs every recipe; a paper supplies the parts that it changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.datasets import Dataset
from nas.spec import Supernet as SupernetOptions
from nas.tasks import Task
from nas.training._data import num_parts
from searchspaces import Architecture, Choice, SearchSpace, Supernet

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What a recipe is made for; its random streams are functions of `seed`, the part's name and the step or epoch."""

    space: SearchSpace
    num_samples: int
    num_steps_per_epoch: int
    num_epochs: int
    seed: int

    @classmethod
    def of(
        cls, space: SearchSpace, dataset: Dataset, options: SupernetOptions, *, num_epochs: int, seed: int
    ) -> Setting:
        """The setting of a training on a data set's train split."""
        num_samples = len(dataset.train)
        return cls(space, num_samples, num_parts(num_samples, options.batch_size), num_epochs, seed)


@dataclass(frozen=True)
class Child:
    """One forward and backward pass of a step.

    `role` names it within the step: a later child's loss may read the logits of an earlier one by it.
    """

    choice: Choice
    role: str = "single"


@dataclass(frozen=True)
class StepReport:
    """What happened in a step, as every part may read it. Nothing in it has been copied to the host.

    Attributes:
        indices: sample indices, `batch` int64, on the host.
        targets: `batch`, on the device.
        logits: for every child that was run, `batch x classes`, detached.
        supernet: its parameters' `.grad` hold the step's gradient, not yet clipped.
    """

    step: int
    children: Sequence[Child]
    indices: Tensor
    targets: Tensor
    logits: Sequence[Tensor]
    task: Task
    supernet: Supernet

    def sample_norms(self) -> Tensor:
        """Bound of every sample's gradient norm, mean over the children, `batch` on the device, detached."""
        norms = [self.task.gradient_norm_bound(logits, self.targets) for logits in self.logits]
        return norms[0] if len(norms) == 1 else torch.stack(norms).mean(dim=0)


class Part:
    """A replaceable piece of a recipe. What it has learned is in its state; its randomness is not (see nas.streams)."""

    def observe(self, report: StepReport) -> None:
        """Learn from a step. Called when all gradients of the step are there and none is clipped yet."""

    def end_epoch(self, epoch: int) -> None:
        """Turn what was learned in `epoch` (from 0) into what the next one does."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything learned, as tensors on the host; valid at any step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of `state_dict`."""


class PathSampler(Part, ABC):
    """Which children share a step."""

    @abstractmethod
    def plan(self, step: int) -> Sequence[Child]:
        """The children of a step, in the order in which they run; a function of the state and `step` alone."""

    @abstractmethod
    def probability(self, architecture: Architecture) -> float:
        """How probable this architecture is as a child, at present."""

    @abstractmethod
    def distribution(self) -> dict[str, dict[str, float]]:
        """Decision -> option -> its present probability (given that the decision is active)."""


class DataSampler(Part, ABC):
    """Which samples an epoch sees, in which order."""

    @abstractmethod
    def order(self, epoch: int) -> Integers:
        """Sample indices of an epoch, `number of samples`; a function of the state and `epoch` alone."""

    @abstractmethod
    def probability(self, indices: Integers) -> Floats:
        """How probable each of these samples is in one draw, at present: `len(indices)`."""


class Reweighting(Part, ABC):
    """Which weight a drawn sample's loss gets."""

    @abstractmethod
    def weights(self, probability: Floats, num_samples: int) -> Floats | None:
        """A weight for every draw, from the probability of the sample drawn; None is 1 everywhere."""


class ChildLoss(Part, ABC):
    """What a child's loss is, and whose logits it sees."""

    @abstractmethod
    def losses(
        self, child: Child, logits: Tensor, targets: Tensor, *, task: Task, outputs: Mapping[str, Tensor]
    ) -> Tensor:
        """Loss of every sample, `batch`; gradients flow through `logits`.

        Args:
            outputs: role -> logits of the children that ran before in this step, detached.
        """


class GradientPolicy(Part, ABC):
    """How the gradients of a step's children become one update. It owns the whole step, so that it may also take inner
    steps or put weights aside between children."""

    @abstractmethod
    def run(self, step: Step) -> Tensor:
        """Do the step; returns the norm of the gradient before clipping, a 0-dim tensor that is still on the device.

        Must call `step.backward(child)` for the children, and once `step.observe()` while the gradient is unclipped.
        """


class Step(ABC):
    """One step of the loop, as a gradient policy sees it.

    Attributes:
        children: what the path sampler planned.
        supernet: whose parameters are trained.
        optimizer: over all parameters; its rate is set already.
        clip_norm: largest norm of the update's gradient.
    """

    children: Sequence[Child]
    supernet: Supernet
    optimizer: torch.optim.Optimizer
    clip_norm: float

    @abstractmethod
    def backward(self, child: Child) -> None:
        """Run one child on the step's batch; its gradients are added to `.grad`."""

    @abstractmethod
    def observe(self) -> None:
        """Let every part of the recipe learn from the step."""


class TaskLoss(ChildLoss):
    """The task's own loss for every child."""

    def losses(
        self, child: Child, logits: Tensor, targets: Tensor, *, task: Task, outputs: Mapping[str, Tensor]
    ) -> Tensor:
        return task.losses(logits, targets)


class PlainMean(Reweighting):
    """No weights: what is drawn more often counts more."""

    def weights(self, probability: Floats, num_samples: int) -> Floats | None:
        return None


class Unbiased(Reweighting):
    """`1 / (N p)`: the weighted batch mean has the plain mean over all samples as its expectation.

    With `largest`, weights are cut there: less variance for some bias.
    """

    def __init__(self, largest: float | None = None) -> None:
        self._largest = largest

    def weights(self, probability: Floats, num_samples: int) -> Floats | None:
        exact: Floats = 1.0 / (num_samples * probability)
        return exact if self._largest is None else np.minimum(exact, self._largest)


class Accumulate(GradientPolicy):
    """The children's gradients are summed, clipped by their norm and applied at once.

    Args:
        idle: what happens to the parameters of no child. `freeze`: nothing, their momentum waits too. `decay`: they
            move by momentum and weight decay, as with frameworks that leave zeros in idle gradients (torch before 2.0,
            and so the published figures of several single-path methods).
    """

    def __init__(self, idle: Literal["freeze", "decay"] = "freeze") -> None:
        self._idle = idle

    def run(self, step: Step) -> Tensor:
        step.optimizer.zero_grad(set_to_none=True)
        for child in step.children:
            step.backward(child)
        step.observe()
        parameters = [p for group in step.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], step.clip_norm, foreach=True)
        if self._idle == "decay":
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        step.optimizer.step()
        return norm


@dataclass(frozen=True)
class Recipe:
    """How a supernet is trained: its parts, each with its own state and random stream."""

    paths: PathSampler
    data: DataSampler
    loss: ChildLoss = field(default_factory=TaskLoss)
    reweighting: Reweighting = field(default_factory=PlainMean)
    gradients: GradientPolicy = field(default_factory=Accumulate)

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Name and part, in a fixed order."""
        for name in ("paths", "data", "loss", "reweighting", "gradients"):
            yield name, getattr(self, name)

    def observe(self, report: StepReport) -> None:
        for _, part in self.parts():
            part.observe(report)

    def end_epoch(self, epoch: int) -> None:
        for _, part in self.parts():
            part.end_epoch(epoch)

    def state_dict(self) -> dict[str, Tensor]:
        """The state of all parts, keys prefixed by the part's name."""
        return {f"{name}/{key}": value for name, part in self.parts() for key, value in part.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of `state_dict`."""
        for name, part in self.parts():
            prefix = f"{name}/"
            part.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
