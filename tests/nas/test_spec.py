"""What a user writes is read as he means it, and what is wrong is told in his words."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import pytest

from nas.admission import admit
from nas.plugins import KINDS, registry
from nas.quantities import Constraint, parse_constraint, parse_seconds
from nas.spec import JobSpec
from searchspaces import ConfigError, SpecError, Violation

# Words of the library that checks, which mean nothing to a user.
INTERNALS = (
    "ydantic", "instance of", "dictionary", "function-", "[key]", "valid tuple", "default factory", "NoneType",
    "should", "not permitted", "unable to",
)  # fmt: skip
WRONG: tuple[Any, ...] = (
    None, "x", "", -1, 10**30, 1.5, float("nan"), True, [], ["x"], [1], {}, {"a": 1}, {"name": 1}, {1: 2}, object(),
)  # fmt: skip


def refused(mapping: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        admit(mapping, datasets={})
    return {violation.field: violation.allowed for violation in caught.value.violations}


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("57%", 0.57), ("33.3 %", 0.333), ("0.3%", 0.003), ("7%", 0.07), ("2.01k", 2010), ("1.1M", 1_100_000),
        ("4.35K", 4350), ("0.07G", 70_000_000), ("1.001T", 1_001_000_000_000), ("1e3", 1000), ("2.5e6", 2_500_000),
        ("200_000", 200_000), (".5", 0.5), ("5.", 5), ("-0.3%", -0.003),
    ],
)  # fmt: skip
def test_a_bound_is_the_number_that_is_written(text: str, bound: float) -> None:
    for operator in ("<=", ">="):
        assert parse_constraint(f"accuracy {operator}{text}") == Constraint("accuracy", operator, bound)  # type: ignore[arg-type]
        assert Constraint("accuracy", operator, bound).violation(bound) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("places", range(1, 4))
def test_every_percentage_accepts_its_own_fraction(places: int) -> None:
    for number in range(1, 10**places, 7):
        percent = f"{number * 10 ** (2 - places):.{max(0, places - 2)}f}"
        exact = float(f"{number}e-{places}")
        assert parse_constraint(f"accuracy >= {percent}%").violation(exact) == 0
        assert parse_constraint(f"accuracy <= {percent}%").violation(exact) == 0


@pytest.mark.parametrize(
    "text", ["a < 3", "a <= 1.2.3", "a <= 1e400", "a <= 1e308T", "a <=", "a <= 3m", "a <= nan", "<= 3"]
)
def test_what_is_no_bound_is_refused_in_words(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec.from_mapping({"constraints": ["params <= 1k", text]})
    assert [violation.field for violation in caught.value.violations] == ["constraints.1"]
    assert "number" in caught.value.violations[0].allowed


def test_a_violation_never_overflows() -> None:
    largest = sys.float_info.max
    assert Constraint("latency", "<=", 1e-300).violation(largest) == largest
    assert Constraint("latency", "<=", -largest).violation(largest) > 0


def test_a_duration_is_the_time_that_is_written() -> None:
    for text, seconds in (("90s", 90), ("1.1m", 66), ("0.7h", 2520), ("2d", 172_800)):
        assert parse_seconds(text) == seconds
    for wrong in ("1..2s", "10 minutes", "m", "1e400h"):
        with pytest.raises(SpecError) as caught:
            JobSpec.from_mapping({"budget": {"wall_time": wrong}})
        assert [violation.field for violation in caught.value.violations] == ["budget.wall_time"]
        assert "could not convert" not in str(caught.value)


# --- YAML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "space: macro\nbudget: {epochs: 1}\nbudget: {epochs: 2}\n",
            "'budget' is there twice, in line 2 and in line 3",
        ),
        ("objectives: {accuracy: max, accuracy: min}\n", "'accuracy' is there twice, in line 1"),
        ("searcher:\n  name: ladder\n  config:\n    rungs: [1, 2]\n    rungs: [1, 3]\n", "in line 4 and in line 5"),
        ('labels: {a: x, "a": y}\n', "'a' is there twice"),
        ("space: [\n", "line 2"),
        ("labels: " + "[" * 5000, "too deeply"),
    ],
)
def test_a_yaml_file_that_means_two_things_or_none_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=said):
        JobSpec.from_yaml(path)


def test_merged_keys_may_be_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "audit: {training: &short {epochs: 2, augment: false}}\ndeliver: {training: {<<: *short, epochs: 9}}\n"
    )
    spec = JobSpec.from_yaml(path)
    assert (spec.deliver.training.epochs, spec.deliver.training.augment) == (9, False)


# --- what is wrong, and nothing else ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"constraints": ["params < 900k"]}, {"name": 123}, {"objectives": {"accuracy": "maximize"}}, {"spaec": "macro"}],
)
def test_a_wrong_value_is_told_once_and_nothing_is_said_of_the_searcher(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec.from_mapping({"space": "macro", "evaluator": "table", **wrong})
    assert [violation.field.partition(".")[0] for violation in caught.value.violations] == list(wrong)


def test_what_no_store_can_keep_is_refused_where_it_stands() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value in (
        float("nan"),
        float("-inf"),
        2**63,
        -(10**5000),
        "a\0b",
        "\ud800",
        datetime.date(2024, 5, 1),
        loop,
        {1, 2},
    ):
        config = {"within": [{"deep": value}]}
        with pytest.raises(SpecError) as caught:
            JobSpec.from_mapping({"searcher": {"name": "random", "config": config}})
        (found,) = caught.value.violations
        assert found.field.startswith("searcher.config.within.0.deep")
        str(caught.value).encode()
    for field in ({"name": "a\0b"}, {"labels": {"a": "\0"}}, {"labels": {"\0": "a"}}):
        with pytest.raises(SpecError, match="text without NUL"):
            JobSpec.from_mapping(field)
    assert JobSpec.from_mapping({"searcher": {"name": "x", "config": {"path": Path("a/b")}}}).to_mapping()


@pytest.mark.parametrize("kind", KINDS)
def test_no_wrong_setting_of_a_plugin_is_answered_with_internals(kind: str) -> None:
    for name in registry(kind):
        plugin = registry(kind)[name]
        for field in [*plugin.Config.model_fields, "colour"]:
            for value in WRONG:
                try:
                    plugin.configure({field: value})
                except ConfigError as error:
                    _check_words(error.violations)


def test_no_wrong_value_in_a_spec_is_answered_with_internals() -> None:
    sections = ("", "budget", "supernet", "scoring", "audit", "deliver", "audit.training", "space", "searcher")
    for section in sections:
        fields = {**JobSpec().to_mapping()}
        for part in filter(None, section.split(".")):
            fields = fields[part]
        for key in [*fields, "colour"]:
            for value in WRONG:
                mapping: dict[str, Any] = {key: value}
                for part in reversed(list(filter(None, section.split(".")))):
                    mapping = {part: mapping}
                try:
                    JobSpec.from_mapping(mapping)
                except SpecError as error:
                    _check_words(error.violations)


def _check_words(violations: tuple[Violation, ...]) -> None:
    assert violations
    for violation in violations:
        found = [word for word in INTERNALS if word in violation.allowed or word in violation.field]
        assert not found, str(violation)
        assert violation.value != "PydanticUndefined"


# --- what may be meant ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "field", "said"),
    [
        ({"objectivs": {"accuracy": "max"}}, "objectivs", "did you mean objectives?"),
        ({"budget": {"evaluation": 3}}, "budget.evaluation", "did you mean evaluations?"),
        ({"deliver": {"training": {"batchsize": 8}}}, "deliver.training.batchsize", "did you mean batch_size?"),
        ({"objectives": {"accuracy": "maximise"}}, "objectives.accuracy", "did you mean max?"),
        ({"precision": "FP32"}, "precision", "did you mean fp32?"),
        ({"space": "nasbench-201"}, "space", "did you mean nasbench201?"),
        ({"searcher": "NSGA-2"}, "searcher", "did you mean nsga2?"),
        ({"supernet": {"recipe": "fair_nas"}, "dataset": "digits"}, "supernet.recipe", "did you mean fairnas?"),
        ({"dataset": "digit"}, "dataset", "did you mean digits?"),
        ({"dataset": "digits", "objectives": {"acuracy": "max"}}, "objectives.acuracy", "did you mean accuracy?"),
        ({"dataset": "digits", "constraints": ["parms <= 3"]}, "constraints.0", "did you mean params?"),
        ({"dataset": "digits", "scoring": {"proxies": ["gradsgin"]}}, "scoring.proxies.0", "did you mean gradsign?"),
        ({"searcher": {"name": "gp_its", "config": {"inital": 3}}}, "searcher.config.inital", "did you mean initial?"),
        ({"evaluator": {"name": "table", "config": {"table": "nasbench_201"}}}, "evaluator.config.table", "mean nasb"),
    ],
)  # fmt: skip
def test_a_name_that_is_nearly_one_is_answered_with_that_one(mapping: dict[str, Any], field: str, said: str) -> None:
    assert said in refused(mapping)[field]


@pytest.mark.parametrize(
    ("mapping", "field", "said"),
    [
        ({"supernet": {"precision": "fp32"}}, "supernet.precision", "precision is a key at the top"),
        ({"epochs": 3}, "epochs", "epochs is a key of budget or of audit.training or of deliver.training"),
        ({"audit": {"epochs": 3}}, "audit.epochs", "epochs is a key of audit.training or of budget"),
        ({"wall_time": "8m"}, "wall_time", "wall_time is a key of budget"),
        ({"budget": {"networks": 3}}, "budget.networks", "networks is a key of audit or of deliver"),
        ({"recipe": "spos"}, "recipe", "recipe is a key of supernet"),
        ({"space": {"name": "macro", "width": 0.5}}, "space.width", "width is a setting of macro, space.config.width"),
        ({"channels": 8}, "channels", "channels is a setting of nasbench201, space.config.channels"),
        ({"searcher": {"name": "random", "config": {"seed": 1}}}, "searcher.config.seed", "at the top"),
        ({"searcher": {"name": "random", "config": {"channels": 1}}}, "searcher.config.channels", "space.config"),
        ({"searcher": {"nam": "random"}}, "searcher.nam", "did you mean name?"),
    ],
)  # fmt: skip
def test_a_key_at_the_wrong_level_is_answered_with_its_place(mapping: dict[str, Any], field: str, said: str) -> None:
    assert said in refused(mapping)[field]
