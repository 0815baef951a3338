"""Batches made on the device, and their augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.datasets import Dataset
from nas.streams import torch_stream
from nas.testing._recipes import small_dataset
from nas.training import DeviceData
from nas.training._data import even_parts


def shifted_and_flipped(image: torch.Tensor, max_shift: int) -> list[torch.Tensor]:
    """All that augmentation may make of an image, `channels x height x width`, one at a time."""
    _, height, width = image.shape
    padded = torch.nn.functional.pad(image, [max_shift] * 4)
    offsets = range(2 * max_shift + 1)
    crops = [padded[:, r : r + height, c : c + width] for r in offsets for c in offsets]
    return [*crops, *(crop.flip(2) for crop in crops)]


@pytest.fixture
def dataset() -> Dataset:
    return replace(small_dataset(num_train=300), flips=True, max_shift=2)


def test_a_plain_batch_is_the_normalised_images_in_the_order_asked_for(dataset: Dataset) -> None:
    data = DeviceData.of(dataset.train, dataset, "cpu")
    images, targets = data.batch(torch.tensor([5, 0, 5]))
    expected = (dataset.train.images[[5, 0, 5]] / 255 - dataset.mean[0]) / dataset.std[0]
    np.testing.assert_allclose(images.numpy(), expected, rtol=0, atol=1e-5)
    assert targets.tolist() == [dataset.train.labels[i] for i in (5, 0, 5)]


def test_augmentation_shifts_and_flips_and_does_nothing_else(dataset: Dataset) -> None:
    raw = replace(dataset, mean=(0.0,), std=(1 / 255,))
    data = DeviceData.of(dataset.train, raw, "cpu")
    images, targets = data.batch(torch.arange(300), torch_stream(0, "augment", 0))
    made = set()
    for image, source in zip(images, torch.from_numpy(dataset.train.images).float(), strict=True):
        found = [k for k, v in enumerate(shifted_and_flipped(source, 2)) if torch.allclose(v, image, atol=1e-3)]
        assert found
        made.add(found[0])
    assert len(made) > 40  # of 50 different ones
    assert targets.tolist() == dataset.train.labels.tolist()


def test_without_flips_a_mirrored_image_never_comes() -> None:
    dataset = replace(small_dataset(), flips=False, max_shift=0)
    data = DeviceData.of(dataset.train, dataset, "cpu")
    everything = torch.arange(len(data))
    assert torch.equal(data.batch(everything, torch_stream(1, "augment", 0)).images, data.batch(everything).images)


def test_augmentation_depends_on_its_generator_alone(dataset: Dataset) -> None:
    data, some = DeviceData.of(dataset.train, dataset, "cpu"), torch.arange(64)
    one, again, other = (data.batch(some, torch_stream(3, "augment", step)).images for step in (7, 7, 8))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("samples", "size"), [(65, 64), (129, 64), (1078, 64), (5, 64), (64, 64), (1, 1)])
def test_parts_of_an_epoch_hold_all_samples_and_differ_by_one_at_most(samples: int, size: int) -> None:
    parts = even_parts(torch.arange(samples), size)
    assert torch.equal(torch.cat(parts), torch.arange(samples))
    assert max(map(len, parts)) <= size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_images_that_cannot_be_written_to_are_taken_as_they_are(dataset: Dataset) -> None:
    images = dataset.train.images.copy()
    images.setflags(write=False)
    data = DeviceData(images, dataset.train.labels, dataset, "cpu")
    assert len(data) == len(images)
