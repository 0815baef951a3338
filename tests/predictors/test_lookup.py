"""Costs that were measured elsewhere, read from CSV files and from settings."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from nas.testing import check_cost
from predictors.costs import REGISTRY, Cost
from searchspaces import REGISTRY as SPACES
from searchspaces import ConfigError, DataError, Decision, InvalidArchitecture, MeasurementError, SearchSpace
from tests.nas.conditional import Perceptrons

Write = Callable[[Iterable[Iterable[object]]], str]


def lookup(space: SearchSpace, **settings: object) -> Cost:
    return REGISTRY["lookup"]({"unit": "ms", **settings}, space, "cpu")


def per_option(space: SearchSpace) -> dict[str, dict[str, float]]:
    """A value of its own for every option."""
    return {
        decision.name: {option: n + i / 10 for i, option in enumerate(decision.options)}
        for n, decision in enumerate(space.decisions)
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows as a CSV file and gives its path."""

    def written(rows: Iterable[Iterable[object]]) -> str:
        path = tmp_path / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return str(path)

    return written


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_lookup_keeps_the_contract_of_costs_on_every_space(name: str) -> None:
    space = SPACES[name]({})
    cost = lookup(space, operations=per_option(space), base=1.0, device="phone")
    rng = np.random.default_rng(0)
    check_cost(cost, REGISTRY["lookup"].flags, [space.sample(rng) for _ in range(5)])


def test_the_latencies_of_every_architecture_of_nasbench201_are_those_of_the_file(
    data_folder: Path, write: Write
) -> None:
    with np.load(data_folder / "nasbench201.npz", allow_pickle=False) as table:
        texts = table["arch_str"][::50]
    with np.load(data_folder / "nasbench201_hardware.npz", allow_pickle=False) as table:
        names, latency = list(table["device_names"]), table["latency_ms"][::50].astype(float)
    path = write([["architecture", *names], *([t, *row] for t, row in zip(texts, latency.tolist(), strict=True))])
    space = SPACES["nasbench201"]({})
    for device in ("pixel3", "raspi4"):
        cost = lookup(space, path=path, column=device, device=device)
        found = [cost.measure(space.parse(str(text))) for text in texts]
        assert [reading.value for reading in found] == latency[:, names.index(device)].tolist()
        assert {(reading.unit, reading.context["device"]) for reading in found} == {("ms", device)}


class Layers(Perceptrons):
    """As many layers as FBNet has, with its nine blocks each."""

    def __init__(self, blocks: tuple[str, ...], num_layers: int) -> None:
        super().__init__(1)
        self.decisions = tuple(Decision(f"layer{i}", blocks, (True,) * len(blocks)) for i in range(num_layers))

    def text(self, options: object) -> str:
        assert isinstance(options, dict)
        return ",".join(options.values())


@pytest.mark.parametrize("device", ["pixel3", "raspi4", "eyeriss", "fpga"])
def test_sums_of_what_each_block_adds_are_the_latencies_of_fbnet(data_folder: Path, write: Write, device: str) -> None:
    """Fitted on 4,000 networks and read for others; on these devices the public latencies are such sums."""
    with np.load(data_folder / "fbnet_latency.npz", allow_pickle=False) as table:
        blocks, ops = tuple(map(str, table["op_names"])), table["arch_ops"].astype(int)
        latency = table["latency_ms"][:, list(table["device_names"]).index(device)].astype(float)
    space = Layers(blocks, ops.shape[1])
    one_hot = np.eye(len(blocks))[ops].reshape(len(ops), -1)
    columns = np.hstack([one_hot, np.ones((len(ops), 1))])
    fitted = np.linalg.lstsq(columns[:4000], latency[:4000], rcond=None)[0]
    names = [(d.name, option) for d in space.decisions for option in d.options]
    rows = [[*pair, value] for pair, value in zip([*names, ("base", "")], fitted.tolist(), strict=True)]
    cost = lookup(space, path=write([["decision", "option", "value"], *rows]))
    tried = [space.architecture({f"layer{i}": blocks[op] for i, op in enumerate(row)}) for row in ops[4000:4200]]
    np.testing.assert_allclose([cost.measure(a).value for a in tried], latency[4000:4200], rtol=1e-3)


def test_only_active_decisions_are_summed_and_the_base_once(write: Write) -> None:
    space = Perceptrons(2)
    rows = [
        ["decision", "option", "value"],
        ["base", "", 100],
        *([d, o, 1] for d in ("width1", "width2") for o in (8, 16)),
    ]
    rows += [["depth", depth, 0] for depth in (1, 2, 3)]
    cost = lookup(space, path=write(rows), base=0.5)
    assert cost.measure(space.parse("8")).value == 101.5
    assert cost.measure(space.parse("8-16")).value == 102.5
    with pytest.raises(MeasurementError, match=r"table\.csv has no value for width3=8 .* add a row"):
        cost.measure(space.parse("8-8-8"))


def test_values_in_the_settings_are_those_of_a_file(write: Write) -> None:
    space = Perceptrons(2)
    values = per_option(space)
    rows = [(decision, option, value) for decision, options in values.items() for option, value in options.items()]
    inline, file = (
        lookup(space, operations=values, base=2),
        lookup(space, path=write([("decision", "option", "value"), *rows]), base=2),
    )
    assert [inline.measure(a).value for a in space.iterate()] == [file.measure(a).value for a in space.iterate()]


def test_an_architecture_without_a_row_fails_with_the_way_out(write: Write) -> None:
    cost = lookup(Perceptrons(2), path=write([["architecture", "value"], ["8-16", 3.5]]))
    assert cost.measure(Perceptrons(2).parse("8-16")).value == 3.5
    with pytest.raises(MeasurementError, match=r"no row for 16 \(1 architectures are known\); add it"):
        cost.measure(Perceptrons(2).parse("16"))


def test_an_architecture_of_another_space_is_refused() -> None:
    space = SPACES["nasbench201"]({})
    with pytest.raises(InvalidArchitecture, match="not in nasbench201"):
        lookup(space, operations=per_option(space)).measure(SPACES["macro"]({}).parse("01201201"))


def test_a_sum_that_is_not_above_0_is_a_failure_with_the_way_out() -> None:
    space = Perceptrons(1)
    cost = lookup(space, operations={d.name: dict.fromkeys(d.options, 0.0) for d in space.decisions})
    with pytest.raises(MeasurementError, match="gives 0 ms for 8, not a number above 0; give a base"):
        cost.measure(space.parse("8"))


def test_a_file_is_found_in_the_data_folder_and_known_by_its_content(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(write([["architecture", "value"], ["8", 1]]))
    monkeypatch.setenv("NAS_DATA", str(path.parent))
    space = Perceptrons(1)
    first = lookup(space, path="table.csv").measure(space.parse("8")).context
    write([["architecture", "value"], ["8", 2]])
    second = lookup(space, path="table.csv").measure(space.parse("8")).context
    assert first["table"] == "table.csv"
    assert first["sha256"] != second["sha256"]
    with pytest.raises(DataError, match=r"no\.csv do not exist; give the CSV file's path"):
        lookup(space, path="no.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: the columns are none; expected architecture and value"),
        (b"architecture|value\n8|1\n", "the columns are architecture|value; expected"),
        (b"architecture,pixel3\n8,1\n", "the columns are architecture, pixel3; expected architecture and value"),
        (b"decision,value\n", "expected architecture and value, or decision, option and value"),
        (b"architecture,value\n", "no rows; add one for each architecture"),
        (b"architecture,value\n8,fast\n", "line 2: value is 'fast'; expected a finite number"),
        (b"architecture,value\n8,nan\n", "line 2: value is 'nan'; expected a finite number"),
        (b"architecture,value\n\n8,1\n8,2\n", "line 4: 8 has a row already"),
        (b"architecture,value\n8,1,2\n", "line 2: got 3 fields; expected the header's 2"),
        (b"architecture,value\ndeep,1\n", "line 2: 'deep' is not a list of widths"),
        (b"architecture,value\n7,1\n", "line 2: not an architecture of perceptrons: width1 is '7'"),
        (b'architecture,value\n"8,1\n', "line 2: unexpected end of data"),
        (b"architecture,value\n\xff,1\n", "no UTF-8 text"),
        (
            b"decision,option,value\nheight,8,1\n",
            "line 2: got height=8; expected a decision of the space, one of depth",
        ),
        (b"decision,option,value\nwidth1,9,1\n", "line 2: got width1=9; expected an option of width1, one of 8, 16"),
        (b"decision,option,value\nwidth1,,1\n", "line 2: got width1=nothing; expected an option of width1"),
    ],
)
def test_a_broken_file_is_refused_with_line_value_and_what_is_expected(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError) as refused:
        lookup(Perceptrons(2), path=str(tmp_path / "table.csv"))
    assert said in str(refused.value)


def test_a_spreadsheet_s_byte_order_mark_and_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbfarchitecture,value\r\n8, 1.5\r\n")
    space = Perceptrons(2)
    assert lookup(space, path=str(tmp_path / "table.csv")).measure(space.parse("8")).value == 1.5


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "unit"),
        ({"unit": "ms"}, "(whole)"),
        ({"unit": "ms", "path": "x.csv", "operations": {"width1": {"8": 1}}}, "(whole)"),
        ({"unit": "ms", "operations": {"width1": {"8": float("nan")}}}, "operations.width1.8"),
        ({"unit": "ms", "operations": {"width9": {"8": 1}}}, "operations.width9.8"),
        ({"unit": "ms", "operations": {"width1": {"9": 1}}}, "operations.width1.9"),
    ],
)
def test_wrong_settings_are_refused_with_their_field(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        REGISTRY["lookup"](settings, Perceptrons(2), "cpu")
    assert refused.value.violations[0].field == field
