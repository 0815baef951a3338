"""Files of public tables and data sets: found in one folder, never downloaded. Paths as users write them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from searchspaces._errors import DataError


def data_file(name: str, path: str | None = None) -> Path:
    """The file of a data set or table: `path` if given, else `name` in the folder `$NAS_DATA`.

    Raises:
        DataError: there is no such file; the message says what to do.
    """
    folder = os.environ.get("NAS_DATA")
    file = Path(path) if path else Path(folder, name) if folder else None
    if file is None:
        raise DataError(f"{name} is not given and NAS_DATA is not set; give a path, or set NAS_DATA to its folder.")
    file = whole_path(file)
    if reason := why_unreachable(file):
        raise DataError(f"{file} cannot be reached ({reason}); give another path.")
    if file.is_dir():
        raise DataError(f"{file} is a folder; give the path of a file.")
    if not file.is_file():
        raise DataError(f"{file} does not exist; nothing is downloaded, so put {name} there or give another path.")
    return file


def whole_path(path: str | Path) -> Path:
    """The path from the root on: `~` is the home folder, and a relative one begins in the current folder."""
    return Path(os.path.expanduser(path)).absolute()


def why_unreachable(path: Path) -> str:
    """Why nobody can look at what is at a path, or read it; empty where one can, and where nothing is there."""
    try:
        path.stat()
    except OSError as error:
        return "" if error.errno in (errno.ENOENT, errno.ENOTDIR) else error.strerror or str(error)
    except ValueError as error:  # NUL in it
        return str(error)
    needed = os.R_OK | (os.X_OK if path.is_dir() else 0)
    return "" if os.access(path, needed) else os.strerror(errno.EACCES)
