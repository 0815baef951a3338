"""ParZC: its loss, its networks, what its settings stand for, and keeping what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from predictors.encoding import BLOCKS, Block, Columns, Encoded, Encoder, Layers, SpaceEncoder
from predictors.ranking import kendall
from predictors.ranking_loss import diff_kendall
from predictors.surrogates import REGISTRY, Predictor
from predictors.surrogates._mixer import (
    ANCESTOR,
    CHILD,
    DESCENDANT,
    PARENT,
    UNRELATED,
    Inputs,
    Network,
    Sizes,
    relations,
)
from predictors.surrogates._mixer_inputs import MixerInputs, packed, with_paths
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, CheckpointError, ConfigError

NAN = float("nan")
SPACE = SPACES["nasbench201"]({})
CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")
WITH_GRAPH: tuple[Block, ...] = (*BLOCKS, "graph")
QUICK: dict[str, object] = {"epochs": 10, "members": 2, "draws": 2, "mixer_width": 8, "depth": 1, "segments": 4}

SIZES = Sizes(
    members=2,
    statistics=5,
    facts=3,
    nodes=4,
    labels=6,
    segments=4,
    segment_width=8,
    mixer_width=16,
    mixer_depth=1,
    mixes_segments=True,
    mixer_gain=0.5,
    width=16,
    depth=2,
    heads=2,
    head_width=8,
    inner=16,
    dropout=0.1,
    statistics_dropout=0.5,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(count: int, seed: int = 0) -> list[Architecture]:
    generator = rng(seed)
    return list(dict.fromkeys(SPACE.sample(generator) for _ in range(2 * count)))[:count]


def worth(architectures: Sequence[Architecture]) -> np.ndarray:
    """Convolutions on the way to the output, the wider ones more."""
    lives = [SPACE.live(architecture) for architecture in architectures]
    return np.array([sum(3.0 * (o == CONVOLUTIONS[1]) + (o == CONVOLUTIONS[0]) for _, o in live) for live in lives])


def scores(architectures: Sequence[Architecture]) -> Columns:
    noise = np.array([rng(SPACE.index(architecture)).normal() for architecture in architectures])
    return Columns(("noisy",), (worth(architectures) + 2 * noise)[:, None])


def layers(architectures: Sequence[Architecture]) -> Layers:
    """One slot per edge; zeros stand for weights without a gradient."""
    size = {"nor_conv_1x1": 1e-6, "nor_conv_3x3": 1e-2}
    rows = [[[size.get(option, NAN), 0.0] for _, option in SPACE.live(a).options] for a in architectures]
    return Layers(tuple(d.name for d in SPACE.decisions), ("grad_norm", "snip"), np.array(rows).reshape(-1, 6, 2))


def encoder(blocks: tuple[Block, ...] = WITH_GRAPH, *, with_layers: bool = True) -> SpaceEncoder:
    return SpaceEncoder(SPACE, blocks, scores=scores, layers=layers if with_layers else None)


def fitted(settings: dict[str, object], encode: Encoder, count: int = 30) -> Predictor:
    known = drawn(count)
    return REGISTRY["parzc"]({**QUICK, **settings}, encode).fit(known, worth(known), rng=rng())


# --- loss ------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 999), count=st.integers(2, 12))
def test_a_steep_loss_is_the_true_tau(seed: int, count: int) -> None:
    x, y = rng(seed).permutation(count) * 1.0, rng(seed + 1).permutation(count) * 1.0
    found = diff_kendall(torch.from_numpy(x), torch.from_numpy(y), alpha=1e3, pairs="soft")
    assert float(found) == pytest.approx(kendall(y, x))


def test_the_loss_stays_within_a_tau_where_the_release_has_twice_that() -> None:
    ranks = torch.arange(10.0) * 100
    assert float(diff_kendall(ranks, ranks)) == pytest.approx(1)
    assert float(diff_kendall(ranks, -ranks)) == pytest.approx(-1)


def test_signs_count_close_pairs_as_much_as_distant_ones() -> None:
    predicted, close = torch.tensor([0.0, 9.0]), torch.tensor([0.0, 1e-3])
    assert float(diff_kendall(predicted, close, alpha=2.0, pairs="sign")) == pytest.approx(1, abs=1e-3)
    assert float(diff_kendall(predicted, close, alpha=2.0, pairs="soft")) < 0.01


def test_the_loss_moves_every_prediction_towards_its_rank() -> None:
    predicted = torch.zeros(2, 3, requires_grad=True)
    truth = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    diff_kendall(predicted, truth).sum().backward()
    assert predicted.grad is not None
    assert (predicted.grad.sign() == torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]])).all()


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_relations_tell_neighbours_from_those_further_on() -> None:
    chain = torch.zeros(1, 4, 4, dtype=torch.bool)
    chain[0, 0, 1] = chain[0, 1, 2] = True
    expected = [
        [UNRELATED, CHILD, DESCENDANT, UNRELATED],
        [PARENT, UNRELATED, CHILD, UNRELATED],
        [ANCESTOR, PARENT, UNRELATED, UNRELATED],
        [UNRELATED] * 4,
    ]
    assert relations(chain)[0].tolist() == expected


def test_packed_statistics_span_an_architecture_and_move_to_the_front() -> None:
    values = np.array([[NAN, 2.0, 4.0, 3.0], [7.0, NAN, NAN, NAN], [NAN] * 4])[:, :, None]
    np.testing.assert_array_equal(packed(values)[:, :, 0], [[0, 1, 0.5, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_logarithms_keep_absolute_size_and_place() -> None:
    def known(*rows: list[float]) -> Encoded:
        return Encoded(len(rows), layers=Layers(("a", "b"), ("snip",), np.array(rows)[:, :, None]))

    view = MixerInputs(
        known([1.0, NAN], [100.0, 5.0]), statistics=(), scaling="log", blocks=(), reads_graphs=True, reads_facts=True
    )
    found = view(known([10.0, NAN], [-1.0, 0.0], [NAN, 5.0])).statistics
    # the two slots, then whether there is a layer in them
    np.testing.assert_allclose(found, [[0, 0, 1, 0], [-1, 0, 1, 0], [0, 0, 0, 1]], atol=1e-6)


def test_graphs_tell_the_bits_and_blocks_stand_in_where_there_are_none() -> None:
    known = drawn(10)

    def facts(blocks: tuple[Block, ...]) -> int:
        encoded = encoder(blocks)(known)
        view = MixerInputs(
            encoded, statistics=(), scaling="log", blocks=("counts",), reads_graphs=True, reads_facts=True
        )
        return view(encoded).facts.shape[1]

    assert facts(WITH_GRAPH) == facts(("counts", "graph")) < facts(BLOCKS)


def test_what_lies_on_the_paths_of_a_graph_is_a_fact() -> None:
    encoded = encoder(("graph",))(drawn(20))
    found = [with_paths(encoded), encoded]
    views = [
        MixerInputs(known, statistics=(), scaling="log", blocks=(), reads_graphs=True, reads_facts=True)(known)
        for known in found
    ]
    assert views[0].facts.shape[1] > views[1].facts.shape[1] == 1


def test_statistics_that_are_not_known_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="synflow are not known of these layers; there are grad_norm, snip"):
        fitted({"statistics": ["synflow"]}, encoder())


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs() -> Inputs:
    """Of two architectures, the first of which lacks the third node."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([[4, 0, -1, 5], [4, 1, 2, 5]])
    statistics, facts = (torch.randn(2, count, generator=generator) for count in (SIZES.statistics, SIZES.facts))
    return Inputs(statistics, facts, labels, relations(torch.ones(2, 4, 4).triu(1).bool()))


def test_a_member_sees_no_other(inputs: Inputs) -> None:
    network, noise = Network(SIZES, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(0)
    network(inputs.for_all(2), noise)[0].sum().backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None, name
        assert not weights.grad[1].any(), name


def test_a_node_that_is_not_there_changes_nothing(inputs: Inputs) -> None:
    network = Network(SIZES, torch.Generator().manual_seed(0)).eval()
    moved = inputs.relations.clone()
    moved[0, :, 2] = moved[0, 2, :] = PARENT

    def outputs(given: Inputs) -> torch.Tensor:
        return network(given.for_all(2), torch.Generator().manual_seed(0))

    with torch.no_grad():
        network.graph.attention[0].relation.normal_(generator=torch.Generator().manual_seed(2))
        before = outputs(inputs)
        network.graph.place[:, 2] *= -2
        after = outputs(inputs._replace(relations=moved))
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert (after[:, 1] - before[:, 1]).abs().min() > 1e-4


def test_the_mixer_starts_silent_and_learns(inputs: Inputs) -> None:
    network = Network(replace(SIZES, mixer_gain=0.0), torch.Generator().manual_seed(0)).eval()

    def outputs(given: Inputs) -> torch.Tensor:
        return network(given.for_all(2), torch.Generator().manual_seed(0))

    other = inputs._replace(statistics=inputs.statistics + 1)
    torch.testing.assert_close(outputs(other), outputs(inputs), rtol=0, atol=0)
    outputs(inputs).sum().backward()
    assert network.mixed.weight.grad.abs().sum() > 0


# --- the predictor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "encode"),
    [
        ({}, encoder()),
        ({}, encoder(with_layers=False)),
        ({}, encoder(("onehot",))),
        ({"stand_alone": True, "facts": False}, encoder()),
        ({"scaling": "min_max", "pairs": "soft", "segment_mixing": False, "mixer_gain": 1.0}, encoder()),
    ],
    ids=["all", "no layers", "no graphs", "mixer alone", "as published, narrow"],
)
def test_it_ranks_with_whatever_is_known(changed: dict[str, object], encode: Encoder) -> None:
    asked = drawn(60, seed=1)
    tau = kendall(worth(asked), fitted({"epochs": 30, **changed}, encode, 60).predict(asked).mean)
    assert tau is not None
    assert tau > 0.5


def test_draws_of_bayesian_weights_spread_the_prediction_of_a_single_network() -> None:
    asked = drawn(20, seed=1)
    once, often = (fitted({"members": 1, "draws": draws}, encoder()).predict(asked) for draws in (1, 5))
    assert (once.std == 0).all()
    assert (often.std > 0).all()


def test_published_stands_for_the_settings_of_the_paper() -> None:
    config = REGISTRY["parzc"].configure({"published": True, "draws": 7}).model_dump()
    assert (config["mixer_width"], config["epochs"], config["batch_size"], config["alpha"]) == (512, 300, 10, 0.5)
    assert (config["target"], config["scaling"], config["learning_rate"]) == ("standardised", "min_max", 1e-4)
    assert REGISTRY["parzc"].configure(config)


@pytest.mark.parametrize("other", [{"mixer_width": 8}, {"target": "normal_scores"}])
def test_published_refuses_other_settings(other: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(other))):
        REGISTRY["parzc"].configure({"published": True, **other})


@pytest.mark.parametrize("blocks", [WITH_GRAPH, ("onehot",)])
def test_what_is_saved_predicts_the_same_to_the_last_bit(blocks: tuple[Block, ...], tmp_path: Path) -> None:
    encode, asked = encoder(blocks), drawn(40, seed=1)
    predictor = fitted({}, encode)
    predictor.save(tmp_path / "parzc.safetensors")
    loaded = type(predictor).load(tmp_path / "parzc.safetensors", encode)
    for before, after in zip(predictor.predict(asked), loaded.predict(asked), strict=True):
        np.testing.assert_array_equal(before, after)
    assert loaded.config == predictor.config


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    cut, other = tmp_path / "cut.safetensors", tmp_path / "other.safetensors"
    fitted({}, encoder()).save(other)
    cut.write_bytes(other.read_bytes()[:1_000])
    save_file({"weight": np.zeros(3)}, other)
    for path in (cut, other, tmp_path / "missing.safetensors"):
        with pytest.raises(CheckpointError, match=path.name):
            type(REGISTRY["parzc"]({}, encoder())).load(path, encoder())


def test_nothing_fitted_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="fit"):
        REGISTRY["parzc"]({}, encoder()).save(tmp_path / "parzc.safetensors")


def test_another_encoder_than_it_was_fitted_with_is_refused(tmp_path: Path) -> None:
    predictor = fitted({}, encoder())
    predictor.save(tmp_path / "parzc.safetensors")
    blind = (
        encoder(with_layers=False),
        encoder(BLOCKS),
        encoder(("graph",)),
        SpaceEncoder(SPACE, WITH_GRAPH, layers=layers),
    )
    for encode in blind:
        with pytest.raises(ValueError, match="use the same encoder"):
            type(predictor).load(tmp_path / "parzc.safetensors", encode).predict(drawn(3))


@settings(max_examples=5)
@example(count=7, batch_size=2)
@example(count=11, batch_size=2)
@given(count=st.integers(2, 40), batch_size=st.integers(2, 40))
def test_every_batch_holds_a_pair(count: int, batch_size: int) -> None:
    predictor = fitted({"epochs": 1, "batch_size": batch_size}, encoder(with_layers=False), count)
    assert np.isfinite(predictor.predict(drawn(3)).mean).all()
