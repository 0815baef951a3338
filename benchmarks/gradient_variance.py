"""Does importance sampling lower the variance of the gradient? Measured at fixed weights, against uniform sampling.

A small NAS-Bench-201 supernet is trained for five epochs with uniform paths and samples, on Fashion-MNIST or
another data set at half its resolution. Then its weights stand still.

Data side, for architectures drawn uniformly, one network at a time: normalisation by fixed statistics, every sample's
own gradient g_i with respect to all weights of the network, and the probability p_i in proportion to a fresh norm at
the logits (temperature 1). With one draw the variance (trace of the covariance) is known exactly, for a batch of B
draws it is that divided by B, so no sampling is involved:

    uniform        mean ||g||^2 - ||mean g||^2
    re-weighted    mean ||g||^2 / (N p) - ||mean g||^2        weights 1 / (N p): the same target
    unweighted     sum p ||g||^2 - ||sum p g||^2              another target: what the published code does

Path side, on a fixed batch with its own statistics: paths drawn as `pada` draws them after an epoch of fresh norms,
with its clipped weights, over paths drawn uniformly. Both variances come from the same uniformly drawn paths, each
counted q / u times for the first: far fewer are then needed to compare them.

It takes a supernet that has begun to tell easy samples from hard ones. After these five epochs on CIFAR-10 (40,000
images, loss 1.68) norms hardly differ yet: re-weighted 0.92, unweighted 1.12, correlation 0.60.

Intervals are 95 % bootstraps, over the architectures of all seeds and over the drawn paths. `passes`: the re-weighted
ratio is below 0.85, the unweighted one above 1, the correlation above 0.8.

    python -m benchmarks.gradient_variance [--json] [--quick] [--dataset cifar10]
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from benchmarks._data import DATA_FOLDER
from benchmarks._report import Value, arguments, report
from nas.datasets import REGISTRY as DATASETS
from nas.datasets import Dataset
from nas.recipes import REGISTRY as RECIPES
from nas.spec import Supernet as SupernetOptions
from nas.streams import stream, stream_seed
from nas.tasks import REGISTRY as TASKS
from nas.tasks import Task
from nas.training import DeviceData, Recipe, Setting, calibration_images, set_statistics, train_supernet
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace, Supernet

EPOCHS = 5
CHUNK = 100  # samples whose gradients are held at a time


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    seeds: int
    train_images: int
    samples: int
    architectures: int
    paths: int


FULL = Scale(seeds=3, train_images=20_000, samples=3_000, architectures=6, paths=200)
QUICK = Scale(seeds=1, train_images=10_000, samples=1_000, architectures=3, paths=60)


def main() -> None:
    """Print the figures."""
    options = arguments(__doc__, ("dataset", str, "fashion_mnist", "a data set plug-in whose file is in $NAS_DATA"))
    scale = QUICK if options.quick else FULL
    torch.set_num_threads(1)
    dataset = halved(options.dataset, scale.train_images)
    task = TASKS["classification"](None, dataset)
    sides: list[DataSide] = []
    paths: list[PathSide] = []
    for seed in range(scale.seeds):
        supernet = trained(dataset, task, seed)
        rng = stream(seed, "architectures")
        chosen = connected(supernet.space, scale.architectures, rng)
        sides += [data_side(supernet, architecture, dataset, task, scale.samples, seed) for architecture in chosen]
        for side in sides[-len(chosen) :]:
            print(f"# seed {seed}, {side}")
        paths.append(path_side(supernet, dataset, task, scale.paths, seed))
    report(figures(sides, paths), as_json=options.json)


# --- a trained supernet -----------------------------------------------------------------------------------------------


def halved(name: str, num_images: int) -> Dataset:
    """A data set at half its resolution: every 2 x 2 pixels are one."""
    os.environ.setdefault("NAS_DATA", str(DATA_FOLDER))
    full = DATASETS[name]({"limit": num_images})

    def smaller(images: np.ndarray) -> np.ndarray:
        N, C, H, W = images.shape
        return np.rint(images.reshape(N, C, H // 2, 2, W // 2, 2).mean(axis=(3, 5))).astype(np.uint8)

    train, valid = (dataclasses.replace(split, images=smaller(split.images)) for split in (full.train, full.valid))
    return dataclasses.replace(
        full, train=train, valid=valid, max_shift=full.max_shift // 2, digest=f"{full.digest}, halved"
    )


def trained(dataset: Dataset, task: Task, seed: int) -> Supernet:
    """A supernet after five epochs of uniform single paths."""
    space = SPACES["nasbench201"](
        {"channels": 8, "cells_per_stage": 1, "input_shape": dataset.input_shape, "num_classes": dataset.num_classes}
    )
    supernet = space.supernet(seed=stream_seed(seed, "supernet") % 2**32)
    # No augmentation: a sample is then an image, in the training as in what is measured.
    options = SupernetOptions(batch_size=32, augment=False, diagnosis=0.0)
    summary = train_supernet(
        supernet,
        recipe("spos", {}, space, dataset, options, seed),
        dataset,
        task,
        options,
        num_epochs=EPOCHS,
        seed=seed,
        device="cpu",
    )
    print(f"# seed {seed}: loss {' '.join(f'{loss:.3f}' for loss in summary.losses)}, {summary.seconds:.0f} s")
    return supernet


def recipe(
    name: str, config: dict[str, object], space: SearchSpace, dataset: Dataset, options: SupernetOptions, seed: int
) -> Recipe:
    """A recipe for this data set."""
    return RECIPES[name](config, Setting.of(space, dataset, options, num_epochs=EPOCHS, seed=seed))


def connected(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Architecture]:
    """So many uniformly drawn architectures with a path from input to output: others have next to no gradient."""
    found: dict[str, Architecture] = {}
    while len(found) < count:
        architecture = space.sample(rng)
        if any(option != "none" for _, option in space.live(architecture)):
            found[architecture.text] = architecture
    return list(found.values())


# --- data side --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSide:
    """One architecture: variances over that of uniform sampling, and how well the cheap norm follows the true one."""

    text: str
    reweighted: float
    unweighted: float
    correlation: float
    noise_share: float

    def __str__(self) -> str:
        return (
            f"{self.text}: re-weighted {self.reweighted:.3f}, unweighted {self.unweighted:.3f}, "
            f"norm correlation {self.correlation:.3f}, noise share of one sample {self.noise_share:.3f}"
        )


def data_side(
    supernet: Supernet, architecture: Architecture, dataset: Dataset, task: Task, num_samples: int, seed: int
) -> DataSide:
    """Exact variances of a gradient from one drawn sample, at this architecture's inherited weights."""
    data = DeviceData.of(dataset.train, dataset, "cpu")
    network = set_statistics(supernet.extract(architecture), calibration_images(data, seed=seed))
    chosen = torch.from_numpy(stream(seed, "samples").permutation(len(data))[:num_samples])
    images, targets = data.batch(chosen)
    with torch.no_grad():
        bounds = task.gradient_norm_bound(network(images), targets).double()
    p = bounds / bounds.sum()
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return task.losses(functional_call(network, parameters, (image[None],)), target[None])[0]

    per_sample = vmap(grad(loss), in_dims=(None, 0, 0))
    squares, means = [], torch.zeros(2, sum(w.numel() for w in weights.values()), dtype=torch.float64)
    for rows in torch.arange(num_samples).split(CHUNK):
        found = per_sample(weights, images[rows], targets[rows])
        flat = torch.cat([g.flatten(1) for g in found.values()], dim=1).double()  # samples x weights
        squares.append(flat.square().sum(dim=1))
        means += torch.stack([flat.sum(dim=0) / num_samples, p[rows] @ flat])
    square = torch.cat(squares)
    plain, shifted = means.square().sum(dim=1)
    uniform = square.mean() - plain
    return DataSide(
        text=architecture.text,
        reweighted=float(((square / (num_samples * p)).mean() - plain) / uniform),
        unweighted=float(((p * square).sum() - shifted) / uniform),
        correlation=float(np.corrcoef(bounds.numpy(), square.sqrt().numpy())[0, 1]),
        noise_share=float(uniform / square.mean()),
    )


# --- path side --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PathSide:
    """Uniformly drawn paths on one batch: inner products of their gradients, how often `pada` draws each, its weights.

    gram: `paths x paths`; odds: q / u of each path; weights: of each path's loss.
    """

    gram: np.ndarray
    odds: np.ndarray
    weights: np.ndarray

    def ratio(self, counts: np.ndarray) -> float:
        """Variance of `pada`'s weighted gradient over that of the uniform one; each path comes `counts` times."""
        q = counts * self.odds
        return self._variance(q, self.weights) / self._variance(counts, np.ones(len(counts)))

    def _variance(self, counts: np.ndarray, weights: np.ndarray) -> float:
        share = counts / counts.sum()
        mean = share * weights
        return float(share @ (weights**2 * self.gram.diagonal()) - mean @ self.gram @ mean)


def path_side(supernet: Supernet, dataset: Dataset, task: Task, count: int, seed: int) -> PathSide:
    """Gradients of uniformly drawn paths on one batch, at weights that stand still."""
    still = SupernetOptions(
        batch_size=32, learning_rate=1e-12, momentum=0.0, weight_decay=0.0, augment=False, diagnosis=0.0
    )
    learned = recipe(
        "pada",
        {"path_schedule": "constant", "path_reweighting": "clipped", "data_importance": False},
        supernet.space,
        dataset,
        still,
        seed,
    )
    train_supernet(supernet, learned, dataset, task, still, num_epochs=1, seed=seed, device="cpu")
    uniform = recipe("spos", {}, supernet.space, dataset, still, seed).paths
    probabilities = ", ".join(f"{o} {q:.3f}" for o, q in next(iter(learned.paths.distribution().values())).items())
    print(f"# seed {seed}: paths drawn with {probabilities}")
    data = DeviceData.of(dataset.train, dataset, "cpu")
    images, targets = data.batch(torch.from_numpy(stream(seed, "batch").permutation(len(data))[:256]))
    parameters = list(supernet.parameters())
    rows: list[Tensor] = []
    odds: list[float] = []
    weights: list[float] = []
    for step in range(count):
        (child,) = uniform.plan(step)
        assert isinstance(child.choice, Architecture)
        loss = task.losses(supernet(images, child.choice), targets).mean()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        parts = [torch.zeros_like(w) if g is None else g for w, g in zip(parameters, found, strict=True)]
        rows.append(torch.cat([part.flatten() for part in parts]))
        odds.append(learned.paths.probability(child.choice) / uniform.probability(child.choice))
        weights.append(learned.paths.weight(child.choice))
    gradients = torch.stack(rows).double()
    return PathSide((gradients @ gradients.T).numpy(), np.array(odds), np.array(weights))


# --- summing up -------------------------------------------------------------------------------------------------------


def figures(sides: Sequence[DataSide], paths: Sequence[PathSide]) -> dict[str, Value]:
    """Means with their intervals, and whether the three claims hold."""
    found: dict[str, Value] = {}
    for key, values in (
        ("ratio_reweighted", [side.reweighted for side in sides]),
        ("ratio_unweighted", [side.unweighted for side in sides]),
        ("norm_correlation", [side.correlation for side in sides]),
    ):
        found[key] = float(np.mean(values))
        found[f"{key}_interval"] = bootstrap(np.array(values))
    found["path_ratio"] = float(np.mean([side.ratio(np.ones(len(side.odds))) for side in paths]))
    found["path_ratio_interval"] = path_interval(paths)
    reweighted, unweighted, correlation = (
        found[key] for key in ("ratio_reweighted", "ratio_unweighted", "norm_correlation")
    )
    assert isinstance(reweighted, float)
    assert isinstance(unweighted, float)
    assert isinstance(correlation, float)
    found["passes"] = reweighted < 0.85 and unweighted > 1 and correlation > 0.8
    return found


def bootstrap(values: np.ndarray) -> list[Value]:
    """95 % interval of the mean."""
    rng = stream(0, "bootstrap")
    means = values[rng.integers(len(values), size=(2_000, len(values)))].mean(axis=1)
    return [float(q) for q in np.quantile(means, [0.025, 0.975])]


def path_interval(paths: Sequence[PathSide]) -> list[Value]:
    """95 % interval of the mean ratio over the drawn paths."""
    rng = stream(0, "bootstrap", "paths")
    ratios = []
    for _ in range(1_000):
        counts = [rng.multinomial(len(side.odds), np.full(len(side.odds), 1 / len(side.odds))) for side in paths]
        ratios.append(np.mean([side.ratio(n.astype(float)) for side, n in zip(paths, counts, strict=True)]))
    return [float(q) for q in np.quantile(ratios, [0.025, 0.975])]


if __name__ == "__main__":
    main()
