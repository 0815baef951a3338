"""Settings of recipes: the released behaviour of PA&DA in one word, and what a step of each recipe costs."""

from __future__ import annotations

from typing import Any

import pytest

from nas.recipes import REGISTRY
from nas.spec import JobSpec
from nas.stages import _preflight
from nas.stages._timing import Timing
from nas.testing._recipes import small_dataset, small_space
from nas.training import Setting
from nas.workbench import Workbench
from searchspaces import ConfigError

RELEASED = {
    "path_cap": 1.0,
    "data_cap": 1.0,
    "path_schedule": "linear",
    "data_schedule": "linear",
    "memory": "half_mean",
    "norms": "after_clip",
    "parameter_free": "zero",
    "dead": "zero",
    "undrawn": "forget",
    "path_reweighting": "none",
    "data_reweighting": "none",
    "idle": "decay",
    "path_distribution": "shared",
    "path_importance": True,
    "data_importance": True,
}


def test_released_sets_every_switch_that_the_published_code_decides() -> None:
    settings = REGISTRY["pada"].configure({"released": True}).model_dump()
    assert {key: settings[key] for key in RELEASED} == RELEASED
    plain = REGISTRY["pada"].configure({}).model_dump()
    assert {key for key in RELEASED if plain[key] != settings[key]} >= {"path_cap", "memory", "norms", "dead", "idle"}


def test_released_may_be_spelled_out_and_survives_being_stored() -> None:
    plugin = REGISTRY["pada"]
    config = plugin.configure({"released": True})
    assert plugin.configure(config) == config
    assert plugin.configure({"released": True, **RELEASED}) == config
    assert plugin.configure({"released": False, "path_cap": 0.3}).model_dump()["path_cap"] == 0.3


@pytest.mark.parametrize(
    ("field", "value"),
    [("path_cap", 0.5), ("data_reweighting", "exact"), ("norms", "before_clip"), ("path_importance", False)],
)
def test_a_setting_that_contradicts_released_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        REGISTRY["pada"].configure({"released": True, field: value})
    (violation,) = refused.value.violations
    assert violation.field == field
    assert repr(RELEASED[field]) in violation.allowed
    assert "released" in violation.allowed


def test_released_is_yes_or_no() -> None:
    with pytest.raises(ConfigError):
        REGISTRY["pada"].configure({"released": "true"})


PASSES = {"spos": 1, "randomnas": 1, "magic_t": 1, "pada": 1, "fairnas": 5, "sumnas": 10}


@pytest.mark.parametrize(("name", "passes"), PASSES.items())
def test_a_recipe_knows_what_its_step_costs(name: str, passes: int) -> None:
    dataset = small_dataset()
    options = JobSpec.from_mapping({"dataset": "digits"}).supernet
    setting = Setting.of(small_space(), dataset, options, num_epochs=4, seed=0)
    assert REGISTRY[name](None, setting).passes_per_step == passes


def test_preflight_expects_a_step_to_take_as_long_as_its_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(pass_seconds=0.01, threads=1, largest_path_bytes=1, at_once=64)
    monkeypatch.setattr(_preflight, "time_paths", lambda spec, bench: timing)

    def seconds(recipe: str) -> tuple[float, int]:
        spec = {"dataset": "digits", "supernet": {"recipe": recipe}, "budget": {"epochs": 8}}
        job = JobSpec.from_mapping(spec)
        report = _preflight.preflight(job, bench=Workbench(job))
        return report.phase_seconds["SUPERNET"], report.train_steps or 0

    (one, steps), (five, same), (ten, _) = (seconds(recipe) for recipe in ("spos", "fairnas", "sumnas"))
    assert (five, ten) == (pytest.approx(5 * one), pytest.approx(10 * one))
    assert same == steps
