"""How `parzc` turns what is known of architectures into tensors; everything is scaled by the fitted architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from predictors.encoding import Columns, DesignMatrix, Encoded, Graphs, Layers
from predictors.surrogates._mixer import Inputs, relations
from predictors.surrogates._structure import path_statistics

Floats = npt.NDArray[np.float64]
Scaling = Literal["log", "min_max"]

PATHS = "path_statistics"
"""The block that `with_paths` adds."""

_FAR = 5.0  # deviations from the mean at which a statistic is cut: logarithms of what is nearly zero lie far out


class MixerInputs:
    """Encoded architectures -> `Inputs`.

    Args:
        fitted: what the model is fitted on.
        statistics: which statistics of layers; none named means all.
        scaling: `log`: logarithms of absolute values, every slot on its own column, mean 0 and deviation 1 over the
            fitted, 0 and a column that says so where there is no layer. `min_max`: as ParZC has it, from 0 to 1 over
            the layers of an architecture, packed to the front.
        blocks: which blocks are facts, beside the scores and what `with_paths` adds; without graphs all are.
        reads_graphs, reads_facts: whether graphs and facts are read at all.

    Raises:
        ValueError: a statistic is not known, or nothing is known that is read.
    """

    def __init__(
        self,
        fitted: Encoded,
        *,
        statistics: Sequence[str],
        scaling: Scaling,
        blocks: Sequence[str],
        reads_graphs: bool,
        reads_facts: bool,
    ) -> None:
        self._statistics, self._scaling = tuple(statistics), scaling
        self._shape = fitted.graphs.adjacency.shape[1:] if fitted.graphs is not None and reads_graphs else (0, 0)
        self.num_labels = fitted.graphs.num_labels if fitted.graphs is not None and reads_graphs else 0
        chosen = [name for name in fitted.blocks if name in (*blocks, PATHS) or not self.num_labels]
        self._blocks = tuple(chosen if reads_facts else ())
        self._reads_scores = reads_facts and fitted.scores is not None
        self._slots = None if fitted.layers is None else (fitted.layers.slots, fitted.layers.statistics)
        self._mean, self._deviation = self._spread(fitted.layers)
        facts = self._facts_of(fitted)
        self._design = DesignMatrix(facts) if facts.matrix().shape[1] else None
        if self._slots is None and self._design is None and not self.num_labels:
            raise ValueError("the encoder gives nothing to learn from; give it graphs, layer statistics or blocks.")

    def __call__(self, asked: Encoded) -> Inputs:
        """The tensors of `asked`.

        Raises:
            ValueError: it is of another kind than what was fitted on: other blocks, slots, or graphs of another size.
        """
        n = len(asked)
        facts = self._design(self._facts_of(asked)) if self._design is not None else np.zeros((n, 0))
        labels, related = torch.zeros((n, 0), dtype=torch.long), torch.zeros((n, 0, 0), dtype=torch.long)
        if self.num_labels:
            graphs = asked.graphs
            if graphs is None or graphs.adjacency.shape[1:] != self._shape or graphs.num_labels != self.num_labels:
                raise ValueError("these graphs are not of the kind that was learned from; use the same encoder.")
            labels, related = torch.from_numpy(graphs.labels), relations(torch.from_numpy(graphs.adjacency))
        return Inputs(torch.from_numpy(self._layers(asked)).float(), torch.from_numpy(facts).float(), labels, related)

    def _facts_of(self, encoded: Encoded) -> Encoded:
        if any(name not in encoded.blocks for name in self._blocks) or (self._reads_scores and not encoded.scores):
            raise ValueError("blocks or scores that were learned from are missing here; use the same encoder.")
        scores = encoded.scores if self._reads_scores else None
        return Encoded(len(encoded), {name: encoded.blocks[name] for name in self._blocks}, scores)

    def _layers(self, asked: Encoded) -> Floats:
        """`n x features`."""
        if self._slots is None:
            return np.zeros((len(asked), 0))
        if asked.layers is None or (asked.layers.slots, asked.layers.statistics) != self._slots:
            raise ValueError("these layer statistics are not of the kind that was learned from; use the same encoder.")
        values = self._chosen(asked.layers)
        if self._scaling == "min_max":
            return packed(values).reshape(len(asked), -1)
        return self._scaled(values)

    def _chosen(self, layers: Layers) -> Floats:
        names = self._statistics or layers.statistics
        if missing := [name for name in names if name not in layers.statistics]:
            known = ", ".join(layers.statistics) or "none"
            raise ValueError(f"statistics {', '.join(missing)} are not known of these layers; there are {known}.")
        return layers.values[:, :, [layers.statistics.index(name) for name in names]]

    def _spread(self, layers: Layers | None) -> tuple[Floats, Floats]:
        """Mean and deviation of the logarithms over the architectures that have a layer in the slot."""
        if layers is None:
            return np.zeros((0, 0)), np.ones((0, 0))
        logs = _logarithms(self._chosen(layers))
        defined = np.isfinite(logs)
        count = np.maximum(defined.sum(axis=0), 1)
        mean = np.where(defined, logs, 0.0).sum(axis=0) / count
        deviation = np.sqrt(np.where(defined, (logs - mean) ** 2, 0.0).sum(axis=0) / count)
        return mean, np.where(deviation > 1e-9, deviation, 1.0)

    def _scaled(self, values: Floats) -> Floats:
        logs = _logarithms(values)
        defined = np.isfinite(logs)
        scaled = np.clip((np.where(defined, logs, self._mean) - self._mean) / self._deviation, -_FAR, _FAR)
        present = defined.any(axis=2).astype(np.float64)
        return np.concatenate([scaled.reshape(len(values), -1), present], axis=1)


def with_paths(encoded: Encoded) -> Encoded:
    """With one more block where graphs are known: what lies on their paths, see `path_statistics`."""
    if encoded.graphs is None:
        return encoded
    return replace(encoded, blocks={**encoded.blocks, PATHS: path_statistics(encoded.graphs)})


def packed(values: Floats) -> Floats:
    """values: `n x S x K`; from 0 to 1 over the layers that an architecture has, moved to the front, then zeros."""
    there = np.isfinite(values)
    low = np.where(there, values, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, values, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    extent = np.where(high > low, high - low, 1.0)
    scaled = np.where(there, (values - np.where(np.isfinite(low), low, 0.0)) / extent, 0.0)
    exists = there.any(axis=2)
    order = np.argsort(~exists, axis=1, kind="stable")  # layers in their order, then what is not there
    return np.take_along_axis(scaled, order[:, :, None], axis=1)


def _logarithms(values: Floats) -> Floats:
    """Of absolute values; NaN where undefined or zero, as of weights that no gradient reaches."""
    size = np.abs(values)
    usable = np.isfinite(size) & (size > 0)
    return np.where(usable, np.log(np.where(usable, size, 1.0)), np.nan)


def as_tensors(fitted: Encoded) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All that `MixerInputs` takes from what a model was fitted on: tensors by name, and plain values."""
    tensors = {f"block.{name}": torch.from_numpy(np.ascontiguousarray(block)) for name, block in fitted.blocks.items()}
    plain: dict[str, Any] = {"size": len(fitted), "blocks": list(fitted.blocks)}
    if fitted.scores is not None:
        tensors["scores"] = torch.from_numpy(np.ascontiguousarray(fitted.scores.values))
        plain["scores"] = fitted.scores.names
    if fitted.layers is not None:
        tensors["layers"] = torch.from_numpy(np.ascontiguousarray(fitted.layers.values))
        plain["layers"] = [fitted.layers.slots, fitted.layers.statistics]
    if fitted.graphs is not None:
        plain["graphs"] = [fitted.graphs.labels.shape[1], fitted.graphs.num_labels]
    return tensors, plain


def from_tensors(tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> Encoded:
    """What `as_tensors` kept, with empty graphs in place of the real ones: only their size matters.

    Raises:
        KeyError: something is missing.
    """
    size = plain["size"]
    blocks = {name: tensors[f"block.{name}"].numpy() for name in plain["blocks"]}
    scores = Columns(tuple(plain["scores"]), tensors["scores"].numpy()) if "scores" in plain else None
    layers = graphs = None
    if "layers" in plain:
        slots, statistics = plain["layers"]
        layers = Layers(tuple(slots), tuple(statistics), tensors["layers"].numpy())
    if "graphs" in plain:
        nodes, num_labels = plain["graphs"]
        absent = np.full((size, nodes), -1, dtype=np.int64)
        graphs = Graphs(np.zeros((size, nodes, nodes), dtype=np.bool_), absent, num_labels)
    return Encoded(size, blocks, scores, graphs, layers)
