"""Every registered predictor keeps the contract on every registered space, and the contract sees one that does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.testing._predictors import check_flags, check_predictor, quick_settings
from nas.testing._spaces import spaces_with
from predictors.encoding import Encoded
from predictors.surrogates import REGISTRY, Prediction, Predictor, PredictorConfig
from searchspaces import REGISTRY as SPACES
from searchspaces import ContractViolation, Plugin
from tests.nas.conditional import Perceptrons

SMALL = {"input_shape": (1, 8, 8), "num_classes": 4}


COUNTED = [
    pytest.param(name, marks=() if name in spaces_with("networks") else pytest.mark.slow)
    for name in spaces_with("counts")
]
"""The spaces whose architectures can be counted: the contract tells predictors their sizes."""


@pytest.mark.parametrize("space_name", COUNTED)
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_predictor_keeps_the_contract_on_every_space(name: str, space_name: str) -> None:
    check_predictor(REGISTRY[name], SPACES[space_name](SMALL))


def test_a_predictor_keeps_the_contract_where_decisions_are_conditional() -> None:
    check_predictor(REGISTRY["ridge"], Perceptrons())


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_what_is_quick_are_settings_of_the_predictor(name: str) -> None:
    plugin = REGISTRY[name]
    assert plugin.configure(quick_settings(plugin))


class FirstScore(Predictor):
    """Ranks by the first score; keeps the contract."""

    def _fit(self, known, targets, rng, progress):
        if known.scores is None:
            raise ValueError("no scores")

    def _predict(self, asked):
        return Prediction(asked.scores.values[:, 0].copy(), np.ones(len(asked)))


class Draws(FirstScore):
    def _predict(self, asked):
        return Prediction(np.random.default_rng(id(asked)).normal(size=len(asked)), np.ones(len(asked)))


class Wanders(FirstScore):
    def _fit(self, known, targets, rng, progress):
        super()._fit(known, targets, rng, progress)
        self.shift = rng.normal()

    def _predict(self, asked):
        return Prediction(asked.scores.values[:, 0] + self.shift, np.ones(len(asked)))


class Negative(FirstScore):
    def _predict(self, asked):
        return Prediction(asked.scores.values[:, 0], -np.ones(len(asked)))


class Undefined(FirstScore):
    def _predict(self, asked):
        return Prediction(asked.scores.values[:, 2], np.ones(len(asked)))


class Blind(FirstScore):
    def _fit(self, known, targets, rng, progress):
        pass


class Pooled(FirstScore):
    def _predict(self, asked: Encoded):
        mean = asked.scores.values[:, 0]
        return Prediction(mean - mean.mean() if len(mean) else mean, np.ones(len(asked)))


class Raw(FirstScore):
    """Sees the values themselves, not their order."""

    def fit(self, architectures, values, **settings):
        self.scale = float(np.nansum(values))
        return super().fit(architectures, values, **settings)

    def _predict(self, asked):
        return Prediction(asked.scores.values[:, 0] + self.scale, np.ones(len(asked)))


class Remembers(FirstScore):
    total = 0.0

    def _fit(self, known, targets, rng, progress):
        super()._fit(known, targets, rng, progress)
        self.total += len(targets)

    def _predict(self, asked):
        return Prediction(asked.scores.values[:, 0] + self.total, np.ones(len(asked)))


class Worst(FirstScore):
    def _predict(self, asked):
        return Prediction(-asked.scores.values[:, 0], np.ones(len(asked)))


class Seeds(FirstScore):
    def _fit(self, known, targets, rng, progress):
        super()._fit(known, targets, rng, progress)
        np.random.seed(3)  # noqa: NPY002 - what the contract must see


def plugin(predictor: type[Predictor], **flags: object) -> Plugin[Predictor]:
    given = {"uses": ("scores",), "min_labels": 2, "exact": True, **flags}
    return Plugin("made_up", "For a test.", "nobody", predictor, PredictorConfig, given)


def test_a_predictor_by_one_score_keeps_the_contract() -> None:
    check_predictor(plugin(FirstScore), SPACES["macro"](SMALL))


@pytest.mark.parametrize(
    ("predictor", "promise"),
    [
        (Draws, "equal every time"),
        (Wanders, "neither on order nor on the stream"),
        (Negative, "not negative"),
        (Undefined, "finite"),
        (Blind, "gives nothing it reads"),
        (Pooled, "who else is asked"),
        (Raw, "only the order of the values"),
        (Remembers, "forgets"),
        (Worst, "better than by chance"),
        (Seeds, "global random"),
    ],
)
def test_the_contract_sees_a_predictor_that_breaks_it(predictor: type[Predictor], promise: str) -> None:
    with pytest.raises(ContractViolation, match=promise):
        check_predictor(plugin(predictor), SPACES["macro"](SMALL))


@pytest.mark.parametrize("flags", [{"uses": ()}, {"uses": ("weights",)}, {"min_labels": True}, {"exact": "yes"}])
def test_the_contract_sees_a_wrong_flag(flags: dict[str, object]) -> None:
    with pytest.raises(ContractViolation, match=next(iter(flags))):
        check_flags(plugin(FirstScore, **flags))


def test_the_contract_sees_a_wrong_number_of_labels() -> None:
    wrong = replace(plugin(FirstScore), flags={"uses": ("scores",), "min_labels": 5, "exact": True})
    with pytest.raises(ContractViolation, match="min_labels is the predictor's"):
        check_predictor(wrong, SPACES["macro"](SMALL))
