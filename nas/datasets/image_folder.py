"""A folder of images: one sub-folder per class, or `train`, optionally `valid` and `test`, with such sub-folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas.datasets._assemble import Augmentation, SplitConfig, assemble, capped, fractions_for, split_indices
from nas.datasets._dataset import Dataset, Images, Integers, Split
from searchspaces import LOCAL_PATH, DataError, Plugin

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}


class ImageFolderConfig(SplitConfig):
    """Settings of `image_folder`."""

    path: str = Field(min_length=1, max_length=4096, json_schema_extra=LOCAL_PATH, description="The folder.")
    size: int | None = Field(
        None, ge=4, le=4096, description="Crop to a square and resize to so many pixels; None: all are equal already."
    )
    mode: Literal["rgb", "grey"] = Field("rgb", description="Three channels, or one.")
    flips: bool = Field(True, description="Whether a mirrored image means the same.")
    max_shift: int = Field(4, ge=0, le=512, description="Largest random shift in pixels that keeps the meaning.")


class _Files:
    """Image files with their class numbers, in the order of their paths."""

    def __init__(self, root: Path, paths: Sequence[Path], labels: Integers) -> None:
        self.root, self.paths, self.labels = root, tuple(paths), labels

    def __getitem__(self, indices: Integers) -> _Files:
        return _Files(self.root, [self.paths[i] for i in indices], self.labels[indices])

    def read(self, config: ImageFolderConfig) -> Split:
        """The decoded images; an id is a digest of the path below the root, so that it never changes."""
        names = [path.relative_to(self.root).as_posix() for path in self.paths]
        ids = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1 for name in names]
        return Split(_images(self.paths, config), self.labels, np.array(ids, dtype=np.int64))


def create(config: ImageFolderConfig) -> Dataset:
    """The data set in the folder; only what is used gets decoded, the test images when asked for."""
    root = Path(config.path)
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give one that has a sub-folder of images for each class.")
    folders = _split_folders(root)
    class_names = [folder.name for folder in _sub_folders(folders["train"])]
    if not class_names:
        raise DataError(f"{folders['train']} has no sub-folders; put the images of each class in one of its own.")
    given = {name: _files(root, folder, class_names) for name, folder in folders.items()}
    made = _cut(given["train"], {"valid", "test"} - set(given), config)
    train, valid = (
        files[capped(np.arange(len(files.paths)), files.labels, config.limit, seed=config.seed)].read(config)
        for files in (made["train"], given.get("valid") or made["valid"])
    )
    return assemble(
        root.name,
        (train, valid),
        class_names,
        load_test=lambda: (given.get("test") or made["test"]).read(config),
        augmentation=Augmentation(config.flips, config.max_shift),
        limit=config.limit,
    )


def _cut(train: _Files, missing: set[str], config: ImageFolderConfig) -> dict[str, _Files]:
    indices = split_indices(train.labels, fractions_for(missing, config), seed=config.seed, what=str(train.root))
    return {name: train[part] for name, part in zip(("train", "valid", "test"), indices, strict=True)}


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split that is given; the root itself is `train` when it holds the classes.

    A class may be called train: it is a split only when it holds folders.
    """
    if not ((root / "train").is_dir() and _sub_folders(root / "train")):
        return {"train": root}
    found = {split: [root / n for n in names if (root / n).is_dir()] for split, names in _SPLITS.items()}
    return {split: folders[0] for split, folders in found.items() if folders}


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(root: Path, folder: Path, class_names: Sequence[str]) -> _Files:
    paths: list[Path] = []
    labels: list[int] = []
    for sub_folder in _sub_folders(folder):
        if sub_folder.name not in class_names:
            raise DataError(f"{sub_folder} is a class without training images; remove it, or add it to train.")
        found = sorted(path for path in sub_folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
        if not found:
            raise DataError(f"{sub_folder} holds no image ({', '.join(sorted(_SUFFIXES))}); add some or remove it.")
        paths += found
        labels += [class_names.index(sub_folder.name)] * len(found)
    if not paths:
        raise DataError(f"{folder} holds no image; put those of each class in a sub-folder of its own.")
    return _Files(root, paths, np.array(labels, dtype=np.int64))


def _images(paths: Sequence[Path], config: ImageFolderConfig) -> Images:
    """Decoded images, `N x C x H x W`."""
    images: Images | None = None
    for row, path in enumerate(paths):
        image = _decoded(path, config)  # H x W x C
        if images is None:
            images = np.empty((len(paths), image.shape[2], *image.shape[:2]), dtype=np.uint8)
        if image.shape[:2] != images.shape[2:]:
            raise DataError(
                f"{path} is {image.shape[1]} x {image.shape[0]} pixels but {paths[0]} is {images.shape[3]} x "
                f"{images.shape[2]}; set size to resize them all."
            )
        images[row] = image.transpose(2, 0, 1)
    return np.empty((0, 1, 1, 1), dtype=np.uint8) if images is None else images


def _decoded(path: Path, config: ImageFolderConfig) -> npt.NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB" if config.mode == "rgb" else "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no readable image ({error}); replace or remove it.") from error
    if config.size:
        image = ImageOps.fit(image, (config.size, config.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


PLUGIN = Plugin(
    name="image_folder",
    description="A folder of images, one sub-folder per class, optionally below train, valid and test",
    source="Pillow, https://pillow.readthedocs.io; the layout is that of torchvision's ImageFolder",
    create=create,
    Config=ImageFolderConfig,
)
