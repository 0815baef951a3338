"""Any .npz file of images.

Arrays: `train_x` and `train_y`; optional `valid_x`, `valid_y`, `test_x`, `test_y`, and `class_names`. Images are
uint8, `N x H x W`, `N x H x W x C` or `N x C x H x W`; labels are whole numbers from 0. Splits that are missing are cut
from the training images, seeded and stratified.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from nas.datasets._assemble import Augmentation, SplitConfig, as_split, assemble, cut
from nas.datasets._dataset import Dataset, Split
from nas.datasets._names import SPLITS, split_called
from nas.datasets._npz import Arrays, Layout, gaps, images_of, labels_of, opened
from searchspaces import LOCAL_PATH, DataError, Plugin, data_file

_PARTS = {"x": ("x", "image", "images", "data"), "y": ("y", "label", "labels", "target", "targets")}


class NpzConfig(SplitConfig):
    """Settings of `npz`."""

    path: str = Field(min_length=1, max_length=4096, json_schema_extra=LOCAL_PATH, description="The file.")
    layout: Layout = Field("auto", description="Where the channels are: NHWC, NCHW, or auto to tell by the shape.")
    flips: bool = Field(False, description="Whether a mirrored image means the same.")
    max_shift: int = Field(1, ge=0, le=512, description="Largest random shift in pixels that keeps the meaning.")


def create(config: NpzConfig) -> Dataset:
    """The data set in the file; see the module."""
    file = data_file(Path(config.path).name, config.path)
    return from_file(file, file.stem, config, Augmentation(config.flips, config.max_shift), layout=config.layout)


def from_file(
    file: Path, name: str, config: SplitConfig, augmentation: Augmentation, *, layout: Layout = "auto"
) -> Dataset:
    """A data set from a file with the arrays that the module names."""
    with opened(file) as arrays:
        notes = _unread(arrays)
        given = [split for split in SPLITS if {f"{split}_x", f"{split}_y"} & set(arrays.names)]
        train = _read(arrays, "train", layout, first_id=0)
        valid = _read(arrays, "valid", layout, first_id=len(train)) if "valid" in given else None
        class_names = _class_names(arrays, [train.labels, *([valid.labels] if valid else [])])
    num_read = len(train) + (len(valid) if valid else 0)

    def load_test() -> Split:
        if "test" not in given:
            return made["test"]
        with opened(file) as arrays:
            return _read(arrays, "test", layout, first_id=num_read)

    missing = {"valid", "test"} - set(given)
    made = cut(train, missing=missing, config=config, what=str(file), class_names=class_names)
    return assemble(
        name,
        (made["train"], valid or made["valid"]),
        class_names,
        load_test=load_test,
        augmentation=augmentation,
        limit=config.limit,
        seed=config.seed,
        notes=notes,
    )


def _unread(arrays: Arrays) -> list[str]:
    """A note on arrays that are not read.

    Raises:
        DataError: one looks like a split that is called otherwise here.
    """
    known = {f"{split}_{part}" for split in SPLITS for part in "xy"} | {"class_names"}
    others = [name for name in arrays.names if name not in known]
    for name in others:
        split, part = _meant(name)
        if split and part and f"{split}_{part}" not in arrays.names:
            raise DataError(f"{arrays.path}: {name} looks like the {split} split; call the array {split}_{part}.")
    return [f"arrays that were not read: {', '.join(others)}"] if others else []


def _meant(name: str) -> tuple[str | None, str | None]:
    """The split and the part, x or y, that the name of an array seems to mean."""
    words = name.casefold().split("_")
    for part, called in _PARTS.items():
        rest = [word for word in words if word not in called]
        if len(rest) == len(words) - 1 and rest:
            return split_called("_".join(rest)), part
    return None, None


def _read(arrays: Arrays, split: str, layout: Layout, *, first_id: int) -> Split:
    images = images_of(arrays[f"{split}_x"], f"{split}_x of {arrays.path}", layout=layout)
    labels = labels_of(arrays[f"{split}_y"], f"{split}_y of {arrays.path}", num_images=len(images))
    return as_split(images, labels, first_id=first_id)


def _class_names(arrays: Arrays, labels: Sequence[np.ndarray]) -> tuple[str, ...]:
    """The names in the file, else the numbers.

    Raises:
        DataError: there are no names, and the labels do not number the classes from 0.
    """
    if "class_names" in arrays.names:
        return arrays.texts("class_names")
    known = np.unique(np.concatenate(labels))
    absent = np.setdiff1d(np.arange(len(known)), known)
    if len(absent):
        raise DataError(f"{arrays.path}: class '{absent[0]}' has no training image: {gaps(known)}")
    return tuple(str(number) for number in known.tolist())


PLUGIN = Plugin(
    name="npz",
    description="Any .npz file: train_x, train_y, optional valid and test arrays; uint8 images, labels from 0",
    source="numpy.savez, https://numpy.org/doc/stable/reference/generated/numpy.savez.html",
    create=create,
    Config=NpzConfig,
)
