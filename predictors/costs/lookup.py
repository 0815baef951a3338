"""A cost that was measured elsewhere: read from a CSV file, per architecture or per operation.

Two kinds of files, told apart by their header line; other columns are left alone. Fields are parted by commas,
semicolons or tabs:

    architecture,value               decision,option,value
    |nor_conv_3x3~0|+...,3.61        edge1,nor_conv_3x3,0.42
                                     base,,1.05

The first gives the value of whole architectures. The second gives what each option of a decision adds; the cost is the
sum over the active decisions, and over the `base` row where there is one (input, output, start-up).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from predictors.costs._cost import Cost, Reading
from searchspaces import (
    DATA_PATH,
    Architecture,
    Config,
    ConfigError,
    DataError,
    Decision,
    InvalidArchitecture,
    MeasurementError,
    Plugin,
    SearchSpace,
    Violation,
    is_number,
    one_of,
    read_sheet,
)

_LARGEST = 1e15
_BASE = "base"
_Options = dict[str, Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]]


class LookupConfig(Config):
    """Settings of `lookup`."""

    unit: str = Field(min_length=1, max_length=40, description="Unit of the values, such as ms.")
    path: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        json_schema_extra=DATA_PATH,
        description="The CSV file; a relative one may lie in $NAS_DATA.",
    )
    column: str = Field("value", min_length=1, max_length=200, description="The file's column with the values.")
    operations: dict[str, _Options] = Field(
        default_factory=dict, max_length=10_000, description="In place of a file: decision, option, what it adds."
    )
    base: float = Field(0.0, ge=-_LARGEST, le=_LARGEST, description="Added to every value.")
    device: str | None = Field(
        None, min_length=1, max_length=200, description="What it was measured on; kept with every value."
    )

    @model_validator(mode="after")
    def _one_source(self) -> LookupConfig:
        if (self.path is None) == (not self.operations):
            raise ValueError("either path (a CSV file) or operations ({decision: {option: value}})")
        return self


class _Table(NamedTuple):
    """What is known: of whole architectures by text, or of (decision, option); one of the two is None."""

    architectures: dict[str, float] | None
    operations: dict[tuple[str, str], float] | None
    base: float = 0.0


class Lookup(Cost):
    """The value that a table holds for an architecture, or the sum of what it holds for its active options.

    Raises:
        ConfigError: a setting names a decision or option that the space does not have.
        DataError: the file is missing or broken, or not a table of this space; the message names the line.
    """

    def __init__(self, config: LookupConfig, space: SearchSpace) -> None:
        self.space, self.unit = space, config.unit
        self._context: dict[str, str | int | float] = {"device": config.device} if config.device else {}
        if config.path is None:
            self._source, table = "operations", _inline(config.operations, space)
        else:
            file = _found(config.path)
            content = _content(file)
            self._source, table = file.name, _read(file, content, config.column, space)
            self._context |= {"table": file.name, "sha256": hashlib.sha256(content).hexdigest()[:16]}
        self._table = table._replace(base=table.base + config.base)

    def measure(self, architecture: Architecture) -> Reading:
        self.space.check(architecture)
        value = self._value(architecture) + self._table.base
        if not math.isfinite(value) or value <= 0:
            raise MeasurementError(
                f"{self._source} gives {value:g} {self.unit} for {architecture.text}, not a number above 0; "
                "give a base, or mend the values."
            )
        return Reading(value, self.unit, context=self._context)

    def _value(self, architecture: Architecture) -> float:
        if self._table.operations is not None:
            missing = [pair for pair in architecture.options if pair not in self._table.operations]
            if missing:
                listed = ", ".join(f"{decision}={option}" for decision, option in missing[:3])
                raise MeasurementError(
                    f"{self._source} has no value for {listed} of {architecture.text}; add a row for each option."
                )
            return math.fsum(self._table.operations[pair] for pair in architecture.options)
        known = self._table.architectures or {}
        if architecture.text not in known:
            raise MeasurementError(
                f"{self._source} has no row for {architecture.text} ({len(known)} architectures are known); add it, "
                "or give values per operation."
            )
        return known[architecture.text]


def _inline(operations: Mapping[str, Mapping[str, float]], space: SearchSpace) -> _Table:
    """The table in the settings."""
    decisions = {decision.name: decision for decision in space.decisions}
    found: dict[tuple[str, str], float] = {}
    for name, options in operations.items():
        for option, value in options.items():
            if unknown := _unknown(decisions, name, option):
                raise ConfigError([Violation(f"operations.{name}.{option}", f"{value:g}", unknown)])
            found[name, option] = value
    return _Table(None, found)


def _unknown(decisions: Mapping[str, Decision], name: str, option: str) -> str | None:
    """What there is in place of a decision or option that the space does not have."""
    if name not in decisions:
        return f"a decision of the space, {one_of(name, decisions)}"
    if option not in decisions[name].options:
        return f"an option of {name}, {one_of(option, decisions[name].options)}"
    return None


def _found(path: str) -> Path:
    """The file at `path`, or at that path in the folder `$NAS_DATA`."""
    folder, given = os.environ.get("NAS_DATA"), Path(path).expanduser()
    places = [given.absolute(), *([Path(folder, given).absolute()] if folder and not given.is_absolute() else [])]
    for place in places:
        if place.is_file():
            return place
    exist = "does not exist" if len(places) == 1 else "do not exist"
    raise DataError(f"{' and '.join(map(str, places))} {exist}; give the CSV file's path, or its name in $NAS_DATA.")


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); give a readable file.") from error


def _read(file: Path, content: bytes, column: str, space: SearchSpace) -> _Table:
    """The table in a CSV file, of the kind that its header line says."""
    sheet = read_sheet(file, content, texts=("architecture", "decision", "option"))
    header = sheet.header
    keys = ("architecture",) if "architecture" in header else ("decision", "option")
    if not {*keys, column} <= set(header):
        raise DataError(
            f"{file}, line 1: the columns are {', '.join(header) or 'none'}; expected architecture and {column}, "
            f"or decision, option and {column}."
        )
    places, value_at = [header.index(key) for key in keys], header.index(column)
    found: dict[tuple[str, ...], float] = {}
    read_key = _architecture_reader(space) if len(keys) == 1 else _operation_reader(space)
    for line, row in zip(sheet.lines, sheet.rows, strict=True):
        try:
            key = read_key(*(row[place] for place in places))
        except ValueError as error:  # InvalidArchitecture is one
            raise DataError(f"{file}, line {line}: {error}") from error
        if key in found:
            raise DataError(f"{file}, line {line}: {', '.join(key)} has a row already; leave one of them out.")
        found[key] = _number(file, line, column, row[value_at])
    if not found:
        raise DataError(f"{file} has a header line and no rows; add one for each {' and '.join(keys)}.")
    if len(keys) == 1:
        return _Table({text: value for (text,), value in found.items()}, None)
    base = found.pop((_BASE, ""), 0.0)
    return _Table(None, {(name, option): value for (name, option), value in found.items()}, base)


def _number(file: Path, line: int, column: str, text: str) -> float:
    value = float(text) if is_number(text) else math.nan
    if not math.isfinite(value):
        raise DataError(f"{file}, line {line}: {column} is {text!r}; expected a finite number.")
    return value


def _architecture_reader(space: SearchSpace) -> Callable[[str], tuple[str, ...]]:
    """Canonical text of the architecture that a row names."""
    return lambda text: (space.parse(text).text,)


def _operation_reader(space: SearchSpace) -> Callable[[str, str], tuple[str, ...]]:
    """The decision and option that a row names, or the base."""
    decisions = {decision.name: decision for decision in space.decisions}

    def read(name: str, option: str) -> tuple[str, ...]:
        if (name, option) != (_BASE, "") and (expected := _unknown(decisions, name, option)):
            raise InvalidArchitecture(f"got {name}={option or 'nothing'}; expected {expected}.")
        return name, option

    return read


def _create(config: LookupConfig, space: SearchSpace, device: str = "cpu") -> Lookup:
    return Lookup(config, space)


PLUGIN = Plugin(
    name="lookup",
    description="Values measured elsewhere, from a CSV file per architecture or per operation.",
    source="Wu et al., 2019, FBNet, arXiv 1812.03443 (latency as a sum over operations)",
    create=_create,
    Config=LookupConfig,
    flags={"measured": False, "needs_config": True},
)
