"""Fused operations equal torch's own, forward and backward, and repeat bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.streams import stream
from searchspaces import REGISTRY, Geometry, add_sample_signs, fused, kernel_mode, normalised_alone, sample_gradients
from searchspaces._kernels import _cache_folder, _library, average_3x3, node

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(kernel_mode(CPU) != "fused", reason="no compiler here: plain operations run instead")


def image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    x = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def summed(num_convolved: int, num_plain: int, *, channels: int, affine: bool, tracked: bool, dtype: torch.dtype):  # type: ignore[no-untyped-def]
    """Value, rectified, gradients of inputs and scales, and statistics, by whichever operations are active."""
    xs = [image(3, channels, 7, 5, seed=k, dtype=dtype) for k in range(num_convolved + num_plain)]
    norms = [nn.BatchNorm2d(channels, affine=affine, track_running_stats=tracked) for _ in range(num_convolved)]
    for k, norm in enumerate(norms):
        if affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(k))
            nn.init.uniform_(norm.bias, -1, 1, generator=torch.Generator().manual_seed(10 + k))
    signal = node(list(zip(xs[:num_convolved], norms, strict=True)), xs[num_convolved:])
    value, rectified = signal.value(), signal.rectified()
    weights = image(3, channels, 7, 5, seed=99).detach()
    (value.float() * weights + rectified.float() * (weights - 2)).sum().backward()
    gradients = [x.grad for x in xs] + [p.grad for norm in norms for p in norm.parameters()]
    return [value, rectified, *gradients, *[b for norm in norms for b in norm.buffers()]]


@pytest.mark.parametrize("channels", [1, 5, 8, 16, 28, 32])
@pytest.mark.parametrize(("num_convolved", "num_plain"), [(1, 0), (0, 2), (1, 2), (3, 0), (4, 1)])
@pytest.mark.parametrize("affine", [False, True])
def test_a_fused_node_equals_the_plain_sum(num_convolved: int, num_plain: int, *, channels: int, affine: bool) -> None:
    settings = {"channels": channels, "affine": affine, "tracked": not affine, "dtype": torch.float32}
    plain = summed(num_convolved, num_plain, **settings)
    with fused():
        made = summed(num_convolved, num_plain, **settings)
    assert len(plain) == len(made)
    for one, other in zip(plain, made, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=2e-4)


def test_in_bf16_a_fused_node_is_nearer_to_the_exact_sum_than_the_plain_one() -> None:
    def outputs(dtype: torch.dtype, *, is_fused: bool) -> list[Tensor]:
        with fused(is_fused):
            return [t.float() for t in summed(3, 1, channels=16, affine=False, tracked=False, dtype=dtype)[:4]]

    exact = outputs(torch.float32, is_fused=False)
    errors = {
        is_fused: [
            (a - b).norm() / b.norm() for a, b in zip(outputs(torch.bfloat16, is_fused=is_fused), exact, strict=True)
        ]
        for is_fused in (False, True)
    }
    assert max(errors[True]) < 0.02
    assert sum(errors[True]) <= sum(errors[False]) * 1.05


@pytest.mark.parametrize("channels", [1, 5, 16, 28])
@pytest.mark.parametrize(("num_convolved", "num_plain"), [(1, 0), (0, 2), (3, 1)])
def test_a_node_of_samples_alone_equals_nodes_of_one_sample(num_convolved: int, num_plain: int, channels: int) -> None:
    xs = [image(3, channels, 37, 33, seed=k) for k in range(num_convolved + num_plain)]
    norms = [nn.BatchNorm2d(channels) for _ in range(num_convolved)]
    for k, norm in enumerate(norms):
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(k))
        nn.init.uniform_(norm.bias, -1, 1, generator=torch.Generator().manual_seed(10 + k))
    weights = image(3, channels, 37, 33, seed=99).detach()

    def made(at: slice) -> list[Tensor]:
        own = [x[at].detach().contiguous(memory_format=torch.channels_last).requires_grad_() for x in xs]
        signal = node(list(zip(own[:num_convolved], norms, strict=True)), own[num_convolved:])
        (signal.value() * weights[at] + signal.rectified() * (weights[at] - 2)).sum().backward()
        return [signal.value(), signal.rectified(), *(x.grad for x in own if x.grad is not None)]

    each = [made(slice(b, b + 1)) for b in range(3)]
    state = [tensor.clone() for norm in norms for tensor in norm.eval().state_dict().values()]
    for is_fused in (True, False):
        with fused(is_fused, per_sample=True):
            together = made(slice(None))
        for found, expected in zip(together, zip(*each, strict=True), strict=True):
            torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=2e-4)
    after = [tensor for norm in norms for tensor in norm.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(state, after, strict=True))


def test_a_normalisation_of_samples_alone_refuses_one_value_per_channel() -> None:
    for is_fused in (True, False):
        with fused(is_fused, per_sample=True), pytest.raises(ValueError, match="more than 1 spatial element"):
            normalised_alone(image(4, 16, 1, 1), nn.BatchNorm2d(16))


GEOMETRIES = [
    # inputs, outputs, kernel, stride, padding, groups
    (16, 16, 3, 1, 1, 1),
    (3, 16, 3, 1, 1, 1),
    (12, 20, 3, 2, 1, 1),
    (9, 5, 1, 1, 0, 1),
    (32, 16, 1, 2, 0, 1),
    (8, 24, 5, 1, 2, 1),
    (16, 16, 3, 2, 0, 1),
    (4, 4, 2, 1, 1, 1),
    (20, 20, 3, 1, 1, 20),
    (16, 16, 5, 2, 2, 16),
    (8, 8, 3, 1, 1, 4),
]


@pytest.mark.parametrize(("inputs", "outputs", "kernel", "stride", "padding", "groups"), GEOMETRIES)
@pytest.mark.parametrize("size", [(8, 8), (9, 7), (5, 6)])
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")])
def test_gradients_of_samples_equal_those_of_torch(  # type: ignore[no-untyped-def]
    inputs: int, outputs: int, kernel: int, stride: int, padding: int, groups: int, size: tuple[int, int], dtypes
) -> None:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    geometry = Geometry.of(conv)
    assert geometry is not None
    of_x, dtype = (getattr(torch, name) for name in dtypes)
    x = (image(5, inputs, *size, dtype=dtype).detach() - 3).to(of_x)  # a wider one holds what the products round to
    gradient = image(*conv(x.float()).shape, seed=1, dtype=dtype).detach() - 3
    expected = torch.stack(
        [
            torch.nn.grad.conv2d_weight(a, conv.weight.shape, b, stride, padding, groups=groups)
            for a, b in zip(x.double().split(1), gradient.double().split(1), strict=True)
        ]
    )
    near_zero = expected.abs() < 1e-3 * expected.abs().max()  # rounding may move these over zero
    for is_fused in (True, False):
        total = torch.zeros(conv.weight.shape, dtype=torch.int32).contiguous(memory_format=torch.channels_last)
        with fused(is_fused):
            add_sample_signs(total, x, gradient, geometry)
            add_sample_signs(total, x, gradient, geometry)
            rows = sample_gradients(x, gradient, geometry)
        assert ((total - 2 * expected.sign().sum(0)).abs() <= 4 * near_zero.sum(0)).all()
        gram = expected.flatten(1) @ expected.flatten(1).T
        torch.testing.assert_close((rows @ rows.T).double(), gram, rtol=0, atol=1e-5 * float(gram.max()))


def test_signs_of_samples_do_not_depend_on_the_number_of_threads_and_count_no_nan() -> None:
    conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)
    x, gradient = image(7, 16, 8, 8).detach() - 3, image(7, 32, 8, 8, seed=1).detach() - 3
    x[3, 5] = torch.nan
    x[:, 7] = 0
    totals, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            totals.append(
                torch.zeros(conv.weight.shape, dtype=torch.int32).contiguous(memory_format=torch.channels_last)
            )
            with fused():
                geometry = Geometry.of(conv)
                assert geometry is not None
                add_sample_signs(totals[-1], x, gradient, geometry)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*totals)
    assert not totals[0][:, 7].any()
    assert (totals[0][:, 5] % 2 == 0).all()  # six samples of which each adds or takes one
    assert (totals[0][:, 6] % 2 == 1).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (8, 8), (7, 4)])
@pytest.mark.parametrize("channels", [3, 16, 24])
def test_the_fused_average_equals_torch(size: tuple[int, int], channels: int) -> None:
    x = image(2, channels, *size)
    weights = image(2, channels, *size, seed=5).detach()
    expected = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    (expected * weights).sum().backward()
    wanted, x.grad = x.grad, None
    with fused():
        averaged = average_3x3(x)
    (averaged * weights).sum().backward()
    torch.testing.assert_close(averaged, expected)
    torch.testing.assert_close(x.grad, wanted)


def test_a_nan_is_passed_on() -> None:
    x = image(2, 16, 4, 4).detach()
    x[0, 3, 1, 1] = torch.nan
    with fused():
        signal = node([(x.to(torch.bfloat16), nn.BatchNorm2d(16))])
    assert signal.value()[:, 3].isnan().all()
    assert signal.rectified()[:, 3].isnan().all()
    assert signal.value()[:, 4].isfinite().all()


@pytest.mark.parametrize("channels", [8, 16])
def test_a_supernet_has_the_same_gradients_fused_and_plain(channels: int) -> None:
    config = {"channels": channels, "cells_per_stage": 1, "input_shape": [3, 9, 8], "num_classes": 10}
    space = REGISTRY["nasbench201"](config)
    nets = {kind: space.supernet(seed=0).to(memory_format=torch.channels_last).train() for kind in (False, True)}
    x, targets = image(6, 3, 9, 8).detach(), torch.arange(6)
    for number in range(12):
        path = space.sample(stream(0, "paths", number))
        for is_fused, net in nets.items():
            net.zero_grad(set_to_none=True)
            with fused(is_fused):
                F.cross_entropy(net(x, path), targets).backward()  # type: ignore[no-untyped-call]
        for plain, made in zip(nets[False].parameters(), nets[True].parameters(), strict=True):
            assert (plain.grad is None) == (made.grad is None)
            if plain.grad is not None and made.grad is not None:
                torch.testing.assert_close(made.grad, plain.grad, rtol=0.05, atol=1e-4)


def test_fused_results_do_not_depend_on_the_number_of_threads() -> None:
    def run() -> list[Tensor]:
        with fused():
            return summed(2, 1, channels=16, affine=True, tracked=True, dtype=torch.bfloat16)  # type: ignore[no-any-return]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = run()
        torch.set_num_threads(2)
        assert all(torch.equal(a, b) for a, b in zip(alone, run(), strict=True))
    finally:
        torch.set_num_threads(before)


def test_what_second_order_needs_is_left_plain() -> None:
    x = image(2, 16, 4, 4)
    (gradient,) = torch.autograd.grad(average_3x3(x).square().sum(), x, create_graph=True)
    gradient.sum().backward()
    assert x.grad is not None


def test_normalisations_of_another_number_format_are_left_plain() -> None:
    xs, norm = [image(3, 16, 4, 4, seed=k, dtype=torch.bfloat16) for k in range(2)], nn.BatchNorm2d(16).bfloat16()
    plain = node([(xs[0], norm)], xs[1:]).value()
    with fused():
        torch.testing.assert_close(node([(xs[0], norm)], xs[1:]).value(), plain, rtol=0, atol=0)


def test_one_value_per_channel_cannot_be_normalised() -> None:
    with fused(), pytest.raises(ValueError, match="more than 1 value per channel"):
        node([(image(1, 16, 1, 1), nn.BatchNorm2d(16))])


def test_without_a_cache_folder_that_can_be_written_another_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = _cache_folder()
    assert folder.is_dir()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0  # what is loaded from it nobody else can have put there


@pytest.mark.parametrize("fails_at", ["--version", "-shared", "nothing"])
def test_a_compiler_that_fails_or_makes_nothing_of_use_leaves_plain_operations(
    fails_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = {fails_at} ] && exit 1\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && : > "$2"; shift; done\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _library.__wrapped__() is None
    assert "networks run more slowly without" in caplog.text
    assert not list(tmp_path.glob("nas-service/*.so"))  # nothing that the next process would take for the library
