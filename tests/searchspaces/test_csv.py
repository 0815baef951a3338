"""Tables of text as spreadsheets write them: read as they are meant, or refused with the line or the column."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predictors.costs import REGISTRY as COSTS
from searchspaces import REGISTRY as SPACES
from searchspaces import ConfigError, DataError, read_sheet
from searchspaces.tables import REGISTRY, Table

HEADER = "decision.depth,decision.width,accuracy,cost.latency"
LINES = ["1,16,0.5,3", "2,16,0.6,4", "1,32,0.7,5", "2,32,0.8,6"]
PLAIN = "\n".join([HEADER, *LINES]) + "\n"


def table(path: Path, content: str | bytes) -> Table:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return REGISTRY["file"]({"path": str(path)})


def with_semicolons(text: str) -> str:
    return text.replace(",", ";")


SAME: dict[str, str | bytes] = {
    "plain": PLAIN,
    "windows": PLAIN.replace("\n", "\r\n"),
    "old mac": PLAIN.replace("\n", "\r"),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "utf-16": PLAIN.encode("utf-16"),
    "semicolons": with_semicolons(PLAIN),
    "tabs": PLAIN.replace(",", "\t"),
    "said separator": "sep=;\r\n" + with_semicolons(PLAIN),
    "decimal commas": with_semicolons(PLAIN).replace(".5", ",5").replace(".6", ",6").replace("0.", "0,"),
    "quoted": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.splitlines()),
    "quoted decimal commas": PLAIN.replace("0.5", '"0,5"').replace("0.6", '"0,6"').replace("0.7", '"0,7"').replace(
        "0.8", '"0,8"'
    ),
    "blanks around": PLAIN.replace(",", " , "),
    "blank lines": "\n" + PLAIN + "\n\n,,,\n  \n",
    "comma at the end of data": "\n".join([HEADER, *(line + "," for line in LINES)]),
    "comma at the end of all": "\n".join(line + "," for line in PLAIN.splitlines()),
    "numbers written longer": PLAIN.replace("1,16", "1.0,16.00").replace("0.5", "5e-1"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_a_table_is_the_same_however_it_is_written(case: str, tmp_path: Path) -> None:
    found = table(tmp_path / "t.csv", SAME[case])
    assert {d.name: d.options for d in found.space.decisions} == {"depth": ("1", "2"), "width": ("16", "32")}
    assert found.measured["accuracy"][0.0].mean.tolist() == [0.5, 0.6, 0.7, 0.8]
    assert found.costs["latency"].mean.tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("name", ["t.CSV", "t.tsv", "t.txt", "t.csv.gz"])
def test_a_suffix_in_capitals_or_of_another_kind_of_text_is_read(name: str, tmp_path: Path) -> None:
    content = gzip.compress(PLAIN.encode()) if name.endswith("gz") else PLAIN.encode()
    assert len(table(tmp_path / name, content)) == 4


REFUSED = {
    "a field too many": (PLAIN.replace("4\n", "4,9\n"), r"line 3: got 5 fields; expected the header's 4"),
    "a field too few": (PLAIN.replace("0.7,5", "0.7"), r"line 4: got 3 fields; expected the header's 4"),
    "a column twice": (PLAIN.replace("cost.latency", "accuracy"), "columns 3 and 4 are both 'accuracy'; rename one"),
    "a metric twice": (PLAIN.replace("cost.latency", "accuracy [%]"), r"column 'accuracy \[%\]' says again"),
    "an index": ("\n".join(f"{i or ''},{line}" for i, line in enumerate(PLAIN.splitlines())), "column 1 has no name"),
    "no name": ("\n".join(f"{line},{i or ''}" for i, line in enumerate(PLAIN.splitlines())), "column 5 has no name"),
    "thousands": (PLAIN.replace("3\n", '"3,000"\n'), "'3,000' in column 'cost.latency' may be a number with a decimal"),
    "two points": (
        "decision.a;accuracy;cost.x\n1;0,5;1.5\n2;0,6;2.5\n",
        "'0,5' in column 'accuracy' has a decimal comma, and '1.5' in column 'cost.x' a point",
    ),
    "percent signs": (PLAIN.replace("0.5", "50%"), "'accuracy' holds no numbers: .*50%"),
    "an infinite value": (PLAIN.replace("0.5", "inf"), "'accuracy' is infinite in row 1; leave it empty"),
    "a metric without a value": ("decision.a,accuracy,m\n1,0.5,\n2,0.6,NA\n", "'m' has no value in any row"),
    "a decision without an option": ("decision.a,decision.b,accuracy\n1,,0.5\n2,,0.6\n", "decision.b is empty in all"),
    "a line break in an option": ('decision.a,accuracy\n"x\ny",0.5\nz,0.6\n', "decision.a has 'x.*printed characters"),
    "thousands twice": (PLAIN.replace("3\n", '"3,000,000"\n'), "'cost.latency' holds no numbers: '3,000,000' in row 1"),
    "NUL": (PLAIN.replace("3", "3\0"), "is no UTF-8 text .it has NUL"),
    "an open quote": (PLAIN.replace("0.8", '"0.8'), "line 5: unexpected end of data"),
    "a spreadsheet": (b"PK\x03\x04\xff\xfe\x00", "is no UTF-8 text"),
    "nothing": ("", "has no rows|names no decisions|no column"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(case: str, tmp_path: Path) -> None:
    content, complaint = REFUSED[case]
    with pytest.raises(DataError, match=complaint):
        table(tmp_path / "t.csv", content)


@pytest.mark.parametrize("word", ["None", "NA", "N/A", "null", "NULL", "nan", "none", "true", "False", "<NA>", "-"])
@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_an_option_may_be_called_anything_but_nothing(word: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{form}"
    columns = {"decision.norm": [word, word, "batch", "batch"], "decision.depth": [1, 2, 1, 2], "accuracy": [0.5] * 4}
    if form == "npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})  # type: ignore[arg-type]
    elif form == "parquet":
        pd.DataFrame(columns).to_parquet(path)
    else:
        pd.DataFrame(columns).to_csv(path, index=False)
    space = REGISTRY["file"]({"path": str(path)}).space
    assert (space.size(), set(space.decisions[0].options)) == (4, {word, "batch"})


@pytest.mark.parametrize("word", [True, False, None])
def test_an_option_that_yaml_reads_as_something_else_is_to_be_quoted(word: object) -> None:
    with pytest.raises(ConfigError, match=f"decisions.a.options.1: got {word}; expected a text: in quotes"):
        SPACES["options"]({"decisions": {"a": ["x", word]}})


@pytest.mark.parametrize("word", ["", "NA", "NaN", "null", "None"])
def test_a_number_that_is_missing_may_be_said_in_many_words(word: str, tmp_path: Path) -> None:
    found = table(tmp_path / "t.csv", PLAIN.replace("0.5", word)).measured["accuracy"][0.0].mean
    assert np.isnan(found[0])
    assert found[1:].tolist() == [0.6, 0.7, 0.8]


def test_missing_cells_of_a_parquet_file_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"decision.a": ["x", "x", "y"], "decision.b": [1, 2, None], "accuracy": [0.5, 0.6, 0.7]})
    frame["cost.x"] = pd.array([1, None, 3], dtype="Int64")
    frame["decision.b"] = frame["decision.b"].astype("Int64")
    frame.to_parquet(path)
    found = REGISTRY["file"]({"path": str(path)})
    assert found.texts == ["a=x,b=1", "a=x,b=2", "a=y"]
    assert found.costs["x"].mean.tolist()[::2] == [1, 3]
    assert np.isnan(found.costs["x"].mean[1])


def test_names_of_bytes_are_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **{"decision.a": np.array([b"x", b"y"]), "accuracy": np.array([0.1, 0.2])})
    assert REGISTRY["file"]({"path": str(tmp_path / "t.npz")}).space.decisions[0].options == ("x", "y")
    np.savez(tmp_path / "t.npz", **{"decision.a": np.array([b"\xff", b"y"]), "accuracy": np.array([0.1, 0.2])})
    with pytest.raises(DataError, match="no UTF-8 text"):
        REGISTRY["file"]({"path": str(tmp_path / "t.npz")})


def test_a_column_of_texts_keeps_its_commas(tmp_path: Path) -> None:
    sheet = read_sheet(tmp_path / "t.csv", b'architecture;value\n1,2;0,5\n"3,4";0,6\n', texts=("architecture",))
    assert sheet.rows == (("1,2", "0.5"), ("3,4", "0.6"))
    assert sheet.lines == (2, 3)


@pytest.mark.parametrize("text", ["architecture;value\n{};3,5\n", "architecture\tvalue\n{}\t3.5\t\n"])
def test_a_file_of_costs_may_have_other_delimiters(text: str, tmp_path: Path) -> None:
    space = SPACES["macro"]()
    (tmp_path / "t.csv").write_text(text.format("00000000"))
    cost = COSTS["lookup"]({"unit": "ms", "path": str(tmp_path / "t.csv")}, space, "cpu")
    assert cost.measure(space.parse("00000000")).value == 3.5
