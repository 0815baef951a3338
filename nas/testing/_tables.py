"""The contract of a table of measurements as plain functions."""

from __future__ import annotations

import numpy as np

from searchspaces import ContractViolation, MeasurementError
from searchspaces.tables import Series, Table

_DRAWN = 40


def check_table(table: Table, *, seed: int = 0) -> None:
    """Checks everything that a table promises.

    Every row is an architecture of its space as the space writes it, once; what is measured is known of most rows and
    finite where it is known; runs go with their mean; the space within it holds the rows and nothing else; a missing
    architecture is refused.

    Raises:
        ContractViolation: a promise is broken.
    """
    rng = np.random.default_rng(seed)
    _require(len(table.digest) == 64, "a digest is a SHA-256", table.digest)
    _require(bool(table.measured), "something is measured", table.measured)
    for row in rng.integers(len(table), size=_DRAWN).tolist():
        architecture = table.space.parse(table.texts[row])
        _require(architecture.text == table.texts[row], "a row has the canonical text", table.texts[row])
        _require(table.row(architecture) == row, "a row is found by its architecture", row)
    for metric in table.measured:
        for epochs, series in table.measured[metric].items():
            _require(epochs in table.epochs, "its lengths of training are listed", (metric, epochs))
            _check_series(series, f"{metric} after {epochs:g} epochs")
    for metric, series in table.costs.items():
        _check_series(series, metric)
    _check_space(table, rng)


def _check_series(series: Series, what: str) -> None:
    known = np.isfinite(series.mean)
    _require(known.mean() > 0.5, f"{what} is known of most architectures", known.mean())
    if series.runs is not None:
        runs = np.isfinite(series.runs).sum(axis=1)
        _require(bool((runs[known] > 0).all()), f"{what}: every mean has a run", int((runs[known] == 0).sum()))
        low, high = np.nanmin(series.runs[known], axis=1), np.nanmax(series.runs[known], axis=1)
        whole, room = runs[known] == series.runs.shape[1], 1e-4 * np.abs(high)
        held = (low - room <= series.mean[known]) & (series.mean[known] <= high + room)
        _require(bool(held[whole].all()), f"{what}: a mean lies between its runs", int((~held[whole]).sum()))
    if series.seconds is not None:
        _require(bool((series.seconds[known] > 0).all()), f"{what}: trainings take time", float(series.seconds.min()))


def _check_space(table: Table, rng: np.random.Generator) -> None:
    space = table.within(table.space)
    _require(space.size() == len(table), "the space within a table holds its rows", space.size())
    drawn = [space.sample(rng) for _ in range(_DRAWN)]
    for architecture in (*drawn, *space.extremes(), *(near for one in drawn[:4] for near in space.neighbours(one))):
        _require(not space.validate(architecture), "what is drawn is in the space", architecture.text)
        table.row(architecture)
    outside = next((a for a in (table.space.sample(rng) for _ in range(1_000)) if space.validate(a)), None)
    if outside is not None:
        try:
            table.row(outside)
        except MeasurementError:
            return
        raise ContractViolation(f"what a table does not hold is refused; got a row for {outside.text}.")


def _require(holds: bool, promise: str, got: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {got!r}.")
