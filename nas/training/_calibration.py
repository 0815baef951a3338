"""Batch normalisation at evaluation time, and measuring a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nas.datasets import Dataset
from nas.streams import stream
from nas.tasks import Task
from nas.training._data import Batch, DeviceData, Images, Integers, even_parts
from nas.training._device import Precision, accelerated, choose_device, choose_dtype, to_device
from searchspaces import normalisations, track_statistics


def recalibrate(
    network: nn.Module,
    dataset: Dataset,
    *,
    precision: Precision,
    seed: int = 0,
    device: torch.device | str = "auto",
) -> nn.Module:
    """Set the statistics of every batch normalisation from training images, in place; returns the network.

    What is exported with inherited weights goes through this, so that its answer does not depend on its batch: layers
    that track no statistics begin to. Moves the network to the device and leaves it in evaluation mode.
    """
    place = choose_device(device)
    data = DeviceData.of(dataset.train, dataset, place)
    dtype = choose_dtype(precision, place, dataset.input_shape)
    return set_statistics(to_device(network, place), calibration_images(data, seed=seed), dtype=dtype)


def calibration_images(data: DeviceData, *, seed: int, num_batches: int = 4, batch_size: int = 512) -> list[Tensor]:
    """Batches of normalised images, not augmented, the same for equal seeds; fewer when there are not so many."""
    order = stream(seed, "calibration").permutation(len(data))[: num_batches * batch_size]
    return [data.batch(part).images for part in even_parts(torch.from_numpy(order), batch_size)]


def set_statistics(network: nn.Module, batches: Sequence[Tensor], *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Set the statistics of every batch normalisation to the plain mean over `batches`, in place.

    batches: `batch x channels x height x width` each, normalised.
    """
    track_statistics(network).eval()
    momenta = [(norm, norm.momentum) for norm in normalisations(network)]
    for norm, _ in momenta:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    with torch.no_grad():
        for images in batches:
            with accelerated(images.device, dtype):
                network(images)
    for norm, momentum in momenta:
        norm.momentum = momentum
        norm.eval()
    return network


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, batch normalisation uses the statistics of the batch at hand, and nothing is tracked.

    A value measured so depends on the evaluation batch: its size and order are part of the result.
    """
    found = [(norm, norm.training, norm.track_running_stats) for norm in normalisations(network)]
    for norm, _, _ in found:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, training, tracks in found:
            norm.training, norm.track_running_stats = training, tracks


def evaluate_batches(
    forward: Callable[[Tensor], Tensor], batches: Sequence[Batch], task: Task, *, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """The task's metrics of `forward` over the batches, without autograd.

    Raises:
        MeasurementError: a metric cannot be computed.
    """
    outputs = []
    with torch.inference_mode():
        for images, _ in batches:
            with accelerated(images.device, dtype):
                outputs.append(forward(images))
        logits = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
        targets = torch.cat([targets for _, targets in batches])
        return task.metrics(logits, targets)


def evaluate_network(
    network: nn.Module,
    images: Images,
    labels: Integers,
    dataset: Dataset,
    task: Task,
    *,
    precision: Precision,
    device: torch.device | str = "auto",
    batch_size: int = 1024,
) -> dict[str, float]:
    """Metrics of a stand-alone network in evaluation mode over these samples, in order.

    Args:
        images, labels: as in a Split: `samples x channels x height x width` uint8, `samples`.
        dataset: whose normalisation holds for the images.

    Raises:
        MeasurementError: a metric cannot be computed.
    """
    place = choose_device(device)
    batches = DeviceData(images, labels, dataset, place).batches(batch_size)
    to_device(network, place).eval()
    return evaluate_batches(network, batches, task, dtype=choose_dtype(precision, place, dataset.input_shape))
