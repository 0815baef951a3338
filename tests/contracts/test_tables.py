"""Every table keeps its contract, says what the public ones say, and one of the user's own is read from a file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nas.testing import check_table
from searchspaces import REGISTRY as SPACES
from searchspaces import ConfigError, ContractViolation, DataError, MeasurementError
from searchspaces.tables import REGISTRY, Series, Table
from searchspaces.tables._reading import Archive

READY = [name for name in REGISTRY if REGISTRY[name].flags["files"]]


@pytest.mark.parametrize("name", READY)
def test_a_table_keeps_its_contract(name: str, data_folder: Path) -> None:
    check_table(REGISTRY[name]())


@pytest.mark.parametrize("name", READY)
def test_a_table_without_its_file_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    with pytest.raises(DataError, match="nothing is downloaded, so put"):
        REGISTRY[name]()


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("nasbench201", "device_names"),
        ("nasbench201", "arch_str"),
        ("nasbench101", "ops"),
        ("nasbench_graph", "links"),
        ("macro", "arch_str"),
        ("autoformer", "mlp_ratio"),
    ],
)
@pytest.mark.parametrize("is_scalar", [False, True])
def test_a_public_table_whose_columns_do_not_fit_is_refused(
    name: str, column: str, is_scalar: bool, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Archive.__getitem__

    def spoilt(found: Archive, asked: str) -> Any:
        values = whole(found, asked)
        return values if asked != column else np.array(0) if is_scalar else values[: len(values) // 2]

    monkeypatch.setattr(Archive, "__getitem__", spoilt)
    with pytest.raises(DataError, match=f"table {name}"):
        REGISTRY[name]()


@pytest.mark.parametrize(
    ("name", "settings", "best", "text"),
    [  # published optima: NAS-Bench-201 91.61 and 73.49 (validation), 94.37 (test); NAS-Bench-Macro 93.13
        ("nasbench201", {}, 0.91607, None),
        ("nasbench201", {"dataset": "cifar100"}, 0.73493, None),
        ("nasbench201", {"split": "test"}, 0.94373, None),
        ("macro", {}, 0.93127, "22212202"),
        ("nasbench101", {}, 0.9491, None),
    ],
)
def test_the_best_of_a_table_is_the_published_one(
    name: str, settings: dict[str, str], best: float, text: str | None, data_folder: Path
) -> None:
    table = REGISTRY[name](settings)
    mean = table.measured["accuracy"][table.epochs[-1]].mean
    assert mean.max() == pytest.approx(best, abs=1e-4)
    assert text is None or table.texts[int(mean.argmax())] == text


def test_costs_of_a_table_are_those_that_its_space_counts(data_folder: Path) -> None:
    table = REGISTRY["nasbench_graph"]()
    rows = np.random.default_rng(0).integers(len(table), size=200)
    counted = [table.space.counts(table.space.parse(table.texts[row])).params for row in rows]
    assert np.abs(table.costs["parameters"].mean[rows] - counted).max() < 1


def test_latency_of_a_device_is_the_published_one(data_folder: Path) -> None:
    table = REGISTRY["nasbench201"]()  # HELP: index 248 on a Titan RTX, batch 256; index 9930 on an FPGA
    assert table.costs["latency_titan_rtx_256"].mean[248] == pytest.approx(17.77, abs=0.005)
    assert table.costs["latency_fpga"].mean[9930] == pytest.approx(7.42, abs=0.005)
    assert table.costs["latency_fpga"].unit == "ms"


# --- a table of the user's own ---------------------------------------------------------------------------------------

CHAINS = ["00000000", "11111111", "22222222", "01201201"]


def as_npz(file: Path, columns: dict[str, object]) -> Path:
    path = file.with_suffix(".npz")
    np.savez(path, **{name: np.asarray(column) for name, column in columns.items()})
    return path


def as_parquet(file: Path, columns: dict[str, object]) -> Path:
    path = file.with_suffix(".parquet")
    pd.DataFrame(columns).to_parquet(path)
    return path


def as_csv(file: Path, columns: dict[str, object]) -> Path:
    path = file.with_suffix(".csv")
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


Write = Callable[[Path, dict[str, object]], Path]
WRITERS = pytest.mark.parametrize("write", [as_npz, as_parquet, as_csv])


@WRITERS
def test_a_file_names_architectures_of_a_space(write: Write, tmp_path: Path) -> None:
    columns = {
        "architecture": CHAINS,
        "accuracy@10#0 [fraction]": [0.1, 0.5, 0.7, 0.3],
        "accuracy@10#1": [0.3, 0.7, 0.9, np.nan],
        "cost.latency_phone [ms]": [1.0, 2.0, 3.0, 4.0],
        "test.accuracy@10": [0.2, 0.6, 0.8, 0.3],
        "seconds@10": [60.0, 70.0, 80.0, 90.0],
    }
    table = REGISTRY["file"]({"path": str(write(tmp_path / "mine", columns)), "space": "macro"})
    check_table(table)
    found = table.measured["accuracy"][10.0]
    assert found.mean == pytest.approx([0.2, 0.6, 0.8, 0.3])
    assert (found.unit, [found.num_runs(row) for row in range(4)]) == ("fraction", [2, 2, 2, 1])
    assert found.seconds == pytest.approx([60, 70, 80, 90])
    assert table.costs["latency_phone"].unit == "ms"
    assert table.held_out["accuracy"][10.0].mean[2] == 0.8
    space = table.within(SPACES["macro"]())
    assert sorted(a.text for a in space.iterate()) == sorted(CHAINS)
    with pytest.raises(MeasurementError, match="22212202 is not among the 4"):
        table.row(SPACES["macro"]().parse("22212202"))


@WRITERS
def test_a_file_spans_a_space_of_its_own(write: Write, tmp_path: Path) -> None:
    columns = {
        "decision.depth": [1, 1, 2, 2, 2, 2],
        "decision.kernel": ["3x3", "5x5"] * 3,
        "decision.width": [np.nan, np.nan, 8.0, 8.0, 16.0, 16.0],
        "score": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    }
    table = REGISTRY["file"]({"path": str(write(tmp_path / "mine", columns))})
    check_table(table)
    assert table.is_complete
    assert table.space.size() == 6
    assert list(table.texts[:3]) == ["depth=1,kernel=3x3", "depth=1,kernel=5x5", "depth=2,kernel=3x3,width=8"]
    assert {d.name: d.kind for d in table.space.decisions} == {"depth": "ordinal", "kernel": "op", "width": "ordinal"}


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"architecture": ["00000000", "333"], "accuracy": [0.1, 0.2]}, "row 2: '333' is no chain"),
        ({"architecture": ["00000000", "00000000"], "accuracy": [0.1, 0.2]}, "stand in it more than once"),
        ({"architecture": ["00000000"], "cost.ms": [0.1]}, "no column of a metric"),
        ({"architecture": ["00000000"], "accuracy at 10": [0.1]}, r"'accuracy at 10' is not METRIC\[@EPOCHS\]"),
        ({"architecture": ["00000000"], "accuracy": ["good"]}, "'accuracy' holds no numbers"),
        ({"accuracy": [0.1]}, "no column 'architecture'; it has accuracy"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(columns: dict[str, object], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        REGISTRY["file"]({"path": str(as_csv(tmp_path / "mine", columns)), "space": "macro"})


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="cannot be read as a table"):
        REGISTRY["file"]({"path": str(path)})


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join([b"decision.a,accuracy\n", *(b"%d,0.%d\n" % (i, i) for i in range(1_000))]))
    for name, content in (("cut", whole[:-20]), ("spoilt", whole[:200] + b"\xff" * 50 + whole[250:])):
        path = tmp_path / f"{name}.csv.gz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.csv.gz cannot be read as a table"):
            REGISTRY["file"]({"path": str(path)})


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"decision.a": ["x", "y"], "s#0": [0.1, 0.2], "s#1": [0.1, 0.2, 0.3]}, "'s#1' is 3, where 2 rows"),
        ({"decision.a": ["x", "y"], "decision.b": ["x", "y", "z"], "s": [0.1, 0.2]}, "'decision.b' is 3, where 2"),
        ({"decision.a": ["x", "y"], "s": 0.1}, "'s' is one value, where 2 rows"),
        ({"decision.a": ["x", "y"], "s@5": [0.1, 0.2], "seconds@5": [1.0]}, "'seconds@5' is 1, where 2 rows"),
        ({"decision.a": [["x", "y"], ["x", "z"]], "s": [0.1, 0.2]}, "'decision.a' is 2 x 2, where 2 rows"),
        ({"decision.a": np.empty(0, dtype=np.str_), "s": np.empty(0)}, "has no rows"),
    ],
)
def test_columns_of_unequal_length_are_refused_by_their_name(
    columns: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    path = str(as_npz(tmp_path / "mine", columns))
    for read in (lambda: REGISTRY["file"]({"path": path}), lambda: SPACES["options"]({"file": path})):
        with pytest.raises(DataError, match=complaint):
            read()


@pytest.mark.parametrize("part", ["runs", "seconds"])
def test_a_table_needs_runs_and_times_of_every_row(part: str) -> None:
    series = Series(np.zeros(2), **{part: np.ones((1, 1) if part == "runs" else 1)})
    with pytest.raises(DataError, match="one number for each of its 2 architectures"):
        Table("mine", SPACES["macro"](), CHAINS[:2], {"accuracy": {0.0: series}})


@pytest.mark.parametrize("wrong", ["relu,x", "gelu=1", "x" * 201])
def test_an_option_that_cannot_be_written_is_refused_with_its_column(wrong: str, tmp_path: Path) -> None:
    path = as_csv(tmp_path / "mine", {"decision.act": ["relu", wrong], "accuracy": [0.1, 0.2]})
    with pytest.raises(DataError, match=r"column decision.act has .* without = and , is expected"):
        REGISTRY["file"]({"path": str(path)})


def test_numbers_of_options_keep_their_digits(tmp_path: Path) -> None:
    widths = [1000001, 1000002, np.nan, 0.12345678, 0.12345679, 8]
    columns = {"decision.b": list("xxyxxx"), "decision.w": widths, "accuracy": [0.1] * 6}
    table = REGISTRY["file"]({"path": str(as_csv(tmp_path / "mine", columns))})
    assert [table.space.parse(text).options[-1][1] for text in table.texts] == [
        "1000001", "1000002", "y", "0.12345678", "0.12345679", "8",
    ]  # fmt: skip


def test_settings_of_the_space_of_a_file_are_refused_by_their_name(tmp_path: Path) -> None:
    path = str(as_csv(tmp_path / "mine", {"architecture": CHAINS[:1], "accuracy": [0.1]}))
    for settings, field in (({"space": "nonsense"}, "space"), ({"space": "macro", "settings": {"x": 1}}, "settings.x")):
        with pytest.raises(ConfigError) as caught:
            REGISTRY["file"]({"path": path, **settings})
        assert [violation.field for violation in caught.value.violations] == [field]


def test_the_digest_of_a_table_is_of_all_its_files(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "nasbench201_hardware.npz"
    with np.load(data_folder / name) as found:
        columns = dict(found)
    columns["latency_ms"] = columns["latency_ms"] * 2
    np.savez(tmp_path / name, **columns)
    (tmp_path / "nasbench201.npz").symlink_to(data_folder / "nasbench201.npz")
    before, after = REGISTRY["nasbench201"](), REGISTRY["nasbench201"]({"path": str(tmp_path)})
    assert len(after.digest) == 64
    assert before.digest != after.digest


def test_a_table_is_read_anew_when_its_file_changes(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "mine", {"architecture": CHAINS[:1], "accuracy": [0.1]})
    first = REGISTRY["file"]({"path": str(path), "space": "macro"})
    as_csv(tmp_path / "mine", {"architecture": CHAINS[:2], "accuracy": [0.1, 0.2]})
    second = REGISTRY["file"]({"path": str(path), "space": "macro"})
    assert (len(first), len(second)) == (1, 2)
    assert first.digest != second.digest


def test_a_table_of_another_space_is_refused(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "mine", {"architecture": CHAINS, "accuracy": [0.1, 0.2, 0.3, 0.4]})
    table = REGISTRY["file"]({"path": str(path), "space": "macro"})
    with pytest.raises(ConfigError, match="a table of the space nasbench201"):
        table.within(SPACES["nasbench201"]())


def _unfinished(table: Table) -> Table:
    return replace(table, measured={"accuracy": {0.0: Series(np.full(len(table), np.nan))}})


def _strangers(table: Table) -> Table:
    return replace(table, texts=[text[::-1] + "0" for text in table.texts])


def _foreign_mean(table: Table) -> Table:
    return replace(table, measured={"accuracy": {0.0: Series(np.full(4, 9.0), runs=np.ones((4, 2)))}})


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (_unfinished, "known of most"),
        (_foreign_mean, "lies between its runs"),
        (lambda table: replace(table, digest=""), "SHA-256"),
        (lambda table: replace(table, is_complete=True), "the space within a table holds its rows"),
    ],
)
def test_the_contract_sees_a_table_that_breaks_it(
    spoil: Callable[[Table], Table], promise: str, tmp_path: Path
) -> None:
    path = as_csv(tmp_path / "mine", {"architecture": CHAINS, "accuracy": [0.1, 0.2, 0.3, 0.4]})
    with pytest.raises(ContractViolation, match=promise):
        check_table(spoil(REGISTRY["file"]({"path": str(path), "space": "macro"})))
