"""What lies in a folder of images: its splits, its classes, and the files that are images.

What is hidden, or left there by tools, is no part of it. Nothing else is passed over without a word: it is refused, or
counted, so that the data set can say it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.datasets._names import split_called
from searchspaces import DataError

_READ = re.compile(r"\.(apng|avifs?|bmp|dib|gif|jfif|jp2|jpe|jpe?g|p[bgnp]m|png|tga|tiff?|webp)", re.IGNORECASE)
_FOREIGN = re.compile(r"\.(arw|cr[23]|dcm|dng|eps|exr|hdr|hei[cf]s?|jxl|nef|orf|psd|raf|raw|rw2|svg)", re.IGNORECASE)
_TOOL_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"})
_TOOL_FOLDERS = frozenset(
    {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
)
_UNFINISHED = ("~", ".bak", ".crdownload", ".orig", ".part", ".partial", ".tmp")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")
_SHOWN = 3


@dataclass(frozen=True)
class Found:
    """The images below a folder, in the order of their paths, and the other files there."""

    images: tuple[Path, ...]
    others: tuple[Path, ...]


def sub_folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; without hidden ones and those of tools."""
    return sorted(path for path in _listed(folder) if path.is_dir() and not _is_a_tools(path))


def class_name(folder: Path) -> str:
    """What a folder of a class is called; the same however its file system writes accents."""
    return unicodedata.normalize("NFC", folder.name)


def images_below(folder: Path) -> Found:
    """All images below a folder, however deep; links to folders are followed.

    Raises:
        DataError: a file is an image of a kind that is not read, or a link to an image that is not there.
    """
    images, others = list[Path](), list[Path]()
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not _is_a_tools(Path(place, name))]
        for path in (Path(place, name) for name in names):
            if not _is_a_tools(path):
                (images if _is_image(path) else others).append(path)
    return Found(tuple(sorted(images)), tuple(sorted(others)))


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split that is given; the root itself is `train` where it holds the classes.

    A class may be called train: it is a split where it holds folders of images.

    Raises:
        DataError: what lies there can be read in more than one way, or would have to be left out.
    """
    folders = sub_folders(root)
    called: dict[str, list[Path]] = {}
    for folder in folders:
        if split := split_called(folder.name):
            called.setdefault(split, []).append(folder)
    named = [folder for found in called.values() for folder in found]
    holders = [folder for folder in named if _holds_classes(folder)]
    if not holders:
        if len(called) > 1 and len(named) == len(folders):
            raise DataError(
                f"{root}: {_list(named)} look like splits, not classes, and hold no folders; put the images of each "
                "class in a folder of its own, in each of them."
            )
        _refuse_splits_within(folders)
        return {"train": root}
    _refuse_unclear(root, folders, named, holders, called)
    return {split: found[0] for split, found in called.items()}


def _refuse_unclear(
    root: Path, folders: Sequence[Path], named: Sequence[Path], holders: Sequence[Path], called: dict[str, list[Path]]
) -> None:
    """Every folder with images is one split, each split is one folder with classes, and train is among them."""
    if "train" not in called:
        raise DataError(
            f"{root}: no folder is for training among what looks like splits, not classes ({_list(named)}); add a "
            "folder train, or rename the classes."
        )
    for split, found in called.items():
        if len(found) > 1:
            raise DataError(f"{root}: {_list(found)} are both the {split} split; keep one of them.")
    flat = [folder for folder in named if folder not in holders]
    if flat:
        raise DataError(
            f"{flat[0]} looks like a split, but holds no folders of classes as {holders[0].name} does; sort its images "
            "into one folder for each class, or move it out."
        )
    others = [folder for folder in folders if folder not in named and images_below(folder).images]
    if others:
        raise DataError(
            f"{root}: {_list(named)} look like splits, {_list(others)} like classes beside them; move or rename one "
            "kind."
        )


def _refuse_splits_within(classes: Sequence[Path]) -> None:
    """cats/train and cats/test: read as one class, what is for testing would be trained on."""
    for folder in classes:
        within = [inner for inner in sub_folders(folder) if split_called(inner.name)]
        if len({split_called(inner.name) for inner in within}) > 1:
            raise DataError(
                f"{folder} holds {_list(within)}, which look like splits; put the splits outside and the classes in "
                f"them: {within[0].name}/{folder.name} ..."
            )


def left_out(root: Path, found: Iterable[Path]) -> str:
    """A sentence on files that are no images."""
    names = [path.relative_to(root).as_posix() for path in found]
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    return f"{len(names)} file{'s' * (len(names) > 1)} left out, being no images in the folder of a class: {shown}"


def loose_files(folder: Path) -> list[Path]:
    """The files that lie directly in a folder that should hold folders only."""
    return sorted(path for path in _listed(folder) if path.is_file() and not _is_a_tools(path))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        _refuse(error)
    return []


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); give a folder that can.") from error


def _holds_classes(folder: Path) -> bool:
    return any(images_below(inner).images for inner in sub_folders(folder))


def _list(folders: Iterable[Path]) -> str:
    names = [folder.name for folder in folders]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN + 1 else ""
    shown = names[:_SHOWN] if more else names
    return ", ".join(shown) + more if more or len(shown) < 2 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _is_a_tools(path: Path) -> bool:
    """Whether a file or folder is hidden, or was left by a tool."""
    name = path.name.casefold()
    return name.startswith(".") or name.endswith(_UNFINISHED) or name in (_TOOL_FILES | _TOOL_FOLDERS)


def _is_image(path: Path) -> bool:
    """By its suffix; by its first bytes where that says nothing.

    Raises:
        DataError: an image of a kind that is not read, or a link that leads nowhere.
    """
    suffix = path.suffix
    if _FOREIGN.fullmatch(suffix):
        raise DataError(f"{path} is an image of a kind that is not read; save it as PNG or JPEG, or remove it.")
    if not path.is_file():
        if _READ.fullmatch(suffix):
            raise DataError(f"{path} is a link to nothing; put the image there, or remove it.")
        return False
    if _READ.fullmatch(suffix):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a file that can.") from error
    return head.startswith(_BEGINNINGS) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP") or head[4:12] == b"ftypavif"
