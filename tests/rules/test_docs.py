"""What the documentation lists: every plug-in, route, command, setting and spec key, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from nas.spec import Audit as AuditSpec
from nas.spec import Budget, Deliver, JobSpec, PluginRef, Scoring, Supernet, Training
from tests.conftest import ROOT
from tests.rules import _tables
from tests.rules._sources import dotted, files, tree

DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_document_are_what_the_code_says(page: Path) -> None:
    markdown = page.read_text(encoding="utf-8")
    assert _tables.rendered(markdown) == markdown, "run `make docs`"


def test_every_table_is_in_the_documents() -> None:
    held = [name for page in PAGES for name in _tables.marked(page.read_text(encoding="utf-8"))]
    assert sorted(held) == sorted(_tables.TABLES)


def test_a_stale_table_is_seen() -> None:
    stale = "<!-- table: tasks -->\n| `gone` | x |\n<!-- end -->"
    assert "gone" not in _tables.rendered(stale)
    assert "`classification`" in _tables.rendered(stale)


def environment_variables() -> set[str]:
    """Names that the five packages read: the settings', and those asked of `os.environ`."""
    from api.settings import Settings

    prefix = str(Settings.model_config.get("env_prefix"))
    names = {(prefix + field).upper() for field in Settings.model_fields}
    return names | {found for file in files() for found in asked_of_environment(tree(file))}


def asked_of_environment(syntax: ast.AST) -> Iterator[str]:
    """NAS_* names in `os.environ.get("X")`, `os.getenv("X")`, `os.environ["X"]` and `envvar="X"`."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.Call) and dotted(node.func).endswith(("environ.get", "getenv")):
            keys = node.args[:1]
        elif isinstance(node, ast.Subscript) and dotted(node.value).endswith("environ"):
            keys = [node.slice]
        elif isinstance(node, ast.keyword) and node.arg == "envvar":
            keys = [node.value]
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
        "scoring": Scoring,
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
    real = defaults(JobSpec(), spec_keys(JobSpec))
    plain = Settings.model_construct()
    real |= {f"NAS_{n.upper()}": v for n, v in defaults(plain, Settings.model_fields).items() if n != "store"}
    documented = {key: row.split(" | ")[1] for key, row in rows(page).items() if key in real}
    assert {key: (documented.get(key), v) for key, v in real.items() if documented.get(key) != v} == {}


def test_the_yaml_of_the_documentation_is_a_valid_spec() -> None:
    found = [b for p in PAGES for b in re.findall(r"^```yaml\n(.*?)^```$", p.read_text("utf-8"), re.M | re.S)]
    assert found
    for block in found:
        JobSpec.from_mapping(yaml.safe_load(block))


def test_every_document_is_linked_from_the_readme() -> None:
    assert [p.name for p in sorted(DOCS.glob("*.md")) if f"(docs/{p.name})" not in text("README.md")] == []


def broken_links(markdown: str, folder: Path) -> list[str]:
    """Relative links, outside of code, that lead to no file."""
    prose = re.sub(r"^```.*?^```$", "", markdown, flags=re.M | re.S)
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", prose)
    return [target for target in targets if not (folder / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_of_a_document_is_broken(page: Path) -> None:
    assert broken_links(page.read_text(encoding="utf-8"), page.parent) == []


@pytest.mark.parametrize(("example", "most"), [("search.py", 15), ("own_device.py", 10)])
def test_the_examples_of_the_client_are_short(example: str, most: int) -> None:
    lines = [node for node in ast.walk(ast.parse(text(f"examples/{example}"))) if isinstance(node, ast.stmt)]
    assert len(lines) <= most


def test_the_readme_has_no_command_that_escapes_the_check() -> None:
    fences = set(re.findall(r"^```(\w+)", text("README.md"), re.MULTILINE))
    assert fences <= {"console", "python", "yaml", "text"}


def test_the_rules_see_what_is_missing_or_made_up() -> None:
    table = rows("## x\n| name | what |\n| --- | --- |\n| `a` | first |\n| `gone` | old |\n")
    assert differences(table, ["a", "b"]) == ["not documented: b", "does not exist: gone"]
    assert broken_links("[x](nowhere.md) [y](https://example.org)", ROOT) == ["nowhere.md"]
    assert section("# A\n## one\nx\n### deeper\ny\n## two\nz\n", "one") == "x\n### deeper\ny\n"
    code = ast.parse('import os\nos.environ.get("NAS_A")\nos.environ["NAS_B"]\nos.getenv("HOME")\nf(envvar="NAS_C")')
    assert sorted(asked_of_environment(code)) == ["NAS_A", "NAS_B", "NAS_C"]
