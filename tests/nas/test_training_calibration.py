"""Normalisation at evaluation: by the batch at hand, or by statistics of training images."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn

from nas.spec import Training
from nas.tasks import REGISTRY as TASKS
from nas.testing._recipes import small_dataset, small_space
from nas.training import (
    DeviceData,
    batch_statistics,
    evaluate_batches,
    evaluate_network,
    recalibrate,
    set_statistics,
    track_statistics,
)
from searchspaces import REGISTRY as SPACES

DATASET = small_dataset()


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("tracks", [True, False])
def test_what_is_extracted_and_recalibrated_does_not_depend_on_its_batch(tracks: bool) -> None:
    space = SPACES["nasbench201"](
        {
            "channels": 2,
            "cells_per_stage": 1,
            "input_shape": (1, 6, 6),
            "num_classes": 4,
            "supernet_track_running_stats": tracks,
        }
    )
    supernet = space.supernet(seed=1)
    network = supernet.extract(space.extremes().largest)
    weights = {name: p.clone() for name, p in network.named_parameters()}
    assert recalibrate(network, DATASET, device="cpu", precision="fp32") is network
    images = DeviceData.of(DATASET.valid, DATASET, "cpu").batches(16)[0].images
    with torch.no_grad():
        torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)
    assert all(norm.running_mean is not None and not norm.training for norm in norms(network))
    assert all(torch.equal(p, weights[name]) for name, p in network.named_parameters())


def test_statistics_of_one_batch_give_what_that_batch_gives() -> None:
    space = small_space()
    network = space.build(space.extremes().largest, seed=0)
    images = DeviceData.of(DATASET.train, DATASET, "cpu").batches(64)[0].images
    with torch.no_grad():
        set_statistics(network, [images])
        fixed = network(images)
        with batch_statistics(network):
            moving = network(images)
    count = len(images) * 4  # the smallest map is 2 x 2: running variances are unbiased, those of a batch are not
    torch.testing.assert_close(fixed, moving, rtol=0.1, atol=10 / count)


def test_statistics_are_the_plain_mean_over_the_batches() -> None:
    norm = nn.BatchNorm2d(1)
    batches = [torch.full((2, 1, 2, 2), value) for value in (1.0, 2.0, 6.0)]
    set_statistics(norm, batches)
    assert norm.running_mean is not None
    assert float(norm.running_mean) == pytest.approx(3.0)
    assert norm.momentum == 0.1
    set_statistics(norm, batches[:1])
    assert float(norm.running_mean) == pytest.approx(1.0)


def test_batch_statistics_leave_no_trace() -> None:
    space = small_space()
    network = track_statistics(space.build(space.extremes().largest)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.rand((8, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = network(images)
        with batch_statistics(network):
            assert not torch.allclose(network(images), plain)
        assert torch.equal(network(images), plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(norm.training for norm in norms(network))


def test_tracking_starts_where_there_is_none_and_keeps_what_there_is() -> None:
    old, new = nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)
    assert old.running_mean is not None
    old.running_mean.fill_(5)
    network = track_statistics(nn.Sequential(nn.Conv2d(3, 3, 1), old, new))
    assert old.running_mean.tolist() == [5, 5, 5]
    assert {"1.running_mean", "2.running_mean", "2.running_var"} <= network.state_dict().keys()


def test_metrics_over_several_batches_are_those_over_all_samples() -> None:
    space, task = small_space(), TASKS["classification"](None, DATASET)
    network = recalibrate(space.build(space.extremes().largest), DATASET, device="cpu", precision="fp32")
    valid = DATASET.valid
    run = partial(evaluate_network, network, valid.images, valid.labels, DATASET, task, device="cpu", precision="fp32")
    whole, parts = run(), run(batch_size=5)
    assert whole == pytest.approx(parts, abs=1e-5)
    batches = DeviceData.of(valid, DATASET, "cpu").batches(16)
    assert evaluate_batches(network, batches, task) == whole


def test_final_statistics_are_computed_as_the_network_will_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.training import _network as training

    computed = list[torch.dtype]()
    monkeypatch.setattr(training, "choose_dtype", lambda name, *_: torch.bfloat16 if name == "bf16" else torch.float32)
    monkeypatch.setattr(training, "accelerated", lambda device, dtype: nullcontext())
    monkeypatch.setattr(training, "set_statistics", lambda *_, dtype: computed.append(dtype))
    task, options = TASKS["classification"](None, DATASET), Training(epochs=1, batch_size=16)
    for statistics in (None, "fp32"):
        network = small_space().build(small_space().extremes().smallest)
        train = DATASET.train
        training.train_network(
            network,
            train.images,
            train.labels,
            DATASET,
            task,
            options,
            seed=0,
            device="cpu",
            precision="bf16",
            statistics=statistics,
        )
    assert computed == [torch.bfloat16, torch.float32]
