"""CIFAR-10 from local files: 60,000 colour images, 32 x 32, 10 classes.

Two forms are read: arrays of pixels (`train_x`, `train_y`, `train_index`, the same for test) and JPEG files in one
array (`train_jpeg`, `train_offsets`, `train_y`); both with `class_names`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from nas.datasets._assemble import Augmentation, SplitConfig, assemble, capped, fractions_for, split_indices
from nas.datasets._dataset import Dataset, Images, Integers, Split
from nas.datasets._npz import Arrays, images_of, labels_of, opened
from nas.datasets._pictures import read_picture
from searchspaces import LOCAL_PATH, DataError, Plugin, data_file

_FILES = {"full": "cifar10_jpeg.npz", "small": "cifar10_small.npz"}
_NUM_TRAIN = 50_000


class Cifar10Config(SplitConfig):
    """Settings of `cifar10`."""

    path: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="The file; else that of `variant` in $NAS_DATA.",
    )
    variant: Literal["full", "small"] = Field(
        "full", description="full: cifar10_jpeg.npz (60,000 images); small: cifar10_small.npz (6,000)."
    )
    split: Literal["stratified", "nasbench201"] = Field(
        "stratified", description="How train and valid are told apart; nasbench201 is that benchmark's own halves."
    )
    split_path: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="File of the nasbench201 split; else cifar10_nb201_split.npz in $NAS_DATA.",
    )


def create(config: Cifar10Config) -> Dataset:
    """Train and valid from the 50,000 training images; only what is used gets decoded."""
    file = data_file(_FILES[config.variant], config.path)
    with opened(file) as arrays:
        labels, ids = _labels(arrays, "train"), _ids(arrays, "train")
        indices = [capped(part, labels, config.limit, seed=config.seed) for part in _parts(config, labels, ids)]
        splits = _read(arrays, "train", labels, ids, indices)
        class_names = arrays.texts("class_names")

    def load_test() -> Split:
        with opened(file) as arrays:
            labels, ids = _labels(arrays, "test"), _ids(arrays, "test")
            return _read(arrays, "test", labels, ids + _NUM_TRAIN, [np.arange(len(labels))])[0]

    return assemble(
        "cifar10",
        splits,
        class_names,
        load_test=load_test,
        augmentation=Augmentation(flips=True, max_shift=4),
        limit=config.limit,
    )


def _parts(config: Cifar10Config, labels: Integers, ids: Integers) -> list[Integers]:
    if config.split == "stratified":
        return split_indices(labels, fractions_for({"valid"}, config), seed=config.seed, what="cifar10")[:2]
    with opened(data_file("cifar10_nb201_split.npz", config.split_path)) as arrays:
        return [np.flatnonzero(np.isin(ids, arrays[f"{part}_index"])) for part in ("train", "valid")]


def _labels(arrays: Arrays, split: str) -> Integers:
    found = arrays[f"{split}_y"]
    return labels_of(found, f"{split}_y of {arrays.path}", num_images=len(found))


def _ids(arrays: Arrays, split: str) -> Integers:
    if f"{split}_index" in arrays.names:
        return arrays[f"{split}_index"].astype(np.int64)
    return np.arange(len(arrays[f"{split}_y"]), dtype=np.int64)


def _read(arrays: Arrays, split: str, labels: Integers, ids: Integers, indices: list[Integers]) -> list[Split]:
    if f"{split}_jpeg" in arrays.names:
        content, offsets = arrays[f"{split}_jpeg"], arrays[f"{split}_offsets"].astype(np.int64)
        images = [_decoded(arrays.path, split, content, offsets, part) for part in indices]
    else:
        pixels = images_of(arrays[f"{split}_x"], f"{split}_x of {arrays.path}", layout="NHWC")
        images = [pixels[part] for part in indices]
    return [Split(x, labels[part], ids[part]) for x, part in zip(images, indices, strict=True)]


def _decoded(path: Path, split: str, content: np.ndarray, offsets: Integers, indices: Integers) -> Images:
    images = np.empty((len(indices), 3, 32, 32), dtype=np.uint8)
    for row, index in enumerate(indices):
        what = f"image {index} of {split}_jpeg in {path}"
        try:
            images[row] = read_picture(content[offsets[index] : offsets[index + 1]].tobytes(), what).transpose(2, 0, 1)
        except (ValueError, IndexError) as error:  # DataError is one
            raise DataError(f"{what} is no 32 x 32 JPEG ({error}); copy the file again.") from error
    return images


PLUGIN = Plugin(
    name="cifar10",
    description="CIFAR-10, 60,000 colour images of 32 x 32 in 10 classes; from a local file",
    source="Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images; split of NAS-Bench-201: Dong and "
    "Yang (2020), arXiv 2001.00326",
    create=create,
    Config=Cifar10Config,
)
