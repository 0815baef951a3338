"""The contract of a recipe as plain functions; every one raises `ContractViolation` with what it found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.datasets import Dataset, Split
from nas.spec import Supernet as SupernetOptions
from nas.tasks import REGISTRY as TASKS
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, ContractViolation, Plugin, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.tasks import Task
    from nas.training import (
        Child,
        ChildLoss,
        MemoryCheckpoints,
        Probe,
        Recipe,
        Setting,
        Step,
        StepReport,
        TrainingSummary,
    )
    from searchspaces import Supernet

EPOCHS = 4
OPTIONS = SupernetOptions(batch_size=8, learning_rate=0.05)
_PATHS = 1500
_READS = {"aten._local_scalar_dense.default", "aten.equal.default", "aten.nonzero.default", "aten.item.default"}
_UNLIKELY = 16.0  # minus the logarithm of the probability that a right sampler fails a frequency check: 1e-7


def check_recipe(plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
    """Checks everything that a recipe promises, on a space of 25 architectures and 26 small images.

    Raises:
        ContractViolation: the first promise that is broken.
    """
    check_paths(plugin, settings, seed=seed)
    check_samples(plugin, settings, seed=seed)
    check_weights(plugin, settings, seed=seed)
    check_idle(plugin, settings, seed=seed)
    check_waiting(plugin, settings, seed=seed)
    check_seeds(plugin, settings, seed=seed)
    check_resuming(plugin, settings, seed=seed)
    check_editing(plugin, settings, seed=seed)


def check_paths(plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
    """Probabilities sum to 1 over the space, are what `distribution` says, and are met by what is drawn."""
    trial = Trial(plugin, settings, seed=seed)
    for trained in (False, True):
        if trained:
            trial.train()
        paths, every = trial.recipe.paths, list(trial.space.iterate())
        probability = np.array([paths.probability(architecture) for architecture in every])
        _require(bool((probability >= 0).all()), "no path has a negative probability", probability.min())
        _require(abs(probability.sum() - 1) < 1e-9, "probabilities of all paths sum to 1", probability.sum())
        for decision, shares in paths.distribution().items():
            for option, share in shares.items():
                mine = sum(p for a, p in zip(every, probability, strict=True) if a[decision] == option)
                _require(abs(mine - share) < 1e-9, f"`distribution` agrees with `probability` on {decision}", option)
        steps = [paths.steps_apart * i for i in range(_PATHS // paths.num_children)]
        children = [child.choice for step in steps for child in paths.plan(step)]
        _require(len(children) == len(steps) * paths.num_children, "every step has `num_children`", len(children))
        place = {architecture: i for i, architecture in enumerate(every)}
        drawn = [place[choice] for choice in children if isinstance(choice, Architecture)]
        _require_frequencies(np.bincount(drawn, minlength=len(every)), probability, "paths")


def check_samples(plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
    """An epoch is as long as the data set; samples are drawn as often as their probability says."""
    trial = Trial(plugin, settings, seed=seed)
    for trained in (False, True):
        if trained:
            trial.train()
        data, size = trial.recipe.data, trial.setting.num_samples
        probability = data.probability(np.arange(size))
        _require(abs(probability.sum() - 1) < 1e-9, "probabilities of all samples sum to 1", probability.sum())
        orders = [data.order(EPOCHS + epoch) for epoch in range(150)]
        _require(all(len(order) == size for order in orders), "an epoch has as many samples as the data set", size)
        counts = np.bincount(np.concatenate(orders), minlength=size)
        _require(len(counts) == size, "samples are numbered from 0", len(counts))
        _require_frequencies(counts, probability, "samples")


def check_weights(
    plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0, exact: bool = False
) -> None:
    """Weights are positive and at most 1/(Np); with just that, the weighted loss expects the plain mean.

    So it is with samples and, where N is the number of architectures, with paths, which may have no weights at all.

    Args:
        exact: the recipe is set up to re-weight samples and paths exactly, so that weights must be just that.
    """
    trial = Trial(plugin, settings, seed=seed)
    trial.train()
    every, paths = list(trial.space.iterate()), trial.recipe.paths
    drawn = np.array([paths.probability(architecture) for architecture in every])
    of_paths = np.array([paths.weight(architecture) for architecture in every])
    if exact or not (of_paths == 1).all():
        _require_weights(of_paths, drawn, exact=exact, seed=seed)
    for child in paths.plan(trial.num_steps):
        if isinstance(child.choice, Architecture):
            _require(child.weight == paths.weight(child.choice), "children carry their `weight`", child.weight)
    size = trial.setting.num_samples
    probability = trial.recipe.data.probability(np.arange(size))
    weights = trial.recipe.reweighting.weights(probability, size)
    _require(weights is not None or not exact, "exact re-weighting gives weights")
    if weights is None:
        return
    _require_weights(weights, probability, exact=exact, seed=seed)


def _require_weights(
    weights: npt.NDArray[np.float64], probability: npt.NDArray[np.float64], *, exact: bool, seed: int
) -> None:
    largest = 1 / (len(weights) * probability)
    _require(bool((weights > 0).all() and (weights <= largest * (1 + 1e-9)).all()), "0 < weight <= 1/(Np)", weights)
    losses = np.random.default_rng(seed).exponential(size=len(weights))
    expected = float((probability * weights * losses).sum())
    if exact or np.allclose(weights, largest):
        _require(abs(expected - losses.mean()) < 1e-9, "the re-weighted loss expects the plain mean", expected)


def check_idle(plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
    """Options of no child get no gradient; unless the settings say `idle: decay`, they do not move either."""
    trial = Trial(plugin, settings, seed=seed)
    stands = getattr(plugin.configure(settings), "idle", "freeze") == "freeze"
    before: dict[tuple[str, str], list[Tensor]] = {}

    def weights() -> dict[tuple[str, str], list[Tensor]]:
        return {pair: [p.detach().clone() for p in trial.supernet.parameters_of(*pair)] for pair in trial.pairs}

    def look(report: StepReport) -> None:
        _require(len(report.logits) == trial.recipe.passes_per_step, "a step costs its passes", len(report.logits))
        for pair in trial.untouched(report):
            gradients = [p.grad for p in trial.supernet.parameters_of(*pair)]
            _require(
                all(g is None for g in gradients), f"an option of no child gets no gradient in {report.step}", pair
            )

    def compare() -> None:
        now = weights()
        for pair in trial.untouched(trial.reports[-1]) if stands and before else ():
            # an edit of the structure may copy what stands still
            same = all(any(bool((a == b).all()) for b in before[pair] if a.shape == b.shape) for a in now[pair])
            _require(same, "an option of no child does not move", pair, trial.reports[-1].step)
        before.update(now)

    before.update(weights())
    trial.train(look=look, after_step=compare)
    _require(len(trial.reports) == trial.num_steps, "every step is observed once", len(trial.reports))


def check_waiting(plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
    """Inside a step nothing reads a number off a tensor: on an accelerator that would wait for it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from nas.training import GradientPolicy

    trial = Trial(plugin, settings, seed=seed)
    policy, reads = trial.recipe.gradients, []

    class Listening(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
        ) -> object:
            if str(func) in _READS:
                reads.append(str(func))
            return func(*args, **(kwargs or {}))

    class Watched(GradientPolicy):
        passes_per_child = policy.passes_per_child

        def run(self, step: Step) -> Tensor:
            with Listening():  # type: ignore[no-untyped-call]
                return policy.run(step)

    trial.recipe = dataclasses.replace(trial.recipe, gradients=Watched())
    trial.train(stop_at=3)
    _require(not reads, "a step reads no number off the device", *sorted(set(reads)))


def check_seeds(plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
    """Equal seeds give equal weights, another seed other paths or samples."""
    first, second, other = (Trial(plugin, settings, seed=s) for s in (seed, seed, seed + 1))
    for trial in (first, second, other):
        trial.train()
    _require_equal(first, second, "equal seeds give equal trainings")
    _require(first.history() != other.history(), "another seed draws otherwise", seed + 1)


def check_resuming(plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
    """A training that was stopped inside an epoch, and went on in fresh objects, ends bit for bit like another."""
    from nas.training import MemoryCheckpoints

    whole = Trial(plugin, settings, seed=seed)
    whole.train()
    checkpoints = MemoryCheckpoints()
    for stop_at in (1, 2 * whole.setting.num_steps_per_epoch + 1, None):
        part = Trial(plugin, settings, seed=seed)
        summary = part.train(checkpoints=checkpoints, stop_at=stop_at)
        _require(summary.finished == (stop_at is None), "a training that was asked to stop is not finished", stop_at)
        _require(summary.steps == (stop_at or whole.num_steps), "it stops at once", summary.steps)
        _require(not summary.notes, "resuming where nothing changed has nothing to say", summary.notes)
    _require_equal(whole, part, "resuming is bit-exact")
    _require(summary.losses == whole.summary.losses, "losses of a resumed training are the same", summary.losses)


def check_editing(plugin: Plugin[Recipe], settings: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
    """An edit of the structure is told, and changes no architecture's output, no gradient and no generator."""
    import torch

    trial = Trial(plugin, settings, seed=seed)
    structure = trial.recipe.structure
    if structure is None:
        return
    x, edit = torch.ones(3, *trial.space.input_shape), structure.edit
    x[1:] = torch.linspace(-1, 1, x[1:].numel()).view_as(x[1:])

    def observed() -> tuple[list[Tensor], list[object], Tensor]:
        with torch.no_grad():
            outputs = [trial.supernet(x, architecture) for architecture in trial.space.iterate()]
        return outputs, [p.grad for p in trial.supernet.parameters()], torch.default_generator.get_state()

    def watched(supernet: Supernet, probe: Probe, epoch: int) -> Mapping[nn.Parameter, nn.Parameter]:
        outputs, gradients, generator = observed()
        origins = edit(supernet, probe, epoch)
        after = observed()
        same = all(bool((a == b).all()) for a, b in zip(outputs, after[0], strict=True))
        _require(same, "an edit changes no output", epoch)
        _require(set(gradients) == set(after[1]) == {None}, "an edit leaves no gradient", epoch)
        _require(bool((generator == after[2]).all()), "an edit leaves torch's generator", epoch)
        return origins

    structure.edit = watched  # type: ignore[method-assign]
    due = sum(structure.due(epoch) for epoch in range(EPOCHS))
    summary = trial.train()
    _require(len(summary.edits) >= due, "every edit is told", summary.edits)


class Trial:
    """One small training of a recipe."""

    summary: TrainingSummary

    def __init__(self, plugin: Plugin[Recipe], settings: Mapping[str, object] | None, *, seed: int) -> None:
        from nas.training import Setting

        self.space, self.dataset, self.seed = small_space(), small_dataset(), seed
        self.setting: Setting = Setting.of(self.space, self.dataset, OPTIONS, num_epochs=EPOCHS, seed=seed)
        self.recipe: Recipe = plugin(settings, self.setting)
        self.supernet: Supernet = self.recipe.prepare(self.space.supernet(seed=seed))
        self.num_steps = EPOCHS * self.setting.num_steps_per_epoch
        self.pairs = [(d.name, option) for d in self.space.decisions for option in d.options]
        self.reports: list[StepReport] = []

    def train(
        self,
        *,
        checkpoints: MemoryCheckpoints | None = None,
        stop_at: int | None = None,
        look: Callable[[StepReport], None] = lambda report: None,
        after_step: Callable[[], None] = lambda: None,
    ) -> TrainingSummary:
        """Train to the end, or until `stop_at` steps are done; `look` sees the gradients of every step."""
        from nas.training import train_supernet

        done = -1 if checkpoints is None else _steps_done(checkpoints) - 1

        def should_stop() -> bool:
            nonlocal done
            done += 1
            return done == stop_at

        self.summary = train_supernet(
            self.supernet,
            dataclasses.replace(self.recipe, loss=_watched(self.recipe.loss, self._watch(look))),
            self.dataset,
            TASKS["classification"](None, self.dataset),
            OPTIONS,
            num_epochs=EPOCHS,
            seed=self.seed,
            device="cpu",
            precision="fp32",
            checkpoints=checkpoints,
            should_stop=should_stop,
            on_step=lambda step, epoch, epochs: after_step(),
        )
        return self.summary

    def _watch(self, look: Callable[[StepReport], None]) -> Callable[[StepReport], None]:
        def watch(report: StepReport) -> None:
            self.reports.append(report)
            look(report)

        return watch

    def untouched(self, report: StepReport) -> list[tuple[str, str]]:
        """The options that no child of the step chose."""
        chosen = {pair for child in report.children if isinstance(child.choice, Architecture) for pair in child.choice}
        return [pair for pair in self.pairs if pair not in chosen]

    def history(self) -> list[tuple[object, ...]]:
        """Paths and samples of every step."""
        return [(*(child.choice for child in r.children), *r.indices.tolist()) for r in self.reports]


def small_space() -> SearchSpace:
    """25 architectures: two edges of a cell are open, the others fixed."""
    space = SPACES["nasbench201"]({"channels": 2, "cells_per_stage": 1, "input_shape": (1, 6, 6), "num_classes": 4})
    for decision in list(space.decisions)[:4]:
        options = [[option] for option in decision.options]
        space = space.partition(decision.name, options)[sum(decision.parametric)]
    return space


def small_dataset(*, seed: int = 0, num_train: int = 26) -> Dataset:
    """Four classes of 6 x 6 images, told apart by the quadrant that is bright; made, not loaded."""
    rng = np.random.default_rng(seed)

    def split(size: int, first_id: int) -> Split:
        labels = np.arange(size) % 4
        images = rng.integers(0, 120, (size, 1, 6, 6), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = 3 * (label // 2), 3 * (label % 2)
            image[0, row : row + 3, column : column + 3] += 100
        return Split(images, labels, np.arange(first_id, first_id + size))

    return Dataset(
        name="quadrants",
        train=split(num_train, 0),
        valid=split(16, 1000),
        class_names=("a", "b", "c", "d"),
        digest=f"quadrants-{seed}-{num_train}",
        mean=(0.33,),
        std=(0.2,),
        flips=False,
        max_shift=1,
        load_test=lambda: split(16, 2000),
    )


def _watched(loss: ChildLoss, watch: Callable[[StepReport], None]) -> ChildLoss:
    """The same loss, which also shows every step to `watch`."""
    from nas.training import ChildLoss

    class Watched(ChildLoss):
        def losses(
            self, child: Child, logits: Tensor, targets: Tensor, *, task: Task, outputs: Mapping[str, Tensor]
        ) -> Tensor:
            return loss.losses(child, logits, targets, task=task, outputs=outputs)

        def observe(self, report: StepReport) -> None:
            watch(report)
            loss.observe(report)

        def end_epoch(self, epoch: int) -> None:
            loss.end_epoch(epoch)

        def state_dict(self) -> dict[str, Tensor]:
            return loss.state_dict()

        def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
            loss.load_state_dict(state)

    return Watched()


def _require_equal(first: Trial, second: Trial, promise: str) -> None:
    one, two = first.supernet.state_dict(), second.supernet.state_dict()
    different = [name for name in one if not bool((one[name] == two[name]).all())]
    _require(not different, promise, *different)
    learned, again = first.recipe.state_dict(), second.recipe.state_dict()
    different = [name for name in learned if not bool((learned[name] == again[name]).all())]
    _require(not different and learned.keys() == again.keys(), f"{promise}, and equal recipes", *different)


def _require_frequencies(counts: npt.NDArray[np.int64], probability: npt.NDArray[np.float64], what: str) -> None:
    """Pearson's statistic against the bound of Laurent and Massart (2000, lemma 1), which needs no table."""
    total = counts.sum()
    common = probability * total >= 5
    seen = np.append(counts[common], counts[~common].sum())
    expected = np.append(probability[common], probability[~common].sum()) * total
    kept = expected > 0
    _require(bool((seen[~kept] == 0).all()), f"{what} of probability 0 are never drawn", seen[~kept])
    statistic = float(((seen[kept] - expected[kept]) ** 2 / np.maximum(expected[kept], 1)).sum())
    freedom = int(kept.sum())
    bound = freedom + 2 * np.sqrt(freedom * _UNLIKELY) + 2 * _UNLIKELY
    _require(statistic <= bound, f"{what} are drawn as often as their probability says (chi-square)", statistic, bound)


def _steps_done(checkpoints: MemoryCheckpoints) -> int:
    held = checkpoints.load("supernet")
    return 0 if held is None else int(held.meta["step"])


def _require(holds: bool, promise: str, *examples: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {', '.join(map(str, examples))}.")
