"""README's commands are really run, and a failing one fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT


def run_readme(markdown: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    page = folder / "README.md"
    page.write_text(markdown, encoding="utf-8")
    command = [sys.executable, str(ROOT / ".ci" / "readme.py"), str(page), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_commands_of_console_blocks_run_in_order_in_one_shell(tmp_path: Path) -> None:
    page = (
        "text\n```console\n$ word=here\nsome output\n$ echo $word \\\n  again > out.txt\n```\n```text\n$ false\n```\n"
    )
    done = run_readme(page, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == "here again\n"


@pytest.mark.parametrize("block", ["$ false\n$ true", "$ exit 3", "$ no-such-command"])
def test_a_failing_command_fails_the_check(block: str, tmp_path: Path) -> None:
    assert run_readme(f"```console\n{block}\n```\n", tmp_path).returncode == 1


def test_a_readme_without_commands_fails_the_check(tmp_path: Path) -> None:
    assert run_readme("no commands", tmp_path).returncode == 1


def test_a_command_that_was_run_already_is_left_out(tmp_path: Path) -> None:
    page = "```console\n$ make test\n$ touch ran\n```\n"
    assert run_readme(page, tmp_path, "--already", "make test").returncode == 0
    assert (tmp_path / "ran").exists()


def test_what_a_block_leaves_running_ends_with_it(tmp_path: Path) -> None:
    done = run_readme("```console\n$ sleep 300 & echo $! > pid\n```\n", tmp_path)
    assert done.returncode == 0
    process = int((tmp_path / "pid").read_text())
    for _ in range(50):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    state = Path(f"/proc/{process}/stat").read_text().split()[2]
    assert state == "Z", "still running"
