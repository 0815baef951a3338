"""Where the real tables and data sets of the benchmarks lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA_FOLDER = Path(os.environ.get("NAS_DATA") or ROOT.parent / "shared" / "data")


def data_file(name: str) -> Path:
    """The file `name` of the data folder.

    Raises:
        SystemExit: it is not there; the message says what to do.
    """
    path = DATA_FOLDER / name
    if not path.is_file():
        raise SystemExit(f"{path} does not exist; set NAS_DATA to the folder that holds {name}.")
    return path


def cache_folder() -> Path:
    """Where results that took long are kept from run to run: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "nas-service" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def json_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The objects that a file holds, one a line; a line that a stopped run cut short is left out."""
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue
