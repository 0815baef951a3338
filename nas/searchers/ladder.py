"""Successive halving over any searcher: many architectures measured a little, the best of them in full."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from nas.history import History, Record
from nas.resources import EvaluationState, Fidelity, Objective, Proposal
from nas.scoring import Scores
from nas.searchers import REGISTRY, Searcher, make_searcher
from nas.searchers._following import Floats, FollowingSearcher, places
from nas.searchers._warm_up import WARM_UP
from nas.searchers._wrapping import SearcherRef
from nas.spec import Level, PluginRef
from searchspaces import Config, Plugin, Rng, SearchSpace


class LadderConfig(Config):
    """Settings of `ladder`."""

    searcher: SearcherRef = Field(
        PluginRef(name="gp_its"), description="The searcher, with its settings, that proposes new architectures."
    )
    rungs: tuple[float, ...] = Field(
        (4, 12, 36, 108),
        min_length=2,
        max_length=20,
        description="What a measurement may spend on each rung, least first; the last is the job's own fidelity.",
    )
    resource: str = Field("epochs", min_length=1, max_length=100, description="What it spends.")
    keep: int = Field(3, ge=2, le=100, description="Of so many architectures one is promoted to the next rung.")
    mode: Literal["asynchronous", "halving"] = Field(
        "asynchronous",
        description="Promote as soon as an architecture is among the best of its rung (ASHA), or bracket by bracket, "
        "once all of a bracket are measured (successive halving).",
    )
    bracket: int = Field(
        27,
        ge=2,
        le=100_000,
        json_schema_extra=WARM_UP,
        description="New architectures of a bracket of successive halving.",
    )
    labels: int = Field(
        30,
        ge=2,
        le=100_000,
        description="Measurements from which on the searcher learns from a rung: the highest that has so many.",
    )

    @field_validator("searcher")
    @classmethod
    def _asks_once(cls, searcher: PluginRef) -> PluginRef:
        plugin = REGISTRY[searcher.name]
        if plugin.flags.get("replicates") or getattr(plugin.configure(searcher.config), "rungs", ()):
            raise ValueError("a searcher that measures nothing twice and has no rungs of its own")
        return searcher

    @field_validator("rungs")
    @classmethod
    def _go_up(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if rungs[0] <= 0 or any(low >= high for low, high in pairwise(rungs)):
            raise ValueError("rungs above 0, each larger than the one before")
        return rungs


class _Rung:
    """What was begun and measured on one rung, and how the held searcher sees it: equal fidelities, numbered anew."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.view = History(objectives)
        self.begun: set[str] = set()
        self.finished: dict[str, list[Record]] = defaultdict(list)
        self.num_begun: Counter[str] = Counter()
        self.num_settled: Counter[str] = Counter()
        self.num_finished = 0
        self._numbers: dict[int, int] = {}
        self._ranked: dict[str, tuple[int, list[Record]]] = {}

    def begin(self, record: Record) -> None:
        """Take in what was proposed here, in the order in which it was."""
        self._numbers[record.number] = len(self._numbers)
        self.begun.add(record.architecture.digest)
        self.num_begun[record.group] += 1
        self.view.add(replace(self._seen(record), state=EvaluationState.PENDING, values=None))

    def settle(self, record: Record) -> None:
        """Take in what came of it."""
        self.num_settled[record.group] += 1
        if record.state is EvaluationState.FINISHED and record.values is not None:
            self.finished[record.group].append(record)
            self.num_finished += 1
        self.view.add(self._seen(record))

    def best(self, group: str, share: int) -> list[Record]:
        """One of `share` of a group's measurements, the best first; ranked anew only when there are more of them."""
        records = self.finished[group]
        if self._ranked.get(group, (0, []))[0] != len(records):
            order = np.argsort(places(self.view, records), kind="stable")
            self._ranked[group] = (len(records), [records[i] for i in order[: len(records) // share]])
        return self._ranked[group][1]

    def _seen(self, record: Record) -> Record:
        return replace(record, number=self._numbers[record.number], fidelity=Fidelity(level="full"))


class Ladder(FollowingSearcher):
    """New architectures start on the lowest rung; one of `keep` is promoted to the next, by non-dominated rank.

    Li et al. (2020), A System for Massively Parallel Hyperparameter Tuning (ASHA), arXiv 1810.05934; Jamieson and
    Talwalkar (2016), Non-stochastic Best Arm Identification, arXiv 1502.07943 (halving). Deviations: several objectives
    are compared by rank and crowding distance (Schmucker et al., 2021, arXiv 2106.12639), so that searches with several
    objectives can stop candidates early too; what breaks a bound is not promoted. The held searcher learns from the
    highest rung with enough measurements, as in Falkner, Klein and Hutter (2018), BOHB, arXiv 1807.01774, and finds the
    rungs below in `History.cheaper`.
    """

    def __init__(
        self, config: LadderConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(space, objectives)
        self.config, self._scores = config, scores
        learned = [objective.level for objective in objectives if objective.level != "cost"]
        self._level: Level = learned[0] if learned else "full"
        self._by_bracket = config.mode == "halving"
        self._held: dict[int, Searcher] = {}
        self.forget()

    def forget(self) -> None:
        self._rungs = [_Rung(self.objectives) for _ in self.config.rungs]
        self._held = {}
        self._known: set[int] = set()

    def learn(self, record: Record, loss: Floats | None) -> None:
        self._rungs[self._rung_of(record)].settle(record)

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Promotions first, then new architectures; see `Searcher.ask`."""
        self.attend(history)
        asked = (*history.since(self._cursor), *history.pending.values())
        for record in sorted((r for r in asked if r.number not in self._known), key=lambda record: record.number):
            self._known.add(record.number)
            self._note(record)
            self._rungs[self._rung_of(record)].begin(record)
        self.follow(history)
        found = list(islice(self._promotions(), n))
        found += self._new(n - len(found), rng)
        if not found and n > 0 and not history.pending:  # nothing is left that could fill the last bracket
            found = list(islice(self._promotions(is_last=True), n))
        return found

    def _rung_of(self, record: Record) -> int:
        """The rung of a record; what says nothing of the resource was measured in full."""
        spent = record.fidelity.resources.get(self.config.resource)
        return self.config.rungs.index(spent) if spent in self.config.rungs else len(self.config.rungs) - 1

    def _note(self, record: Record) -> None:
        for rung in self._rungs:
            rung.view.note(record.architecture)

    # --- up the ladder -----------------------------------------------------------------------------------------------

    def _promotions(self, *, is_last: bool = False) -> Iterator[Proposal]:
        """What may go up, from the highest rungs first, and from each the best first."""
        for low in reversed(range(len(self._rungs) - 1)):
            rung, above = self._rungs[low], self._rungs[low + 1]
            for group in rung.finished:
                if self._by_bracket and not self._is_complete(group, low, is_last=is_last):
                    continue
                for record in rung.best(group, self.config.keep):
                    if record.architecture.digest not in above.begun:
                        yield self._promotion(record, low + 1)

    def _is_complete(self, bracket: str, rung: int, *, is_last: bool) -> bool:
        """Whether everything of a bracket that gets to this rung is measured there."""
        settled = self._rungs[rung].num_settled[bracket]
        if rung == 0:
            expected = self._rungs[0].num_begun[bracket]
            return settled == expected and (is_last or expected >= self.config.bracket)
        below = len(self._rungs[rung - 1].finished[bracket]) // self.config.keep
        return settled >= below and self._is_complete(bracket, rung - 1, is_last=is_last)

    def _promotion(self, record: Record, rung: int) -> Proposal:
        return Proposal(
            text=record.architecture.text,
            digest=record.architecture.digest,
            fidelity=self._fidelity(rung),
            group=record.group,
            reason=f"promoted to {self.config.rungs[rung]:g} {self.config.resource}",
            memo=record.memo,
        )

    def _fidelity(self, rung: int) -> Fidelity:
        level: Level = self._level if rung == len(self._rungs) - 1 else "partial"
        return Fidelity(level=level, resources={self.config.resource: self.config.rungs[rung]})

    # --- new ones ----------------------------------------------------------------------------------------------------

    def _new(self, n: int, rng: Rng) -> list[Proposal]:
        """What the held searcher proposes, for the lowest rung."""
        if n <= 0:
            return []
        enough = [i for i, rung in enumerate(self._rungs) if rung.num_finished >= self.config.labels]
        chosen = max(enough, default=0)
        if chosen not in self._held:
            made = make_searcher(self.config.searcher, self.space, self.objectives, self._scores)
            self._held = {chosen: made}
        view = self._rungs[chosen].view
        view.cheaper = tuple(rung.view for rung in self._rungs[:chosen])
        begun, fidelity = self._rungs[0].num_begun.total(), self._fidelity(0)
        return [
            made.model_copy(update={"fidelity": fidelity, "group": self._bracket(begun + place)})
            for place, made in enumerate(self._held[chosen].ask(view, n, rng))
        ]

    def _bracket(self, number: int) -> str:
        """The bracket of the `number`-th new architecture."""
        return f"bracket {number // self.config.bracket}" if self._by_bracket else ""


def create(
    config: LadderConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space."""
    return Ladder(config, space, objectives, scores)


PLUGIN = Plugin(
    name="ladder",
    description="Successive halving or ASHA over any searcher: many measured a little, the best in full",
    source="Li et al. (2020), ASHA, arXiv 1810.05934; Schmucker et al. (2021), Multi-objective ASHA, arXiv 2106.12639",
    create=create,
    Config=LadderConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True, "fidelities": True},
)
