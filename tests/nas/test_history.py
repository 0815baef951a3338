"""The history that searchers see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nas.history import History, Record, record_of
from nas.resources import Evaluation, EvaluationState, Fidelity, Measurement, Objective
from nas.searchers import proposal
from nas.streams import stream
from searchspaces import Architecture
from tests.nas.conditional import Perceptrons
from tests.nas.landscapes import Letters

SPACE = Perceptrons()
OBJECTIVES = (
    Objective(metric="accuracy", level="supernet", direction="max"),
    Objective(metric="params", level="cost", direction="min"),
)


def record(number: int, state: EvaluationState, values: tuple[float, float] | None = None) -> Record:
    return Record(number, SPACE.sample(stream(number)), state, values)


def test_a_pending_record_is_replaced_when_it_settles_and_counts_once() -> None:
    history = History(OBJECTIVES)
    history.add(record(0, EvaluationState.PENDING))
    assert (len(history), history.num_proposals, history.num_distinct) == (0, 1, 1)
    history.add(record(0, EvaluationState.FINISHED, (0.5, 3.0)))
    assert (len(history), history.num_proposals, history.num_distinct, history.pending) == (1, 1, 1, {})


def test_what_was_proposed_is_seen_in_every_state() -> None:
    history = History(OBJECTIVES)
    for number, state in enumerate(EvaluationState):
        assert not history.has_seen(SPACE.sample(stream(number)))
        history.add(record(number, state))
        assert history.has_seen(SPACE.sample(stream(number)))


def test_losses_are_signed_and_leave_out_failed_and_infeasible_records() -> None:
    history = History(OBJECTIVES)
    history.add(record(0, EvaluationState.FINISHED, (0.5, 3.0)))
    history.add(record(1, EvaluationState.FAILED))
    history.add(record(2, EvaluationState.INFEASIBLE, (0.9, 9.0)))
    assert history.losses().tolist() == [[-0.5, 3.0]]


def test_finished_records_stand_beside_their_losses_and_partial_ones_do_not_count() -> None:
    history, partial = History(OBJECTIVES), Fidelity(level="partial", resources={"epochs": 3})
    history.add(replace(record(0, EvaluationState.FINISHED, (0.4, 3.0)), fidelity=partial))
    history.add(record(1, EvaluationState.FAILED))
    history.add(record(2, EvaluationState.FINISHED, (0.5, 4.0)))
    assert [r.number for r in history.finished] == [2]
    assert history.losses().tolist() == [[-0.5, 4.0]]


def test_the_rest_of_a_space_is_walked_through_once_and_what_was_dropped_is_met_again() -> None:
    steps, space = 0, Letters(4, 4)

    class Counted(Letters):
        def iterate(self) -> Iterator[Architecture]:
            nonlocal steps
            for architecture in super().iterate():
                steps += 1
                yield architecture

    counted, history, taken = Counted(4, 4), History(OBJECTIVES), set[str]()
    first = history.first_unseen(counted, taken)
    assert first == next(space.iterate())
    second = history.first_unseen(counted, {first.digest})
    assert second == list(space.iterate())[1]
    for number in range(256):
        found = history.first_unseen(counted, taken)
        assert found is not None
        history.add(Record(number, found, EvaluationState.FAILED, None))
    assert [r.architecture for r in history.settled] == list(space.iterate())
    assert history.first_unseen(counted, taken) is None
    assert steps == 256


def test_since_gives_what_is_new_in_commit_order() -> None:
    history = History(OBJECTIVES)
    for number in (2, 0, 1):
        history.add(record(number, EvaluationState.FAILED))
    assert [r.number for r in history.since(1)] == [0, 1]


def test_an_evaluation_has_values_only_when_all_objectives_were_measured() -> None:
    architecture = SPACE.parse("8-16")
    params = Measurement(metric="params", value=10, fidelity=Fidelity(level="cost"))
    accuracy = Measurement(metric="accuracy", value=0.7, fidelity=Fidelity(level="supernet"))

    def read(state: EvaluationState, *measurements: Measurement) -> Record:
        evaluation = Evaluation(
            evaluation_id="e",
            job_id="j",
            number=3,
            proposal=proposal(architecture, memo={"a": 1}),
            state=state,
            violation=0.2,
            measurements=measurements,
        )
        return record_of(evaluation, SPACE, OBJECTIVES)

    assert read(EvaluationState.FINISHED, params, accuracy).values == (0.7, 10.0)
    assert read(EvaluationState.INFEASIBLE, params).values is None
    assert read(EvaluationState.FAILED, params, accuracy).values is None
    found = read(EvaluationState.INFEASIBLE, params)
    assert (found.architecture, found.memo, found.violation, found.number) == (architecture, {"a": 1}, 0.2, 3)
