"""Spaces of letters to search in, and made-up truths over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import networkx
import numpy as np
import numpy.typing as npt

from nas.history import History, Record
from nas.resources import EvaluationState, Objective, Proposal
from nas.searchers import Searcher
from nas.streams import stream
from searchspaces import Architecture, Counts, Decision, SearchSpace
from tests.nas.conditional import Perceptrons

Truth = Callable[[Architecture], tuple[float, ...]]


class Letters(Perceptrons):
    """Words of `length` letters, each one of `options`; the later a letter in the alphabet, the more it costs."""

    def __init__(self, length: int = 6, options: int = 4, *, ordinal: bool = True) -> None:
        super().__init__()
        kind, letters = "ordinal" if ordinal else "op", tuple("abcdefghijklmnopqrstuvwxyz"[:options])
        self.decisions = tuple(
            Decision(f"letter{place:02}", letters, (True,) * options, kind)  # type: ignore[arg-type]
            for place in range(length)
        )

    def text(self, options: Mapping[str, str]) -> str:
        return "".join(options[decision.name] for decision in self.decisions)

    def read(self, text: str) -> dict[str, str]:
        return {decision.name: letter for decision, letter in zip(self.decisions, text, strict=True)}

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        graph = networkx.MultiDiGraph()
        for place in range(len(self.decisions) + 1):
            graph.add_node(str(place), label=f"before {place}", layer=place)
        for place, (name, option) in enumerate(architecture):
            graph.add_edge(str(place), str(place + 1), option=option, live=True, decision=name)
        return graph

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        return Counts(int(levels(self, architecture).sum()), 10 + int(levels(self, architecture).sum()))


def levels(space: SearchSpace, architecture: Architecture) -> npt.NDArray[np.int64]:
    """The number of each decision's option."""
    return np.array([decision.options.index(architecture[decision.name]) for decision in space.decisions])


def rugged(space: SearchSpace, seed: int, *, objectives: int = 1, interaction: float = 0.12) -> Truth:
    """A hill with its top anywhere, on which pairs of neighbouring decisions interact at random; more is better."""
    rng = stream(seed, "rugged")
    number, options = len(space.decisions), len(space.decisions[0].options)
    top = rng.uniform(0, options - 1, size=(objectives, number))
    steepness = rng.uniform(0.5, 1.5, size=(objectives, number))
    pairs = interaction * rng.normal(size=(objectives, number, options, options))

    def truth(architecture: Architecture) -> tuple[float, ...]:
        level = levels(space, architecture)
        hill = -(steepness * ((level - top) / (options - 1)) ** 2).sum(axis=1)
        return tuple((hill + pairs[:, np.arange(number), level, np.roll(level, -1)].sum(axis=1)).tolist())

    return truth


def objectives(number: int = 1) -> tuple[Objective, ...]:
    """So many to maximise."""
    return tuple(Objective(metric=f"metric{i}", level="supernet", direction="max") for i in range(number))


def record(
    history: History,
    space: SearchSpace,
    made: Proposal,
    values: tuple[float, ...] | None,
    *,
    violation: float = 0.0,
) -> Record:
    """What became of a proposal, in the history too: finished, infeasible with a violation, failed without values."""
    state = EvaluationState.FINISHED
    if violation > 0 or values is None:
        state = EvaluationState.INFEASIBLE if violation > 0 else EvaluationState.FAILED
    found = Record(
        number=history.num_proposals,
        architecture=space.parse(made.text),
        state=state,
        values=values,
        violation=violation,
        replicate=made.replicate,
        group=made.group,
        memo=made.memo,
        fidelity=made.fidelity,
    )
    history.add(found)
    return found


def searched(
    searcher: Searcher,
    truth: Truth,
    evaluations: int,
    *,
    seed: int = 0,
    batch: int = 1,
    reasons: list[str] | None = None,
) -> History:
    """The history of a search in which nothing fails; why each was proposed goes into `reasons`."""
    history = History(searcher.objectives)
    while history.num_proposals < evaluations:
        for made in searcher.ask(history, batch, stream(seed, "search", history.num_proposals)):
            if reasons is not None:
                reasons.append(made.reason)
            record(history, searcher.space, made, truth(searcher.space.parse(made.text)))
    return history
