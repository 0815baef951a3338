"""Where an export goes, and how it gets there: whole or not at all, never over what is there already."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from nas.spec import ExportFormat
from searchspaces import ExportError, StorageFull, one_of

_BY_SUFFIX: dict[str, tuple[ExportFormat, str]] = {
    ".onnx": ("onnx", "model.onnx"),
    ".pt2": ("torch_export", "model.pt2"),
}
_FORMATS = ("onnx", "torch_export", "pytorch")


class Target(NamedTuple):
    """A path and what is put there: one file of the archive, the archive itself, or all of it in a folder."""

    path: Path
    format: ExportFormat
    kind: Literal["file", "archive", "folder"]
    member: str = ""


def target(path: str | Path, format: ExportFormat | None, *, overwrite: bool) -> Target:
    """Decide by the suffix: `.onnx` and `.pt2` are the model alone, `.zip` the archive, all else a folder.

    Raises:
        ExportError: something is there already, or the format is not said or contradicts the suffix.
    """
    path = Path(path).expanduser()
    if format is not None and format not in _FORMATS:
        raise ExportError(f"{format!r} is no format; expected {one_of(format, _FORMATS)}.")
    if path.suffix in _BY_SUFFIX:
        meant, member = _BY_SUFFIX[path.suffix]
        if format not in (None, meant):
            raise ExportError(f"{path.name} is a file of format {meant}, not {format}; choose another name.")
        found = Target(path, meant, "file", member)
    elif format is None:
        raise ExportError(f"say the format of {path} ({', '.join(_FORMATS)}), or end it with .onnx or .pt2.")
    else:
        found = Target(path, format, "archive" if path.suffix == ".zip" else "folder")
    if _is_taken(found) and not overwrite:
        raise ExportError(f"{path} exists already; choose another path, or say overwrite=True to replace it.")
    if found.kind != "folder" and path.is_dir():
        raise ExportError(f"{path} is a folder; choose another path.")
    return found


def save(archive: Path, target: Target) -> Path:
    """Put a downloaded archive, or what is asked of it, at its target.

    Raises:
        StorageFull: no room is left.
        ExportError: the archive is broken, or the target cannot be written.
    """
    try:
        with _beside(target.path) as scratch:
            _place(archive, target, scratch)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ExportError(f"the service sent no whole {target.format} archive: {error}.") from error
    return target.path


def copy_to(file: Path, path: Path) -> Path:
    """Put a downloaded file at its path, whole or not at all.

    Raises:
        StorageFull: no room is left.
        ExportError: the path cannot be written.
    """
    with _beside(path) as scratch:
        os.replace(shutil.copy(file, scratch / "content"), path)
    return path


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A scratch folder on the device of `path`, from where a file can be moved there in one step."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".nas-") as scratch:
            yield Path(scratch)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no room left to write {path}; free some space, then export again.") from error
        raise ExportError(f"cannot write {path}: {error.strerror or error}.") from error


def _place(archive: Path, target: Target, scratch: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        if target.kind == "file":
            os.replace(packed.extract(target.member, scratch), target.path)
        elif target.kind == "archive":
            if packed.testzip():
                raise zipfile.BadZipFile("a file in it is broken")
            os.replace(shutil.copy(archive, scratch / "archive"), target.path)
        else:
            packed.extractall(scratch)
            target.path.mkdir(exist_ok=True)
            for file in sorted(scratch.iterdir()):
                os.replace(file, target.path / file.name)


def _is_taken(target: Target) -> bool:
    if target.kind == "folder" and target.path.is_dir():
        return any(target.path.iterdir())
    return target.path.exists()
