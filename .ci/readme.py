"""Runs the commands of a Markdown file word for word: every ```console block, line by line, in one shell per block.

Lines that start with `$ ` are commands (a backslash goes on in the next line); the rest is output and is not compared.
`--already COMMAND` leaves out a command that the caller has run itself. A block's background processes end with it.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(markdown: str) -> list[list[str]]:
    """The commands of every block."""
    return [
        [command.replace("\\\n  ", "\\\n") for command in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)]
        for block in _BLOCK.findall(markdown)
    ]


def run(commands: list[str], limit: float) -> bool:
    """Whether all commands of a block succeed within `limit` seconds, one after the other in one shell."""
    script = "set -e\n" + "\n".join(f"echo; echo '$ '{_quoted(command)}\n{command}" for command in commands)
    process = subprocess.Popen(["bash", "-c", script], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        code = process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"still running after {limit:.0f} s", flush=True)
        code = 1
    _end(process.pid)
    return code == 0


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _end(group: int) -> None:
    for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 1)):
        for turn in range(10 * patience):
            try:
                os.killpg(group, number if turn == 0 else 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--already", action="append", default=[], metavar="COMMAND")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one block")
    options = parser.parse_args()
    found = [[c for c in commands if c not in options.already] for commands in blocks(options.file.read_text("utf-8"))]
    if not any(found):
        sys.exit(f"{options.file} has no ```console block to run")
    failed = [commands for commands in found if commands and not run(commands, options.limit)]
    for commands in failed:
        print("failed:", *commands, sep="\n    ")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
