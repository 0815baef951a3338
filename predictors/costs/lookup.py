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
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from predictors.costs._cost import Cost, Reading
from predictors.costs._estimate import FEWEST, Estimator
from predictors.costs._estimated import predicted
from searchspaces import (
    DATA_PATH,
    Architecture,
    Config,
    ConfigError,
    DataError,
    Decision,
    InfeasibleSpace,
    InvalidArchitecture,
    MeasurementError,
    Members,
    Plugin,
    SearchSpace,
    Violation,
    is_number,
    one_of,
    read_sheet,
    whole_path,
    why_unreachable,
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
    missing: Literal["restrict", "predict", "refuse"] = Field(
        "restrict",
        description="Where the values cover a part of the space. restrict: only that part is searched; predict: the "
        "value of other architectures is learned from the known ones, with its error said; refuse: it is an error.",
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
        ConfigError: a setting names a decision or option that the space does not have, or it cannot be predicted from.
        DataError: the file is missing or broken, or not a table of this space; the message names the line.
    """

    def __init__(self, config: LookupConfig, space: SearchSpace) -> None:
        self.space, self.unit, self.missing = space, config.unit, config.missing
        self._context: dict[str, str | int | float] = {"device": config.device} if config.device else {}
        if config.path is None:
            self._source, table = "operations", _inline(config.operations, space)
        else:
            file = _found(config.path)
            content = _content(file)
            self._source, table = file.name, _read(file, content, config.column, space)
            self._context |= {"table": file.name, "sha256": hashlib.sha256(content).hexdigest()[:16]}
        self._table = table._replace(base=table.base + config.base)
        for text, value in (table.architectures or {}).items():
            if value + self._table.base <= 0:
                raise DataError(f"{self._source} has {value:g} for {text}; expected a number above 0, the base added.")
        if self.missing == "refuse" and (lacking := self._lacking(space)):
            raise DataError(f"{lacking}; add the others, or choose missing: restrict or predict.")
        if self.missing == "predict" and self._lacking(space):
            self._estimator = self._learned()
            self.error = self._estimator.error

    def measure(self, architecture: Architecture) -> Reading:
        self.space.check(architecture)
        if self.error and architecture.text not in (self._table.architectures or {}):
            return predicted(self._estimator(architecture), Reading(0.0, self.unit, context=self._context), self.error)
        value = self._value(architecture) + self._table.base
        if not math.isfinite(value) or value <= 0:
            raise MeasurementError(
                f"{self._source} gives {value:g} {self.unit} for {architecture.text}, not a number above 0; "
                "give a base, or mend the values."
            )
        return Reading(value, self.unit, context=self._context)

    # --- what is covered ---------------------------------------------------------------------------------------------

    def within(self, space: SearchSpace) -> SearchSpace:
        """The architectures that have a value; all of them where others are predicted.

        Raises:
            InfeasibleSpace: none of the space has one.
        """
        if self.error or not self._lacking(space):
            return space
        if self._table.architectures is not None:
            known = self._known_of(space)
            if not known:
                raise InfeasibleSpace(f"{self._source} knows no architecture of this part of {space.name}.")
            return Members(space, known)
        for decision in space.decisions:
            there = [option for option in decision.options if (decision.name, option) in self._operations]
            if not there:
                raise InfeasibleSpace(f"{self._source} has no value for any option of {decision.name}; add some.")
            if len(there) < len(decision.options):
                left_out = [[option] for option in decision.options if option not in there]
                space = space.partition(decision.name, [there, *left_out])[0]
        return space

    def about(self, space: SearchSpace) -> str | None:
        """How much of the space has a value, and what becomes of the rest."""
        lacking = self._lacking(space)
        if not lacking:
            return None
        if self.error:
            return f"{lacking}; the others are predicted, {self.error}"
        return f"{lacking}; only these are searched (missing: predict takes all of them)"

    @property
    def _operations(self) -> dict[tuple[str, str], float]:
        return self._table.operations or {}

    def _known_of(self, space: SearchSpace) -> list[str]:
        """The architectures of the space that have a row."""
        if space is self.space:
            return list(self._table.architectures or ())
        named = ((text, self.space.read(text)) for text in self._table.architectures or ())
        return [text for text, options in named if not space.why_not(options)]

    def _lacking(self, space: SearchSpace) -> str:
        """What of the space has a value, in words; empty: all of it."""
        if self._table.architectures is not None:
            known, size = len(self._known_of(space)), space.size()
            share = known / size
            return "" if known >= size else f"{self._source} knows {known:,} of {size:,} architectures ({share:.2%})"
        pairs = [(decision.name, option) for decision in space.decisions for option in decision.options]
        missing = [f"{name}={option}" for name, option in pairs if (name, option) not in self._operations]
        if not missing:
            return ""
        covered = f"{len(pairs) - len(missing)} of {len(pairs)} options"
        return f"{self._source} knows {covered}, and not {', '.join(missing[:3])}{', ...' if missing[3:] else ''}"

    def _learned(self) -> Estimator:
        rows = self._table.architectures
        if rows is None:
            allowed = "restrict, or a value for every option; what an option adds cannot be learned from others"
            raise ConfigError([Violation("missing", "predict", allowed)])
        known = {self.space.parse(text): value + self._table.base for text, value in rows.items()}
        positive = {architecture: value for architecture, value in known.items() if value > 0}
        if len(positive) < FEWEST:
            allowed = f"restrict, or at least {FEWEST} architectures to learn from; {self._source} has {len(positive)}"
            raise ConfigError([Violation("missing", "predict", allowed)])
        return Estimator(self.space, positive)

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
    folder, is_relative = os.environ.get("NAS_DATA"), path[:1] not in ("~", "/")
    places = [whole_path(path), *([whole_path(Path(folder, path))] if folder and is_relative else [])]
    for place in places:
        if reason := why_unreachable(place):
            raise DataError(f"{place} cannot be reached ({reason}); give another path.")
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
