"""Every registered evaluator keeps the contract, and the contract sees one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from nas.evaluators import REGISTRY, EvaluationContext, Evaluator, Outcome, Request
from nas.evaluators.supernet import SupernetEvaluator
from nas.testing import _evaluators
from nas.workbench import Workbench
from searchspaces import ContractViolation, Plugin

CASES: list[tuple[str, Mapping[str, object]]] = [
    *((name, {}) for name in REGISTRY),
    ("supernet", {"bn": "recalibrated"}),
    ("supernet", {"eval_batch": 7}),
]
Case = tuple[Plugin[Evaluator], dict[str, object]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return _evaluators.small_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def case(request: pytest.FixtureRequest) -> Case:
    name, settings = request.param
    if REGISTRY[name].flags.get("reads_tables"):
        request.getfixturevalue("data_folder")
    return REGISTRY[name], settings


def test_every_request_is_answered_and_equal_ones_have_equal_values(case: Case, bench: Workbench) -> None:
    _evaluators.check_values(case[0], bench, settings=case[1])


def test_a_failing_request_is_an_outcome_with_its_reason(case: Case, bench: Workbench) -> None:
    _evaluators.check_failures(case[0], bench, settings=case[1])


def test_an_evaluator_that_is_asked_to_stop_answers_no_more(case: Case, bench: Workbench) -> None:
    _evaluators.check_stopping(case[0], bench, settings=case[1])


def test_what_is_read_from_files_has_a_digest(case: Case, bench: Workbench) -> None:
    _evaluators.check_digests(case[0], bench, settings=case[1])


def test_an_evaluator_of_tables_without_digests_is_caught(bench: Workbench) -> None:
    silent = replace(REGISTRY["supernet"], flags={**REGISTRY["supernet"].flags, "reads_tables": True})
    with pytest.raises(ContractViolation, match="what reads tables has offered_digests"):
        _evaluators.check_digests(silent, bench)


class Silent(SupernetEvaluator):
    """Leaves out the last request."""

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        return super().evaluate(requests[:-1], context)


class Fragile(SupernetEvaluator):
    """Lets a failure through."""

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        for request in requests:
            self._bench.space.check(request.architecture)
        return super().evaluate(requests, context)


def test_the_contract_sees_a_request_that_is_not_answered(bench: Workbench) -> None:
    plugin = replace(REGISTRY["supernet"], create=Silent)
    with pytest.raises(ContractViolation, match="answered once"):
        _evaluators.check_evaluator(plugin, bench)


def test_the_contract_sees_a_failure_that_kills_the_call(bench: Workbench) -> None:
    plugin = replace(REGISTRY["supernet"], create=Fragile)
    with pytest.raises(ValueError, match="nowhere"):
        _evaluators.check_failures(plugin, bench)
