"""What every data set is: images with labels in typed splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Samples in a fixed order.

    Attributes:
        images: `samples x channels x height x width`, 0 to 255.
        labels: `samples`, 0 to the number of classes - 1.
        ids: `samples`, stable over runs: a sample keeps its id whatever the split or order.
    """

    images: Images
    labels: Integers
    ids: Integers

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Train and valid splits; the test split only by an explicit call.

    Attributes:
        digest: SHA-256 over the images, labels and ids of train and valid, so over the split too.
        mean, std: per channel, of the train split, on the scale 0 to 1.
        flips: whether a mirrored image means the same.
        max_shift: largest random shift in pixels that keeps the meaning.
        load_test: gives the test split; only the final report may call it.
        notes: what was done to the files, or left out of them, that nobody asked for; sentences without a point.
    """

    name: str
    train: Split
    valid: Split
    class_names: tuple[str, ...]
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flips: bool
    max_shift: int
    load_test: Callable[[], Split] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`channels x height x width` of one image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


def stratified_split(labels: Integers, fractions: tuple[float, ...], rng: np.random.Generator) -> list[Integers]:
    """Indices of disjoint parts that together are all samples; each holds its fraction of every class.

    Within a class the boundaries are rounded cumulatively, so that no sample is lost; a part of some share gets at
    least one of a class that has enough for all. Indices are sorted.
    """
    least = [int(fraction > 0) for fraction in fractions]
    parts: list[list[Integers]] = [[] for _ in fractions]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        edges = np.round(np.cumsum((0.0, *fractions)) / sum(fractions) * len(members)).astype(int)
        if len(members) >= sum(least):
            edges = _with_room(edges, least)
        for part, start, stop in zip(parts, edges, edges[1:], strict=False):
            part.append(members[start:stop])
    return [np.sort(np.concatenate(part)) for part in parts]


def _with_room(edges: Integers, least: list[int]) -> Integers:
    """Boundaries between parts, moved no more than it takes to give every part its least number."""
    room = edges.copy()
    for part, number in enumerate(least):
        room[part + 1] = max(room[part + 1], room[part] + number)
    room[-1] = edges[-1]
    for part in range(len(least) - 1, 0, -1):
        room[part] = min(room[part], room[part + 1] - least[part])
    return room
