"""The beginning of a search, held against its budget: cut down where nobody set it, and said."""

from __future__ import annotations

import pytest

from nas.searchers import REGISTRY, make_searcher, within, within_notes
from nas.spec import JobSpec, PluginRef
from nas.stages import preflight
from tests.nas.landscapes import Letters, objectives, rugged, searched


def reasons(ref: PluginRef, evaluations: int) -> list[str]:
    found: list[str] = []
    space = Letters()
    searched(make_searcher(ref, space, objectives()), rugged(space, 0), evaluations, batch=4, reasons=found)
    return found


def test_evolution_with_few_evaluations_evolves() -> None:
    ref = PluginRef(name="regularized_evolution")
    assert set(reasons(ref, 20)) == {"initial population"}  # what nobody wants
    assert reasons(within(ref, 20), 20).count("mutant of a tournament's winner") == 15
    assert list(within_notes(ref, 20)) == [
        "searcher.config.population of regularized_evolution is 5 and not 50, as budget.evaluations is 20; one that is "
        "set stays"
    ]


def test_what_a_spec_sets_stays_and_is_said_to_take_all() -> None:
    ref = PluginRef(name="regularized_evolution", config={"population": 50})
    assert within(ref, 20) == ref
    (said,) = within_notes(ref, 20)
    assert "searcher.config.population is 50 and budget.evaluations 20" in said
    assert "learns nothing; give at most 5" in said
    assert not list(within_notes(ref, 200))


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_budget_that_is_large_enough_changes_nothing(name: str) -> None:
    ref = PluginRef(name=name)
    assert within(ref, 400) == ref
    assert not list(within_notes(ref, 400))


def test_searchers_that_hold_others_fit_these_too() -> None:
    found = within(PluginRef(name="assisted", config={"of": 3}), 24)
    held = {"name": "regularized_evolution", "config": {"population": 6}}
    assert found.config == {"of": 3, "labels": 6, "searcher": held}
    sampler = PluginRef(name="optuna", config={"sampler": "NSGAIISampler", "kwargs": {"crossover_prob": 0.5}})
    assert within(sampler, 24).config["kwargs"] == {"crossover_prob": 0.5, "population_size": 6}


def test_preflight_says_it() -> None:
    spec = JobSpec.from_mapping(
        {
            "space": {"name": "options", "config": {"decisions": {"a": ["1", "2", "3"], "b": ["1", "2", "3"]}}},
            "evaluator": {"name": "external", "config": {"target": "board"}},
            "searcher": "regularized_evolution",
            "objectives": {"accuracy": "max"},
            "budget": {"evaluations": 8},
        }
    )
    assert any("population of regularized_evolution is 4 and not 50" in note for note in preflight(spec).notes)
