"""Vision transformers: the rows of the public table, sizes and parameters that are known."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from searchspaces import InvalidArchitecture
from searchspaces.autoformer import PLUGIN, AutoFormer

SPACE = AutoFormer(PLUGIN.configure())  # type: ignore[arg-type]


def test_every_row_of_the_table_is_an_architecture(data_folder: Path) -> None:
    with gzip.open(data_folder / "vit_autoformer_bench.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    columns = [[row[name] for row in rows] for name in ("hidden_dim", "mlp_ratio", "num_heads")]
    found = [SPACE.parse(text) for text in SPACE.texts(*columns)]
    assert len(set(found)) == len(found) == 200
    assert [a["depth"] for a in found] == [row["depth"] for row in rows]
    params = [SPACE.counts(a).params for a in found]
    assert 5_000_000 < min(params) < max(params) < 10_500_000  # AutoFormer, table 5: 4M to 9M for classifiers of 1,000


def test_there_is_one_architecture_for_every_width_and_every_kind_of_every_layer() -> None:
    assert SPACE.size() == 3 * (4**12 + 4**13 + 4**14)
    shallow, _ = SPACE.partition("depth", [["12"], ["13", "14"]])
    assert shallow.size() == 3 * 4**12


def test_the_parameters_of_a_plain_transformer_are_those_of_deit_tiny() -> None:
    plain = AutoFormer(PLUGIN.configure({"max_relative_position": 0}))  # type: ignore[arg-type]
    layer = plain._layer(192, 4.0, 3, 197)
    assert layer.params == 444_864  # Touvron et al., 2021, DeiT-Ti: 12 of these, 5,717,416 in all
    whole = plain.counts(plain.parse("192:" + ",".join(["4.0x3"] * 12)))
    assert whole.params == 5_717_416


def test_depth_opens_and_closes_layers() -> None:
    rng = np.random.default_rng(0)
    deep = SPACE.parse("240:" + ",".join(["3.5x4"] * 14))
    shallow = SPACE.complete({**dict(deep.options), "depth": "12"}, rng)
    assert shallow.text == "240:" + ",".join(["3.5x4"] * 12)
    assert SPACE.complete({**dict(shallow.options), "depth": "13"}, rng).text.startswith(shallow.text + ",")


@pytest.mark.parametrize(
    "text", ["192", "192:", "192:3.5x3;", "192:3.5x3,", ":3.5x3", "200:" + ",".join(["3.5x4"] * 12)]
)
def test_a_text_that_is_no_transformer_is_refused(text: str) -> None:
    with pytest.raises(InvalidArchitecture):
        SPACE.parse(text)
