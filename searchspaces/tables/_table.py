"""What every table is: architectures of one space with what others measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from searchspaces import Architecture, ConfigError, DataError, MeasurementError, SearchSpace, Violation

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Series:
    """One metric of every architecture, measured in one way.

    Attributes:
        mean: `architectures`; NaN where it is not known.
        unit: of the mean and the runs.
        runs: `architectures x runs`, single measurements, NaN where an architecture has fewer; None: only means are
            known.
        seconds: `architectures`, how long one measurement took; None where nobody wrote it down.
    """

    mean: Floats
    unit: str = ""
    runs: Floats | None = None
    seconds: Floats | None = None

    def of_run(self, row: int, run: int) -> float | None:
        """The `run`-th single measurement of a row; None where there are not so many."""
        known = self.runs[row][np.isfinite(self.runs[row])] if self.runs is not None else np.empty(0)
        return float(known[run]) if run < len(known) else None

    def num_runs(self, row: int) -> int:
        """How many single measurements of a row are known."""
        return 0 if self.runs is None else int(np.isfinite(self.runs[row]).sum())


@dataclass(frozen=True, eq=False)
class Table:
    """What was measured of architectures of one space.

    Attributes:
        name: what its plug-in is called.
        space: the space whose texts the rows are.
        texts: one architecture per row, as the space writes it.
        measured: metric -> epochs of training -> what came of it, more epochs truer; 0 where nobody says how many.
        costs: what is known without training: metric -> its series.
        held_out: as `measured`, on images that no search may see; for reports.
        digest: SHA-256 of the files it was read from.
        is_complete: whether the rows are the whole space.
    """

    name: str
    space: SearchSpace
    texts: Sequence[str]
    measured: Mapping[str, Mapping[float, Series]]
    costs: Mapping[str, Series] = field(default_factory=dict)
    held_out: Mapping[str, Mapping[float, Series]] = field(default_factory=dict)
    digest: str = ""
    is_complete: bool = False

    def __post_init__(self) -> None:
        num, columns = len(self.texts), [*self.costs.values()]
        columns += [s for group in (self.measured, self.held_out) for found in group.values() for s in found.values()]
        arrays = [array for s in columns for array in (s.mean, s.runs, s.seconds) if array is not None]
        if not num or any(array.shape[:1] != (num,) for array in arrays):
            raise DataError(f"table {self.name}: every column needs one number for each of its {num} architectures.")
        if len(self._rows) != num:
            raise DataError(f"table {self.name}: {num - len(self._rows)} architectures stand in it more than once.")

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.texts)}

    def row(self, architecture: Architecture) -> int:
        """The row of an architecture.

        Raises:
            MeasurementError: the table does not hold it.
        """
        found = self._rows.get(architecture.text)
        if found is None:
            raise MeasurementError(f"{architecture.text} is not among the {len(self)} architectures of {self.name}.")
        return found

    @property
    def epochs(self) -> tuple[float, ...]:
        """The lengths of training that it knows, shortest first."""
        return tuple(sorted({epochs for found in self.measured.values() for epochs in found}))

    def within(self, space: SearchSpace) -> SearchSpace:
        """The architectures of `space` that the table holds: the space itself where it holds them all.

        Raises:
            ConfigError: it is a table of another space.
        """
        mine = [(decision.name, decision.options) for decision in self.space.decisions]
        if [(decision.name, decision.options) for decision in space.decisions] != mine:
            raise ConfigError([Violation("table", repr(self.name), f"a table of the space {space.name}")])
        if self.is_complete:
            return space
        from searchspaces._members import Members

        return Members(space, self.texts)

    def metrics_at(self, epochs: float) -> dict[str, Series]:
        """Every metric that was measured after so many epochs."""
        return {metric: found[epochs] for metric, found in self.measured.items() if epochs in found}
