"""Reading tables of text as spreadsheets and programs write them: commas, semicolons or tabs between the fields.

Nothing is guessed in silence: a line of another length than the header, two columns of one name, and numbers that can
be read in two ways are refused, with the line or the column.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from searchspaces._errors import DataError

_DELIMITERS = (",", ";", "\t")
_PACKED = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
_WIDE = (b"\xff\xfe", b"\xfe\xff")  # how UTF-16 begins
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_WITH_COMMA = re.compile(r"[-+]?(\d+,\d*|,\d+)([eE][-+]?\d+)?")
_IN_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_MISSING = frozenset({"", "nan", "-nan", "na", "n/a", "#n/a", "null", "none", "<na>"})


class Sheet(NamedTuple):
    """A header and the lines below it, with their numbers in the file; every line as long as the header."""

    file: Path
    header: tuple[str, ...]
    lines: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> list[str]:
        """The cells of a column, without blanks around them."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def is_number(text: str) -> bool:
    """Whether a cell is written as a finite number with a point."""
    return _NUMBER.fullmatch(text) is not None


def is_missing(text: str) -> bool:
    """Whether a cell of a column of numbers says that there is none."""
    return text.casefold() in _MISSING


def read_sheet(file: Path, content: bytes, *, texts: Collection[str] = ()) -> Sheet:
    """A file of text as a sheet; cells are stripped, numbers written with a point but in the columns named `texts`.

    Raises:
        DataError: it cannot be read, or only in more than one way; the message names the line or the column.
    """
    numbered = _lines(file, _text(file, content))
    _, header = next(numbered, (1, ()))
    lines, rows = list[int](), list[tuple[str, ...]]()
    for line, row in numbered:
        cells = row
        while len(cells) > len(header) and not cells[-1]:  # a delimiter at the end of a line adds nothing
            cells = cells[:-1]
        if len(cells) != len(header):
            raise DataError(f"{file}, line {line}: got {len(cells)} fields; expected the header's {len(header)}.")
        lines.append(line)
        rows.append(cells)
    header, rows = _without_empty_end(header, rows)
    _refuse_names(file, header)
    return Sheet(file, header, tuple(lines), _with_points(file, header, rows, texts))


def _text(file: Path, content: bytes) -> str:
    unpack = _PACKED.get(file.suffix.casefold())
    try:
        plain = unpack(content) if unpack else content
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(f"{file} cannot be read as a table: {error}; copy it again.") from error
    if b"\0" in plain and plain[:2] not in _WIDE:
        raise DataError(f"{file} is no UTF-8 text (it has NUL in it); save it as such.")
    try:
        return plain.decode("utf-16" if plain[:2] in _WIDE else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no UTF-8 text ({error.reason} at byte {error.start}); save it as such.") from error


def _lines(file: Path, text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Number and cells of every line that is not empty; the first is the header."""
    skipped, delimiter = 0, None
    said = re.match(r'"?sep=(.)"?\r?\n', text)  # what spreadsheets write to say it
    if said:
        skipped, delimiter, text = 1, said[1], text[said.end() :]
    delimiter = delimiter or _delimiter(text)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for row in reader:
            cells = tuple(cell.strip() for cell in row)
            if any(cells):
                yield reader.line_num + skipped, cells
    except csv.Error as error:
        raise DataError(
            f"{file}, line {reader.line_num + skipped}: {error}; expected fields with {delimiter!r} between."
        ) from error


def _delimiter(text: str) -> str:
    """What parts the fields of the first line that is not empty."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", head)
    return max(_DELIMITERS, key=bare.count)


def _without_empty_end(
    header: tuple[str, ...], rows: list[tuple[str, ...]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Without columns at the end that have neither a name nor a value."""
    while header and not header[-1] and not any(row[len(header) - 1] for row in rows):
        header, rows = header[:-1], [row[: len(header) - 1] for row in rows]
    return header, rows


def _refuse_names(file: Path, header: Sequence[str]) -> None:
    for number, name in enumerate(header, 1):
        if name and name in header[: number - 1]:
            raise DataError(f"{file}: columns {header.index(name) + 1} and {number} are both {name!r}; rename one.")


def _with_points(
    file: Path, header: Sequence[str], rows: list[tuple[str, ...]], texts: Collection[str]
) -> tuple[tuple[str, ...], ...]:
    """The rows, in columns of numbers with a decimal comma the comma as a point.

    Raises:
        DataError: commas may be decimal ones, or part thousands; or both a point and a comma are decimal.
    """
    columns = list(zip(*rows, strict=True))
    commas = [place for place, cells in enumerate(columns) if header[place] not in texts and _has_commas(cells)]
    if not commas:
        return tuple(rows)
    written = [cell for place in commas for cell in columns[place] if "," in cell]
    if all(_IN_THOUSANDS.fullmatch(cell) for cell in written):
        raise DataError(
            f"{file}: {written[0]!r} in column {header[commas[0]]!r} may be a number with a decimal comma, or with "
            "thousands apart; write it with a point, or without the comma."
        )
    for place, cells in enumerate(columns):
        pointed = next((cell for cell in cells if "." in cell and is_number(cell)), None)
        if pointed is not None and header[place] not in texts:
            raise DataError(
                f"{file}: {written[0]!r} in column {header[commas[0]]!r} has a decimal comma, and {pointed!r} in "
                f"column {header[place]!r} a point; write all numbers with a point."
            )
        if place in commas:
            columns[place] = tuple(cell.replace(",", ".") for cell in cells)
    return tuple(zip(*columns, strict=True))


def _has_commas(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers, and some with a comma for the point."""
    found = False
    if not any("," in cell for cell in cells):
        return False
    for cell in cells:
        if _WITH_COMMA.fullmatch(cell):
            found = True
        elif not is_number(cell) and not is_missing(cell):
            return False
    return found
