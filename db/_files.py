"""Files that are whole or not there: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from db._engine import os_error


def write_whole(target: Path, chunks: Iterable[bytes]) -> None:
    """Write a file that no reader ever sees half of.

    Raises:
        StorageFull: no room; what was at `target` before stays.
        StoreError: the folder cannot be written to.
    """
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
        _flush_folder(target.parent)
    except OSError as error:
        raise os_error(error, target.parent) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def chunks_of(path: Path, size: int = 1 << 20) -> Iterable[bytes]:
    """The content of a file, a piece at a time."""
    with path.open("rb") as file:
        while chunk := file.read(size):
            yield chunk


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
