"""Sizes, names and doors of files and packages."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.plugins import KINDS, registry
from tests.conftest import ROOT
from tests.rules._sources import PACKAGES, dotted, files, functions, imports, module, name, tree

FILE_LINES, FUNCTION_LINES = 500, 60
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "base"}
# `supernet` and `proxy` are levels too, `supernet` a kind of artifact, `params` and `flops` fields of Counts, `ridge` a
# mean of `gp`, `file` one of the shapes of an export.
OTHER_MEANINGS = {
    "supernet": {"level", "kind"},
    "params": {"field"},
    "flops": {"field"},
    "ridge": {"_mean"},
    "proxy": {"level"},
    "file": {"kind"},
}


def long_functions(syntax: ast.AST, limit: int = FUNCTION_LINES) -> list[str]:
    """Functions of more lines than `limit`, docstring included."""
    sizes = [(n, f.lineno, (f.end_lineno or f.lineno) - f.lineno + 1) for n, f in functions(syntax)]
    return [f"line {line}: {qualified} has {size} lines" for qualified, line, size in sizes if size > limit]


def unsorted_door(syntax: ast.Module) -> bool:
    """Whether the module has an `__all__` that is not sorted as ruff sorts it (constants, classes, the rest)."""
    for node in syntax.body:
        if isinstance(node, ast.Assign) and any(dotted(target) == "__all__" for target in node.targets):
            names = ast.literal_eval(node.value)
            return names != sorted(names, key=_door_order) or len(set(names)) < len(names)
    return False


def _door_order(entry: str) -> tuple[int, str]:
    is_constant, is_class = entry.isupper() and len(entry) > 1, entry[:1].isupper()
    return (0 if is_constant else 1 if is_class else 2), entry


def pickles(syntax: ast.AST) -> list[str]:
    """Imports of picklers and calls of `torch.load` and `torch.save`."""
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = [f"line {line}: {what}" for line, what in imports(syntax) if what.split(".")[0] in banned]
    calls = (node for node in ast.walk(syntax) if isinstance(node, ast.Call))
    found += [f"line {c.lineno}: {dotted(c.func)}" for c in calls if dotted(c.func) in ("torch.load", "torch.save")]
    keywords = (node for node in ast.walk(syntax) if isinstance(node, ast.keyword) and node.arg == "allow_pickle")
    return found + [f"line {k.lineno}: allow_pickle" for k in keywords if not _is_false(k.value)]


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def branches_on_names(syntax: ast.AST, names: frozenset[str]) -> list[str]:
    """Comparisons with, and `case` of, the name of a plug-in."""
    findings = []
    for node in ast.walk(syntax):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            about = {dotted(side).split(".")[-1] for side in sides}
            hits = {text for side in sides for text in _texts(side) if text in names}
            findings += [f"line {node.lineno}: {hit!r}" for hit in hits if not about & OTHER_MEANINGS.get(hit, set())]
        elif isinstance(node, ast.MatchValue):
            findings += [f"line {node.lineno}: {hit!r}" for hit in _texts(node.value) if hit in names]
    return findings


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for element in node.elts:
            yield from _texts(element)


def plugin_modules() -> frozenset[str]:
    """Modules of all plug-ins of this distribution."""
    return frozenset(f"{registry(kind).package}.{plugin}" for kind in KINDS for plugin in registry(kind))


def plugin_names() -> frozenset[str]:
    return frozenset(plugin for kind in KINDS for plugin in registry(kind))


def imports_of_plugins(syntax: ast.AST, importer: str, plugins: frozenset[str]) -> list[str]:
    """Imports of a plug-in's module by anything outside its folder."""
    findings = []
    for line, what in imports(syntax):
        hit = next((p for p in plugins if what == p or what.startswith(p + ".")), None)
        if hit and not importer.startswith(hit.rpartition(".")[0]):
            findings.append(f"line {line}: {hit}")
    return findings


def all_sources() -> Iterator[Path]:
    for folder in PACKAGES:
        yield from (p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".js", ".html"))


def test_no_file_is_longer_than_the_ceiling() -> None:
    sizes = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in all_sources()}
    assert {path: size for path, size in sizes.items() if size > FILE_LINES} == {}


def test_no_function_is_longer_than_the_ceiling() -> None:
    findings = [f"{name(f)} {finding}" for f in files() for finding in long_functions(tree(f))]
    assert not findings, "\n".join(findings)


def test_no_module_is_called_nothing() -> None:
    assert [name(f) for f in files() if f.stem.strip("_") in NAMELESS] == []


def test_every_door_is_sorted() -> None:
    assert [name(f) for f in files() if unsorted_door(tree(f))] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_in_a_door_exists(package: str) -> None:
    doors = [f for f in files(package) if f.name == "__init__.py"]
    assert doors, f"{package} has no __init__.py"
    for door in doors:
        opened = importlib.import_module(module(door))
        assert [n for n in getattr(opened, "__all__", ()) if not hasattr(opened, n)] == [], name(door)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_every_folder_of_modules_is_a_package() -> None:
    assert [name(f) for f in files() if not (f.parent / "__init__.py").exists()] == []


def test_nothing_is_pickled() -> None:
    findings = [f"{name(f)} {finding}" for f in files() for finding in pickles(tree(f))]
    assert not findings, "\n".join(findings)


def test_no_code_branches_on_a_plugin_name() -> None:
    findings = [f"{name(f)} {finding}" for f in files() for finding in branches_on_names(tree(f), plugin_names())]
    assert not findings, "\n".join(findings)


def test_plugins_are_reached_through_their_registry() -> None:
    plugins = plugin_modules()
    findings = [f"{name(f)} {hit}" for f in files() for hit in imports_of_plugins(tree(f), module(f), plugins)]
    assert not findings, "\n".join(findings)


def test_the_version_is_written_in_one_place() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    literal = re.compile(rf"""["']{re.escape(version)}["']|__version__\s*=\s*["']""")
    assert [name(f) for f in files() if literal.search(f.read_text(encoding="utf-8"))] == []
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_length_rule_sees_a_long_function() -> None:
    long = ast.parse("class A:\n    def f():\n" + "        x = 1\n" * FUNCTION_LINES)
    assert long_functions(long) == ["line 2: A.f has 61 lines"]


@pytest.mark.parametrize("bad", ["__all__ = ['b', 'a']", "__all__ = ['a', 'A']", "__all__ = ['a', 'a']"])
def test_the_door_rule_sees_disorder(bad: str) -> None:
    assert unsorted_door(ast.parse(bad))


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "def f():\n    from joblib import dump",
        "torch.load('x')",
        "np.load('x', allow_pickle=True)",
    ],
)
def test_the_pickle_rule_sees_one(bad: str) -> None:
    assert pickles(ast.parse(bad))


@pytest.mark.parametrize(
    "bad",
    [
        "if space.name == 'macro': pass",
        "x = 1 if name in ('spos', 'pada') else 2",
        "match name:\n    case 'macro': pass",
        "if evaluator.name == 'supernet': pass",
    ],
)
def test_the_branch_rule_sees_a_plugin_name(bad: str) -> None:
    assert branches_on_names(ast.parse(bad), frozenset({"macro", "spos", "pada", "supernet"}))


def test_the_branch_rule_knows_the_other_meanings() -> None:
    assert not branches_on_names(ast.parse("if fidelity.level == 'supernet': pass"), frozenset({"supernet"}))


def test_the_registry_rule_sees_a_direct_import() -> None:
    bad = ast.parse("from nas.recipes.pada import PADA")
    assert imports_of_plugins(bad, "nas.job", frozenset({"nas.recipes.pada"}))
    assert not imports_of_plugins(bad, "nas.recipes.fairnas", frozenset({"nas.recipes.pada"}))
