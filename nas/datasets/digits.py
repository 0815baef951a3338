"""Handwritten digits, 1,797 images of 8 x 8, shipped with scikit-learn."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from nas.datasets._assemble import Augmentation, as_split, assemble, parts, split_indices
from nas.datasets._dataset import Dataset, Split
from searchspaces import Config, Plugin


class DigitsConfig(Config):
    """Settings of `digits`."""

    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the stratified 60/20/20 split, and of `limit`.")
    limit: int | None = Field(
        None, ge=10, le=1_000_000, description="At most so many images in train, and in valid; stratified."
    )


def create(config: DigitsConfig) -> Dataset:
    """Train, valid and test: 60/20/20, stratified; pixel values 0 to 16 stretched to 0 to 255."""
    train, valid, _ = _splits(config)
    return assemble(
        "digits",
        (train, valid),
        [str(digit) for digit in range(10)],
        load_test=lambda: _splits(config)[2],
        augmentation=Augmentation(flips=False, max_shift=1),
        limit=config.limit,
        seed=config.seed,
    )


def _splits(config: DigitsConfig) -> list[Split]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)[:, None]  # N x 1 x 8 x 8
    everything = as_split(images, found.target)
    return parts(everything, split_indices(everything.labels, (0.6, 0.2, 0.2), seed=config.seed, what="digits"))


PLUGIN = Plugin(
    name="digits",
    description="Handwritten digits, 1,797 grey images of 8 x 8 in 10 classes; comes with scikit-learn",
    source="Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI; as shipped by scikit-learn",
    create=create,
    Config=DigitsConfig,
)
