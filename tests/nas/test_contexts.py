"""Which measurements may be compared."""

from __future__ import annotations

from typing import Any

import pytest

from nas.contexts import comparable, differences
from nas.history import History
from nas.resources import Evaluation, EvaluationState, Fidelity, Measurement, Objective, Proposal
from nas.spec import Level
from searchspaces import REGISTRY as SPACES

LATENCY = {
    "device": "cpu",
    "device_name": "EPYC",
    "runtime": "onnxruntime",
    "threads": 1,
    "batch": 1,
    "dtype": "float32",
}
INHERITED = {"split": "valid", "bn": "batch", "eval_batch": 256, "dtype": "fp32", "device": "cpu", "code": "0.1"}


def measured(context: dict[str, Any], level: Level, metric: str = "m", value: float = 1.0) -> Measurement:
    return Measurement(metric=metric, value=value, fidelity=Fidelity(level=level), context=context)


@pytest.mark.parametrize(
    ("level", "context", "change", "same"),
    [
        ("cost", LATENCY, {"device": "cuda", "device_name": "H200"}, False),
        ("cost", LATENCY, {"device_name": "another processor"}, False),
        ("cost", LATENCY, {"runtime": "torch"}, False),
        ("cost", LATENCY, {"threads": 2}, False),
        ("cost", LATENCY, {"batch": 8}, False),
        ("cost", LATENCY, {"dtype": "float16"}, False),
        ("cost", LATENCY, {"version": "2.0", "repeats": 100, "predicted": True, "error": 0.1, "code": "2"}, True),
        ("cost", {"table": "a.csv", "sha256": "1"}, {"sha256": "2"}, False),
        ("supernet", INHERITED, {"bn": "recalibrated"}, False),
        ("supernet", INHERITED, {"eval_batch": 128}, False),
        ("supernet", INHERITED | {"bn": "recalibrated"}, {"eval_batch": 128}, True),
        ("supernet", INHERITED, {"dtype": "bf16"}, False),
        ("supernet", INHERITED, {"split": "test"}, False),
        ("supernet", INHERITED, {"code": "0.2", "device": "NVIDIA H200"}, True),
        ("short", {"split": "valid", "dtype": "fp32", "device": "cpu"}, {"dtype": "bf16", "device": "H200"}, True),
        ("full", {"device": "phone"}, {"device": "tablet"}, False),
    ],
)
def test_what_changes_a_value_keeps_it_from_being_compared_and_nothing_else_does(
    level: Level, context: dict[str, Any], change: dict[str, Any], same: bool
) -> None:
    one, other = (comparable(measured(each, level)) for each in (context, {**context, **change}))
    assert (one == other) is same
    assert (differences(one, other) == "") is same


def test_what_differs_is_said_in_words() -> None:
    assert differences({"device": "cpu", "batch": 1}, {"device": "cuda", "batch": 1}) == "device cpu, here cuda"
    assert differences({}, {"threads": 2}) == "threads not said, here 2"


def test_a_searcher_sees_no_values_of_another_context() -> None:
    space = SPACES["macro"]({})
    texts = ["00000000", "00000001"]
    history = History((Objective(metric="latency_ms", level="cost", direction="min"),))
    for number, (text, context) in enumerate(zip(texts, (LATENCY, LATENCY | {"device": "cuda"}), strict=True)):
        proposal = Proposal(text=text, digest=space.parse(text).digest, fidelity=Fidelity(level="supernet"))
        history.extend(
            [
                Evaluation(
                    evaluation_id=f"e{number}",
                    job_id="j",
                    number=number,
                    commit=number + 1,
                    proposal=proposal,
                    state=EvaluationState.FINISHED,
                    measurements=(measured(context, "cost", "latency_ms", 2.0 - number),),
                )
            ],
            space,
        )
    assert [record.values for record in history.settled] == [(2.0,), None]
    assert history.losses().tolist() == [[2.0]]
