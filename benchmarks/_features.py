"""What proxies say of a table's architectures: computed once with small networks, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

import predictors.zerocost
import searchspaces
from benchmarks._data import cache_folder, data_file, json_lines
from nas.datasets import REGISTRY as DATASETS
from nas.scoring import proxies_of, proxy_context, score_many
from nas.spec import PluginRef
from nas.tasks import REGISTRY as TASKS
from predictors.encoding import Columns, Layers
from predictors.zerocost import Scored
from searchspaces import Architecture, SearchSpace

SCORES = ("jacov", "naswot", "synflow", "zico")
"""Proxies whose values rank; all from two labelled passes and one of ones."""
STATISTICS = ("grad_norm", "snip", "synflow")
"""Proxies whose statistics of layers ParZC reads."""
IMAGES = 32
SEED = 0


class Features:
    """Scores and layer statistics of architectures on CIFAR-10 images, by networks of `SearchSpace.reduced`.

    Args:
        space: with the input shape of CIFAR-10.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def prepare(self, architectures: Sequence[Architecture]) -> None:
        """Score those that were not scored before; what is finished stays when it is stopped."""
        import torch

        missing = [architecture for architecture in architectures if architecture.text not in self._known]
        if not missing:
            return
        dataset = DATASETS["cifar10"]({"path": str(data_file("cifar10_small.npz")), "variant": "small"})
        task, device = TASKS["classification"]({}, dataset), torch.device("cpu")
        context = proxy_context(dataset, task, images=IMAGES, seed=SEED, device=device)
        proxies = proxies_of([PluginRef(name=name) for name in dict.fromkeys((*SCORES, *STATISTICS))])
        found = score_many(self.space.reduced(), missing, proxies, context, workers=os.cpu_count() or 1)
        with self._file.open("a", encoding="utf-8") as out:
            for done, (architecture, scored) in enumerate(found, 1):
                entry = {"text": architecture.text, **_plain(scored)}
                print(json.dumps(entry), file=out, flush=True)
                self._known[architecture.text] = entry
                if done % 250 == 0 or done == len(missing):
                    print(f"{done} of {len(missing)} untrained networks scored", file=sys.stderr)

    def scores(self, architectures: Sequence[Architecture]) -> Columns:
        """The value of every proxy of `SCORES`; NaN where it is undefined."""
        rows = [[self._known[a.text]["values"].get(name) for name in SCORES] for a in architectures]
        return Columns(SCORES, np.array(rows, dtype=np.float64).reshape(len(rows), len(SCORES)))

    def layers(self, architectures: Sequence[Architecture]) -> Layers:
        """Every statistic of `STATISTICS` in the places of the supernet."""
        place = {slot: i for i, slot in enumerate(self._slots)}
        values = np.full((len(architectures), len(place), len(STATISTICS)), np.nan)
        for row, architecture in enumerate(architectures):
            layers = self._known[architecture.text]["layers"]
            for column, name in enumerate(STATISTICS):
                for slot, value in layers.get(name, {}).items():
                    values[row, place[self._place(slot)], column] = value
        return Layers(self._slots, STATISTICS, values)

    @cached_property
    def _slots(self) -> tuple[str, ...]:
        """Places of all layers with weights that a network of the space may have: those of the supernet."""
        from torch import nn

        named = self.space.reduced().supernet().named_modules()
        names = (self._place(name) for name, layer in named if isinstance(layer, nn.Conv2d | nn.Linear))
        return tuple(dict.fromkeys(names))

    def _place(self, layer: str) -> str:
        """A layer's name without the option that it belongs to: the options of a decision are in the same place.

        With a slot for every option, ParZC ranks worse by .013 to .04 of tau at 78 labels of NAS-Bench-201.
        """
        return self._options.sub("", layer)

    @cached_property
    def _options(self) -> re.Pattern[str]:
        options = {option for decision in self.space.decisions for option in decision.options}
        return re.compile("|".join(re.escape(option) for option in sorted(options, key=len, reverse=True)))

    @cached_property
    def _known(self) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        return {entry["text"]: entry for entry in json_lines(self._file)}

    @cached_property
    def _file(self) -> Path:
        """Named by the sources that scores depend on, and by what is scored."""
        scoring = Path(predictors.zerocost.__file__).parent
        networks = Path(searchspaces.__file__).parent
        names = ("_harness", "_jacobians", "_labelled", "_networks", "_passes", *SCORES, *STATISTICS)
        files = [scoring / f"{name}.py" for name in sorted(set(names))]
        files += [networks / f"{name}.py" for name in ("_cell_networks", "_layers", self.space.name)]
        identity = repr((self.space.name, self.space.config, IMAGES, SEED, SCORES, STATISTICS)).encode()
        digest = hashlib.sha256(b"|".join([identity, *(file.read_bytes() for file in files)])).hexdigest()[:16]
        return cache_folder() / f"features-{self.space.name}-{digest}.jsonl"


def _plain(scored: dict[str, Scored]) -> dict[str, dict[str, object]]:
    return {
        "values": {name: scored[name].value for name in SCORES},
        "layers": {name: dict(scored[name].layers) for name in STATISTICS},
    }
