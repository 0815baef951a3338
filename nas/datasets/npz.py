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
from nas.datasets._npz import Arrays, Layout, images_of, labels_of, opened
from searchspaces import LOCAL_PATH, Plugin, data_file


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
        given = [split for split in ("train", "valid", "test") if {f"{split}_x", f"{split}_y"} & set(arrays.names)]
        train = _read(arrays, "train", layout, first_id=0)
        valid = _read(arrays, "valid", layout, first_id=len(train)) if "valid" in given else None
        class_names = _class_names(arrays, [train.labels, *([valid.labels] if valid else [])])
    num_read = len(train) + (len(valid) if valid else 0)

    def load_test() -> Split:
        if "test" not in given:
            return made["test"]
        with opened(file) as arrays:
            return _read(arrays, "test", layout, first_id=num_read)

    made = cut(train, missing={"valid", "test"} - set(given), config=config, what=str(file))
    return assemble(
        name,
        (made["train"], valid or made["valid"]),
        class_names,
        load_test=load_test,
        augmentation=augmentation,
        limit=config.limit,
        seed=config.seed,
    )


def _read(arrays: Arrays, split: str, layout: Layout, *, first_id: int) -> Split:
    images = images_of(arrays[f"{split}_x"], f"{split}_x of {arrays.path}", layout=layout)
    labels = labels_of(arrays[f"{split}_y"], f"{split}_y of {arrays.path}", num_images=len(images))
    return as_split(images, labels, first_id=first_id)


def _class_names(arrays: Arrays, labels: Sequence[np.ndarray]) -> tuple[str, ...]:
    if "class_names" in arrays.names:
        return arrays.texts("class_names")
    return tuple(str(i) for i in range(1 + max((int(part.max()) for part in labels if len(part)), default=0)))


PLUGIN = Plugin(
    name="npz",
    description="Any .npz file: train_x, train_y, optional valid and test arrays; uint8 images, labels from 0",
    source="numpy.savez, https://numpy.org/doc/stable/reference/generated/numpy.savez.html",
    create=create,
    Config=NpzConfig,
)
