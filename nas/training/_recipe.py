"""What a recipe is made of. The loop in `_supernet` runs every recipe; a paper supplies the parts that it changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from nas.datasets import Dataset
from nas.spec import Supernet as SupernetOptions
from nas.tasks import Task
from nas.training._data import num_parts
from nas.training._gradients import GradientNorms, LazyPathParameters, clear_gradients, step_only
from searchspaces import Architecture, Choice, SearchSpace, Supernet

if TYPE_CHECKING:
    from nas.training._splitting import StructureEditor

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

    Attributes:
        role: names it within the step; a later child's loss may read the logits of an earlier one by it.
        weight: what its loss is multiplied by.
    """

    choice: Choice
    role: str = "single"
    weight: float = 1.0


@dataclass(frozen=True)
class StepReport:
    """What happened in a step, as every part may read it. Nothing in it has been copied to the host.

    Attributes:
        indices: sample indices, `batch` int64, on the host.
        targets: `batch`, on the device.
        logits: for every child that was run, `batch x classes`, detached.
        supernet: its parameters' `.grad` hold the step's gradient, not yet clipped.
        gradients: how long they are, and what clipping will make of them.
        output_norms: decision -> norms of the gradient at the output of its option, 0-dim, one for every place (a
            cell) and child; only filled when the path sampler `reads_outputs`.
    """

    step: int
    children: Sequence[Child]
    indices: Tensor
    targets: Tensor
    logits: Sequence[Tensor]
    task: Task
    supernet: Supernet
    gradients: GradientNorms
    output_norms: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)

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
    """Which children share a step.

    Attributes:
        num_children: how many every step has.
        reads_outputs: it wants `StepReport.output_norms`; the supernet then runs `Supernet.taps`, which is slower.
        steps_apart: how many steps lie between two children that are as good as independent of each other.
    """

    num_children: int = 1
    reads_outputs: bool = False
    steps_apart: int = 1

    @abstractmethod
    def plan(self, step: int) -> Sequence[Child]:
        """The children of a step, in the order in which they run; a function of the state and `step` alone."""

    @abstractmethod
    def probability(self, architecture: Architecture) -> float:
        """How probable this architecture is as a child, at present."""

    def weight(self, architecture: Architecture) -> float:
        """What the loss of this architecture is multiplied by when it is a child; 1 unless paths are re-weighted."""
        return 1.0

    @abstractmethod
    def distribution(self) -> dict[str, dict[str, float]]:
        """Decision -> option -> its present probability (given that the decision is active)."""


class DataSampler(Part, Sampler[int], ABC):
    """Which samples an epoch sees, in which order.

    Also a torch Sampler over the current epoch, for a plain `DataLoader` over the train split; `end_epoch` moves on to
    the next. The loop itself takes the whole `order` to the device at once.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting, self._epoch = setting, 0

    @abstractmethod
    def order(self, epoch: int) -> Integers:
        """Sample indices of an epoch, `number of samples`; a function of the state and `epoch` alone."""

    @abstractmethod
    def probability(self, indices: Integers) -> Floats:
        """How probable each of these samples is in one draw, at present: `len(indices)`."""

    def __iter__(self) -> Iterator[int]:
        """The sample indices of the current epoch."""
        return iter(self.order(self._epoch).tolist())

    def __len__(self) -> int:
        return self._setting.num_samples

    def end_epoch(self, epoch: int) -> None:
        self._epoch = epoch + 1

    def state_dict(self) -> dict[str, Tensor]:
        return {"epoch": torch.tensor(self._epoch)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._epoch = int(state["epoch"])


class Reweighting(Part, ABC):
    """Which weight a drawn sample's loss gets. (A drawn path's weight is its `PathSampler.weight`.)"""

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
    steps or put weights aside between children.

    Attributes:
        passes_per_child: how often a child is run forward and backward in a step.
    """

    passes_per_child: int = 1

    @abstractmethod
    def run(self, step: Step) -> Tensor:
        """Do the step; returns the norm of the gradient before clipping, a 0-dim tensor that is still on the device.

        Must call `step.backward(child)` for the children, and once `step.observe(norms)` while the gradient is
        unclipped; parameters of no child have none then. Leaves no gradient behind.
        """


class Step(ABC):
    """One step of the loop, as a gradient policy sees it.

    Attributes:
        children: what the path sampler planned.
        supernet: whose parameters are trained.
        optimizer: over all parameters; its rate is set already.
        learning_rate: the job's, before any schedule.
        rate_factor: what the schedule, and restarts after a divergence, multiply rates by in this step.
        restart_factor: the share of the restarts in it; for rates that follow no schedule.
        clip_norm: largest norm of the update's gradient.
    """

    children: Sequence[Child]
    supernet: Supernet
    optimizer: torch.optim.Optimizer
    learning_rate: float
    rate_factor: float
    restart_factor: float = 1.0
    clip_norm: float

    @abstractmethod
    def backward(self, child: Child) -> None:
        """Run one child on the step's batch; its gradients are added to `.grad`."""

    @abstractmethod
    def observe(self, norms: GradientNorms) -> None:
        """Let every part of the recipe learn from the step, whose gradients have these `norms`."""


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

    The sum is not divided: K children at rate r move the weights as their mean would at rate K r, but for the clip.
    Nothing is listed, cleared, clipped or stepped but the parameters of the step's children.

    Args:
        idle: what happens to the parameters of no child. `freeze`: nothing, their momentum waits too. `decay`: they
            move by momentum and weight decay, as with frameworks that leave zeros in idle gradients (torch before 2.0,
            and so the published figures of several single-path methods).
    """

    def __init__(self, idle: Literal["freeze", "decay"] = "freeze") -> None:
        self._idle = idle
        self._parameters = LazyPathParameters()

    def run(self, step: Step) -> Tensor:
        parameters = self._parameters(step.supernet)
        mine = parameters.of(child.choice for child in step.children)
        clear_gradients(mine)
        for child in step.children:
            step.backward(child)
        norms = GradientNorms.of(mine, step.clip_norm)
        step.observe(norms)
        norms.clip()
        moved: Sequence[nn.Parameter] = norms.parameters
        if self._idle == "decay":
            for parameter in parameters.all:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            moved = parameters.all
        step_only(step.optimizer, moved)
        clear_gradients(moved)
        return norms.total


@dataclass(frozen=True)
class Recipe:
    """How a supernet is trained: its parts, each with its own state and random stream."""

    paths: PathSampler
    data: DataSampler
    loss: ChildLoss = field(default_factory=TaskLoss)
    reweighting: Reweighting = field(default_factory=PlainMean)
    gradients: GradientPolicy = field(default_factory=Accumulate)
    structure: StructureEditor | None = None

    def prepare(self, supernet: Supernet) -> Supernet:
        """The supernet that this recipe trains, with the same weights; `train_supernet` takes this one."""
        return supernet if self.structure is None else self.structure.prepare(supernet)

    @property
    def passes_per_step(self) -> int:
        """Forward and backward passes of one step; comparisons at equal compute and estimates of time need it."""
        return self.paths.num_children * self.gradients.passes_per_child

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Name and part, in a fixed order."""
        for name in ("paths", "data", "loss", "reweighting", "gradients"):
            yield name, getattr(self, name)
        if self.structure is not None:
            yield "structure", self.structure

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
