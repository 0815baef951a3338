"""The plug-in that CONTRIBUTING shows is one file, and keeps the contract of its kind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

NAME = "hill_climbing"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example as a module of a folder of its own."""
    shown = re.findall(r"^```python\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S)
    file = tmp_path / f"{NAME}.py"
    file.write_text(next(block for block in shown if f'name="{NAME}"' in block), encoding="utf-8")
    return file


def test_the_example_is_formatted_and_typed_as_this_project_is(example: Path) -> None:
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["ruff", "check", *settings], ["ruff", "format", "--check", *settings]):
        done = subprocess.run([sys.executable, "-m", *command, str(example)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def checked(example: Path) -> subprocess.CompletedProcess[str]:
    """`nas plugins check` of the module in `example`."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "api", "plugins", "check", NAME],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(example.parent), "PATH": "", "OMP_NUM_THREADS": "1"},
        timeout=100,
    )


@pytest.mark.slow
def test_the_example_keeps_the_contract(example: Path) -> None:
    done = checked(example)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_searcher_that_repeats_itself_breaks_the_contract(example: Path) -> None:
    source = example.read_text("utf-8")
    broken = source.replace("taken.add(found.digest)", "taken.discard(found.digest)")
    assert broken != source
    example.write_text(broken, encoding="utf-8")
    done = checked(example)
    assert done.returncode == 1
    assert NAME in done.stdout + done.stderr
