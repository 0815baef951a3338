"""Plug-ins of others that break their contracts: seen by the check, refused before a job spends anything, and named."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from api import plugin_checks
from nas.history import History
from nas.job import admit, blamed
from nas.plugins import registry
from nas.resources import Objective, PreflightReport, Proposal
from nas.searchers import REGISTRY as SEARCHERS
from nas.searchers import Searcher
from nas.spec import JobSpec
from nas.stages._preflight import examine
from nas.workbench import Workbench
from searchspaces import BrokenPlugin, Config, Plugin, Rng, SearchSpace, SpecError

STRANGERS = Path(__file__).parents[1] / "strangers"
BREAKS = {
    "edges": ("spaces", "an edge's option is the one chosen of its decision"),
    "encoding": ("spaces", "an encoding has a number for every option of every decision"),
    "offering": ("spaces", "the flag counts is False"),
    "flagless": ("proxies", "it lacks the flag data"),
    "indexing": ("proxies", "IndexError"),
    "proposing": ("searchers", "nothing is proposed twice"),
    "planning": ("recipes", "IndexError"),
    "predicting": ("predictors", "gives nothing it reads"),
    "costing": ("costs", "finite and positive"),
    "collecting": ("datasets", "images of train are uint8"),
    "judging": ("tasks", "the flag lists the metrics"),
    "measuring": ("evaluators", "KeyError"),
    "listing": ("tables", "is no cell"),
}
"""File -> its kind, and the promise that it breaks or the error that it raises."""
SPEC: dict[str, Any] = {
    "dataset": {"name": "digits", "config": {"limit": 60}},
    "space": {"name": "nasbench201", "config": {"channels": 2, "cells_per_stage": 1}},
    "supernet": {"batch_size": 8},
    "precision": "fp32",
    "budget": {"epochs": 1, "evaluations": 4},
    "audit": {"networks": 0},
    "deliver": {"networks": 0},
}


def examined(spec: JobSpec) -> PreflightReport:
    """What a worker says of a spec before anything is spent."""
    return examine(spec, bench=Workbench(spec)).report


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a stranger into the registry of its kind, as an entry point of an installed package does."""

    def install(name: str) -> None:
        kind, _ = BREAKS[name]
        monkeypatch.setitem(registry(kind)._targets, name, f"tests.strangers.{name}:PLUGIN")

    return install


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if BREAKS[name][0] == "proxies" else name for name in BREAKS]
)
def test_the_check_of_a_file_says_what_it_breaks_and_where(name: str) -> None:
    kind, promise = BREAKS[name]
    (found,) = plugin_checks.find(str(STRANGERS / f"{name}.py"), kind)
    said = plugin_checks.check(found, {})
    assert said is not None
    assert promise in said
    assert f"{name}.py:" in said


@pytest.mark.parametrize("name", sorted(set(BREAKS) - {"flagless", "planning"}))
def test_the_kind_of_a_plugin_is_told_by_whatever_makes_it(name: str) -> None:
    (found,) = plugin_checks.find(f"tests.strangers.{name}")
    assert found.kind == BREAKS[name][0]


def test_the_kind_of_a_lambda_is_told_by_what_it_makes_and_else_asked_for() -> None:
    (found,) = plugin_checks.find("tests.strangers.flagless")
    assert found.kind == "proxies"
    with pytest.raises(BrokenPlugin, match="planning: cannot tell its kind; give --kind"):
        plugin_checks.find("tests.strangers.planning")


class Makers:
    """All ways to make a searcher."""

    def bound(self, config: Config, space: SearchSpace, objectives: Sequence[Objective]) -> Searcher:
        return Plain(config, space, objectives)

    def __call__(self, config: Config, space: SearchSpace, objectives: Sequence[Objective]) -> Searcher:
        return Plain(config, space, objectives)


class Plain(Searcher):
    def __init__(self, config: Config, space: SearchSpace, objectives: Sequence[Objective], extra: int = 0) -> None:
        self.held = SEARCHERS["random"](None, space, objectives)

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        return self.held.ask(history, n, rng)


def a_function(config: Config, space: SearchSpace, objectives: Sequence[Objective]) -> Searcher:
    return Plain(config, space, objectives)


WAYS: dict[str, Callable[..., Searcher]] = {
    "class": Plain,
    "function": a_function,
    "partial": partial(a_function),
    "partial of a class": partial(Plain, extra=2),
    "bound method": Makers().bound,
    "object": Makers(),
    "lambda": lambda config, space, objectives: Plain(config, space, objectives),
}


@pytest.mark.parametrize("way", WAYS)
def test_create_may_be_anything_that_can_be_called(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.spec import PluginRef
    from nas.stages._keys import modules_of

    plugin: Plugin[Searcher] = Plugin("plain", "At random.", "nobody", WAYS[way], flags={"multi_objective": True})
    monkeypatch.setattr(importlib.import_module("tests.strangers"), "PLUGIN", plugin, raising=False)
    (found,) = plugin_checks.find("tests.strangers", "searchers" if way == "lambda" else None)
    assert found.kind == "searchers"
    monkeypatch.setitem(SEARCHERS._targets, "plain", "tests.strangers:PLUGIN")
    assert __name__ in modules_of("searchers", PluginRef(name="plain"))
    if way == "lambda":  # of which the least is known
        assert plugin_checks.check(found, {}) is None
        assert examined(JobSpec.from_mapping({**SPEC, "searcher": "plain"})).space_size == 15_625


def test_one_that_does_not_load_leaves_the_check_of_its_kind_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry("tasks")._targets, "raising", "tests.strangers.raising:PLUGIN")
    said = {found.name: plugin_checks.check(found, {}) for found in plugin_checks.find("tasks")}
    assert said["classification"] is None
    assert "raising.py:3) does not load: KeyError: 'nothing'" in str(said["raising"])
    with pytest.raises(BrokenPlugin, match=r"KeyError: 'nothing' \(.*raising.py:3\)"):
        plugin_checks.find(str(STRANGERS / "raising.py"))


@pytest.mark.parametrize(
    "reference", ["predictors:ridge", "costs:params", pytest.param("proxies:l2_norm", marks=pytest.mark.slow)]
)
def test_faults_of_others_are_not_taken_for_those_of_what_is_checked(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, name in (("spaces", "raising"), ("proxies", "raising"), ("spaces", "edges"), ("proxies", "indexing")):
        monkeypatch.setitem(registry(kind)._targets, name, f"tests.strangers.{name}:PLUGIN")
    (found,) = plugin_checks.find(reference)
    assert plugin_checks.check(found, {}) is None


def test_settings_of_a_check_reach_the_plugin() -> None:
    (found,) = plugin_checks.find("spaces:nasbench201")
    assert "less than or equal to 1024" in str(plugin_checks.check(found, {"channels": 5000}))
    seen = []

    class Watched(Config):
        channels: int = Field(1, ge=1, le=9, description="How many.")

    plugin: Plugin[Any] = Plugin("watched", "w", "w", seen.append, Watched)
    plugin_checks.check(plugin_checks.Found("spaces", "watched", plugin), {"channels": 3})
    assert [config.channels for config in seen] == [3]


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("edges", {"space": {"name": "edges", "config": {"channels": 2, "cells_per_stage": 1}}}, "space"),
        ("encoding", {"space": {"name": "encoding", "config": {"channels": 2, "cells_per_stage": 1}}}, "space"),
        ("proposing", {"searcher": "proposing"}, "searcher"),
        (
            "proposing",
            {"searcher": {"name": "prefiltered", "config": {"searcher": {"name": "proposing"}}}},
            "searcher.config.searcher",
        ),
        ("planning", {"supernet": {**SPEC["supernet"], "recipe": "planning"}}, "supernet.recipe"),
        (
            "predicting",
            {"searcher": {"name": "model_based", "config": {"predictor": "predicting"}}},
            "searcher.config.predictor",
        ),
        ("costing", {"objectives": {"accuracy": "max", "saved": "min"}, "costs": {"saved": "costing"}}, "costs.saved"),
        ("judging", {"task": "judging"}, "task"),
        ("measuring", {"evaluator": "measuring"}, "evaluator"),
        ("measuring", {"audit": {"networks": 2, "evaluator": "measuring"}}, "audit.evaluator"),
    ],
)
def test_preflight_refuses_what_would_end_the_job_later(
    name: str, change: dict[str, Any], field: str, installed: Callable[[str], None]
) -> None:
    installed(name)
    spec, _ = admit({**SPEC, **change}, datasets={})
    with pytest.raises(SpecError) as caught:
        examined(spec)
    (violation,) = caught.value.violations
    assert violation.field == field
    assert violation.value == repr(name)
    assert f"{name}.py:" in violation.allowed


def test_admission_refuses_a_plugin_without_the_flags_of_its_kind(installed: Callable[[str], None]) -> None:
    installed("flagless")
    with pytest.raises(SpecError) as caught:
        admit({**SPEC, "scoring": {"proxies": ["flagless"]}}, datasets={})
    (violation,) = caught.value.violations
    assert violation.field == "scoring.proxies.0"
    assert "it lacks the flag data (bool)" in violation.allowed


def test_a_broken_plugin_of_others_leaves_jobs_without_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("costs", "proxies", "spaces", "searchers"):
        monkeypatch.setitem(registry(kind)._targets, "raising", "tests.strangers.raising:PLUGIN")
    spec, _ = admit(SPEC, datasets={})
    assert examined(spec).space_size == 15_625


def test_an_error_of_a_plugin_is_told_with_its_name_and_line(installed: Callable[[str], None]) -> None:
    installed("proposing")
    spec = JobSpec.from_mapping({**SPEC, "searcher": "proposing"})
    space = registry("spaces")["nasbench201"]()
    objectives = (Objective(metric="accuracy", level="supernet", direction="max"),)
    searcher = registry("searchers")["proposing"](None, space, objectives)
    try:
        searcher.ask(History(objectives), 1, __import__("numpy").random.default_rng(0))
    except KeyError as error:
        said = blamed(spec, error)
    assert said.startswith("searcher 'proposing' raised KeyError: 'depth' (")
    assert "proposing.py:" in said
    assert blamed(spec, ValueError("of nobody")) == "ValueError: of nobody"
