"""Uniform paths that are not independent: fair within a step, or one change apart from step to step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nas.streams import stream
from nas.training._recipe import Child, PathSampler, Setting
from searchspaces import Architecture


class AssignedPaths(PathSampler):
    """Children whose options come from a full assignment, one option for every decision, inactive ones too.

    The architecture reads those of its active decisions. When assignments are uniform, every architecture is as
    probable as under a uniform draw of its active decisions, also in spaces with conditional decisions.
    """

    def __init__(self, setting: Setting) -> None:
        self._space, self._seed = setting.space, setting.seed
        self._sizes = {decision.name: len(decision.options) for decision in setting.space.decisions}

    def probability(self, architecture: Architecture) -> float:
        return 1.0 / math.prod(self._sizes[decision] for decision, _ in architecture)

    def distribution(self) -> dict[str, dict[str, float]]:
        return {d.name: dict.fromkeys(d.options, 1 / len(d.options)) for d in self._space.decisions}

    def _architecture(self, assigned: Sequence[int]) -> Architecture:
        """The architecture of an assignment: for every decision of the space the number of its option."""
        number = dict(zip(self._sizes, assigned, strict=True))
        options: dict[str, str] = {}
        while (decision := self._space.next_decision(options)) is not None:
            options[decision.name] = decision.options[number[decision.name]]
        return self._space.architecture(options)


class FairPaths(AssignedPaths):
    """K children per step, K the largest number of options: every option of every such decision is in one of them.

    Chu et al. (2019), FairNAS, arXiv 1907.01845. For every decision the numbers of its options are dealt in random
    permutations, new ones all the time, one after the other; a step takes the next K of each. So a decision with K
    options deals one permutation per step, and after n steps each option was trained n times exactly. A decision with
    fewer options goes on with its permutations from step to step: its options never differ by more than one use (the
    paper has only equal decisions). A conditional decision is dealt like any other, and trained in the children in
    which it is active: those counts are fair in expectation.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.num_children = max(self._sizes.values(), default=1)

    def plan(self, step: int) -> Sequence[Child]:
        dealt = [self._dealt(decision, size, step) for decision, size in self._sizes.items()]
        return [Child(self._architecture(own), f"fair{i}") for i, own in enumerate(zip(*dealt, strict=True))]

    def _dealt(self, decision: str, size: int, step: int) -> list[int]:
        """The options of one decision, one for every child of a step."""
        first = step * self.num_children
        numbers, skipped = divmod(first, size)
        last = (first + self.num_children - 1) // size
        hands = [self._permutation(decision, size, number) for number in range(numbers, last + 1)]
        return [option for hand in hands for option in hand][skipped : skipped + self.num_children]

    def _permutation(self, decision: str, size: int, number: int) -> list[int]:
        permuted: list[int] = stream(self._seed, "paths", decision, number).permutation(size).tolist()
        return permuted


class ChainPaths(AssignedPaths):
    """One child per step, which differs from the one before in one option: a Markov chain.

    Xu et al. (2022), Analyzing and Mitigating Interference in Neural Architecture Search (MAGIC-T), ICML, arXiv
    2108.12821. The chain starts at a uniform assignment and takes, at every step, one of all single changes with equal
    probability. These moves are symmetric, so that the assignment is uniform at every step, not only in the limit. It
    never starts anew. A change of an inactive decision leaves the child as it is; a change of a decision that others
    depend on brings back the options that those had last.

    The chain is a function of the seed and the step. The state, where it stands, only spares walking it from the start;
    for a look back at the present epoch, so does where that began.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        sizes = list(self._sizes.values())
        self._changes = [(i, shift) for i, size in enumerate(sizes) for shift in range(1, size)]
        self._num_steps_per_epoch = setting.num_steps_per_epoch
        self._step, self._at = self._epoch_began = (0, self._start())
        # What a step remembers of a decision of k options shrinks by 1 - k / (number of changes): here to exp(-6). An
        # odd number, since a chain of binary decisions alternates between two halves of the space.
        fewest = min((size for size in sizes if size > 1), default=1)
        self.steps_apart = math.ceil(6 * len(self._changes) / fewest) | 1

    def plan(self, step: int) -> Sequence[Child]:
        if step < self._step:
            self._step, self._at = self._epoch_began if step >= self._epoch_began[0] else (0, self._start())
        while self._step < step:
            self._step += 1
            self._at = self._changed(self._at, self._step)
            if self._step % self._num_steps_per_epoch == 0:
                self._epoch_began = (self._step, self._at)
        return [Child(self._architecture(self._at))]

    def _start(self) -> list[int]:
        rng = stream(self._seed, "paths", 0)
        return [int(rng.integers(size)) for size in self._sizes.values()]

    def _changed(self, assigned: Sequence[int], step: int) -> list[int]:
        changed = list(assigned)
        if self._changes:
            place, shift = self._changes[int(stream(self._seed, "paths", step).integers(len(self._changes)))]
            changed[place] = (changed[place] + shift) % list(self._sizes.values())[place]
        return changed

    def state_dict(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self._step), "at": torch.tensor(self._at)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._step, self._at = int(state["step"]), state["at"].tolist()
        self._epoch_began = (0, self._start())
