"""Your own table: an .npz, .parquet or .csv file with one row for each architecture.

A file of text may have commas, semicolons or tabs between its fields. The columns:

- `architecture`: as the space writes it; or `decision.NAME` for every decision, which spans a space of its own (use it
  with the space `options` and its setting `file`).
- `METRIC@EPOCHS`, or `METRIC` where nobody says how long was trained: what is measured, such as `accuracy@200`.
  Single runs are `METRIC@EPOCHS#0`, `#1` ...; in an .npz also one array of `rows x runs`.
- `cost.METRIC`: what is known without training, such as `cost.latency_phone`.
- `test.METRIC@EPOCHS`: on data that no search may see; for reports.
- `seconds@EPOCHS`: how long the training took, the clock of simulated searches.

A unit may follow in brackets: `cost.latency_phone [ms]`. Values that are missing are NaN, or empty; a decision that an
architecture does not have is empty, and nothing else is: None and NA may be what an option is called.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from searchspaces import (
    LOCAL_PATH,
    Config,
    ConfigError,
    DataError,
    InvalidArchitecture,
    Plugin,
    SearchSpace,
    Violation,
    one_of,
)
from searchspaces import REGISTRY as SPACES
from searchspaces.tables._reading import ARCHITECTURE, DECISION, Archive, rows, texts_of
from searchspaces.tables._table import Floats, Series, Table

_COLUMN = re.compile(
    r"(?P<group>cost\.|test\.)?(?P<metric>[A-Za-z_][\w.]*?)"
    r"(@(?P<epochs>\d+(\.\d+)?))?(#(?P<run>\d+))?( *\[(?P<unit>.*)\])?"
)
_SHOWN = 3


class FileConfig(Config):
    """Settings of `file`."""

    path: str = Field(min_length=1, max_length=4096, json_schema_extra=LOCAL_PATH, description="The file.")
    space: str = Field("options", max_length=200, description="The space whose architectures it names.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of that space.")


def create(config: FileConfig) -> Table:
    """The table in the file.

    Raises:
        DataError: it cannot be read, a column has no meaning, or a row is no architecture of the space.
        ConfigError: there is no such space, or it has no such settings.
    """
    columns = rows(config.path)
    is_own = any(name.startswith(DECISION) for name in columns)
    space = _space(config, {"file": config.path} if is_own else {})
    texts = _texts(columns, space, is_own=is_own)
    measured, costs, held_out = _series(columns)
    if not measured:
        raise DataError(f"{columns.file} has no column of a metric, such as accuracy or accuracy@200.")
    table = Table(Path(config.path).stem, space, texts, measured, costs, held_out, columns.digest)
    return replace(table, is_complete=len(texts) == space.size())


def _space(config: FileConfig, own: Mapping[str, str]) -> SearchSpace:
    if config.space not in SPACES:
        raise ConfigError([Violation("space", repr(config.space), one_of(config.space, SPACES))])
    try:
        return SPACES[config.space]({**config.settings, **own})
    except ConfigError as error:
        found = [Violation(f"settings.{v.field}", v.value, v.allowed) for v in error.violations]
        raise ConfigError(found) from error


def _texts(columns: Archive, space: SearchSpace, *, is_own: bool) -> list[str]:
    """The architecture of every row, as the space writes it."""
    texts, wrong = list[str](), list[str]()
    for number, row in enumerate(_rows(columns, space, is_own=is_own), 1):
        try:
            texts.append((space.parse(row) if isinstance(row, str) else space.architecture(row)).text)
        except InvalidArchitecture as error:
            wrong.append(f"row {number}: {error}")
    if wrong:
        more = f" ... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(f"{columns.file}: {' '.join(wrong[:_SHOWN])}{more}")
    return texts


def _rows(columns: Archive, space: SearchSpace, *, is_own: bool) -> Iterator[str | dict[str, str]]:
    """The text or the options of every row."""
    if not is_own:
        yield from texts_of(columns[ARCHITECTURE])
        return
    named = {d.name: texts_of(columns[f"{DECISION}{d.name}"]) for d in space.decisions}
    for row in zip(*named.values(), strict=True):
        yield {name: option for name, option in zip(named, row, strict=True) if option}


Groups = tuple[dict[str, dict[float, Series]], dict[str, Series], dict[str, dict[float, Series]]]


def _series(columns: Archive) -> Groups:
    """What is measured, what is known without training, what is held out."""
    parts: dict[tuple[str, str, float], dict[int | None, Floats]] = defaultdict(dict)
    units: dict[tuple[str, str, float], str] = {}
    for name in columns:
        if name == ARCHITECTURE or name.startswith(DECISION):
            continue
        match = _COLUMN.fullmatch(name)
        if match is None:
            raise DataError(f"{columns.file}: column {name!r} is not METRIC[@EPOCHS][#RUN] [unit]; rename or drop it.")
        key = (match["group"] or "", match["metric"], float(match["epochs"] or 0))
        run = int(match["run"]) if match["run"] else None
        if run in parts[key]:
            raise DataError(f"{columns.file}: column {name!r} says again what an earlier one does; keep one of them.")
        parts[key][run] = _finite(columns, name)
        units[key] = units.get(key) or match["unit"] or ""
    clocks = {epochs: _mean(found) for (_, metric, epochs), found in parts.items() if metric == "seconds"}
    measured: dict[str, dict[float, Series]] = defaultdict(dict)
    held_out: dict[str, dict[float, Series]] = defaultdict(dict)
    costs: dict[str, Series] = {}
    for (group, metric, epochs), found in parts.items():
        series = Series(_mean(found), units[group, metric, epochs], _runs(found), clocks.get(epochs))
        if group == "cost.":
            costs[metric] = series
        elif metric != "seconds":
            (held_out if group else measured)[metric][epochs] = series
    return dict(measured), costs, dict(held_out)


def _finite(columns: Archive, name: str) -> Floats:
    """A column of numbers, of which some may be missing."""
    values = columns.floats(name)
    if np.isinf(values).any():
        row = int(np.isinf(values).reshape(len(values), -1).any(axis=1).argmax()) + 1
        raise DataError(
            f"{columns.file}: column {name!r} is infinite in row {row}; leave it empty where it is unknown."
        )
    if np.isnan(values).all():
        raise DataError(f"{columns.file}: column {name!r} has no value in any row; fill it in, or leave it out.")
    return values


def _mean(found: Mapping[int | None, Floats]) -> Floats:
    given = found.get(None)
    if given is not None and given.ndim == 1:
        return given
    runs = _runs(found)
    assert runs is not None, "a metric has a mean, or runs"
    known = np.isfinite(runs)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, runs, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _runs(found: Mapping[int | None, Floats]) -> Floats | None:
    """`rows x runs`; None where there are only means."""
    single: Iterable[Floats] = [found[run] for run in sorted(run for run in found if run is not None)]
    many = [found[None]] if None in found and found[None].ndim == 2 else []
    stacked = [*(column[:, None] for column in single), *many]
    return np.concatenate(stacked, axis=1) if stacked else None


PLUGIN = Plugin(
    name="file",
    description="Your own table: .npz, .parquet or .csv, one row for each architecture",
    source="the columns are described in the module",
    create=create,
    Config=FileConfig,
    flags={"space": "", "files": ()},
)
