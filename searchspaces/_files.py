"""Files of public tables and data sets: found in one folder, never downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from searchspaces._errors import DataError


def data_file(name: str, path: str | None = None) -> Path:
    """The file of a data set or table: `path` if given, else `name` in the folder `$NAS_DATA`.

    Raises:
        DataError: there is no such file; the message says what to do.
    """
    folder = os.environ.get("NAS_DATA")
    file = Path(path).expanduser() if path else Path(folder, name) if folder else None
    if file is None:
        raise DataError(f"{name} is not given and NAS_DATA is not set; give a path, or set NAS_DATA to its folder.")
    file = file.absolute()
    if file.is_dir():
        raise DataError(f"{file} is a folder; give the path of a file.")
    if not file.is_file():
        raise DataError(f"{file} does not exist; nothing is downloaded, so put {name} there or give another path.")
    return file
