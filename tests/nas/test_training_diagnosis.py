"""Gradient variance: against the plain definition, and without a trace in the training that it looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nas.recipes import REGISTRY
from nas.spec import Supernet as SupernetOptions
from nas.streams import stream
from nas.tasks import REGISTRY as TASKS
from nas.testing._recipes import small_dataset, small_space
from nas.training import EpochReport, Setting, Variance, train_supernet
from nas.training._diagnosis import gradient_variance, num_pairs

DATASET = small_dataset()
TASK = TASKS["classification"](None, DATASET)


def trained(
    diagnosis: float, *, recipe: str = "spos", **options: Any
) -> tuple[dict[str, torch.Tensor], list[EpochReport]]:
    settings = SupernetOptions(batch_size=4, diagnosis=diagnosis, **options)
    space = small_space()
    setting = Setting.of(space, DATASET, settings, num_epochs=3, seed=0)
    reports: list[EpochReport] = []
    made = REGISTRY[recipe](None, setting)
    supernet = made.prepare(space.supernet(seed=0))
    train_supernet(
        supernet,
        made,
        DATASET,
        TASK,
        settings,
        num_epochs=3,
        seed=0,
        device="cpu",
        on_epoch=reports.append,
    )
    return supernet.state_dict(), reports


@pytest.mark.parametrize("recipe", sorted(REGISTRY))
def test_a_training_that_is_looked_at_ends_bit_for_bit_as_one_that_is_not(recipe: str) -> None:
    before = torch.get_rng_state()
    (looked_at, reports), (alone, silent) = trained(1.0, recipe=recipe), trained(0.0, recipe=recipe)
    assert torch.equal(before, torch.get_rng_state())
    assert looked_at.keys() == alone.keys()
    assert all(torch.equal(looked_at[name], alone[name]) for name in alone)
    assert [report.loss for report in reports] == [report.loss for report in silent]
    assert [report.gradient is not None for report in reports] == [False, True, True]
    assert all(report.gradient is None for report in silent)


def test_an_epoch_tells_both_variances_with_their_errors() -> None:
    _, reports = trained(1.0)
    told = reports[-1].to_json()
    assert told["step_ms"] > 0
    for side in ("data", "paths"):
        found = told["gradient"][side]
        assert found["variance"] > 0
        assert 0 < found["variance_error"] < 3 * found["variance"]
        assert 0 < found["noise_share"] < 2
        assert found["noise_share_error"] > 0


def test_the_figures_are_those_of_pairs_of_steps() -> None:
    """Two parameters, gradients written down: g(a, b) = (a + b, b) for children a and batch b."""

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
            self.first.grad = torch.full((1,), 7.0)

    two = Two()

    def backward(paths: int, data: int) -> None:
        (two.first * (paths + data) + (two.second * data if data else 0.0)).sum().backward()

    found = gradient_variance(two, backward, num_steps=6, pairs=3, seed=0, epoch=0)  # type: ignore[arg-type]
    assert found is not None
    assert two.first.grad is not None
    assert two.first.grad.item() == 7.0
    assert two.second.grad is None
    pairs = stream(0, "diagnosis", 0).permutation(6)[:6].reshape(3, 2).astype(float)
    g = lambda a, b: np.array([a + b, b])  # noqa: E731
    data = [0.5 * ((g(s, s) - g(s, t)) ** 2).sum() for s, t in pairs]
    paths = [0.5 * ((g(s, s) - g(t, s)) ** 2).sum() for s, t in pairs]
    squares = [np.mean([(v**2).sum() for v in (g(s, s), g(s, t), g(t, s))]) for s, t in pairs]
    assert found.data == Variance.of(np.array(data), np.array(squares))
    assert found.paths == Variance.of(np.array(paths), np.array(squares))
    assert found.data.variance == pytest.approx(np.mean(data))
    assert found.data.variance_error == pytest.approx(np.std(data, ddof=1) / np.sqrt(3))
    assert found.paths.noise_share == pytest.approx(np.mean(paths) / np.mean(squares))


def test_the_variance_of_pairs_is_that_of_the_gradients() -> None:
    """Averaged over many draws of pairs, against the covariance of all gradients; the error says how far it is off."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(40, 5)) * [1, 2, 3, 4, 5] + 1
    truth, square = gradients.var(axis=0, ddof=1).sum(), (gradients**2).sum(axis=1).mean()
    off, shares = [], []
    for _ in range(400):
        drawn = rng.permutation(40)[:10].reshape(5, 2)
        first, second = gradients[drawn[:, 0]], gradients[drawn[:, 1]]
        found = Variance.of(((first - second) ** 2).sum(axis=1) / 2, ((first**2 + second**2) / 2).sum(axis=1))
        off.append((found.variance - truth) / found.variance_error)
        shares.append(found.noise_share)
    assert np.abs(np.mean(shares) - truth / square) < 0.03
    assert np.median(np.abs(off)) < 1.0  # 0.74 is the median of Student's t with 4 degrees of freedom


def test_a_gradient_that_is_not_finite_gives_no_figure() -> None:
    layer = torch.nn.Linear(1, 1)

    def backward(paths: int, data: int) -> None:
        layer(torch.full((1, 1), float("nan"))).sum().backward()

    assert gradient_variance(layer, backward, num_steps=6, pairs=3, seed=0, epoch=0) is None  # type: ignore[arg-type]


def test_a_training_without_room_for_it_goes_on_without_the_figure() -> None:
    layer = torch.nn.Linear(1, 1)
    layer(torch.ones(1, 1)).sum().backward()
    before, calls = layer.weight.grad, iter(range(3))

    def backward(paths: int, data: int) -> None:
        if next(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        layer(torch.ones(1, 1)).sum().backward()

    assert gradient_variance(layer, backward, num_steps=6, pairs=3, seed=0, epoch=0) is None  # type: ignore[arg-type]
    assert layer.weight.grad is before


def test_tracked_statistics_are_left_alone() -> None:
    norms = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    images = torch.linspace(-1, 1, 12).reshape(4, 3)

    def backward(paths: int, data: int) -> None:
        norms(images + paths - data).sum().backward()

    before = {name: value.clone() for name, value in norms.state_dict().items()}
    assert gradient_variance(norms, backward, num_steps=6, pairs=3, seed=0, epoch=0) is not None  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in norms.state_dict().items())


@pytest.mark.parametrize("num_steps", [1, 5, 17, 59, 60, 100, 782])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.3])
def test_no_more_than_the_share_is_spent(num_steps: int, share: float) -> None:
    spent = np.cumsum([3 * num_pairs(epoch, num_steps, share) for epoch in range(100)])
    assert (spent <= share * num_steps * np.arange(1, 101) + 1e-9).all()
    if share * num_steps * 100 >= 9 and num_steps >= 6:
        assert spent[-1] > 0


def test_a_long_epoch_is_always_measured_at_a_fiftieth_of_its_cost() -> None:
    assert [num_pairs(epoch, 782, 0.05) for epoch in range(3)] == [5, 5, 5]
    assert 15 / 782 < 0.02
