"""Writing files whole, and saying clearly when there is no room."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from searchspaces import ExportError, StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write `path` into our words.

    Raises:
        StorageFull: no room is left on the device.
        ExportError: the path cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageFull):
            raise
        if error.errno in _FULL:
            raise StorageFull(f"no room left to write {path}; free some space, then export again.") from error
        raise ExportError(f"cannot write {path}: {error.strerror or error}.") from error


def write(path: Path, content: bytes) -> None:
    """Write a file; one that could not be written whole is removed.

    Raises:
        StorageFull: no room is left.
        ExportError: it cannot be written for another reason.
    """
    try:
        with storage_errors(path):
            path.write_bytes(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
