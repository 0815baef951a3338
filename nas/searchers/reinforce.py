"""Policy gradient: one distribution over options for every decision, moved towards what pays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from nas.history import History, Record
from nas.resources import EvaluationState, Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher, Rewards, is_comparable
from nas.searchers._searcher import proposal, unseen
from searchspaces import Architecture, Config, Plugin, Rng, SearchSpace

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's
_LARGEST = 1e150  # of a gradient: its square is still a float


class ReinforceConfig(Config):
    """Settings of `reinforce`."""

    learning_rate: float = Field(0.01, gt=0, le=10, description="Step of Adam on the logits.")
    baseline: float = Field(0.9, ge=0, lt=1, description="Share of the old mean reward that a new reward leaves.")


class Reinforce(FollowingSearcher):
    """Independent categorical distributions; every measured architecture is one step of REINFORCE with Adam.

    Williams (1992), Simple Statistical Gradient-Following Algorithms, with the moving-average baseline and the settings
    that NAS-Bench-201 used (Dong and Yang 2020, arXiv 2001.00326). The reward is the objective's value itself; its
    scale does not matter to Adam. Of several objectives it is the share of the architectures that do not dominate this
    one: a policy that does not know of a random weighting would learn their mean. So it is of one objective too from
    the first architecture on that breaks a bound, which may have no value at all; mean and steps begin anew there.

    Deviations: logits start at 0 and not at noise of 0.001; a draw that was proposed before is drawn again; records
    teach in commit order, by the policy as it is then.
    """

    def __init__(self, config: ReinforceConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        ends = np.cumsum([len(decision.options) for decision in space.decisions]).tolist()
        self._slices = {d.name: slice(end - len(d.options), end) for d, end in zip(space.decisions, ends, strict=True)}
        self._places = {d.name: {option: i for i, option in enumerate(d.options)} for d in space.decisions}
        self.forget()

    def forget(self) -> None:
        """Be as before the first record."""
        size = sum(len(decision.options) for decision in self.space.decisions)
        self._logits, self._mean, self._square = np.zeros(size), np.zeros(size), np.zeros(size)
        self._steps, self._average, self._weight = 0, 0.0, 0.0
        self._is_by_rank = len(self.objectives) > 1
        self._rewards = Rewards()

    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record: one step of the policy."""
        reward = self._reward(record, loss)
        if reward is None:
            return
        keep = self.config.baseline
        self._average = keep * self._average + (1 - keep) * reward
        self._weight = keep * self._weight + (1 - keep)
        advantage = reward - self._average / self._weight
        self._step(-advantage * self._gradient(record.architecture))

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self.follow(history)
        steps = {name: _softmax(self._logits[rows]).cumsum().tolist() for name, rows in self._slices.items()}
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            found = unseen(self.space, history, taken, rng, lambda: self._draw(steps, rng))
            if found is None:
                break
            taken.add(found.digest)
            proposals.append(proposal(found, reason="drawn by the policy"))
        return proposals

    def probabilities(self) -> dict[str, dict[str, float]]:
        """Decision -> option -> how likely the policy is to take it, where the decision is active."""
        return {
            d.name: dict(zip(d.options, _softmax(self._logits[self._slices[d.name]]).tolist(), strict=True))
            for d in self.space.decisions
        }

    def _reward(self, record: Record, loss: Floats | None) -> float | None:
        if not is_comparable(record):
            return None
        self._rewards.add(record.violation, loss, len(self.objectives))
        if not self._is_by_rank and (loss is None or record.state is not EvaluationState.FINISHED):
            self._is_by_rank = True
            self._mean, self._square = np.zeros_like(self._mean), np.zeros_like(self._square)
            self._steps, self._average, self._weight = 0, 0.0, 0.0
        if self._is_by_rank or loss is None:
            return self._rewards[len(self._rewards) - 1]
        return -float(loss[0])

    def _draw(self, steps: Mapping[str, Sequence[float]], rng: Rng) -> Architecture:
        options: dict[str, str] = {}
        while decision := self.space.next_decision(options):
            place = bisect_right(steps[decision.name], rng.random())
            options[decision.name] = decision.options[min(place, len(decision.options) - 1)]
        return self.space.complete(options, rng)

    def _gradient(self, architecture: Architecture) -> Floats:
        """Of the log-probability of the architecture by the logits; 0 at decisions that it does not have."""
        found = np.zeros_like(self._logits)
        for name, option in architecture:
            rows = self._slices[name]
            found[rows] = -_softmax(self._logits[rows])
            found[rows.start + self._places[name][option]] += 1
        return found

    def _step(self, gradient: Floats) -> None:
        """One step of Adam (Kingma and Ba 2015, arXiv 1412.6980) downhill."""
        self._steps += 1
        first, second = _BETAS
        gradient = np.clip(gradient, -_LARGEST, _LARGEST)
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient**2
        mean, square = self._mean / (1 - first**self._steps), self._square / (1 - second**self._steps)
        self._logits = self._logits - self.config.learning_rate * mean / (np.sqrt(square) + _EPSILON)


def _softmax(logits: Floats) -> Floats:
    found = np.exp(logits - logits.max())
    return np.asarray(found / found.sum())


def create(config: ReinforceConfig, space: SearchSpace, objectives: Sequence[Objective]) -> Reinforce:
    """The searcher on this space."""
    return Reinforce(config, space, objectives)


PLUGIN = Plugin(
    name="reinforce",
    description="Policy gradient on a distribution over options for every decision, with a moving-average baseline",
    source="Williams (1992), Simple Statistical Gradient-Following Algorithms; settings of arXiv 2001.00326",
    create=create,
    Config=ReinforceConfig,
    flags={"multi_objective": True, "replicates": False},
)
