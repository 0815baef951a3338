"""Reading arrays from the files that tables come in."""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from searchspaces._csv import is_missing, is_number, read_sheet
from searchspaces._errors import ConfigError, DataError
from searchspaces._files import data_file
from searchspaces._space import Decision
from searchspaces.options import OPTION_RULE, is_option

Array = npt.NDArray[Any]
ARCHITECTURE, DECISION = "architecture", "decision."


class Archive(Mapping[str, Array]):
    """The columns of a file by name.

    Raises:
        DataError: a column is asked for that the file does not have.
    """

    def __init__(self, file: Path, columns: Mapping[str, Array], digest: str) -> None:
        self.file, self._columns, self.digest = file, columns, digest

    def __getitem__(self, name: str) -> Array:
        if name not in self._columns:
            raise DataError(f"{self.file} has no column {name!r}; it has {', '.join(self._columns)}.")
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def floats(self, name: str) -> npt.NDArray[np.float64]:
        """A column as numbers."""
        try:
            return np.asarray(self[name], dtype=np.float64)
        except (TypeError, ValueError) as error:
            wrong = next(((row, cell) for row, cell in enumerate(self[name].tolist(), 1) if not _is_float(cell)), None)
            where = f"{wrong[1]!r} in row {wrong[0]}" if wrong else str(error)
            raise DataError(f"{self.file}: column {name!r} holds no numbers: {where}.") from error


def archive(name: str, path: str | None = None) -> Archive:
    """A .npz, .parquet or .csv(.gz) file: `path`, else `name` in `$NAS_DATA`; read once while it does not change.

    Raises:
        DataError: it is missing, or cannot be read.
    """
    file = data_file(name, path)
    status = file.stat()
    return _read(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _read(file: Path, changed: int, size: int) -> Archive:
    content = file.read_bytes()
    try:
        columns = _READERS.get(file.suffix.casefold(), _sheet)(file, content)
    except DataError:
        raise
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, ImportError, zlib.error) as error:
        raise DataError(f"{file} cannot be read as a table: {error}.") from error
    return Archive(file, columns, hashlib.sha256(content).hexdigest())


@contextmanager
def laid_out(table: str) -> Iterator[None]:
    """Around what takes the files of a public table apart, as a decorator: they are as their authors made them.

    Raises:
        DataError: they are not; a column has another shape, or other values.
    """
    try:
        yield
    except (DataError, ConfigError):
        raise
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the files of table {table} are not laid out as its own are: {error}; copy them again."
        ) from error


def rows(path: str) -> Archive:
    """A file whose every column has one value, or one row of runs, for each architecture.

    Raises:
        DataError: it cannot be read, or a column is of another shape than the first.
    """
    columns = archive(Path(path).name, path)
    num = next((len(column) for column in columns.values() if column.ndim), 0)
    for name, column in columns.items():
        may_have_runs = not name.startswith(DECISION) and name != ARCHITECTURE and "#" not in name
        if column.shape[:1] != (num,) or column.ndim > 1 + may_have_runs:
            shape = " x ".join(map(str, column.shape)) or "one value"
            raise DataError(f"{columns.file}: column {name!r} is {shape}, where {num} rows are expected.")
    if num == 0:
        raise DataError(f"{columns.file} has no rows; give one for each architecture.")
    return columns


def _arrays(file: Path, content: bytes) -> dict[str, Array]:
    with np.load(BytesIO(content), allow_pickle=False) as found:
        if not hasattr(found, "files"):
            raise ValueError("it holds one array, not several with names")
        return {name: found[name] for name in found.files}


def _frame(file: Path, content: bytes) -> dict[str, Array]:
    import pandas as pd

    frame = pd.read_parquet(BytesIO(content))
    double = [str(name) for name in frame.columns[frame.columns.duplicated()]]
    if double:
        raise DataError(f"{file}: two columns are both {double[0]!r}; rename one.")
    return {str(name): _plain(frame[name]) for name in frame.columns}


def _plain(column: Any) -> Array:
    """Numbers as numbers, everything else as text; what is missing as NaN, or as an empty text."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column) and not column.isna().any():
        return np.asarray(column, dtype=np.bool_)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        missing = bool(column.isna().any())
        values: Array = column.to_numpy(dtype=np.float64, na_value=np.nan) if missing else column.to_numpy()
        if values.dtype.kind in "iuf":
            return values
    texts = ["" if is_empty else _decoded(value) for value, is_empty in zip(column, column.isna(), strict=True)]
    return np.array(texts, dtype=np.str_)


def _sheet(file: Path, content: bytes) -> dict[str, Array]:
    sheet = read_sheet(file, content, texts=(ARCHITECTURE,))
    if "" in sheet.header:
        number = sheet.header.index("") + 1
        raise DataError(f"{file}: column {number} has no name; name it, or leave it out (an index: index=False).")
    return {name: _cells(name, sheet.column(name)) for name in sheet.header}


def _cells(name: str, cells: list[str]) -> Array:
    """Options and architectures as text, numbers as numbers; an empty cell of an option is no option."""
    if name == ARCHITECTURE or name.startswith(DECISION):
        return np.array(_options(cells) if name.startswith(DECISION) else cells, dtype=np.str_)
    if all(re.fullmatch(r"[-+]?\d{1,18}", cell) for cell in cells):
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    if all(is_number(cell) or is_missing(cell) for cell in cells):
        return np.array([math.nan if is_missing(cell) else float(cell) for cell in cells], dtype=np.float64)
    return np.array(cells, dtype=np.str_)


def _options(cells: list[str]) -> list[str]:
    """Options of which all are numbers in their shortest form, so that 1 and 1.0 are the same; others as they are."""
    if not all(is_number(cell) for cell in cells if cell):
        return cells
    return ["" if not cell else str(int(cell)) if cell.isdecimal() else _shortest(float(cell)) for cell in cells]


def _shortest(value: float) -> str:
    return str(int(value)) if value.is_integer() else str(value)


def _decoded(value: object) -> str:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise DataError(f"{value!r} is no UTF-8 text; save it as text.") from error


_READERS: Mapping[str, Callable[[Path, bytes], dict[str, Array]]] = {".npz": _arrays, ".parquet": _frame}


def decisions_of(path: str) -> list[Decision]:
    """The decisions that a file's columns `decision.NAME` span; an empty cell: the row does not have the decision.

    A decision that some rows lack exists under the options of the first earlier one that tell those rows apart. Numbers
    are ordered options.

    Raises:
        DataError: it cannot be read, has no such column, an option cannot be written, or no earlier decision tells when
            one exists.
    """
    columns = rows(path)
    named = {name.removeprefix(DECISION): texts_of(columns[name]) for name in columns if name.startswith(DECISION)}
    if not named:
        raise DataError(f"{columns.file} has no column {DECISION}NAME, so it names no decisions.")
    found: list[Decision] = []
    for name, texts in named.items():
        given = {text for text in texts if text}
        if not given:
            raise DataError(
                f"{columns.file}: column {DECISION}{name} is empty in all rows; fill it in, or leave it out."
            )
        wrong = next((text for text in (name, *sorted(given)) if not is_option(text)), None)
        if wrong is not None:
            raise DataError(f"{columns.file}: column {DECISION}{name} has {wrong!r}, where {OPTION_RULE} is expected.")
        numeric = all(is_number(text) for text in given)
        options = tuple(sorted(given, key=float if numeric else str))
        when = None if "" not in texts else _condition(columns, name, texts, {d.name: named[d.name] for d in found})
        found.append(Decision(name, options, (True,) * len(options), "ordinal" if numeric else "op", when))
    return found


def texts_of(column: Array) -> list[str]:
    """A column as options are written: whole numbers without a point, others as short as they can be.

    A number that is missing is an empty text, and so is nothing else: None and NA may be what an option is called.
    """
    if column.dtype.kind == "f":
        return ["" if np.isnan(value) else _shortest(float(value)) for value in column]
    return [_decoded(value) for value in column.tolist()]


def _is_float(cell: object) -> bool:
    try:
        float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _condition(
    columns: Archive, name: str, texts: list[str], earlier: Mapping[str, list[str]]
) -> tuple[str, frozenset[str]]:
    for parent, options in earlier.items():
        having = {option for option, text in zip(options, texts, strict=True) if text}
        if not having & {option for option, text in zip(options, texts, strict=True) if not text}:
            return parent, frozenset(having)
    raise DataError(
        f"{columns.file}: {DECISION}{name} is empty in some rows, and no column before it tells in which; fill it in."
    )
