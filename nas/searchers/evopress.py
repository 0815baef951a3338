"""Evolution at a fixed budget: children trade what two decisions spend, and are chosen from cheap to dear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from nas.history import History, Record
from nas.resources import EvaluationState, Fidelity, Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher, is_comparable
from nas.searchers._searcher import proposal, unseen
from nas.searchers._warm_up import WARM_UP
from nas.spec import Level
from searchspaces import Architecture, Config, Decision, Plugin, Rng, SearchSpace

_TRIES = 16
"""Pairs of decisions looked at for one swap, and children for a new one."""


class EvoPressConfig(Config):
    """Settings of `evopress`."""

    offspring: int = Field(16, ge=1, le=10_000, json_schema_extra=WARM_UP, description="Children of a generation.")
    swaps: int = Field(3, ge=1, le=100, description="Most swaps in a child; it gets the smaller of two draws up to it.")
    resource: Literal["flops", "params"] = Field(
        "flops", description="What a swap keeps, where the space can count it."
    )
    tolerance: float = Field(0.02, ge=0, le=1, description="Relative change of the resource that a swap may make.")
    rungs: tuple[float, ...] = Field(
        (), max_length=10, description="Epochs of every round of selection, fewest first; empty: one round, in full."
    )
    survivors: tuple[int, ...] = Field(
        (), max_length=9, description="How many children go on to the second round, to the third, and so on."
    )

    @model_validator(mode="after")
    def _narrows(self) -> EvoPressConfig:
        numbers = (self.offspring, *self.survivors)
        if len(self.survivors) != max(0, len(self.rungs) - 1):
            raise ValueError("one number of survivors fewer than rungs")
        if any(low >= high for low, high in pairwise((0.0, *self.rungs))):
            raise ValueError("rungs above 0, each larger than the one before")
        if any(many <= few for many, few in pairwise((*numbers, 0))):
            raise ValueError("fewer survivors, but at least one, from round to round")
        return self


class EvoPress(FollowingSearcher):
    """(1 + lambda) evolution: children of one parent pass rounds of selection; the last one's best replaces the parent
    unless it is worse.

    Sieberling, Kuznedelev, Kurtic and Alistarh (2024), EvoPress, arXiv 2410.14649. A child is the parent after a few
    swaps, as many as the smaller of two uniform draws up to three; a swap exchanges the options of two decisions with
    the same options, or takes one ordinal decision a level down and another one up, and keeps the resource within a
    tolerance. So the search stays at the budget of its first parent, the best of a random generation, and never assumes
    that what decisions do adds up; a job's own bounds hold beside it. With `rungs`, the rounds spend growing epochs,
    fewer children go on from each, and the parent enters the last alone.

    Deviations: where all swaps that are found were proposed before, one decision is edited as well, and the budget
    moves with it if it wins. Children proposed before a generation has settled count for the next one. One objective,
    as the budget is what the others would be. What breaks a bound comes after what does not, by how much it does.
    """

    def __init__(self, config: EvoPressConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        self._rounds = max(1, len(config.rungs))
        self._decisions = {decision.name: decision for decision in space.decisions}
        self.forget()

    def forget(self) -> None:
        """Be as before the first record."""
        self._parent: Record | None = None
        self._generation, self._round = 0, 0
        self._chosen: list[Architecture] = []
        self._measured: dict[tuple[int, int], list[Record]] = {(0, 0): []}

    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record; the last of a round chooses who goes on."""
        if _round(record)[0] >= self._generation:  # what comes too late teaches nothing
            self._measured.setdefault(_round(record), []).append(record)
        while len(here := self._measured.get((self._generation, self._round), [])) >= self._number_due():
            best = sorted(filter(is_comparable, here), key=self._merit)
            if self._round < self._rounds - 1 and best:
                self._chosen = [r.architecture for r in best[: self.config.survivors[self._round]]]
                self._round += 1
                continue
            if best and (self._parent is None or self._merit(best[0]) <= self._merit(self._parent)):
                self._parent = best[0]
            self._generation, self._round = self._generation + 1, 0
            self._measured = {place: found for place, found in self._measured.items() if place[0] >= self._generation}

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` children, or survivors at more epochs; see `Searcher.ask`."""
        self.follow(history)
        numbers = Counter({place: len(records) for place, records in self._measured.items()})
        numbers.update(_round(record) for record in history.pending.values())
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            generation, now = self._generation, self._round
            if now and numbers[generation, now] < len(self._chosen):
                found: Architecture | None = self._chosen[numbers[generation, now]]
                reason = f"survivor of round {now}"
            else:
                generation, now = generation + (now > 0), 0
                while numbers[generation, 0] >= self.config.offspring:
                    generation += 1
                found, reason = self._child(history, taken, rng)
            if found is None:
                break
            numbers[generation, now] += 1
            taken.add(found.digest)
            memo = {"evopress": {"generation": generation, "round": now}}
            made = proposal(found, reason=reason, memo=memo)
            proposals.append(made.model_copy(update={"group": f"generation {generation}", **self._fidelity(now)}))
        return proposals

    # --- rounds ------------------------------------------------------------------------------------------------------

    def _number_due(self) -> int:
        return len(self._chosen) if self._round else self.config.offspring

    def _merit(self, record: Record) -> tuple[bool, float]:
        if record.state is not EvaluationState.FINISHED or record.values is None:
            return True, record.violation
        value = record.values[0]
        return False, value if self.objectives[0].direction == "min" else -value

    def _fidelity(self, now: int) -> dict[str, Fidelity]:
        if not self.config.rungs:
            return {}
        level: Level = self.objectives[0].level if now == self._rounds - 1 else "partial"
        return {"fidelity": Fidelity(level=level, resources={"epochs": self.config.rungs[now]})}

    # --- children ----------------------------------------------------------------------------------------------------

    def _child(self, history: History, taken: set[str], rng: Rng) -> tuple[Architecture | None, str]:
        if self._parent is None:
            return unseen(self.space, history, taken, rng, lambda: self.space.sample(rng)), "first generation"
        parent = self._parent.architecture
        for _ in range(_TRIES):
            child = self._swapped(parent, rng)
            if not history.has_seen(child) and child.digest not in taken:
                return child, f"swaps in {parent.text}"
        found = unseen(self.space, history, taken, rng, lambda: self.space.mutate(self._swapped(parent, rng), rng))
        return found, f"swaps and one edit in {parent.text}"

    def _swapped(self, parent: Architecture, rng: Rng) -> Architecture:
        """The parent after one to a few swaps; itself where none is found."""
        child = parent
        for _ in range(int(rng.integers(1, self.config.swaps + 1, size=2).min())):
            child = self._swap(child, parent, rng)
        return child

    def _swap(self, architecture: Architecture, parent: Architecture, rng: Rng) -> Architecture:
        names = [name for name, _ in architecture]
        if len(names) < 2:
            return architecture
        for _ in range(_TRIES):
            first, second = (self._decisions[names[i]] for i in rng.choice(len(names), size=2, replace=False))
            edits = _trade(first, second, architecture)
            if edits is None:
                continue
            child = self.space.complete({**dict(architecture.options), **edits}, rng)
            if child != architecture and self._is_within_budget(child, parent):
                return child
        return architecture

    def _is_within_budget(self, child: Architecture, parent: Architecture) -> bool:
        if not self.space.has_counts:
            return True
        spent, budget = (getattr(self.space.counts(a), self.config.resource) for a in (child, parent))
        return bool(abs(spent - budget) <= self.config.tolerance * budget)


def _trade(first: Decision, second: Decision, architecture: Architecture) -> dict[str, str] | None:
    """What the two decisions become; None where there is nothing to trade."""
    if first.options == second.options and architecture[first.name] != architecture[second.name]:
        return {first.name: architecture[second.name], second.name: architecture[first.name]}
    if first.kind != "ordinal" or second.kind != "ordinal":
        return None
    down = first.options.index(architecture[first.name]) - 1
    up = second.options.index(architecture[second.name]) + 1
    if down < 0 or up == len(second.options):
        return None
    return {first.name: first.options[down], second.name: second.options[up]}


def _round(record: Record) -> tuple[int, int]:
    kept = record.memo.get("evopress", {})
    return int(kept.get("generation", 0)), int(kept.get("round", 0))


def create(config: EvoPressConfig, space: SearchSpace, objectives: Sequence[Objective]) -> EvoPress:
    """The searcher on this space."""
    return EvoPress(config, space, objectives)


PLUGIN = Plugin(
    name="evopress",
    description="(1 + lambda) evolution by swaps that keep the budget, with rounds of growing epochs; one objective",
    source="Sieberling, Kuznedelev, Kurtic and Alistarh (2024), EvoPress, arXiv 2410.14649",
    create=create,
    Config=EvoPressConfig,
    flags={"multi_objective": False, "replicates": False, "fidelities": True},
)
