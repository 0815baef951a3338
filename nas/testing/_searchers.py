"""The contract of a searcher: a function of history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from nas.history import History, Record
from nas.resources import EvaluationState, Objective, Proposal
from nas.searchers import Searcher
from nas.streams import stream
from searchspaces import Architecture, ContractViolation, Plugin, SearchSpace

BATCH = 4
SMALL = 24
"""Most architectures of the sub-space that is searched until nothing is left."""


def check_searcher(
    plugin: Plugin[Searcher],
    space: SearchSpace,
    settings: Mapping[str, object] | None = None,
    *,
    evaluations: int = 40,
    seed: int = 0,
) -> None:
    """Checks what a searcher promises on `space`, for one objective and, when its flag says so, for three.

    Proposals are architectures of the space, new and distinct; equal history and random stream give equal proposals,
    from a fresh object too, with evaluations finished, failed, infeasible and under way; a small space is searched to
    its end, and then nothing is proposed.

    Raises:
        ContractViolation: a promise is broken.
    """
    numbers = (1, 3) if plugin.flags.get("multi_objective") else (1,)
    for number in numbers:
        objectives = tuple(
            Objective(metric=f"metric{i}", level="supernet", direction="min" if i % 2 else "max") for i in range(number)
        )
        _check_run(plugin, space, settings, objectives, evaluations=evaluations, seed=seed)
    _check_exhaustion(plugin, small_part(space), settings, objectives, seed=seed)


def small_part(space: SearchSpace, size: int = SMALL) -> SearchSpace:
    """A sub-space of at most `size` architectures, not an empty one: the decision with the most options loses its last
    one, or all others where nothing would be left, again and again."""
    while space.size() > size:
        widest = max(space.decisions, key=lambda decision: len(decision.options))
        parts = space.partition(widest.name, [widest.options[:-1], widest.options[-1:]])
        space = next(part for part in parts if part.size() > 0)
    return space


def settled(
    number: int, proposal: Proposal, space: SearchSpace, objectives: Sequence[Objective], *, seed: int = 0
) -> Record:
    """A made-up outcome: of ten proposals one fails and two are infeasible, one of these without values."""
    architecture = space.parse(proposal.text)
    values: tuple[float, ...] | None = landscape(space, architecture, objectives, seed=seed)
    fate = number % 10
    state = {3: EvaluationState.FAILED, 5: EvaluationState.INFEASIBLE, 8: EvaluationState.INFEASIBLE}.get(
        fate, EvaluationState.FINISHED
    )
    violation = 0.1 * (1 + number % 7) if state is EvaluationState.INFEASIBLE else 0.0
    return Record(
        number=number,
        architecture=architecture,
        state=state,
        values=None if fate in (3, 8) else values,
        violation=violation,
        memo=json.loads(json.dumps(proposal.memo)),
    )


def landscape(
    space: SearchSpace, architecture: Architecture, objectives: Sequence[Objective], *, seed: int = 0
) -> tuple[float, ...]:
    """One smooth number per objective: a weighted sum of the options."""
    bits = space.encode(architecture)
    weights = stream(seed, "landscape").normal(size=(len(objectives), len(bits)))
    return tuple(float(value) for value in weights @ bits)


def _check_run(
    plugin: Plugin[Searcher],
    space: SearchSpace,
    settings: Mapping[str, object] | None,
    objectives: Sequence[Objective],
    *,
    evaluations: int,
    seed: int,
) -> None:
    searcher: Searcher = plugin(settings, space, objectives)
    history, waiting = History(objectives), list[tuple[int, Proposal]]()
    _require(searcher.ask(history, 0, stream(seed)) == [], "nothing is proposed when nothing is asked", "")
    while history.num_proposals < min(evaluations, space.size()):
        count = history.num_proposals
        wanted = min(BATCH, space.size() - history.num_distinct)
        global_state = str(np.random.get_state())  # noqa: NPY002 - read, to see that nobody draws from it
        proposals = searcher.ask(history, wanted, stream(seed, "ask", count))
        _require(global_state == str(np.random.get_state()), "numpy's global generator is left alone", plugin.name)  # noqa: NPY002
        _check_proposals(proposals, space, history, wanted)
        if count // BATCH % 3 == 1:
            fresh: Searcher = plugin(settings, space, objectives)
            for other, whose in ((searcher, "the same"), (fresh, "a fresh")):
                again = other.ask(_copy(history), wanted, stream(seed, "ask", count))
                _require(again == proposals, f"{whose} object proposes the same again", (proposals, again))
        for proposal in proposals:
            waiting.append((history.num_proposals, proposal))
            pending = settled(history.num_proposals, proposal, space, objectives)
            history.add(Record(pending.number, pending.architecture, EvaluationState.PENDING, None, memo=pending.memo))
        # In every batch the first stays under way until the next, so that commit order is not the order of proposals.
        for number, proposal in waiting[:-BATCH] + waiting[1 - BATCH :]:
            history.add(settled(number, proposal, space, objectives, seed=seed))
        waiting = waiting[-BATCH : 1 - BATCH]


def _check_proposals(proposals: Sequence[Proposal], space: SearchSpace, history: History, wanted: int) -> None:
    _require(len(proposals) == wanted, f"{wanted} proposals while so many are unseen", len(proposals))
    texts = [proposal.text for proposal in proposals]
    _require(len(set(texts)) == len(texts), "the proposals of a batch differ", texts)
    for proposal in proposals:
        architecture = space.parse(proposal.text)
        _require(architecture.text == proposal.text, "a proposal has the canonical text", proposal.text)
        _require(architecture.digest == proposal.digest, "a proposal has its architecture's digest", proposal.digest)
        _require(not history.has_seen(architecture), "nothing is proposed twice", proposal.text)
        _require(bool(proposal.reason), "a proposal gives its reason", proposal)
        _require(json.loads(json.dumps(proposal.memo, allow_nan=False)) is not None, "a memo is JSON", proposal.memo)


def _check_exhaustion(
    plugin: Plugin[Searcher],
    space: SearchSpace,
    settings: Mapping[str, object] | None,
    objectives: Sequence[Objective],
    *,
    seed: int,
) -> None:
    searcher: Searcher = plugin(settings, space, objectives)
    history, size = History(objectives), space.size()
    while proposals := searcher.ask(history, 7, stream(seed, "end", history.num_proposals)):
        for proposal in proposals:
            record = settled(history.num_proposals, proposal, space, objectives)
            _require(not history.has_seen(record.architecture), "nothing is proposed twice", proposal.text)
            history.add(record)
        _require(history.num_proposals <= size, "a searcher ends with its space", history.num_proposals)
    _require(history.num_distinct == size, f"all {size} architectures of a small space come up", history.num_distinct)


def _copy(history: History) -> History:
    """The same history, rebuilt as from a store: other objects, memos through JSON."""
    copy = History(history.objectives)
    for record in (*history.settled, *history.pending.values()):
        memo = json.loads(json.dumps(record.memo))
        copy.add(
            Record(
                record.number, record.architecture, record.state, record.values, violation=record.violation, memo=memo
            )
        )
    return copy


def _require(holds: bool, promise: str, got: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {got!r}.")
