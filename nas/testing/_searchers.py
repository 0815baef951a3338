"""The contract of a searcher: a function of history."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nas.history import History, Record
from nas.resources import EvaluationState, Fidelity, Objective, Proposal
from nas.searchers import REGISTRY, Searcher, warm_up_notes, with_short_warm_up, within
from nas.spec import PluginRef
from nas.streams import stream
from searchspaces import Architecture, ConfigError, ContractViolation, Plugin, SearchSpace

BATCH = 4
SMALL = 24
"""Most architectures of the sub-space that is searched until nothing is left."""
_FEW, _MANY = 20, 80
"""Evaluations within which a searcher is to learn, and within which one that does not would at last."""
_MEASURED_AGAIN = 8
"""Most evaluations for every architecture of it, by a searcher that measures some again."""


def check_searcher(
    plugin: Plugin[Searcher],
    space: SearchSpace,
    settings: Mapping[str, object] | None = None,
    *,
    evaluations: int = 40,
    with_few: bool = True,
    to_the_end: bool = True,
    seed: int = 0,
) -> None:
    """Checks what a searcher promises on `space`, for one objective and, when its flag says so, for three.

    Proposals are architectures of the space, new and distinct; equal history and random stream give equal proposals,
    from a fresh object too, with evaluations finished, failed, infeasible and under way; a small space is searched to
    its end, and then nothing is proposed. A searcher whose flag `replicates` is set may propose a known architecture as
    a replicate, whose number is how often it was proposed before at that fidelity; one with `fidelities` at another
    fidelity. One whose flag `decisions` names a kind refuses a space that has none of it, and says so. With few
    evaluations its beginning, random or one generation, is cut down (`nas.searchers.within`), so that what comes after
    depends on what was measured; or that is said; or the searcher never learns at all.

    Args:
        with_few: whether that is checked.
        to_the_end: whether a small space is searched to its end.

    Raises:
        ContractViolation: a promise is broken.
    """
    kind = plugin.flags.get("decisions")
    if kind and not any(decision.kind == kind for decision in space.decisions):
        _check_refusal(plugin, space, settings)
        return
    _require("multi_objective" in plugin.flags, "a flag says whether it takes several objectives", plugin.name)
    numbers = (1, 3) if plugin.flags.get("multi_objective") else (1,)
    for number in numbers:
        objectives = tuple(
            Objective(metric=f"metric{i}", level="supernet", direction="min" if i % 2 else "max") for i in range(number)
        )
        _check_run(plugin, space, settings, objectives, evaluations=evaluations, seed=seed)
    if to_the_end:
        _check_exhaustion(plugin, small_part(space), settings, objectives, seed=seed)
    if with_few:
        _check_few_evaluations(plugin, space, settings, seed=seed)


def _check_refusal(plugin: Plugin[Searcher], space: SearchSpace, settings: Mapping[str, object] | None) -> None:
    try:
        plugin(settings, space, (Objective(metric="metric", level="supernet", direction="max"),))
    except ConfigError:
        return
    _require(False, f"a space without {plugin.flags['decisions']} decisions is refused with a ConfigError", space.name)


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
        replicate=proposal.replicate,
        group=proposal.group,
        memo=json.loads(json.dumps(proposal.memo)),
        fidelity=proposal.fidelity,
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
    history, waiting, size = History(objectives), list[tuple[int, Proposal]](), space.size()
    _require(searcher.ask(history, 0, stream(seed)) == [], "nothing is proposed when nothing is asked", "")
    while history.num_proposals < min(evaluations, size):
        count = history.num_proposals
        wanted = min(BATCH, size - history.num_distinct)
        global_state = str(np.random.get_state())  # noqa: NPY002 - read, to see that nobody draws from it
        proposals = searcher.ask(history, wanted, stream(seed, "ask", count))
        _require(global_state == str(np.random.get_state()), "numpy's global generator is left alone", plugin.name)  # noqa: NPY002
        _check_proposals(proposals, plugin, space, history, wanted)
        if count // BATCH % 3 == 1:
            fresh: Searcher = plugin(settings, space, objectives)
            for other, whose in ((searcher, "the same"), (fresh, "a fresh")):
                again = other.ask(_copy(history), wanted, stream(seed, "ask", count))
                _require(again == proposals, f"{whose} object proposes the same again", (proposals, again))
        for proposal in proposals:
            waiting.append((history.num_proposals, proposal))
            outcome = settled(history.num_proposals, proposal, space, objectives)
            history.add(replace(outcome, state=EvaluationState.PENDING, values=None, violation=0.0))
        # In every batch the first stays under way until the next, so that commit order is not the order of proposals.
        for number, proposal in waiting[:-BATCH] + waiting[1 - BATCH :]:
            history.add(settled(number, proposal, space, objectives, seed=seed))
        waiting = waiting[-BATCH : 1 - BATCH]


def _check_proposals(
    proposals: Sequence[Proposal], plugin: Plugin[Searcher], space: SearchSpace, history: History, wanted: int
) -> None:
    _require(len(proposals) == wanted, f"{wanted} proposals while so many are unseen", len(proposals))
    marks = [_mark(proposal.digest, proposal.fidelity, proposal.replicate) for proposal in proposals]
    _require(
        len(set(marks)) == len(marks), "the proposals of a batch differ", [proposal.text for proposal in proposals]
    )
    for proposal in proposals:
        architecture = space.parse(proposal.text)
        _require(architecture.text == proposal.text, "a proposal has the canonical text", proposal.text)
        _require(architecture.digest == proposal.digest, "a proposal has its architecture's digest", proposal.digest)
        _require(bool(proposal.reason), "a proposal gives its reason", proposal)
        _require(json.loads(json.dumps(proposal.memo, allow_nan=False)) is not None, "a memo is JSON", proposal.memo)
    _check_repeats(proposals, plugin, history)


def _check_repeats(proposals: Sequence[Proposal], plugin: Plugin[Searcher], history: History) -> None:
    """A known architecture comes up only as what the searcher's flags allow."""
    records = (*history.settled, *history.pending.values())
    known = {record.architecture.digest for record in records}
    times = Counter(_mark(record.architecture.digest, record.fidelity) for record in records)
    for proposal in proposals:
        mark = _mark(proposal.digest, proposal.fidelity)
        number = times[mark]
        _require(number == 0 or bool(plugin.flags.get("replicates")), "nothing is proposed twice", proposal.text)
        _require(proposal.replicate == number, f"a proposal made {number} times before is replicate {number}", proposal)
        is_raised = number == 0 and proposal.digest in known
        _require(not is_raised or bool(plugin.flags.get("fidelities")), "nothing is proposed twice", proposal.text)
        times[mark] += 1
        known.add(proposal.digest)


def _mark(digest: str, fidelity: Fidelity, *more: int) -> tuple[str, str, tuple[int, ...]]:
    return digest, fidelity.model_dump_json(), more


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
    repeats = bool(plugin.flags.get("replicates") or plugin.flags.get("fidelities"))
    limit = _MEASURED_AGAIN * size if repeats else size
    while proposals := searcher.ask(history, 7, stream(seed, "end", history.num_proposals)):
        _check_repeats(proposals, plugin, history)
        for proposal in proposals:
            history.add(settled(history.num_proposals, proposal, space, objectives))
        _require(history.num_proposals <= limit, "a searcher ends with its space", history.num_proposals)
    _require(history.num_distinct == size, f"all {size} architectures of a small space come up", history.num_distinct)


def _check_few_evaluations(
    plugin: Plugin[Searcher], space: SearchSpace, settings: Mapping[str, object] | None, *, seed: int
) -> None:
    """With few evaluations two searches that measure the opposite part ways, unless they would not with many either."""
    ref = PluginRef.model_validate({"name": plugin.name, "config": dict(settings or {})})
    if any("learns nothing" in said for said in warm_up_notes(plugin, ref, _FEW, at="searcher")):
        return
    config = within(ref, _FEW).config if plugin.name in REGISTRY else with_short_warm_up(plugin, ref, _FEW).config
    if len({_texts(plugin, space, config, _FEW, sign=sign, seed=seed) for sign in (1.0, -1.0)}) > 1:
        return
    learns = len({_texts(plugin, space, config, _MANY, sign=sign, seed=seed) for sign in (1.0, -1.0)}) > 1
    _require(not learns, f"a searcher learns within {_FEW} evaluations, or says that it does not", config)


def _texts(
    plugin: Plugin[Searcher],
    space: SearchSpace,
    config: Mapping[str, object],
    evaluations: int,
    *,
    sign: float,
    seed: int,
) -> tuple[str, ...]:
    """What is proposed when the values of a landscape, or their opposites, are measured."""
    objectives = (Objective(metric="metric", level="supernet", direction="max"),)
    searcher, history = plugin(config, space, objectives), History(objectives)
    while history.num_proposals < min(evaluations, space.size()):
        made = searcher.ask(history, BATCH, stream(seed, "few", history.num_proposals))
        for each in made:
            record = settled(0, each, space, objectives, seed=seed)
            value = sign * (record.values or (0.0,))[0]
            history.add(replace(record, number=history.num_proposals, values=(value,)))
        if not made:
            break
    return tuple(record.architecture.text for record in history.settled)


def _copy(history: History) -> History:
    """The same history, rebuilt as from a store: other objects, memos through JSON."""
    copy = History(history.objectives)
    for record in (*history.settled, *history.pending.values()):
        copy.add(replace(record, memo=json.loads(json.dumps(record.memo))))
    return copy


def _require(holds: bool, promise: str, got: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {got!r}.")
