"""From checked arrays to a Dataset: splitting, limiting, statistics, digests, and the refusals of bad input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas.datasets._dataset import Dataset, Images, Integers, Split, stratified_split
from nas.streams import stream
from searchspaces import Config, DataError


class SplitConfig(Config):
    """Settings that every data set with splits to make has."""

    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the splits that are made, and of `limit`.")
    limit: int | None = Field(
        None, ge=2, le=100_000_000, description="At most so many images in train, and in valid; stratified."
    )
    valid_fraction: float = Field(
        0.2, gt=0, lt=0.5, description="Share of the training images that becomes valid where there is none."
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=0.5, description="Share of the training images that becomes test where there is none."
    )


class Augmentation(NamedTuple):
    """Which changes of an image keep its meaning."""

    flips: bool
    max_shift: int


def assemble(
    name: str,
    splits: Sequence[Split],
    class_names: Sequence[str],
    *,
    load_test: Callable[[], Split],
    augmentation: Augmentation,
    limit: int | None = None,
    seed: int = 0,
    notes: Sequence[str] = (),
) -> Dataset:
    """The Dataset of a train and a valid split.

    `limit` caps the images of the train split and of the valid split, each stratified over the classes.

    Raises:
        DataError: a split is empty, its images differ in shape from the other's, a class has no training image, or two
            have one name.
    """
    train, valid = (_limited(split, limit, seed=seed) for split in splits)
    for split, what in ((train, "train"), (valid, "valid")):
        check_split(split, len(class_names), f"the {what} split of {name}")
    if len(class_names) < 2:
        raise DataError(f"{name} has {len(class_names)} class; give images of at least two.")
    if train.images.shape[1:] != valid.images.shape[1:]:
        raise DataError(
            f"{name}: training images are {train.images.shape[1:]} but validation images {valid.images.shape[1:]}; "
            "give both the same channels, height and width."
        )
    absent = sorted(set(range(len(class_names))) - set(np.unique(train.labels).tolist()))
    if absent:
        raise DataError(
            f"{name}: class {class_names[absent[0]]!r} has no training image; give at least one of every class"
            f"{', or raise the limit' if limit else ''}."
        )
    _refuse_double(class_names, name)
    plain = [f"all training images of {name} are of one plain colour: nothing can be learned from them"]
    mean, std = statistics(train.images)
    return Dataset(
        name=name,
        train=train,
        valid=valid,
        class_names=tuple(class_names),
        digest=digest_of_splits(train, valid),
        mean=mean,
        std=std,
        flips=augmentation.flips,
        max_shift=augmentation.max_shift,
        load_test=lambda: _checked_test(load_test(), train, len(class_names), f"the test split of {name}"),
        notes=(*notes, *(plain if is_plain(train) else ())),
    )


def is_plain(split: Split) -> bool:
    """Whether all images of a split are of one colour."""
    colour = split.images[0, :, :1, :1]
    return all((image == colour).all() for image in split.images)


def _refuse_double(class_names: Sequence[str], name: str) -> None:
    double = [known for number, known in enumerate(class_names) if known in class_names[:number]]
    if double:
        raise DataError(f"{name} has two classes called {double[0]!r}; give each a name of its own.")


def _limited(split: Split, limit: int | None, *, seed: int) -> Split:
    if limit is None or len(split) <= limit:
        return split
    return parts(split, [capped(np.arange(len(split)), split.labels, limit, seed=seed)])[0]


def _checked_test(test: Split, train: Split, num_classes: int, what: str) -> Split:
    check_split(test, num_classes, what)
    if test.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"{what} has images {test.images.shape[1:]}, train has {train.images.shape[1:]}; make them equal."
        )
    return test


def check_split(split: Split, num_classes: int, what: str) -> None:
    """Refuse an empty split, and labels outside 0 .. number of classes - 1.

    Raises:
        DataError: with what was found and what is expected.
    """
    if len(split) == 0:
        raise DataError(f"{what} is empty; give at least one image of every class.")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(
            f"{what} has the label {low if low < 0 else high}, outside 0 to {num_classes - 1} for {num_classes} "
            "classes; number the classes from 0."
        )


def cut(
    train: Split, *, missing: Collection[str], config: SplitConfig, what: str, class_names: Sequence[str] = ()
) -> dict[str, Split]:
    """`train`, `valid` and `test` from the training images; what is not missing comes out empty.

    Raises:
        DataError: a class has too few images for every part to get one.
    """
    fractions = fractions_for(missing, config)
    indices = split_indices(train.labels, fractions, seed=config.seed, what=what, class_names=class_names)
    return dict(zip(("train", "valid", "test"), parts(train, indices), strict=True))


def fractions_for(missing: Collection[str], config: SplitConfig) -> tuple[float, float, float]:
    """Shares of train, valid and test in the training images when the `missing` splits are cut from them."""
    valid = config.valid_fraction if "valid" in missing else 0.0
    test = config.test_fraction if "test" in missing else 0.0
    return 1.0 - valid - test, valid, test


def split_indices(
    labels: Integers, fractions: tuple[float, ...], *, seed: int, what: str, class_names: Sequence[str] = ()
) -> list[Integers]:
    """Indices of stratified disjoint parts; the same for the same seed.

    Raises:
        DataError: a class has too few images for every part to get one.
    """
    indices = stratified_split(labels, fractions, stream(seed, "split")) if len(labels) else [labels] * len(fractions)
    for part, fraction in zip(indices, fractions, strict=True):
        poor = np.setdiff1d(labels, labels[part])
        if fraction and len(poor):
            number, found = int(poor[0]), int((labels == poor[0]).sum())
            raise DataError(
                f"{what}: class {_called(number, class_names)} has only {found} image{'s' * (found > 1)}, fewer than "
                f"the {sum(share > 0 for share in fractions)} splits that are cut from it; add images of it, or give "
                "the splits yourself."
            )
    return indices


def _called(number: int, class_names: Sequence[str]) -> str:
    name = class_names[number] if number < len(class_names) else str(number)
    return name if name == str(number) else repr(name)


def parts(split: Split, indices: Sequence[Integers]) -> list[Split]:
    """One Split for each array of indices; ids go along."""
    return [Split(split.images[i], split.labels[i], split.ids[i]) for i in indices]


def capped(indices: Integers, labels: Integers, limit: int | None, *, seed: int) -> Integers:
    """At most `limit` of the indices, stratified over their labels; the same for the same seed."""
    if limit is None or len(indices) <= limit:
        return indices
    classes, counts = np.unique(labels[indices], return_counts=True)
    shares = counts * (limit / len(indices))
    quotas = np.floor(shares).astype(int)
    quotas[np.argsort(quotas - shares, kind="stable")[: limit - quotas.sum()]] += 1  # the largest remainders
    rng = stream(seed, "limit")
    members = [
        rng.permutation(indices[labels[indices] == label])[:quota] for label, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(members))


def statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel on the scale 0 to 1; a constant channel gets deviation 1.

    From the histogram of the 256 values, so that no float copy of the images is made.
    """
    levels = np.arange(256) / 255.0
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256).astype(float)
        mean = float(counts @ levels / counts.sum())
        variance = float(counts @ (levels - mean) ** 2 / counts.sum())
        means.append(mean)
        deviations.append(variance**0.5 if variance > 0 else 1.0)
    return tuple(means), tuple(deviations)


def digest_of_splits(*splits: Split) -> str:
    """SHA-256 over shapes, images, labels and ids of the splits, in order."""
    found = hashlib.sha256()
    for split in splits:
        found.update(repr(split.images.shape).encode())
        for array in (split.images, split.labels, split.ids):
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def as_split(images: Images, labels: npt.NDArray[np.integer], *, first_id: int = 0) -> Split:
    """A Split whose ids count from `first_id` in the order of the arrays; `images` are `N x C x H x W` uint8."""
    ids = np.arange(first_id, first_id + len(labels), dtype=np.int64)
    return Split(np.ascontiguousarray(images), labels.astype(np.int64), ids)
