"""A package imports only packages to its left, and importing the light parts loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules._sources import PACKAGES, files, imports, module, name, tree

HEAVY = ("torch", "sqlalchemy", "optuna", "scipy", "sklearn", "pandas", "plotly", "networkx")
LIGHT = {
    "import nas": "import nas",
    "import nas.client": "import nas.client",
    "import nas.plugins, listing all names": (
        "import nas.plugins as p\nassert sum(len(p.registry(kind)) for kind in p.KINDS) > 10"
    ),
    "every plug-in of ours, loaded and described": (
        "import nas.plugins as p\n"
        "assert all(p.describe(kind, name).error is None for kind in p.KINDS for name in p.registry(kind).own())"
    ),
    "nas --help": "import sys, runpy\nsys.argv = ['nas', '--help']\ntry: runpy.run_module('api', run_name='__main__')\n"
    "except SystemExit as end: assert not end.code, end.code",
}


def against_the_direction(syntax: ast.AST, package: str) -> list[str]:
    """Imports of packages to the right, of folders that are not installed, and relative ones (they hide it)."""
    forbidden = {*PACKAGES[PACKAGES.index(package) + 1 :], "tests", "benchmarks", ""}
    return [f"line {line}: {what}" for line, what in imports(syntax) if what.split(".")[0] in forbidden]


def of_private_modules(syntax: ast.AST, importer: str, modules: frozenset[str]) -> list[str]:
    """Imports of an underscore module from outside the folder that it is machinery of."""
    findings = []
    for line, what in imports(syntax):
        parts = what.split(".")
        dotted = [".".join(parts[: i + 1]) for i in range(len(parts))]
        for private in (m for m in dotted if m in modules and m.split(".")[-1].startswith("_")):
            folder = private.rpartition(".")[0]
            if not (importer + ".").startswith(folder + "."):
                findings.append(f"line {line}: {private} is machinery of {folder}")
    return findings


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_packages_to_its_left(package: str) -> None:
    findings = [f"{name(f)} {finding}" for f in files(package) for finding in against_the_direction(tree(f), package)]
    assert not findings, "\n".join(findings)


def test_underscore_modules_are_imported_only_inside_their_folder() -> None:
    modules = frozenset(map(module, files()))
    findings = [f"{name(f)} {hit}" for f in files() for hit in of_private_modules(tree(f), module(f), modules)]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(
    "bad",
    [
        "import db",
        "def f():\n    from api.app import create_app",
        "from importlib import import_module\nimport_module('db.store')",
        "from . import spec",
        "import tests.conftest",
    ],
)
def test_the_direction_rule_sees_a_wrong_import(bad: str) -> None:
    assert against_the_direction(ast.parse(bad), "nas")


def test_the_direction_rule_allows_a_right_import() -> None:
    assert not against_the_direction(
        ast.parse("import torch\nfrom predictors.costs import Cost\nimport nas.spec"), "nas"
    )


def test_the_private_module_rule_sees_a_wrong_import() -> None:
    bad = ast.parse("from searchspaces._layers import initialised")
    modules = frozenset({"searchspaces._layers"})
    assert of_private_modules(bad, "nas.training", modules)
    assert not of_private_modules(bad, "searchspaces.nasbench201", modules)


def loaded(code: str, *arguments: str) -> list[str]:
    """Which heavy libraries a fresh interpreter holds after `code`, run away from the working directory."""
    tail = f"\nimport sys\nprint('loaded:', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + tail, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("what", LIGHT)
def test_light_imports_load_nothing_heavy(what: str) -> None:
    assert loaded(LIGHT[what]) == []


SERVED = """
import asyncio
import sys
from pathlib import Path
import httpx
from api.serving import application
from api.settings import Settings
from db import Store
from nas.plugins import KINDS

async def ask(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/v1/") as http:
        spec = {"dataset": "digits", "constraints": ["latency_ms <= 5"], "scoring": {"proxies": ["gradsign"]}}
        made = await http.post("jobs", json=spec)
        assert made.status_code == 201, made.text
        assert (await http.post("jobs", json={**spec, "space": "nowhere"})).status_code == 422
        job = made.json()["job_id"]
        for path in (*KINDS, "jobs", f"jobs/{job}", f"jobs/{job}/candidates", f"jobs/{job}/pareto"):
            answer = await http.get(path)
            assert answer.status_code == 200, (path, answer.text)

folder = Path(sys.argv[1])
asyncio.run(ask(application(Store.open(None, folder), Settings.load(folder=folder))))
"""


def test_the_server_admits_and_answers_without_torch(tmp_path: Path) -> None:
    assert "torch" not in loaded(SERVED, str(tmp_path))


def test_the_light_import_rule_sees_a_heavy_import() -> None:
    assert loaded("import networkx") == ["networkx"]
