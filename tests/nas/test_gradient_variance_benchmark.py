"""The benchmark's exact variances: against draws that are really made."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.gradient_variance import PathSide, data_side, path_interval
from nas.streams import stream
from nas.tasks import REGISTRY as TASKS
from nas.testing._recipes import small_dataset, small_space
from nas.training import DeviceData, calibration_images, set_statistics

DATASET = small_dataset()
TASK = TASKS["classification"](None, DATASET)


def variance(gradients: torch.Tensor) -> float:
    """Trace of the covariance of the rows."""
    return float(gradients.var(dim=0, correction=0).sum())


def test_the_data_sides_variances_are_those_of_draws() -> None:
    supernet = small_space().supernet(seed=0)
    architecture, num_samples = supernet.space.extremes().largest, 24
    found = data_side(supernet, architecture, DATASET, TASK, num_samples, 0)

    data = DeviceData.of(DATASET.train, DATASET, "cpu")
    network = set_statistics(supernet.extract(architecture), calibration_images(data, seed=0))
    chosen = torch.from_numpy(stream(0, "samples").permutation(len(data))[:num_samples])
    images, targets = data.batch(chosen)
    rows = []
    for image, target in zip(images, targets, strict=True):
        network.zero_grad()
        TASK.losses(network(image[None]), target[None]).sum().backward()
        rows.append(torch.cat([w.grad.flatten() for w in network.parameters() if w.grad is not None]))
    gradients = torch.stack(rows).double()
    bounds = TASK.gradient_norm_bound(network(images).detach(), targets).double()
    p = (bounds / bounds.sum()).numpy()
    norms = gradients.norm(dim=1)
    assert np.isclose(found.correlation, np.corrcoef(bounds, norms)[0, 1])

    drawn = torch.from_numpy(np.random.default_rng(0).choice(num_samples, size=20_000, p=p))
    weights = torch.from_numpy(1 / (num_samples * p))
    uniform = variance(gradients)
    assert np.isclose(found.unweighted, variance(gradients[drawn]) / uniform, rtol=0.03)
    assert np.isclose(found.reweighted, variance(gradients[drawn] * weights[drawn, None]) / uniform, rtol=0.03)


def test_the_path_sides_ratio_is_that_of_draws_and_its_interval_holds_it() -> None:
    """Uniform over four paths, importance over the same four: exact on one side, drawn on the other."""
    rng = np.random.default_rng(0)
    gradients, q = rng.normal(size=(4, 6)), np.array([0.1, 0.2, 0.3, 0.4])
    weights = np.minimum(0.25 / q, 2.0)
    side = PathSide(gradients @ gradients.T, odds=q / 0.25, weights=weights)
    drawn = rng.choice(4, size=50_000, p=q)
    expected = (gradients[drawn] * weights[drawn, None]).var(axis=0).sum() / gradients.var(axis=0).sum()
    assert np.isclose(side.ratio(np.ones(4)), expected, rtol=0.02)
    many = PathSide(np.tile(side.gram, (20, 20)), np.tile(side.odds, 20), np.tile(side.weights, 20))
    low, high = path_interval([many])
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < expected < high
