"""What the documentation must list: every plug-in, route, setting, spec key, command and document, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from nas.plugins import KINDS, registry
from nas.spec import Audit as AuditSpec
from nas.spec import Budget, Deliver, JobSpec, PluginRef, Supernet, Training
from tests.conftest import ROOT
from tests.rules._sources import dotted, files, tree

DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def section(markdown: str, title: str) -> str:
    """The part below the heading `title`, to the next heading of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", markdown, re.MULTILINE | re.DOTALL)
    return match[2] if match else ""


def rows(markdown: str) -> dict[str, str]:
    """First cell, when it is `code`, -> the whole row, of all tables."""
    return {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", markdown, re.MULTILINE)}


def differences(documented: Iterable[str], real: Iterable[str]) -> list[str]:
    """What one has and the other lacks."""
    have, want = set(documented), set(real)
    return [f"not documented: {n}" for n in sorted(want - have)] + [f"does not exist: {n}" for n in sorted(have - want)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_is_documented_with_its_settings(kind: str) -> None:
    table = rows(section(text("docs/plugins.md"), kind))
    assert not differences(table, registry(kind))
    for name, plugin in registry(kind).items():
        missing = [field for field in plugin.Config.model_fields if f"`{field}`" not in table[name]]
        assert not missing, f"docs/plugins.md, {kind}, {name}: its settings {missing} are not in the row"


def test_the_readme_names_every_plugin() -> None:
    readme = text("README.md")
    assert [f"{k}: {n}" for k in KINDS for n in registry(k) if f"`{n}`" not in readme] == []


def real_routes(tmp_path: Path) -> set[str]:
    from api.app import create_app

    from api.settings import Settings
    from db import Store

    store = Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path)
    try:
        paths = create_app(store, Settings(folder=tmp_path)).openapi()["paths"]
    finally:
        store.close()
    return {f"{m.upper()} {path}" for path, verbs in paths.items() for m in verbs if m.upper() in METHODS}


def test_every_route_is_documented(tmp_path: Path) -> None:
    documented = {name for name in rows(text("docs/api.md")) if name.split(" ")[0] in METHODS}
    assert not differences(documented, real_routes(tmp_path))


def environment_variables() -> set[str]:
    """Names that the five packages read: the settings', and those asked of `os.environ`."""
    from api.settings import Settings

    prefix = str(Settings.model_config.get("env_prefix"))
    names = {(prefix + field).upper() for field in Settings.model_fields}
    return names | {found for file in files() for found in asked_of_environment(tree(file))}


def asked_of_environment(syntax: ast.AST) -> Iterator[str]:
    """NAS_* names in `os.environ.get("X")`, `os.getenv("X")` and `os.environ["X"]`."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.Call) and dotted(node.func).endswith(("environ.get", "getenv")):
            keys = node.args[:1]
        elif isinstance(node, ast.Subscript) and dotted(node.value).endswith("environ"):
            keys = [node.slice]
        else:
            continue
        yield from (str(k.value) for k in keys if isinstance(k, ast.Constant) and str(k.value).startswith("NAS_"))


def test_every_setting_is_documented() -> None:
    documented = {name for name in rows(text("docs/settings.md")) if name.startswith("NAS_")}
    assert not differences(documented, environment_variables())


def spec_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of a spec as YAML writes them."""
    parts: dict[str, type[BaseModel]] = {
        "supernet": Supernet,
        "budget": Budget,
        "audit": AuditSpec,
        "deliver": Deliver,
        "training": Training,
    }
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        yield from spec_keys(parts[name], f"{key}.") if name in parts else (key,)


def test_every_spec_key_is_documented() -> None:
    table = rows(section(text("docs/settings.md"), "The job spec"))
    assert not differences(table, spec_keys(JobSpec))


def cell(default: object) -> str:
    """How a default is written in a table."""
    if default is None or default in ({}, ()):
        return "none"
    if isinstance(default, PluginRef):
        return f"`{default.name}`"
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    if isinstance(default, dict):
        return f"`{{{', '.join(f'{key}: {value}' for key, value in default.items())}}}`"
    return f"`{default}`"


def defaults(value: object, keys: Iterable[str]) -> dict[str, str]:
    """Dotted key -> its default as a table writes it, read from a model's instance."""
    found = {}
    for key in keys:
        current = value
        for part in key.split("."):
            current = getattr(current, "from_job" if part == "from" else part)
        found[key] = cell(current)
    return found


def test_the_documented_defaults_are_the_real_ones() -> None:
    from api.settings import Settings

    page = text("docs/settings.md")
    keys = [key for key in spec_keys(JobSpec) if key != "dataset"]
    real = defaults(JobSpec.from_mapping({"dataset": "digits"}), keys)
    plain = Settings.model_construct()
    real |= {f"NAS_{n.upper()}": v for n, v in defaults(plain, Settings.model_fields).items() if n != "store"}
    documented = {key: row.split(" | ")[1] for key, row in rows(page).items() if key in real}
    assert {key: (documented.get(key), v) for key, v in real.items() if documented.get(key) != v} == {}


def test_the_yaml_of_the_documentation_is_a_valid_spec() -> None:
    found = [b for p in PAGES for b in re.findall(r"^```yaml\n(.*?)^```$", p.read_text("utf-8"), re.M | re.S)]
    assert found
    for block in found:
        JobSpec.from_mapping(yaml.safe_load(block))


def commands() -> set[str]:
    """Every command of the command line, with its group."""
    import typer.main
    from api.cli import app

    found: set[str] = set()
    waiting = [("nas", typer.main.get_command(app))]
    while waiting:
        prefix, command = waiting.pop()
        children = getattr(command, "commands", None)
        if children is None:
            found.add(prefix)
        else:
            waiting += [(f"{prefix} {name}", child) for name, child in children.items() if not child.hidden]
    return found


def test_every_command_is_documented() -> None:
    table = rows(section(text("docs/operations.md"), "The command line"))
    assert not differences((" ".join(re.findall(r"^[a-z ]+", row)[0].split()) for row in table), commands())


def test_every_document_is_linked_from_the_readme() -> None:
    assert [p.name for p in sorted(DOCS.glob("*.md")) if f"(docs/{p.name})" not in text("README.md")] == []


def broken_links(markdown: str, folder: Path) -> list[str]:
    """Relative links that lead to no file."""
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", markdown)
    return [target for target in targets if not (folder / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_of_a_document_is_broken(page: Path) -> None:
    assert broken_links(page.read_text(encoding="utf-8"), page.parent) == []


def test_the_readme_shows_the_example_file() -> None:
    shown = re.findall(r"^```python\n(.*?)^```$", text("README.md"), re.MULTILINE | re.DOTALL)
    assert text("examples/search.py") in shown
    lines = [line for line in text("examples/search.py").splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 15


def test_the_readme_has_no_command_that_escapes_the_check() -> None:
    fences = set(re.findall(r"^```(\w+)", text("README.md"), re.MULTILINE))
    assert fences <= {"console", "python", "yaml", "text"}


def test_the_rules_see_what_is_missing_or_made_up() -> None:
    table = rows("## x\n| name | what |\n| --- | --- |\n| `a` | first |\n| `gone` | old |\n")
    assert differences(table, ["a", "b"]) == ["not documented: b", "does not exist: gone"]
    assert broken_links("[x](nowhere.md) [y](https://example.org)", ROOT) == ["nowhere.md"]
    assert section("# A\n## one\nx\n### deeper\ny\n## two\nz\n", "one") == "x\n### deeper\ny\n"
    code = ast.parse('import os\nos.environ.get("NAS_A")\nos.environ["NAS_B"]\nos.getenv("HOME")')
    assert sorted(asked_of_environment(code)) == ["NAS_A", "NAS_B"]
