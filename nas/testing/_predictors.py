"""The contract of a predictor as a plain function that raises `ContractViolation`."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas.streams import stream
from nas.testing._spaces import require
from predictors.encoding import Columns, Encoded, Layers, SpaceEncoder, every_block
from predictors.ranking import kendall
from predictors.surrogates import Prediction, Predictor
from searchspaces import Architecture, ContractViolation, Plugin, SearchSpace

Floats = npt.NDArray[np.float64]

EXAMPLES = 36
"""How many architectures are learned from, and how many are asked for; of a small space half of it each."""
FEWEST = 4
RANKED = 20
"""With fewer asked for no ranking is told from chance."""
PARTS = ("blocks", "scores", "graphs", "layers")


def check_predictor(
    plugin: Plugin[Predictor], space: SearchSpace, settings: Mapping[str, object] | None = None, *, seed: int = 0
) -> None:
    """Checks what a predictor promises on a made-up value of the architectures of `space`.

    It is told all that can be known: blocks, graphs, scores (good ones, bad ones, undefined ones), layer statistics.

    Args:
        settings: without them those of its flag `quick`.

    Raises:
        ContractViolation: a promise is broken.
    """
    check_flags(plugin)
    found = _global_states()
    task = _Task(plugin, space, quick_settings(plugin) if settings is None else settings, seed)
    labels = task.fresh().min_labels
    require(labels == plugin.flags["min_labels"], "the flag min_labels is the predictor's", labels)
    _check_refusals(task)
    _check_prediction(task)
    _check_randomness(task)
    _check_invariance(task)
    _check_little(task)
    require(_global_states() == found, "global random generators are left alone", plugin.name)


def check_flags(plugin: Plugin[Predictor]) -> None:
    """The flags of a predictor: see `predictors.surrogates`.

    Raises:
        ContractViolation: one is missing or of the wrong kind.
    """
    uses, labels, exact = (plugin.flags.get(flag) for flag in ("uses", "min_labels", "exact"))
    named = isinstance(uses, tuple) and len(uses) > 0 and set(uses) <= set(PARTS)
    require(named, f"a predictor has the flag uses: some of {', '.join(PARTS)}", uses)
    counted = isinstance(labels, int) and not isinstance(labels, bool) and labels >= 0
    require(counted, "a predictor has the flag min_labels, 0 or more", labels)
    require(isinstance(exact, bool), "a predictor has the flag exact", exact)


def quick_settings(plugin: Plugin[Predictor]) -> dict[str, object]:
    """What the flag `quick` says."""
    flag = plugin.flags.get("quick", ())
    pairs = [text.partition("=") for text in flag] if isinstance(flag, tuple) else []
    return {name: json.loads(value) for name, _, value in pairs}


class _Task:
    """Architectures of a space with made-up values, and everything about them that a predictor may read."""

    def __init__(
        self, plugin: Plugin[Predictor], space: SearchSpace, settings: Mapping[str, object], seed: int
    ) -> None:
        self.plugin, self.space, self.settings, self.seed = plugin, space, settings, seed
        drawn_worth = stream(seed, "worth").normal(size=sum(len(decision.options) for decision in space.decisions))
        # What feeds what is worth nothing: some predictors see operations alone.
        self._worth = drawn_worth * [decision.kind != "link" for decision in space.decisions for _ in decision.options]
        self.encoder = SpaceEncoder(space, every_block(space), scores=self.scores, layers=self.layers)
        rng = stream(seed, "predictor contract")
        drawn = dict.fromkeys(space.sample(rng) for _ in range(4 * EXAMPLES))
        number = min(EXAMPLES, len(drawn) // 2)
        if number < FEWEST:
            raise ValueError(f"{space.name} has {space.size()} architectures; a predictor is checked on {2 * FEWEST}.")
        self.known, self.asked = list(drawn)[:number], list(drawn)[number : 2 * number]
        self.values = self.truth(self.known)

    def truth(self, architectures: Sequence[Architecture]) -> Floats:
        """A sum over the options, with a heavy lower tail as accuracies have it."""
        bits = np.array([self.space.encode(a) for a in architectures]).reshape(len(architectures), len(self._worth))
        return np.asarray(-np.exp(-bits @ self._worth))

    def scores(self, architectures: Sequence[Architecture]) -> Columns:
        """A noisy one of the truth, one of size, one that is often undefined, one that is never defined."""
        rows = []
        for architecture, value in zip(architectures, self.truth(architectures), strict=True):
            rng = stream(self.seed, "scores", architecture.text)
            noisy = -np.log(-value) + rng.normal()
            size = float(self.space.counts(architecture, live=True).params) if self.space.has_counts else noisy
            rows.append((noisy, size, rng.normal() if rng.random() < 0.5 else np.nan, np.nan))
        return Columns(("noisy", "size", "rare", "never"), np.array(rows, dtype=np.float64).reshape(-1, 4))

    def layers(self, architectures: Sequence[Architecture]) -> Layers:
        """A slot per decision; two statistics that depend on the option, positive, defined where it has weights."""
        decisions = self.space.decisions
        values = np.full((len(architectures), len(decisions), 2), np.nan)
        for row, architecture in zip(values, architectures, strict=True):
            for slot, decision in enumerate(decisions):
                chosen = dict(architecture.options).get(decision.name)
                if chosen is not None and decision.parametric[decision.options.index(chosen)]:
                    row[slot] = stream(self.seed, "layers", decision.name, chosen).lognormal(sigma=2.0, size=2)
        return Layers(tuple(decision.name for decision in decisions), ("first", "second"), values)

    def fresh(self) -> Predictor:
        return self.plugin(self.settings, self.encoder)

    def fitted(
        self, known: Sequence[Architecture] | None = None, values: npt.ArrayLike | None = None, *, names: str = "fit"
    ) -> Predictor:
        known = self.known if known is None else known
        return self.fresh().fit(known, self.values if values is None else values, rng=stream(self.seed, names))


def _check_refusals(task: _Task) -> None:
    known, values, labels = task.known, task.values, task.fresh().min_labels
    wrong: list[tuple[str, Sequence[Architecture], npt.ArrayLike]] = [
        ("a value that is not a number", known, [*values[:-1], float("nan")]),
        ("a value that is infinite", known, [*values[:-1], float("inf")]),
        ("one value too few", known, values[:-1]),
    ]
    if labels:
        wrong.append(("fewer than min_labels", known[: labels - 1], values[: labels - 1]))
    for what, architectures, given in wrong:
        _refuses(task.fresh(), architectures, given, f"fit refuses {what} with ValueError")
    blind = task.plugin(task.settings, lambda architectures: Encoded(len(architectures)))
    _refuses(blind, known, values, "fit refuses an encoder that gives nothing it reads with ValueError")
    try:
        task.fresh().predict(task.asked)
    except RuntimeError:
        pass
    else:
        raise ContractViolation("predict refuses what was not fitted with RuntimeError; it predicted.")
    _check_numbers(task.fitted(known[:labels], values[:labels]).predict(task.asked), len(task.asked))


def _refuses(predictor: Predictor, known: Sequence[Architecture], values: npt.ArrayLike, promise: str) -> None:
    try:
        predictor.fit(known, values, rng=stream(0))
    except ValueError:
        return
    raise ContractViolation(f"{promise}; it was fitted.")


def _check_prediction(task: _Task) -> None:
    told: list[float] = []
    given = task.values.copy()
    predictor = task.fresh().fit(task.known, given, rng=stream(task.seed, "fit"), progress=told.append)
    require((given == task.values).all(), "the values given are left as they are")
    require(told == sorted(told) and told[0] >= 0 and told[-1] == 1.0, "progress grows from 0 to 1", told)
    prediction = predictor.predict(task.asked)
    _check_numbers(prediction, len(task.asked))
    _check_numbers(predictor.predict([]), 0)
    require(_equal(prediction, predictor.predict(task.asked)), "a prediction is equal every time it is asked")
    alone = predictor.predict(task.asked[:1])
    require(_close(alone, prediction, slice(0, 1)), "a prediction does not depend on who else is asked", alone)
    if len(task.asked) < RANKED:
        return
    tau, n = kendall(task.truth(task.asked), prediction.mean) or 0.0, len(task.asked)
    chance = float(np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))  # deviation of tau between independent rankings
    require(tau > 2 * chance, f"a sum over options is ranked better than by chance, tau above {2 * chance:.2f}", tau)


def _check_randomness(task: _Task) -> None:
    drawn = random.getstate()  # not before the first fit: libraries draw from it when they are imported
    first = task.fitted().predict(task.asked)
    require(random.getstate() == drawn, "Python's global random generator is left alone", task.plugin.name)
    require(_equal(first, task.fitted().predict(task.asked)), "equal streams give equal predictions")
    used = task.fitted(task.known[::-2], task.values[::-2])
    used.fit(task.known, task.values, rng=stream(task.seed, "fit"))
    require(_equal(first, used.predict(task.asked)), "fitted again, it forgets what it was fitted on before")
    if task.plugin.flags["exact"]:
        shuffled = task.fitted(task.known[::-1], task.values[::-1], names="another fit").predict(task.asked)
        require(_close(first, shuffled), "an exact predictor depends neither on order nor on the stream")


def _check_invariance(task: _Task) -> None:
    predictor = task.fitted()
    if predictor.config.target != "normal_scores":
        return
    stretched = task.fitted(values=np.exp(3 * task.values / np.abs(task.values).max())).predict(task.asked)
    require(_equal(predictor.predict(task.asked), stretched), "with normal scores only the order of the values counts")


def _check_little(task: _Task) -> None:
    """What a search meets early: all values equal; one architecture measured again and again."""
    constant = task.fitted(values=np.full(len(task.known), 0.1)).predict(task.asked)
    _check_numbers(constant, len(task.asked))
    repeated = task.fitted([*task.known[:2]] * 4, np.resize(task.values, 8)).predict(task.asked)
    _check_numbers(repeated, len(task.asked))
    try:
        once = task.fitted([task.known[0]] * 4, task.values[:4])
    except ValueError:
        return  # what is all the same may be refused
    _check_numbers(once.predict(task.asked), len(task.asked))


def _global_states() -> tuple[object, ...]:
    """Of numpy's and torch's generators."""
    import torch

    numpy_state = str(np.random.get_state())  # noqa: NPY002 - read, to see that nobody draws from it
    return numpy_state, torch.get_rng_state().numpy().tobytes()


def _check_numbers(prediction: Prediction, size: int) -> None:
    require(prediction.mean.shape == prediction.std.shape == (size,), f"{size} means and deviations", prediction)
    finite = np.isfinite(prediction.mean).all() and np.isfinite(prediction.std).all()
    require(bool(finite), "predictions are finite", prediction)
    require(bool((prediction.std >= 0).all()), "deviations are not negative", prediction.std)


def _equal(first: Prediction, second: Prediction) -> bool:
    return bool((first.mean == second.mean).all() and (first.std == second.std).all())


def _close(first: Prediction, second: Prediction, part: slice = slice(None)) -> bool:
    """Equal but for the rounding of 32-bit numbers in sums of another order."""
    return all(np.allclose(a, b[part], rtol=1e-3, atol=1e-4) for a, b in zip(first, second, strict=True))
