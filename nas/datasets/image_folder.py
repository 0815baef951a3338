"""A folder of images: one sub-folder per class, or one for each split (train, valid, test) with such sub-folders.

Splits may be called in other usual words and capitals (Training, val, TEST). Every image is read as a viewer shows it,
see `nas/datasets/_pictures.py`.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from nas.datasets._assemble import Augmentation, SplitConfig, assemble, capped, fractions_for, is_plain, split_indices
from nas.datasets._dataset import Dataset, Images, Integers, Split
from nas.datasets._folders import class_name, images_below, left_out, loose_files, split_folders, sub_folders
from nas.datasets._pictures import Mode, picture_size, read_picture
from searchspaces import LOCAL_PATH, DataError, Plugin, whole_path

_LARGEST_SIDE = 224
_LARGEST_BYTES = 4 * 2**30


class ImageFolderConfig(SplitConfig):
    """Settings of `image_folder`."""

    path: str = Field(min_length=1, max_length=4096, json_schema_extra=LOCAL_PATH, description="The folder.")
    size: int | None = Field(
        None,
        ge=4,
        le=4096,
        description="Crop to a square and resize to so many pixels; None: images of one size stay as they are, others "
        "get the median of their shorter sides, at most 224.",
    )
    mode: Mode = Field("rgb", description="Three channels, or one.")
    background: str = Field(
        "white",
        pattern=r"^(white|black|#[0-9a-fA-F]{6})$",
        description="What shows through transparent parts: white, black or #rrggbb.",
    )
    flips: bool = Field(True, description="Whether a mirrored image means the same.")
    max_shift: int = Field(4, ge=0, le=512, description="Largest random shift in pixels that keeps the meaning.")


class _Files:
    """Image files with their class numbers, in the order of their paths."""

    def __init__(self, root: Path, paths: Sequence[Path], labels: Integers) -> None:
        self.root, self.paths, self.labels = root, tuple(paths), labels

    def __getitem__(self, indices: Integers) -> _Files:
        return _Files(self.root, [self.paths[i] for i in indices], self.labels[indices])

    def read(self, config: ImageFolderConfig, size: int | None) -> Split:
        """The decoded images; an id is a digest of the path below the root, so that it never changes."""
        names = [path.relative_to(self.root).as_posix() for path in self.paths]
        ids = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1 for name in names]
        return Split(_images(self.paths, config, size), self.labels, np.array(ids, dtype=np.int64))


def create(config: ImageFolderConfig) -> Dataset:
    """The data set in the folder; only what is used gets decoded, the test images when asked for."""
    root = whole_path(config.path)
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give one that has a sub-folder of images for each class.")
    folders = split_folders(root)
    class_names = [class_name(folder) for folder in sub_folders(folders["train"])]
    if not class_names:
        raise DataError(f"{folders['train']} has no sub-folders; put the images of each class in one of its own.")
    only = sub_folders(folders["train"])[0]
    if len(class_names) == 1 and sub_folders(only):
        raise DataError(f"{folders['train']} holds one folder, so one class; if its folders are classes, give {only}.")
    notes: list[str] = []
    given = _given(root, folders, class_names, notes)
    size = _size(given, config, notes)
    made = _cut(given["train"], {"valid", "test"} - set(given), config, class_names)
    train, valid = (
        files[capped(np.arange(len(files.paths)), files.labels, config.limit, seed=config.seed)].read(config, size)
        for files in (made["train"], given.get("valid") or made["valid"])
    )
    if len(train) and is_plain(train):
        raise DataError(
            f"all training images of {root} are of one plain colour, so nothing can be learned from them; if they are "
            "drawn on transparency, set another background."
        )
    return assemble(
        root.name,
        (train, valid),
        class_names,
        load_test=lambda: (given.get("test") or made["test"]).read(config, size),
        augmentation=Augmentation(config.flips, config.max_shift),
        limit=config.limit,
        notes=notes,
    )


def _cut(train: _Files, missing: set[str], config: ImageFolderConfig, class_names: Sequence[str]) -> dict[str, _Files]:
    fractions = fractions_for(missing, config)
    indices = split_indices(train.labels, fractions, seed=config.seed, what=str(train.root), class_names=class_names)
    return {name: train[part] for name, part in zip(("train", "valid", "test"), indices, strict=True)}


def _given(root: Path, folders: dict[str, Path], class_names: Sequence[str], notes: list[str]) -> dict[str, _Files]:
    """The files of each split that is given."""
    others: list[Path] = []
    given = {name: _files(root, folder, class_names, others) for name, folder in folders.items()}
    others += [path for place in {root, *folders.values()} for path in loose_files(place)]
    if folders["train"] != root:
        others += [path for folder in sub_folders(root) if folder not in folders.values() for path in _all(folder)]
    if others:
        notes.append(left_out(root, sorted(others)))
    return given


def _all(folder: Path) -> tuple[Path, ...]:
    found = images_below(folder)
    return found.images + found.others


def _files(root: Path, folder: Path, class_names: Sequence[str], others: list[Path]) -> _Files:
    paths: list[Path] = []
    labels: list[int] = []
    for sub_folder in sub_folders(folder):
        name = class_name(sub_folder)
        if name not in class_names:
            near = [known for known in class_names if known.casefold() == name.casefold()]
            hint = f"call it {near[0]}, as in train" if near else "remove it, or add it to train"
            raise DataError(f"{sub_folder} is a class without training images; {hint}.")
        found = images_below(sub_folder)
        if not found.images:
            raise DataError(f"{sub_folder} holds no image that can be read; add some or remove it.")
        others += found.others
        paths += found.images
        labels += [class_names.index(name)] * len(found.images)
    if not paths:
        raise DataError(f"{folder} holds no image; put those of each class in a sub-folder of its own.")
    return _Files(root, paths, np.array(labels, dtype=np.int64))


def _size(given: dict[str, _Files], config: ImageFolderConfig, notes: list[str]) -> int | None:
    """How large the images become; None: as they are. What nobody asked for is said."""
    if config.size is not None:
        return config.size
    sizes = {name: [picture_size(path) for path in files.paths] for name, files in given.items()}
    different = {size for found in sizes.values() for size in found}
    count, (width, height) = sum(map(len, sizes.values())), next(iter(different))
    if len(different) == 1 and count * width * height * (3 if config.mode == "rgb" else 1) <= _LARGEST_BYTES:
        return None
    median = round(statistics.median(min(size) for size in sizes["train"]))
    side = min(max(4, median), _LARGEST_SIDE)
    shown = sorted(different)
    span = " to ".join(f"{width} x {height}" for width, height in dict.fromkeys((shown[0], shown[-1])))
    why = "the median of the shorter sides" if side == median else f"whose shorter sides have the median {median}"
    notes.append(
        f"images of {span} pixels are cropped to squares and resized to {side} x {side}, {why}; size sets another"
    )
    return side


def _images(paths: Sequence[Path], config: ImageFolderConfig, size: int | None) -> Images:
    """Decoded images, `N x C x H x W`."""
    images: Images | None = None
    for row, path in enumerate(paths):
        image = read_picture(path, str(path), mode=config.mode, background=config.background, size=size)
        if images is None:
            images = np.empty((len(paths), image.shape[2], *image.shape[:2]), dtype=np.uint8)
        images[row] = image.transpose(2, 0, 1)  # H x W x C -> C x H x W
    return np.empty((0, 1, 1, 1), dtype=np.uint8) if images is None else images


PLUGIN = Plugin(
    name="image_folder",
    description="A folder of images, one sub-folder per class, optionally below folders for train, valid and test",
    source="Pillow, https://pillow.readthedocs.io; the layout is that of torchvision's ImageFolder",
    create=create,
    Config=ImageFolderConfig,
)
