"""The contracts of data sets and tasks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nas.datasets import Dataset, Split
from nas.tasks import Task
from searchspaces import ContractViolation, Flag, Plugin


def check_dataset(plugin: Plugin[Dataset], settings: Mapping[str, object] | None = None) -> None:
    """Checks what a data set promises: typed, disjoint splits, equal when made again, honest statistics.

    Raises:
        ContractViolation: a promise is broken.
    """
    dataset, again = plugin(settings), plugin(settings)
    splits = {"train": dataset.train, "valid": dataset.valid, "test": dataset.load_test()}
    for name, split in splits.items():
        check_split(name, split, dataset)
    _require(
        set(np.unique(dataset.train.labels)) == set(range(dataset.num_classes)), "every class has training images", ""
    )
    ids = np.concatenate([split.ids for split in splits.values()])
    _require(len(np.unique(ids)) == len(ids), "an id is that of one sample, and no sample is in two splits", len(ids))
    _require(dataset.digest == again.digest, "made again, the digest is the same", (dataset.digest, again.digest))
    for one, other in ((dataset.train, again.train), (dataset.valid, again.valid), (splits["test"], again.load_test())):
        same = np.array_equal(one.images, other.images) and np.array_equal(one.ids, other.ids)
        _require(same, "made again, images and ids are the same", len(one))
    pixels = dataset.train.images.astype(np.float64) / 255
    for found, true in ((dataset.mean, pixels.mean(axis=(0, 2, 3))), (dataset.std, pixels.std(axis=(0, 2, 3)))):
        _require(len(found) == len(true) and np.allclose(found, np.where(true > 0, true, found)), "mean and std", found)
    _require(
        0 <= dataset.max_shift < min(dataset.input_shape[1:]), "a shift leaves part of the image", dataset.max_shift
    )


def check_task(task: Task, flags: Mapping[str, Flag], *, num_classes: int = 5, seed: int = 0) -> None:
    """Checks what a task of `num_classes` logits promises; `flags` are its plug-in's.

    Raises:
        ContractViolation: a promise is broken.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(16, num_classes, generator=generator).requires_grad_()
    targets = torch.randint(num_classes, (16,), generator=generator)
    losses = task.losses(logits, targets)
    _require(losses.shape == (16,) and bool(losses.isfinite().all()), "one finite loss per sample", losses)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    bound = task.gradient_norm_bound(logits, targets)
    _require(bound.shape == (16,) and not bound.requires_grad, "one bound per sample, detached", bound)
    ratio = gradient.norm(dim=1) / bound
    _require(bool((ratio <= ratio.max()).all()) and bool(ratio.max() <= 1.001), "gradients keep the bound", ratio)
    metrics = task.metrics(logits, targets)
    _require(
        tuple(sorted(metrics)) == tuple(sorted(_texts(flags.get("metrics")))), "the flag lists the metrics", metrics
    )
    _require(all(isinstance(v, float) and np.isfinite(v) for v in metrics.values()), "metrics are finite", metrics)


def check_split(name: str, split: Split, dataset: Dataset) -> None:
    """A split is not empty, of the types and the shape that its data set says, its labels number the classes."""
    _require(len(split) > 0, f"{name} is not empty", split)
    _require(split.images.dtype == np.uint8, f"images of {name} are uint8", split.images.dtype)
    _require(split.images.shape[1:] == dataset.input_shape, f"{name} has the input shape", split.images.shape)
    _require(split.labels.dtype == np.int64 and split.ids.dtype == np.int64, "labels and ids are int64", name)
    _require(
        split.images.shape[0] == split.labels.size == split.ids.size, f"{name} has a label and an id for each image", ""
    )
    inside = split.labels.min() >= 0 and split.labels.max() < dataset.num_classes
    _require(bool(inside), f"labels of {name} number the classes", (split.labels.min(), split.labels.max()))


def _texts(flag: Flag | None) -> tuple[str, ...]:
    return flag if isinstance(flag, tuple) else ()


def _require(holds: bool, promise: str, got: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {got!r}.")
