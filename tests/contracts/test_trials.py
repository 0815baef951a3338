"""Plug-ins of others that would end a job after its training, or keep it from ending: refused at preflight."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas.admission import admit
from nas.datasets import REGISTRY as DATASETS
from nas.datasets import Dataset
from nas.evaluators import EvaluationContext, Evaluator, Outcome, Request
from nas.plugins import registry
from nas.recipes import REGISTRY as RECIPES
from nas.resources import Measurement
from nas.spec import JobSpec
from nas.stages import _trials
from nas.stages._strangers import refuse_broken
from nas.workbench import Workbench
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, Config, DataError, Plugin, SpecError
from searchspaces.nasbench201 import Config as SpaceConfig
from searchspaces.nasbench201 import NASBench201
from tests.contracts.test_strangers import SPEC


def refused(
    kind: str,
    create: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    settings: type[Config] = Config,
    **flags: Any,
) -> str:
    """What preflight says of a job with this plug-in of somebody else; empty where it lets it pass."""
    common = {"level": "full", "metrics": ("accuracy",), "needs_supernet": False, "needs_data": False}
    given = {**common, **flags} if kind == "evaluators" else flags
    plugin: Plugin[Any] = Plugin("tried", "Somebody's.", "nobody", create, settings, flags=given)
    monkeypatch.setitem(globals(), "tried", plugin)
    monkeypatch.setitem(registry(kind)._targets, "tried", f"{__name__}:tried")
    change = {
        "evaluators": {"evaluator": "tried"},
        "spaces": {"space": {**SPEC["space"], "name": "tried"}, "deliver": {"networks": 1, "formats": ["pytorch"]}},
        "recipes": {"supernet": {**SPEC["supernet"], "recipe": "tried"}},
        "datasets": {"dataset": "tried"},
    }[kind]
    spec, _ = admit({**SPEC, **change}, datasets={})
    try:
        refuse_broken(spec, Workbench(spec))
    except SpecError as error:
        (violation,) = error.violations
        assert violation.value == "'tried'"
        assert "test_trials.py:" in violation.allowed
        return f"{violation.field}: {violation.allowed}"
    return ""


class Measuring(Evaluator):
    """Measures what it is told to."""

    def __init__(self, config: Config, bench: Workbench) -> None:
        self.bench, self.calls = bench, 0

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        self.calls += 1
        for request in requests:
            if context.should_stop():
                return
            yield self.outcome(request, context)

    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        return Outcome(request.evaluation_id, (self.measured(request),))

    def measured(self, request: Request, **changes: Any) -> Measurement:
        known = {"metric": "accuracy", "value": 0.5, "fidelity": request.fidelity, **changes}
        return Measurement.model_validate(known)


class OfAnotherLevel(Measuring):
    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        fidelity = request.fidelity.model_copy(update={"level": "short"})
        return Outcome(request.evaluation_id, (self.measured(request, fidelity=fidelity),))


class OfAnotherMetric(Measuring):
    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        return Outcome(request.evaluation_id, (self.measured(request, metric="fame"),))


class OfAnotherRequest(Measuring):
    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        return Outcome("mine", (self.measured(request),))


class Leaving(Measuring):
    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        return super().evaluate(requests[1:], context)


class Once(Measuring):
    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        if self.calls > 1:
            raise RuntimeError("a file is closed")
        return super().outcome(request, context)


class Failing(Measuring):
    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        return Outcome(request.evaluation_id, error="no licence")


class Infinite(Measuring):
    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        return Outcome(request.evaluation_id, (self.measured(request, value=float("nan")),))


class Loading(Measuring):
    """Reads the weights of the supernet."""

    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        self.bench.supernet().weights_of_mine  # noqa: B018
        return super().outcome(request, context)


class Seldom(Measuring):
    """Fails for most."""

    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        if self.calls < 4:
            return Outcome(request.evaluation_id, error="too large")
        return super().outcome(request, context)


@pytest.mark.parametrize(
    ("create", "flags", "said"),
    [
        (OfAnotherLevel, {}, "asked for at level full is measured there; got short"),
        (OfAnotherMetric, {}, "the metrics that it says it measures are measured; got fame, without accuracy"),
        (OfAnotherRequest, {}, "every request is answered once"),
        (Leaving, {}, "every request is answered once"),
        (Once, {}, "it raised RuntimeError: a file is closed"),
        (Failing, {}, "some network can be measured; of 8 none was, the last: no licence"),
        (Infinite, {}, "none was, the last: accuracy.value is nan"),
        (Loading, {"needs_supernet": True, "needs_data": True, "level": "supernet"}, "it raised AttributeError"),
    ],
)
def test_an_evaluator_that_no_search_could_go_on_with_is_refused(
    create: type[Evaluator], flags: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = refused("evaluators", create, monkeypatch, **flags)
    assert found.startswith("evaluator: ")
    assert said in found


@pytest.mark.parametrize("create", [Measuring, Seldom])
def test_an_evaluator_that_measures_some_passes(create: type[Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused("evaluators", create, monkeypatch) == ""


class Slow(Measuring):
    """Never asks whether to stop."""

    def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
        time.sleep(60)
        return super().outcome(request, context)


def test_an_evaluator_that_takes_long_is_tried_for_a_while_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trials, "_SECONDS", 0.1)
    began = time.monotonic()
    assert refused("evaluators", Slow, monkeypatch) == ""
    assert time.monotonic() - began < 30


class OfLoss:
    """A recipe of ours with one part that breaks."""

    def __init__(self, part: str, method: str) -> None:
        self.part, self.method = part, method

    def __call__(self, config: Config, setting: Any) -> Any:
        made = RECIPES["pada"](None, setting)

        def broken(*arguments: Any, **named: Any) -> Any:
            raise KeyError(self.method)

        setattr(getattr(made, self.part), self.method, broken)
        return made


@pytest.mark.parametrize(
    ("part", "method"),
    [("paths", "end_epoch"), ("paths", "state_dict"), ("gradients", "run")],
)
def test_a_recipe_that_breaks_off_within_its_training_is_refused(
    part: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = refused("recipes", OfLoss(part, method), monkeypatch)
    assert found.startswith("supernet.recipe: ")
    assert f"it raised KeyError: '{method}'" in found


def test_a_recipe_that_cannot_go_on_after_a_pause_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = refused("recipes", OfLoss("data", "load_state_dict"), monkeypatch)
    assert "the checkpoint 'supernet' does not fit this network: 'load_state_dict'" in found


def test_a_recipe_that_trains_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused("recipes", lambda config, setting: RECIPES["pada"](None, setting), monkeypatch) == ""


def test_a_space_whose_networks_cannot_be_exported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import Tensor, nn

    class Choosing(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    class Odd(NASBench201):
        def build(self, architecture: Architecture, *, seed: int = 0) -> nn.Module:
            return Choosing(super().build(architecture, seed=seed))

    flags = dict(SPACES["nasbench201"].flags)
    found = refused("spaces", Odd, monkeypatch, settings=SpaceConfig, **flags)
    assert found.startswith("space: ")
    assert "the network" in found


def digits(config: Config) -> Dataset:
    made: Dataset = DATASETS["digits"]({"limit": 60})
    return made


def of_broken_test(config: Config) -> Dataset:
    made = digits(config)
    test = made.load_test()
    return replace(made, load_test=lambda: replace(test, labels=test.labels + 5))


def of_new_digest(config: Config) -> Dataset:
    return replace(digits(config), digest=f"{time.monotonic_ns():064x}")


@pytest.mark.parametrize(
    ("create", "said"),
    [
        (of_broken_test, "labels of test number the classes"),
        (of_new_digest, "made again, the digest is the same"),
    ],
)
def test_a_data_set_that_only_the_end_of_a_job_would_find_broken_is_refused(
    create: Callable[[Config], Dataset], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said in refused("datasets", create, monkeypatch)


def test_a_part_of_a_data_set_has_the_samples_of_its_rows() -> None:
    dataset = digits(Config())
    part = _trials._part_of(dataset, 16, seed=0)
    assert len(part.train) == 16
    for image, label, number in zip(part.train.images, part.train.labels, part.train.ids, strict=True):
        row = int(np.flatnonzero(dataset.train.ids == number)[0])
        assert (dataset.train.images[row] == image).all()
        assert dataset.train.labels[row] == label


def test_settings_that_are_wrong_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reading(Measuring):
        def outcome(self, request: Request, context: EvaluationContext) -> Outcome:
            raise DataError("measured.csv does not exist; give another path.")

    with pytest.raises(DataError, match=r"measured.csv does not exist"):
        refused("evaluators", Reading, monkeypatch)


def test_what_is_ours_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.stages._strangers.TRIALS", {})
    spec = JobSpec.from_mapping(SPEC)
    refuse_broken(spec, Workbench(spec))
