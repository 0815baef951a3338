"""Images resident on the device, and batches made of them there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.datasets import Dataset, Split

Images = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """Images, normalised, `batch x channels x height x width` fp32 in channels_last; targets, `batch` int64."""

    images: Tensor
    targets: Tensor


class DeviceData:
    """Samples as one uint8 tensor on the device. Nothing crosses from the host per batch but indices.

    Shifts are crops out of a zero-padded copy and flips are reversed columns: both are one gather, without a loop.
    """

    def __init__(self, images: Images, labels: Integers, dataset: Dataset, device: torch.device | str) -> None:
        """Copy `images` (`samples x channels x height x width`) and `labels` (`samples`) to the device."""
        self.device, self._flips, self._shift = torch.device(device), dataset.flips, dataset.max_shift
        self.labels = torch.tensor(np.ascontiguousarray(labels), dtype=torch.int64, device=self.device)
        pad = self._shift
        padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        self._padded = torch.tensor(padded, dtype=torch.uint8, device=self.device)
        self._mean, self._scale = (
            torch.tensor(values, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
            for values in ([255 * m for m in dataset.mean], [1 / (255 * s) for s in dataset.std])
        )
        _, _, height, width = images.shape
        self._rows = torch.arange(height, device=self.device)
        self._columns = torch.arange(width, device=self.device)

    @classmethod
    def of(cls, split: Split, dataset: Dataset, device: torch.device | str) -> DeviceData:
        """A split of the data set."""
        return cls(split.images, split.labels, dataset, device)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The samples at `indices` (`batch` int64), augmented when there is a generator (of the device)."""
        indices = indices.to(self.device)
        images = self._plain(indices) if generator is None else self._augmented(indices, generator)
        normalised = (images.float() - self._mean) * self._scale
        return Batch(normalised.contiguous(memory_format=torch.channels_last), self.labels[indices])

    def batches(self, size: int) -> list[Batch]:
        """All samples in order, not augmented, in batches of nearly equal size, at most `size`."""
        return [self.batch(part) for part in even_parts(torch.arange(len(self), device=self.device), size)]

    def _plain(self, indices: Tensor) -> Tensor:
        pad, height, width = self._shift, len(self._rows), len(self._columns)
        return self._padded[indices, :, pad : pad + height, pad : pad + width]

    def _augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        B, C, width = len(indices), self._padded.shape[1], len(self._columns)
        draws = torch.randint(
            0, 2 * self._shift + 1, (2, B, 1), generator=generator, device=self.device
        )  # rows and columns x batch x 1
        columns = self._columns.expand(B, width)
        if self._flips:
            flipped = torch.rand((B, 1), generator=generator, device=self.device) < 0.5
            columns = torch.where(flipped, width - 1 - columns, columns)
        rows, columns = self._rows + draws[0], columns + draws[1]  # batch x height, batch x width
        channels = torch.arange(C, device=self.device)
        return self._padded[
            indices[:, None, None, None], channels[None, :, None, None], rows[:, None, :, None], columns[:, None, None]
        ]


def num_parts(num_samples: int, size: int) -> int:
    """How many batches of at most `size` hold `num_samples`; at least one.

    None holds a single sample, which batch normalisation cannot do with: an odd number in twos has one batch of three.
    """
    return max(1, min(-(-num_samples // size), num_samples // 2))


def even_parts(indices: Tensor, size: int) -> tuple[Tensor, ...]:
    """Split into parts of at most `size` whose lengths differ by at most one: a small rest would be a noisy step."""
    return torch.tensor_split(indices, num_parts(len(indices), size))


def even_slices(num_samples: int, size: int) -> list[slice]:
    """The rows of such parts."""
    parts = num_parts(num_samples, size)
    return [slice(k * num_samples // parts, (k + 1) * num_samples // parts) for k in range(parts)]
