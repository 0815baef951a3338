"""The cell space against the public table, and its networks in settings that the table does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from searchspaces import Architecture, InvalidArchitecture, Mixture, SearchSpace, isomorphism_key
from searchspaces.nasbench201 import EDGES, KERNELS, NAMES, OPTIONS, PLUGIN, NASBench201

SMALL: dict[str, object] = {"input_shape": (1, 8, 8), "num_classes": 4, "channels": 4, "cells_per_stage": 1}
CELLS = st.tuples(*[st.sampled_from(OPTIONS)] * 6).map(lambda options: dict(zip(NAMES, options, strict=True)))
EMPTY = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def space_with(settings: Mapping[str, object] | None = None) -> NASBench201:
    space = PLUGIN(settings)
    assert isinstance(space, NASBench201)
    return space


@pytest.fixture
def table(data_folder: Path) -> Iterator[Mapping[str, np.ndarray]]:
    with np.load(data_folder / "nasbench201.npz", allow_pickle=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def space() -> NASBench201:
    return space_with()


@pytest.fixture(scope="module")
def everything(space: NASBench201) -> list[Architecture]:
    return [space.at(row) for row in range(space.size())]


def test_all_but_341_architectures_are_connected(space: NASBench201, everything: list[Architecture]) -> None:
    assert sum(map(space.is_connected, everything)) == 15_625 - 341


def test_every_row_of_the_table_parses_prints_and_is_indexed(
    space: NASBench201, table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    texts = table["arch_str"].tolist()
    parsed = [space.parse(text) for text in texts]
    assert [architecture.text for architecture in parsed] == texts
    assert parsed == everything
    assert [space.index(architecture) for architecture in parsed] == list(range(15_625))


def test_every_row_names_the_operations_that_the_table_names(
    table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    assert tuple(table["op_names"].tolist()) == OPTIONS
    assert tuple(map(tuple, table["edges"].tolist())) == EDGES
    codes = [[OPTIONS.index(option) for _, option in architecture] for architecture in everything]
    np.testing.assert_array_equal(codes, table["arch_ops"])


@pytest.mark.parametrize(("classes", "column"), [(10, "params_m"), (100, "params_m_cifar100")])
def test_parameters_are_the_table_s_for_every_row(
    classes: int, column: str, table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    space = space_with({"num_classes": classes})
    params = np.array([space.counts(architecture).params for architecture in everything])
    np.testing.assert_array_equal(params, np.round(table[column].astype(float) * 1e6))


def test_flops_are_the_table_s_for_every_row(
    space: NASBench201, table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    flops = np.array([space.counts(architecture).flops for architecture in everything])
    np.testing.assert_allclose(flops / 1e6, table["flops_m"], rtol=1e-7)
    assert flops[0] == 15_647_370


def test_canonical_forms_are_the_table_s_6466_classes(
    space: NASBench201, table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    canonical = [space.canonical(architecture).text for architecture in everything]
    pairs = set(zip(canonical, table["iso_class"].tolist(), strict=True))
    assert len(set(canonical)) == len(pairs) == 6_466


def test_the_341_architectures_that_guess_are_those_without_a_path(
    space: NASBench201, table: Mapping[str, np.ndarray], everything: list[Architecture]
) -> None:
    cut = np.array([space.live(architecture).text == EMPTY for architecture in everything])
    assert cut.sum() == 341
    np.testing.assert_allclose(table["cifar10_test_acc"][cut], 10.0, atol=1e-4)


def test_live_forms_keep_exactly_the_edges_on_a_path(space: NASBench201) -> None:
    text = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    live = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    assert space.live(space.parse(text)).text == live


@given(options=CELLS)
def test_equal_live_forms_have_equal_graphs_and_costs(options: dict[str, str]) -> None:
    space = space_with()
    architecture = space.architecture(options)
    live = space.live(architecture)
    assert isomorphism_key(space.graph(architecture)) == isomorphism_key(space.graph(live))
    assert space.counts(architecture, live=True) == space.counts(live)
    assert space.at(space.index(architecture)) == architecture


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|skip_connect~0|",
        EMPTY + "|",
        EMPTY.replace("none~2", "none~1"),
        EMPTY.replace("none~2", "nor_conv_7x7~2"),
        " " + EMPTY,
        EMPTY + "\n",
    ],
)
def test_a_text_that_is_no_cell_is_refused(text: str, space: NASBench201) -> None:
    with pytest.raises(InvalidArchitecture):
        space.parse(text)


@pytest.mark.parametrize("row", [-1, 15_625])
def test_a_row_that_does_not_exist_is_refused(row: int, space: NASBench201) -> None:
    with pytest.raises(InvalidArchitecture, match="rows are 0 to 15624"):
        space.at(row)


def independent_counts(space: NASBench201, network: nn.Module) -> tuple[int, int]:
    """Parameters by asking, FLOPs by the size of the image that each stage's convolutions see."""
    height, width = space.settings.shape[1:]
    channels = space.settings.channels
    flops = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            stage = int(np.log2(module.out_channels // channels))
            pixels = -(-height // 2**stage) * -(-width // 2**stage)
            flops += sum(parameter.numel() for parameter in module.parameters()) * pixels
        if isinstance(module, nn.Linear):
            flops += sum(parameter.numel() for parameter in module.parameters())
    return sum(parameter.numel() for parameter in network.parameters()), flops


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"affine": False, "bias": True},
        {"input_shape": (2, 9, 14), "channels": 3, "cells_per_stage": 2, "num_classes": 7, "bias": True},
        {"track_running_stats": False},
    ],
)
def test_counts_are_those_of_the_built_network_in_any_settings(settings: dict[str, object]) -> None:
    space, rng = space_with({**SMALL, **settings}), np.random.default_rng(3)
    for architecture in (*space.extremes(), *(space.sample(rng) for _ in range(3))):
        assert tuple(space.counts(architecture)) == independent_counts(space, space.build(architecture))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 1, 1), (2, 7, 5), (1, 28, 28), (3, 2, 9)])
def test_networks_run_on_images_of_any_size(shape: tuple[int, int, int]) -> None:
    space = space_with({**SMALL, "input_shape": shape})
    for architecture in space.extremes():
        logits = space.build(architecture).eval()(torch.zeros(5, *shape))
        assert logits.shape == (5, 4)


def test_a_cell_without_a_path_gives_constant_logits_for_every_input() -> None:
    space = space_with(SMALL)
    network = space.build(space.parse(EMPTY)).eval()
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = network(x)
    assert logits.shape == (6, 4)
    assert torch.equal(logits, logits[:1].expand(6, 4))


def test_a_path_runs_only_its_live_convolutions() -> None:
    space = space_with(SMALL)
    supernet = space.supernet().eval()
    ran: list[str] = []
    for name, module in supernet.named_modules():
        if isinstance(module, nn.Conv2d) and ".operations." in name:
            module.register_forward_hook(lambda *_, name=name: ran.append(name.split(".")[4]))
    text = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    supernet(torch.zeros(1, 1, 8, 8), space.parse(text))
    assert sorted(set(ran)) == ["edge_0_2_nor_conv_1x1", "edge_2_3_nor_conv_3x3"]
    assert len(ran) == 6


def test_a_mixture_s_weights_get_the_gradient_of_the_mixed_function() -> None:
    space = space_with({**SMALL, "channels": 2})
    supernet = space.supernet().double().eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    start = torch.rand(6, 5, generator=generator, dtype=torch.float64, requires_grad=True)

    def mixed(weights: torch.Tensor) -> torch.Tensor:
        return supernet(x, Mixture(dict(zip(NAMES, weights, strict=True))))

    assert torch.autograd.gradcheck(mixed, (start,))


def test_the_supernet_and_its_networks_have_the_supernet_s_own_style() -> None:
    settings = {"supernet_affine": False, "supernet_bias": True, "supernet_track_running_stats": False}
    space = space_with({**SMALL, **settings})
    supernet = space.supernet()
    for network in (supernet, supernet.extract(space.extremes().largest)):
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        assert not any(norm.affine or norm.track_running_stats for norm in norms)
        biased = {name: m.bias is not None for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
        frame = {name for name in biased if "stem" in name or "shortcut" in name}
        assert len(frame) == 3  # as in the code that PA&DA's authors released, the stem and the shortcuts have none
        assert {name for name, is_biased in biased.items() if not is_biased} == frame
    built = [module for module in space.build(space.extremes().largest).modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.affine and norm.track_running_stats for norm in built)


def test_an_extracted_network_keeps_the_supernet_s_memory_format() -> None:
    space = space_with(SMALL)
    supernet = space.supernet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    convs = [m for m in supernet.extract(space.extremes().largest).modules() if isinstance(m, nn.Conv2d)]
    assert all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in convs)


def test_a_supernet_is_restricted_to_its_own_sub_spaces_only() -> None:
    space = space_with(SMALL)
    supernet = space.supernet()
    foreign: list[SearchSpace] = [space_with({**SMALL, "channels": 2})]
    for other in foreign:
        with pytest.raises(InvalidArchitecture, match="not a sub-space"):
            supernet.restrict(other)
    part = space.partition("0->1", [["nor_conv_3x3"], [o for o in OPTIONS if o != "nor_conv_3x3"]])[0]
    restricted = supernet.restrict(part)
    assert not list(restricted.parameters_of("0->1", "nor_conv_1x1"))
    assert len(list(restricted.parameters_of("0->1", "nor_conv_3x3"))) == 3 * len(["weight"])


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", EMPTY])
def test_networks_export_with_a_dynamic_batch(text: str) -> None:
    space = space_with(SMALL)
    architecture = space.parse(text) if text else space.extremes().largest
    network = space.build(architecture).eval()
    dynamic = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=dynamic)
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(exported.module()(x), network(x))


def test_options_with_weights_are_the_convolutions(space: NASBench201) -> None:
    for decision in space.decisions:
        owners = {option for option, own in zip(decision.options, decision.parametric, strict=True) if own}
        assert owners == set(KERNELS)
