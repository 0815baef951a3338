"""Local search: from the best of a few random architectures uphill, again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import Field

from nas.history import History, Record
from nas.pareto import Front
from nas.resources import EvaluationState, Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher, is_comparable
from nas.searchers._searcher import proposal, unseen
from nas.searchers._warm_up import WARM_UP
from nas.streams import stream
from searchspaces import Architecture, Config, Plugin, Rng, SearchSpace


class LocalSearchConfig(Config):
    """Settings of `local_search`."""

    initial: int = Field(
        10,
        ge=1,
        le=100_000,
        json_schema_extra=WARM_UP,
        description="Random architectures of which the best is the start.",
    )


@dataclass
class _Climb:
    """One start and what was reached from there.

    Attributes:
        size: proposals that belong to it.
        front: its best architectures: for one objective the best alone.
        nearest: while none is feasible, the one that breaks the constraints least.
        near: the new neighbours, when last looked at, of those it went on from.
        explored: architectures whose neighbours were all proposed.
    """

    size: int = 0
    front: Front[tuple[int, Architecture]] = field(default_factory=Front)
    nearest: Record | None = None
    near: dict[Architecture, list[Architecture]] = field(default_factory=dict)
    explored: set[Architecture] = field(default_factory=set)

    def learn(self, record: Record, loss: Floats | None) -> None:
        self.size += 1
        if record.state is EvaluationState.FINISHED and loss is not None:
            self.front.add((record.number, record.architecture), loss)
        elif is_comparable(record) and (self.nearest is None or record.violation < self.nearest.violation):
            self.nearest = record

    def members(self) -> list[Architecture]:
        """Where it stands."""
        found = [architecture for _, architecture in self.front]
        return [self.nearest.architecture] if not found and self.nearest is not None else found


class LocalSearch(FollowingSearcher):
    """Of ten random architectures the best; its one-edit neighbours in random order; a better one takes its place at
    once; at a local optimum ten new random ones.

    White, Nolen and Savani (2021), Exploring the Loss Landscape in Neural Architecture Search, arXiv 2005.02960, with
    the move on first improvement. What was proposed before is not proposed again, so a climb that meets an older one
    ends there.

    Several objectives: Pareto local search (Paquete, Chiarandini and Stuetzle 2004). A climb holds the front of what it
    has met and goes on with a neighbour of any member whose neighbourhood is not used up. While nothing is feasible,
    the architecture that breaks the constraints least is where it stands.

    Several at a time: neighbours are proposed before the last ones are known. When those of the first climb are used
    up, the next climb begins, and the first goes on as soon as one that was under way turns out better.
    """

    def __init__(self, config: LocalSearchConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        self.forget()

    def forget(self) -> None:
        """Be as before the first record."""
        self._climbs: list[_Climb] = []
        self._going: set[int] = set()  # climbs that have not ended; all others cost nothing

    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record."""
        self._climb(record).learn(record, loss)
        self._going.add(_number(record))

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self.follow(history)
        under_way = Counter(_number(record) for record in history.pending.values())
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            found, number, reason = self._neighbour(history, taken, under_way, rng)
            if found is None:
                number, reason = self._start(under_way), "random start"
                found = unseen(self.space, history, taken, rng, lambda: self.space.sample(rng))
                if found is None:
                    break
            taken.add(found.digest)
            under_way[number] += 1
            proposals.append(proposal(found, reason=reason, memo={"climb": number}))
        return proposals

    def _neighbour(
        self, history: History, taken: set[str], under_way: Counter[int], rng: Rng
    ) -> tuple[Architecture | None, int, str]:
        """A new neighbour of where the earliest climb stands that has any; the climb; why."""
        seed = int(rng.integers(2**63))
        for number in sorted(self._going):
            climb = self._climbs[number]
            if self._size(number, under_way) < self.config.initial:
                continue
            draws = stream(seed, "climb", number)  # the same, whatever other climbs and used-up members would draw
            members = climb.members()
            for member in (members[i] for i in draws.permutation(len(members))):
                if member in climb.explored:
                    continue
                known = climb.near.get(member) or self.space.neighbours(member)
                near = climb.near[member] = [a for a in known if not history.has_seen(a)]
                if not near:
                    climb.explored.add(member)  # seen once is seen for ever
                new = [a for a in near if a.digest not in taken]
                if new:
                    return new[int(draws.integers(len(new)))], number, f"neighbour of {member.text}"
            if climb.explored.issuperset(members):
                self._going.discard(number)  # nothing is left to go on from, as long as nothing is learned
        return None, 0, ""

    def _start(self, under_way: Counter[int]) -> int:
        """The climb that a random architecture belongs to: the last while it gathers its start, else a new one."""
        last = max([0, len(self._climbs) - 1, *under_way])
        gathers = self._size(last, under_way) < self.config.initial
        is_known = last < len(self._climbs) and (self._climbs[last].front or self._climbs[last].nearest)
        return last if gathers or not is_known else last + 1

    def _size(self, number: int, under_way: Counter[int]) -> int:
        return under_way[number] + (self._climbs[number].size if number < len(self._climbs) else 0)

    def _climb(self, record: Record) -> _Climb:
        number = _number(record)
        self._climbs += [_Climb() for _ in range(number + 1 - len(self._climbs))]
        return self._climbs[number]


def _number(record: Record) -> int:
    return int(record.memo.get("climb", 0))


def create(config: LocalSearchConfig, space: SearchSpace, objectives: Sequence[Objective]) -> LocalSearch:
    """The searcher on this space."""
    return LocalSearch(config, space, objectives)


PLUGIN = Plugin(
    name="local_search",
    description="Climbs from the best of a few random architectures to a local optimum, then starts anew",
    source="White, Nolen and Savani (2021), Exploring the Loss Landscape in NAS, arXiv 2005.02960",
    create=create,
    Config=LocalSearchConfig,
    flags={"multi_objective": True, "replicates": False},
)
