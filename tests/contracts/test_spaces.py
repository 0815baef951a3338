"""Every registered space keeps the contract, and the contract sees a space that does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.testing import _networks, _spaces
from nas.testing._spaces import check_space, drawn_architectures, spaces_with
from searchspaces import (
    REGISTRY,
    Architecture,
    Config,
    ConfigError,
    ContractViolation,
    Counts,
    InvalidArchitecture,
    Rng,
    SearchSpace,
)
from searchspaces.nasbench201 import NASBench201, _representatives

SMALL = {"input_shape": (1, 8, 8), "num_classes": 4}
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(params=sorted(REGISTRY), scope="module")
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return REGISTRY[request.param](SMALL)


def test_decisions_are_named_once_and_say_which_options_have_weights(space: SearchSpace) -> None:
    _spaces.check_decisions(space)


def test_every_text_reads_back_and_nonsense_is_refused(space: SearchSpace) -> None:
    _spaces.check_texts(space, drawn_architectures(space, samples=100))


def test_every_walk_stays_in_the_space_and_depends_on_its_generator_alone(space: SearchSpace) -> None:
    _spaces.check_walks(space, drawn_architectures(space, samples=30))


def test_canonical_and_live_forms_are_idempotent_and_in_the_space(space: SearchSpace) -> None:
    _spaces.check_sameness(space, drawn_architectures(space, samples=100))


def test_iterating_gives_every_architecture_once_and_a_partition_splits_them_exactly(space: SearchSpace) -> None:
    _spaces.check_size(space)


def test_encodings_tell_architectures_apart_and_graphs_lead_from_input_to_output(space: SearchSpace) -> None:
    _spaces.check_views(space, drawn_architectures(space, samples=30))


@pytest.fixture(params=spaces_with("networks"), scope="module")
def buildable(request: pytest.FixtureRequest) -> SearchSpace:
    return REGISTRY[request.param](SMALL)


def test_networks_are_what_is_counted_are_drawn_from_their_seed_and_can_be_traced(buildable: SearchSpace) -> None:
    _networks.check_networks(buildable, drawn_architectures(buildable, samples=2))


def test_a_path_its_extracted_network_and_its_one_hot_mixture_are_one_function(buildable: SearchSpace) -> None:
    _networks.check_supernet(buildable, drawn_architectures(buildable, samples=2))


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - set(spaces_with("networks"))))
def test_a_space_without_networks_says_so(name: str) -> None:
    space = REGISTRY[name](SMALL)
    _spaces.check_without_networks(space, drawn_architectures(space, samples=2))


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_the_flags_of_a_space_say_what_it_lacks(name: str) -> None:
    space = REGISTRY[name](SMALL)
    assert space.has_networks == (name in spaces_with("networks"))
    assert space.has_counts == (name in spaces_with("counts"))


@pytest.mark.parametrize("name", sorted(REGISTRY))
@given(seed=SEEDS, other=SEEDS)
def test_any_walk_from_any_architecture_stays_in_the_space(name: str, seed: int, other: int) -> None:
    space, rng = REGISTRY[name](SMALL), np.random.default_rng(other)
    one, two = space.sample(np.random.default_rng(seed)), space.sample(rng)
    for architecture in (space.cross(one, two, rng), space.mutate(one, rng), space.live(one), space.canonical(one)):
        assert space.parse(architecture.text) == architecture
    assert space.live(space.canonical(one)).options == space.live(space.canonical(space.canonical(one))).options


@pytest.mark.parametrize("name", sorted(REGISTRY))
@given(text=st.text(max_size=40))
def test_any_text_is_an_architecture_or_refused(name: str, text: str) -> None:
    space = REGISTRY[name](SMALL)
    try:
        assert space.parse(text).text == text
    except InvalidArchitecture:
        return


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_the_settings_of_every_space_are_described_and_checked(name: str) -> None:
    plugin = REGISTRY[name]
    fields = plugin.Config.model_json_schema()["properties"]
    assert {"input_shape", "num_classes"} <= fields.keys()
    assert not [field for field, schema in fields.items() if not schema.get("description")]
    with pytest.raises(ConfigError) as caught:
        plugin({"input_shape": (0, 8, 8), "num_classes": 1, "unheard_of": 3})
    assert {violation.field for violation in caught.value.violations} == {"input_shape.0", "num_classes", "unheard_of"}


def _without_pooling(space: NASBench201, architecture: Architecture) -> Architecture:
    return NASBench201.live(space, space.parse(architecture.text.replace("avg_pool_3x3", "none")))


def _one_parameter_more(space: NASBench201, architecture: Architecture, *, live: bool = False) -> Counts:
    counts = NASBench201.counts(space, architecture, live=live)
    return Counts(counts.params + 1, counts.flops)


def _one_operation_more(space: NASBench201, architecture: Architecture, *, live: bool = False) -> Counts:
    counts = NASBench201.counts(space, architecture, live=live)
    return Counts(counts.params, counts.flops + 10_000)


def _unseeded(space: NASBench201, architecture: Architecture, *, seed: int = 0) -> object:
    return space.network(architecture)


def _text_of_first_edge(space: NASBench201, options: Mapping[str, str]) -> str:
    return "|{0}~0|+|{0}~0|{0}~1|+|{0}~0|{0}~1|{0}~2|".format(options["0->1"])


def _all_but_the_last(space: NASBench201) -> object:
    return list(NASBench201.iterate(space))[:-1]


def _encoded_in_another_order(space: NASBench201, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return NASBench201.encode_all(space, texts)[::-1]


def _counted_too_high(space: NASBench201, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    return NASBench201.params_all(space, texts) + 1


def _completed_at_random(space: NASBench201, options: Mapping[str, str], rng: Rng) -> Architecture:
    return space.sample(rng)


class _Wrapped(nn.Module):
    """A block that gives its tensor in a wrapper."""

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(value=x)


class _Wrapping(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.block, self.network = _Wrapped(), network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.block(x).value)
        return logits


def _of_wrappers(space: NASBench201, architecture: Architecture) -> nn.Module:
    return _Wrapping(NASBench201.network(space, architecture))


BREAKS: dict[str, tuple[Callable[..., object], str]] = {
    "live": (_without_pooling, "the live form computes the same"),
    "counts": (_one_parameter_more, "counted parameters are the network's"),
    "counts ": (_one_operation_more, "live FLOPs"),
    "build": (_unseeded, "build leaves torch's generator"),
    "network": (_of_wrappers, r"pass plain tensors; block \(_Wrapped\)"),
    "text": (_text_of_first_edge, "a text reads back"),
    "encode_all": (_encoded_in_another_order, "encoded as each architecture alone"),
    "params_all": (_counted_too_high, "counted as each alone"),
    "complete": (_completed_at_random, "completed as it is"),
    "iterate": (_all_but_the_last, "iterate gives every architecture once"),
}


@pytest.mark.parametrize("method", BREAKS)
def test_the_contract_sees_a_space_that_breaks_it(method: str) -> None:
    broken, promise = BREAKS[method]
    kind = type("Broken", (NASBench201,), {method.strip(): broken})
    settings = REGISTRY["nasbench201"].configure({**SMALL, "channels": 2, "cells_per_stage": 1})
    with pytest.raises(ContractViolation, match=promise):
        check_space(kind(settings), samples=6)


def test_a_restricted_space_keeps_canonical_forms_inside() -> None:
    whole = NASBench201(REGISTRY["nasbench201"].configure(SMALL))  # type: ignore[arg-type]
    _, part = whole.partition("0->1", [["none"], ["skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]])
    rng = np.random.default_rng(0)
    drawn = [part.sample(rng) for _ in range(50)]
    assert all(part.validate(part.canonical(architecture)) == [] for architecture in drawn)
    assert len(_representatives(tuple(d.options for d in part.decisions))) < part.size()


def test_a_space_takes_its_config_from_its_plugin() -> None:
    config = REGISTRY["macro"].configure(SMALL)
    assert isinstance(config, Config)
    assert REGISTRY["macro"](config).input_shape == (1, 8, 8)
