"""Where the real tables and data sets of the benchmarks lie."""

from __future__ import annotations

import os
from pathlib import Path

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
