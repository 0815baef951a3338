"""Reading arrays of images and labels from .npz files, with refusals that say what was found and the way out."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from nas.datasets._dataset import Images, Integers
from searchspaces import DataError

Layout = Literal["auto", "NHWC", "NCHW"]

_MAX_CHANNELS = 4
_MOST_CLASSES = 100_000


class Arrays:
    """The arrays of an open .npz file; each is read when asked for."""

    def __init__(self, path: Path, arrays: np.lib.npyio.NpzFile) -> None:
        self.path, self._arrays = path, arrays
        self.names = tuple(arrays.files)

    def __getitem__(self, name: str) -> npt.NDArray[np.generic]:
        if name not in self.names:
            raise DataError(f"{self.path} has no array {name}; it has {', '.join(self.names) or 'none'}.")
        with _readable(self.path):
            return np.asarray(self._arrays[name])

    def texts(self, name: str) -> tuple[str, ...]:
        """The elements of an array, as text.

        Raises:
            DataError: it is no list of texts.
        """
        found = self[name]
        if found.ndim != 1:
            raise DataError(f"{name} of {self.path} has shape {found.shape}; give a list of names.")
        try:
            return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in found.tolist())
        except UnicodeDecodeError as error:
            raise DataError(f"{name} of {self.path} is no UTF-8 text ({error}); save the names as texts.") from error


@contextmanager
def opened(path: Path) -> Iterator[Arrays]:
    """The arrays of a .npz file. Nothing is ever unpickled.

    Raises:
        DataError: the file is missing, cut short or no .npz.
    """
    with ExitStack() as held:  # numpy leaves a file open that it cannot read
        with _readable(path):
            loaded = np.load(held.enter_context(path.open("rb")), allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds one bare array; write train_x and train_y with numpy.savez_compressed.")
        yield Arrays(path, held.enter_context(loaded))


def images_of(array: npt.NDArray[np.generic], what: str, *, layout: Layout = "auto") -> Images:
    """`N x C x H x W` from `N x H x W`, NHWC or NCHW uint8.

    With `auto`, the axis of at most four entries holds the channels; an array where both ends could is refused.

    Raises:
        DataError: another number type or shape; the message says how to convert.
    """
    if array.dtype != np.uint8:
        raise DataError(f"{what} is {array.dtype}; images are uint8 from 0 to 255, so convert it: {_converted(array)}.")
    if array.ndim == 3 and 0 not in array.shape[1:]:
        return np.ascontiguousarray(array[:, None])  # N x H x W -> N x 1 x H x W
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise DataError(f"{what} has shape {array.shape}; give N x H x W, N x H x W x C or N x C x H x W.")
    last, first = array.shape[3] <= _MAX_CHANNELS, array.shape[1] <= _MAX_CHANNELS
    if layout == "auto" and last == first:
        raise DataError(
            f"{what} has shape {array.shape}, where it is not plain which axis holds the channels (1 to "
            f"{_MAX_CHANNELS}); set layout to NHWC or NCHW."
        )
    is_last = last if layout == "auto" else layout == "NHWC"
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2) if is_last else array)


def _converted(array: npt.NDArray[np.generic]) -> str:
    """How to make images of an array, from what it holds."""
    if array.dtype == np.bool_:
        return "x.astype('uint8') * 255"
    if array.dtype.kind not in "iuf" or not array.size:
        return "to whole numbers, with astype('uint8')"
    low, high = float(array.min()), float(array.max())
    if not np.isfinite((low, high)).all():
        return "replace what is not finite, then scale to 0 to 255 and round"
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return "(x * 255).round().astype('uint8')"
    if low >= 0 and high <= 255:
        return "x.round().astype('uint8')" if array.dtype.kind == "f" else "x.astype('uint8')"
    if array.dtype == np.uint16:
        return "(x // 257).astype('uint8') if its white is 65535"
    return f"it runs from {low:g} to {high:g}, so scale that to 0 to 255, round, and use astype('uint8')"


def labels_of(array: npt.NDArray[np.generic], what: str, *, num_images: int) -> Integers:
    """Class numbers, `N`.

    Raises:
        DataError: they are no whole numbers, or not one for each image; the message says how to convert.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and len(array) == num_images:
        raise DataError(
            f"{what} has shape {array.shape} for {num_images} images; give one label for each (one-hot: "
            "y.argmax(axis=1))."
        )
    if array.dtype.kind not in "iu":
        way = "y.astype(int) if they are class numbers" if array.dtype.kind in "fb" else ""
        way = way or "numpy.unique(y, return_inverse=True), whose first array is class_names"
        raise DataError(f"{what} is {array.dtype}; labels are whole numbers from 0, so number the classes: {way}.")
    if array.shape != (num_images,):
        raise DataError(f"{what} has shape {array.shape} for {num_images} images; give one label for each.")
    if array.size and int(array.min()) < 0:
        raise DataError(f"{what} has the label {array.min()}, outside 0 to the number of classes less 1: {gaps(array)}")
    if array.size and int(array.max()) >= _MOST_CLASSES:
        raise DataError(f"{what}: {gaps(array)}")
    return array.astype(np.int64)


def gaps(labels: npt.NDArray[np.generic]) -> str:
    """What is said of labels that do not number the classes."""
    known = np.unique(labels)
    return (
        f"labels {known[0]} to {known[-1]}, {len(known)} different ones; number the classes from 0 without gaps, as "
        "numpy.unique(y, return_inverse=True)[1] does."
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a .npz file ({error}); it is cut short, broken or of another kind, so copy it "
            "again, or write it with numpy.savez_compressed (no objects: nothing is unpickled)."
        ) from error
