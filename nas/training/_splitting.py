"""A supernet that is divided while it is trained: into a part per option, or where gradients disagree."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.streams import stream, torch_stream
from nas.tasks import Task
from nas.training._calibration import batch_statistics
from nas.training._data import Batch, DeviceData
from nas.training._device import accelerated
from nas.training._recipe import Floats, Part, Setting
from searchspaces import Architecture, Decision, InvalidState, Rng, RoutedSupernet, SearchSpace, Split, Supernet

Groups = tuple[tuple[str, ...], ...]
_TRIES = 100  # draws of a setting; a part may have none that is connected under every option


@dataclass(frozen=True)
class Probe:
    """What an editor may measure a supernet with. Weights, gradients, statistics and generators stay as they are.

    Attributes:
        batch_size: samples of one batch.
        num_steps: of the whole training.
    """

    data: DeviceData
    task: Task
    dtype: torch.dtype
    batch_size: int
    num_steps: int
    augment: bool
    seed: int

    def batch(self, *names: str | int) -> Batch:
        """Training samples, drawn without replacement from the stream of these names, augmented as in training."""
        drawn = stream(self.seed, "structure", *names).choice(
            len(self.data), min(self.batch_size, len(self.data)), replace=False
        )
        device = self.data.device
        augmenting = torch_stream(self.seed, "structure", "augment", *names, device=device) if self.augment else None
        return self.data.batch(torch.from_numpy(drawn), augmenting)

    def gradient(
        self, supernet: Supernet, architecture: Architecture, batch: Batch, parameters: Sequence[nn.Parameter]
    ) -> Tensor:
        """Of the mean loss by these parameters, flat, on the device; zero for those that the path does not use."""
        with batch_statistics(supernet):
            with accelerated(self.data.device, self.dtype):
                logits = supernet(batch.images, architecture)
            loss = self.task.losses(logits, batch.targets).mean()
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
        kept = zip(parameters, found, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in kept])


class StructureEditor(Part, ABC):
    """What changes the supernet itself between epochs. Its state is what it has done so far."""

    @abstractmethod
    def prepare(self, supernet: Supernet) -> Supernet:
        """The supernet as it can be edited, with the same weights."""

    @abstractmethod
    def check(self, supernet: Supernet) -> None:
        """Raises InvalidState when this is no supernet that `prepare` gave, or has another structure than the state."""

    @abstractmethod
    def due(self, epoch: int) -> bool:
        """Whether the supernet is edited at the end of `epoch` (from 0)."""

    @abstractmethod
    def edit(self, supernet: Supernet, probe: Probe, epoch: int) -> Mapping[nn.Parameter, nn.Parameter]:
        """Change the structure in place; no architecture's output changes by it.

        Returns:
            New parameter -> the one whose value and momentum it inherits. Those in neither place stay as they are.
        """

    @abstractmethod
    def rebuild(self, supernet: Supernet) -> None:
        """Give the supernet the structure of the state, in place; its weights are loaded next."""

    @abstractmethod
    def cycle(self, epoch: int) -> tuple[int, int]:
        """The epochs from, and up to, which the learning rate falls while `epoch` runs."""

    @property
    @abstractmethod
    def edits(self) -> tuple[str, ...]:
        """What was done so far, in words."""


class Place(NamedTuple):
    """Which of all splits one is: of which part of how many, in which of how many edits, after which epoch (from 0)."""

    epoch: int
    edit: int
    num_edits: int
    part: int
    num_parts: int


class Chosen(NamedTuple):
    """How a part is divided: the decision, its options in groups, and why, in words."""

    decision: str
    groups: Groups
    reason: str


class SplitRule(ABC):
    """Which decision of a part is split, and how."""

    @abstractmethod
    def choose(self, part: Supernet, open_decisions: Sequence[Decision], probe: Probe, place: Place) -> Chosen | None:
        """The split of one part; None leaves it whole.

        Args:
            open_decisions: those that every architecture of the part has, that have several options and are not split.
        """


class Splitting(StructureEditor):
    """At the end of some epochs every part is divided by one decision, the new parts going on with its weights.

    Paths are drawn over the whole space all the time; the router says which part a path trains. So all parts together
    take the steps that one supernet would: after a division into K equal parts each gets one step in K. The papers give
    every part a full training, K times the compute.

    Args:
        at: shares of the training after which parts are divided, rounded to whole epochs; never after the last one.
        restart: the learning rate falls to zero up to the last split, and again from there on, in place of once.
    """

    def __init__(self, setting: Setting, rule: SplitRule, *, at: Sequence[float], restart: bool) -> None:
        self._setting, self._rule, self._restart = setting, rule, restart
        wanted = {round(share * setting.num_epochs) for share in at}
        self._epochs = sorted({max(1, done) for done in wanted if done < setting.num_epochs and setting.num_epochs > 1})
        self._splits: tuple[Split, ...] = ()
        self._edits: tuple[str, ...] = ()

    def prepare(self, supernet: Supernet) -> Supernet:
        return RoutedSupernet.of(supernet)

    def check(self, supernet: Supernet) -> None:
        if self._routed(supernet).splits != self._splits:
            raise InvalidState("this supernet was divided by another training; take a fresh one.")

    def due(self, epoch: int) -> bool:
        return epoch + 1 in self._epochs

    def cycle(self, epoch: int) -> tuple[int, int]:
        last = self._epochs[-1] if self._restart and self._epochs else 0
        return (0, last) if epoch < last else (last, self._setting.num_epochs)

    @property
    def edits(self) -> tuple[str, ...]:
        return self._edits

    def edit(self, supernet: Supernet, probe: Probe, epoch: int) -> Mapping[nn.Parameter, nn.Parameter]:
        routed = self._routed(supernet)
        origins: dict[nn.Parameter, nn.Parameter] = {}
        num_parts, edit = len(routed.parts), self._epochs.index(epoch + 1)
        told = []
        for number in reversed(range(num_parts)):  # so that the numbers of the parts before stay
            part = routed.parts[number]
            place = Place(epoch, edit, len(self._epochs), number, num_parts)
            chosen = self._rule.choose(part, _open(part.space, routed.space), probe, place)
            if chosen is not None:
                origins |= routed.split(Split(number, chosen.decision, chosen.groups))
                told.append(f"after epoch {epoch + 1}: {_name(part.space, routed.space)} {_words(chosen)}")
        self._splits = routed.splits
        self._edits += tuple(reversed(told)) or (f"after epoch {epoch + 1}: no decision is left to split",)
        return origins

    def rebuild(self, supernet: Supernet) -> None:
        routed = self._routed(supernet)
        if routed.splits != self._splits:
            routed.arrange(self._splits)

    def state_dict(self) -> dict[str, Tensor]:
        text = json.dumps({"splits": self._splits, "edits": self._edits})
        return {"done": torch.tensor(list(text.encode()), dtype=torch.uint8)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        held = json.loads(bytes(state["done"].tolist()))
        self._splits = tuple(Split.of(*split) for split in held["splits"])
        self._edits = tuple(held["edits"])

    def _routed(self, supernet: Supernet) -> RoutedSupernet:
        if not isinstance(supernet, RoutedSupernet):
            raise InvalidState("a recipe that splits the supernet trains what its `prepare(supernet)` gives.")
        return supernet


def _open(part: SearchSpace, whole: SearchSpace) -> list[Decision]:
    full = {decision.name: decision.options for decision in whole.decisions}
    return [
        decision
        for decision in part.decisions
        if len(decision.options) > 1 and decision.options == full[decision.name] and part.is_always_active(decision)
    ]


def _name(part: SearchSpace, whole: SearchSpace) -> str:
    full = {decision.name: decision.options for decision in whole.decisions}
    limits = [f"{d.name}: {', '.join(d.options)}" for d in part.decisions if d.options != full[d.name]]
    return f"the part ({'; '.join(limits)})" if limits else "the supernet"


def _words(chosen: Chosen) -> str:
    groups = " | ".join(", ".join(group) for group in chosen.groups)
    return f"split by {chosen.decision} into {groups} ({chosen.reason})"


class Exhaustive(SplitRule):
    """One part for every option of one decision.

    Zhao et al. (2021), Few-shot Neural Architecture Search, ICML, arXiv 2006.06863.

    Args:
        decisions: one for every time that the parts are divided. Where there is none, or it cannot be split in a part,
            the one with most options is taken, the first of them.
    """

    def __init__(self, decisions: Sequence[str]) -> None:
        self._decisions = tuple(decisions)

    def choose(self, part: Supernet, open_decisions: Sequence[Decision], probe: Probe, place: Place) -> Chosen | None:
        if not open_decisions:
            return None
        name = self._decisions[place.edit] if place.edit < len(self._decisions) else None
        named = next((decision for decision in open_decisions if decision.name == name), None)
        decision = named or max(open_decisions, key=lambda decision: len(decision.options))
        reason = "named" if named else "of those with most options the first"
        return Chosen(decision.name, tuple((option,) for option in decision.options), reason)


class GradientMatching(SplitRule):
    """Two groups of options of the decision whose options' gradients agree least.

    Hu et al. (2022), Generalizing Few-Shot NAS with Gradient Matching, ICLR, arXiv 2203.15207. Per decision, and as
    often as `repeats`: one batch, one random setting of the other decisions; for every option the gradient of all
    parameters of the part that are not the decision's own. The distance of two options is the mean of 1 - cos. Options
    are split into two groups, sizes as equal as can be (2 and 3 of 5), by the cut of largest weight, found by trying
    all; the decision with the largest cut is taken. (Sums are compared, as in the paper, so that among decisions with
    different numbers of options those with more are favoured.)

    Args:
        repeats: how often gradients are compared, per decision.
        share: largest share of the training's steps that the gradients may cost, over all splits; fewer repeats are
            done where they would cost more, but at least one.
    """

    def __init__(self, *, repeats: int, share: float) -> None:
        self._repeats, self._share = repeats, share

    def choose(self, part: Supernet, open_decisions: Sequence[Decision], probe: Probe, place: Place) -> Chosen | None:
        if not open_decisions:
            return None
        each = sum(len(decision.options) for decision in open_decisions)
        affordable = int(self._share * probe.num_steps / (place.num_edits * place.num_parts * each))
        repeats = max(1, min(self._repeats, affordable))
        cuts = []
        for decision in open_decisions:
            distances = 1 - agreement(part, decision, probe, repeats=repeats, names=(place.epoch, place.part))
            cuts.append((decision, *largest_cut(distances)))
        decision, groups, weight = max(cuts, key=lambda cut: cut[2])
        named = tuple(tuple(decision.options[i] for i in group) for group in groups)
        runner_up = max((cut[2] for cut in cuts if cut[0] is not decision), default=0.0)
        reason = f"cut {weight:.3f}, next decision {runner_up:.3f}, {repeats * each} gradients"
        return Chosen(decision.name, named, reason)


def agreement(
    part: Supernet, decision: Decision, probe: Probe, *, repeats: int, names: Sequence[str | int] = ()
) -> Floats:
    """Mean cosine of the gradients of any two options of a decision: `options x options`, fp64 on the host.

    The gradients are those of all parameters that no option of the decision owns, on the same batch and the same
    setting of the other decisions, over `repeats` of both. What the network does not use has gradient 0. Settings in
    which an option cuts the output from the input are drawn anew, while there are others.
    """
    own = {id(p) for option in decision.options for p in part.parameters_of(decision.name, option)}
    shared = [parameter for parameter in part.parameters() if id(parameter) not in own]
    K, space = len(decision.options), part.space
    total = torch.zeros(K, K, dtype=torch.float64, device=probe.data.device)
    for repeat in range(repeats):
        at = (*names, decision.name, repeat)
        rng, batch = stream(probe.seed, "structure", "paths", *at), probe.batch(*at)
        rows = [probe.gradient(part, one, batch, shared) for one in _alternatives(space, decision, rng)]
        directions = F.normalize(torch.stack(rows), dim=1)  # options x shared parameters
        total += directions @ directions.T
    cosines: Floats = (total / repeats).cpu().numpy()
    return cosines


def _alternatives(space: SearchSpace, decision: Decision, rng: Rng) -> list[Architecture]:
    """An architecture for every option of the decision, all with the same random setting of the others."""
    made: list[Architecture] = []
    for _ in range(_TRIES):
        setting = {d.name: d.options[int(rng.integers(len(d.options)))] for d in space.decisions}
        made = [_architecture(space, {**setting, decision.name: option}) for option in decision.options]
        if all(map(space.is_connected, made)):
            break
    return made


def _architecture(space: SearchSpace, setting: Mapping[str, str]) -> Architecture:
    """The architecture of a setting of all decisions, of which it reads the active ones."""
    options: dict[str, str] = {}
    while (decision := space.next_decision(options)) is not None:
        options[decision.name] = setting[decision.name]
    return space.architecture(options)


def largest_cut(distances: Floats) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """Two groups, sizes as equal as can be, with the largest sum of distances between them, and that sum.

    distances: `options x options`, symmetric. All groupings are tried: 10 for 5 options; the first best is taken.
    """
    size = len(distances)
    everything = range(size)
    best: tuple[tuple[tuple[int, ...], tuple[int, ...]], float] | None = None
    for small in itertools.combinations(everything, size // 2):
        rest = tuple(option for option in everything if option not in small)
        weight = float(distances[np.ix_(small, rest)].sum())
        if best is None or weight > best[1]:
            best = (small, rest), weight
    assert best is not None
    return best
