"""The chain space against the public table, and its networks in settings that the table does not have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from searchspaces import Architecture, ConfigError, InvalidArchitecture
from searchspaces.macro import NAMES, OPTIONS, PLUGIN, MacroSpace

SMALL: dict[str, object] = {"input_shape": (1, 8, 8), "num_classes": 4, "width": 0.125}


def space_with(settings: Mapping[str, object] | None = None) -> MacroSpace:
    space = PLUGIN(settings)
    assert isinstance(space, MacroSpace)
    return space


@pytest.fixture
def table(data_folder: Path) -> Iterator[Mapping[str, np.ndarray]]:
    with np.load(data_folder / "nasbench_macro.npz", allow_pickle=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def everything() -> list[Architecture]:
    return list(space_with().iterate())


def test_every_row_of_the_table_parses_and_prints_in_its_order(
    table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    texts = table["arch_str"].tolist()
    assert [architecture.text for architecture in everything] == texts
    space = space_with()
    assert [space.parse(text) for text in texts] == everything
    assert tuple(table["op_names"].tolist()) == OPTIONS
    codes = [[OPTIONS.index(option) for _, option in architecture] for architecture in everything]
    np.testing.assert_array_equal(codes, table["arch_ops"])


def test_parameters_and_flops_are_the_table_s_for_every_row(
    table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    space = space_with()
    counts = np.array([space.counts(architecture) for architecture in everything])
    np.testing.assert_array_equal(counts, np.stack([table["params"], table["flops"]], axis=1))


def test_equal_canonical_forms_have_equal_accuracies_in_the_table(
    table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    space, classes = space_with(), defaultdict(set)
    for architecture, accuracies in zip(everything, table["test_acc"], strict=True):
        classes[space.canonical(architecture)].add(tuple(accuracies.tolist()))
    assert len(classes) == 3_969
    assert all(len(accuracies) == 1 for accuracies in classes.values())


def test_canonical_forms_of_a_restricted_space_stay_inside() -> None:
    part, _ = space_with().partition("layer_4", [["MB3_K3"], ["Identity", "MB6_K5"]])
    for architecture in part.iterate():
        assert part.validate(part.canonical(architecture)) == []


@pytest.mark.parametrize("text", ["", "0120120", "012012012", "01201203", "0120120x", "01201201\n", "٠٠٠٠٠٠٠٠"])
def test_a_text_that_is_no_chain_is_refused(text: str) -> None:
    with pytest.raises(InvalidArchitecture):
        space_with().parse(text)


@pytest.mark.parametrize("width", [0, -1, 9, float("nan")])
def test_a_width_out_of_range_is_refused(width: float) -> None:
    with pytest.raises(ConfigError, match="width"):
        space_with({"width": width})


def independent_counts(network: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Parameters by asking, FLOPs by watching the shapes that come out of every convolution."""
    flops = 0

    def count(module: nn.Module, _: object, y: torch.Tensor) -> None:
        nonlocal flops
        assert isinstance(module.weight, torch.Tensor)
        flops += y[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network.eval()(torch.zeros(1, *shape))
    return sum(parameter.numel() for parameter in network.parameters()), flops


@pytest.mark.parametrize(
    "settings",
    [{}, {"affine": False, "bias": True}, {"input_shape": (2, 13, 6), "width": 0.3, "num_classes": 7}],
)
def test_counts_are_those_of_the_built_network_in_any_settings(settings: dict[str, object]) -> None:
    space, rng = space_with({**SMALL, **settings}), np.random.default_rng(0)
    for architecture in (*space.extremes(), *(space.sample(rng) for _ in range(4))):
        counted = independent_counts(space.build(architecture), space.settings.shape)
        assert tuple(space.counts(architecture)) == counted


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 1, 1), (2, 7, 5), (1, 28, 28)])
def test_networks_run_on_images_of_any_size(shape: tuple[int, int, int]) -> None:
    space = space_with({**SMALL, "input_shape": shape})
    for architecture in space.extremes():
        assert space.build(architecture).eval()(torch.zeros(3, *shape)).shape == (3, 4)


def test_the_extremes_are_the_all_identity_and_the_all_wide_chain() -> None:
    assert [architecture.text for architecture in space_with().extremes()] == ["00000000", "22222222"]


def test_only_an_identity_that_changes_the_shape_has_weights() -> None:
    space = space_with(SMALL)
    supernet = space.supernet()
    owning = {name for name in NAMES if list(supernet.parameters_of(name, "Identity"))}
    assert owning == {"layer_0", "layer_2", "layer_5"}


@pytest.mark.slow
def test_networks_export_with_a_dynamic_batch() -> None:
    space = space_with(SMALL)
    network = space.build(space.parse("01201201")).eval()
    dynamic = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=dynamic)
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(exported.module()(x), network(x))
