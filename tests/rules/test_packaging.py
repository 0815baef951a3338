"""What gets installed: declared dependencies, pinned versions, and a base that is enough for the client."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from functools import cache
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tests.rules._sources import PACKAGES, files, imports, name, tree

COMPANIONS = {"pydantic": "pydantic-core"}  # the first pins the second to one version
CONSTRAINTS = ("constraints-cpu.txt", "constraints-cuda.txt")


@cache
def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, Any] = tomllib.load(file)["project"]
    return found


@cache
def providers() -> dict[str, set[str]]:
    """Top-level module -> the distributions that provide it."""
    found = importlib.metadata.packages_distributions()
    return {top: {canonicalize_name(n) for n in names} for top, names in found.items()}


def declared(*extras: str) -> set[str]:
    """Names of the distributions that the base and these extras ask for; an extra of ours is followed."""
    lines = [*project()["dependencies"], *(line for e in extras for line in project()["optional-dependencies"][e])]
    asked = [Requirement(line) for line in lines]
    ours = {extra for r in asked if r.name == project()["name"] for extra in r.extras}
    names: set[str] = {canonicalize_name(r.name) for r in asked if r.name != project()["name"]}
    names |= {companion for n, companion in COMPANIONS.items() if n in names}
    return names | (declared(*ours) if ours else set())


def undeclared(syntax: ast.AST, distributions: set[str]) -> list[str]:
    """Third-party imports that no distribution of the set provides."""
    known = {top for top, names in providers().items() if names & distributions}
    ours = {*sys.stdlib_module_names, *PACKAGES}
    tops = {(line, what.split(".")[0]) for line, what in imports(syntax)}
    return [f"line {line}: {top}" for line, top in sorted(tops) if top not in ours | known]


def pins(file: str) -> dict[str, str]:
    """Distribution -> version of a constraints file."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    asked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): str(r.specifier) for r in asked}


def closure(roots: set[str]) -> set[str]:
    """Distributions that an install of `roots` brings, by their metadata."""
    found: set[str] = set()
    waiting = set(roots)
    while waiting:
        current = waiting.pop()
        found.add(current)
        for line in importlib.metadata.requires(current) or ():
            asked = Requirement(line)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                waiting |= {canonicalize_name(asked.name)} - found
    return found


def test_every_import_is_declared() -> None:
    distributions = declared("all", "ray")
    findings = [f"{name(f)} {finding}" for f in files() for finding in undeclared(tree(f), distributions)]
    assert not findings, "\n".join(findings)


def test_the_declaration_rule_sees_a_missing_dependency() -> None:
    assert undeclared(ast.parse("def f():\n    import hypothesis"), declared("all"))
    assert not undeclared(ast.parse("import httpx, os, nas.spec"), declared())


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} in a base install", name=name)
sys.meta_path.insert(0, Blocked())
"""


def in_a_base_install(program: str) -> subprocess.CompletedProcess[str]:
    """A program in an interpreter where only the base dependencies, and what they bring, can be imported."""
    base = closure(declared())
    blocked = {top for top, names in providers().items() if top not in PACKAGES and not names & base}
    code = BLOCKED.format(blocked=blocked) + program
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("program", ["import nas", "import nas.client", "import api.cli"])
def test_the_base_install_is_enough_for_the_client_and_the_command_line(program: str) -> None:
    done = in_a_base_install(program)
    assert done.returncode == 0, done.stderr


def test_a_base_install_has_no_more_than_it_asks_for() -> None:
    assert "in a base install" in in_a_base_install("import sqlalchemy").stderr


@pytest.mark.parametrize("file", CONSTRAINTS)
def test_constraints_pin_every_dependency_to_one_public_version(file: str) -> None:
    pinned = pins(file)
    assert declared("dev") - pinned.keys() == set()
    assert [pin for pin in pinned.items() if not re.fullmatch(r"==[0-9A-Za-z.]+", pin[1])] == []


def test_both_constraints_pin_the_same_versions() -> None:
    cpu, cuda = map(pins, CONSTRAINTS)
    assert {n: v for n, v in cpu.items() if cuda.get(n) != v} == {}


def test_only_the_five_packages_are_installed() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(found) == sorted(f"{package}*" for package in PACKAGES)
