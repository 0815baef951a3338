"""Plug-ins are found by file and by entry point; what is wrong with one is said when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from pydantic import Field

from searchspaces import BrokenPlugin, Config, ConfigError, DuplicatePlugin, Plugin, Registry, UnknownPlugin
from searchspaces import _registry as registry_module

GOOD = "from searchspaces import Plugin\nPLUGIN = Plugin('good', 'a good one', 'nowhere', lambda config: 42)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "plugins_under_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_machinery.py").write_text("raise RuntimeError('machinery is no plug-in')")
    (package / "good.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.startswith("plugins_under_test")]:
        del sys.modules[name]


def registry() -> Registry[int]:
    return Registry("numbers", "plugins_under_test")


def test_a_file_is_a_plugin_and_machinery_is_not(folder: Path) -> None:
    found = registry()
    assert list(found) == ["good"]
    assert found["good"]() == 42


def test_a_plugin_of_no_such_name_is_refused_with_the_names_there_are(folder: Path) -> None:
    with pytest.raises(UnknownPlugin, match="there are good"):
        registry()["bad"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_anywhere", "does not load"),
        ("PLUGIN = 3", "not a Plugin named"),
        (GOOD, "not a Plugin named 'bad'"),
        ("x = (", "does not load"),
        ("undefined_name", "does not load"),
        ("raise ValueError('at import')", "does not load"),
        ("", "does not load"),
        ("raise KeyError('at import')", r"KeyError: 'at import'"),
        ("import sys\nsys.exit(3)", r"bad.py:2\) does not load: SystemExit: 3"),
        ("def broken():\n    return 1 / 0\nbroken()", r"bad.py:2\) does not load: ZeroDivisionError"),
    ],
)
def test_a_file_that_holds_no_plugin_is_broken_and_harms_no_other(folder: Path, source: str, reason: str) -> None:
    (folder / "bad.py").write_text(source)
    found = registry()
    with pytest.raises(BrokenPlugin, match=reason):
        found["bad"]
    assert found["good"]() == 42


def test_an_entry_point_adds_a_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "_other.py").write_text(GOOD.replace("good", "other"))
    point = EntryPoint("other", "plugins_under_test._other:PLUGIN", "nas.numbers")
    monkeypatch.setattr(registry_module, "entry_points", lambda *, group: EntryPoints([point]))
    assert sorted(registry()) == ["good", "other"]
    assert registry()["other"].description == "a other one"


def test_two_plugins_of_one_name_are_refused_and_the_others_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "_other.py").write_text(GOOD.replace("good", "other"))
    points = [("good", "somewhere:PLUGIN"), ("other", "plugins_under_test._other:PLUGIN")]
    found = [EntryPoint(name, target, "nas.numbers") for name, target in points]
    monkeypatch.setattr(registry_module, "entry_points", lambda *, group: EntryPoints(found))
    with pytest.raises(DuplicatePlugin, match="rename one of them"):
        registry()["good"]
    assert list(registry().sound()) == ["other"]


@pytest.mark.parametrize(("flags", "wrong"), [("{}", "lacks the flag size"), ("{'size': True}", "size is True")])
def test_a_plugin_without_the_flags_of_its_kind_is_broken(folder: Path, flags: str, wrong: str) -> None:
    text = f"PLUGIN = Plugin('bad', 'a bad one', 'nowhere', lambda config: 1, flags={flags})"
    (folder / "bad.py").write_text(f"from searchspaces import Plugin\n{text}\n")
    found: Registry[int] = Registry("numbers", "plugins_under_test", {"size": int})
    with pytest.raises(BrokenPlugin, match=wrong):
        found["bad"]


def test_what_fails_to_be_made_is_named_with_its_line(folder: Path) -> None:
    lines = "def made(config):\n    return {}['there']\nPLUGIN = Plugin('bad', 'a bad one', 'nowhere', made)"
    (folder / "bad.py").write_text(f"from searchspaces import Plugin\n{lines}\n")
    with pytest.raises(BrokenPlugin, match=r"bad cannot be made: KeyError: 'there' \(.*bad.py:3\)"):
        registry()["bad"]()
    with pytest.raises(BrokenPlugin, match=r"bad cannot be made: TypeError"):
        registry()["bad"](None, "context", "that it does not take")


class Sized(Config):
    size: int = Field(1, ge=1, le=4, description="How large.")


def test_wrong_settings_name_every_field_its_value_and_what_is_allowed() -> None:
    plugin = Plugin("sized", "", "", lambda config: config, Sized)
    with pytest.raises(ConfigError) as caught:
        plugin({"size": 9, "colour": "red"})
    violations = {v.field: (v.value, v.allowed) for v in caught.value.violations}
    assert violations == {"size": ("9", "less than or equal to 4"), "colour": ("'red'", "no such key; there is size")}
