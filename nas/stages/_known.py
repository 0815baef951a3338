"""What the constraints leave of a job whose evaluator knows every value before it is asked, as a table does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nas.evaluators import known_values_of, metrics_of, ranges_of
from nas.quantities import Constraint
from nas.resources import PreflightReport
from nas.spec import JobSpec
from searchspaces import InvalidArchitecture, MeasurementError

if TYPE_CHECKING:
    import numpy.typing as npt

    from nas.evaluators import KnownValues
    from nas.workbench import Workbench

_LOOKED_AT = 30_000
"""Most architectures of which costs are computed that the evaluator does not know."""


class Meeting(NamedTuple):
    """How many of the architectures that are searched meet the bounds together.

    `at_most`: some bounds are on what is not known before, or were not looked at, for there are too many. `alone`: the
    known bounds, each with how many meet it by itself.
    """

    num: int
    total: int
    at_most: bool
    alone: tuple[tuple[Constraint, int], ...]

    def told(self) -> str:
        """In words."""
        if self.num:
            about = "at most " if self.at_most else ""
            return f"{about}{self.num:,} of {self.total:,} architectures meet all constraints"
        left = ", ".join(f"{b.metric} {b.operator} {b.bound:g} is met by {num:,}" for b, num in self.alone)
        return f"none of {self.total:,} architectures meets these bounds together: {left}"


def with_known(report: PreflightReport, spec: JobSpec, bench: Workbench) -> PreflightReport:
    """The report with how many architectures meet the constraints, where the evaluator knows that; else as it is."""
    found = meeting(spec, bench) if report.satisfiable is not False else None
    if found is None:
        return report
    known: dict[str, object] = {"notes": (*report.notes, *([found.told()] if found.num else []))}
    if not found.num:
        known |= {"unmet": (found.told(),)}
    if not found.num or not found.at_most:
        known |= {"satisfiable": found.num > 0, "share_feasible": found.num / found.total}
    return report.model_copy(update=known)


def unknown_ranges(spec: JobSpec) -> list[str]:
    """A note for every constraint on what is measured whose range nobody knows before."""
    known, costs = {**ranges_of(spec)}, {name for name, level in metrics_of(spec).items() if level == "cost"}
    return [
        f"nothing says how far {bound.metric} goes before it is measured, so constraints.{number}, {text}, may be "
        "beyond it (90 where fractions are measured); the search ends early where nothing comes near"
        for number, (text, bound) in enumerate(zip(spec.constraints, spec.bounds(), strict=True))
        if bound.metric in metrics_of(spec) and bound.metric not in known and bound.metric not in costs
    ]


def meeting(spec: JobSpec, bench: Workbench) -> Meeting | None:
    """How many architectures meet the bounds; None where no bound is on what the evaluator knows.

    An architecture of which several runs are known meets the bounds on a metric when one of its runs does.
    """
    known = known_values_of(spec)
    bounds = [bound for bound in spec.bounds() if known is not None and bound.metric in known.values]
    if known is None or not bounds:
        return None
    asked = [known.values[metric] for metric in spec.objectives if metric in known.values]
    there = np.logical_and.reduce([_rows(np.isfinite(values)) for values in asked] or [np.ones(len(known.texts), bool)])
    alone = {bound: there & _meets(known, bound) for bound in bounds}
    together = there.copy()
    for metric in {bound.metric for bound in bounds}:
        together &= _meets(known, *(bound for bound in bounds if bound.metric == metric))
    others = [bound for bound in spec.bounds() if bound not in bounds]
    num, is_whole = _narrowed(known, np.flatnonzero(together), others, bench)
    each = tuple((bound, int(rows.sum())) for bound, rows in alone.items())
    return Meeting(num, bench.space.size(), not is_whole, each)


def _meets(known: KnownValues, *bounds: Constraint) -> npt.NDArray[np.bool_]:
    """The rows that meet all of these bounds on one metric, in one of their runs."""
    values = known.values[bounds[0].metric]
    held = np.isfinite(values)
    for bound in bounds:
        with np.errstate(invalid="ignore"):
            held &= values <= bound.bound if bound.operator == "<=" else values >= bound.bound
    return _rows(held)


def _rows(held: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return held if held.ndim == 1 else np.logical_or.reduce(held, axis=1)


def _narrowed(
    known: KnownValues, rows: npt.NDArray[np.intp], others: list[Constraint], bench: Workbench
) -> tuple[int, bool]:
    """How many of these rows are searched and meet bounds on costs that are computed; whether that is all there is."""
    space, priced = bench.space, set(bench.needed_costs())
    computed = [b for b in others if b.metric in priced and not bench.is_measured(b.metric)]
    is_whole = len(computed) == len(others)
    if not computed and space.size() == len(known.texts):
        return len(rows), is_whole
    if len(rows) > _LOOKED_AT:
        return min(len(rows), space.size()), False
    costs, num = bench.costs(bound.metric for bound in computed), 0
    for row in rows.tolist():
        try:
            architecture = space.parse(known.texts[row])
            num += all(not b.violation(costs[b.metric].measure(architecture).value) for b in computed)
        except (InvalidArchitecture, MeasurementError):
            continue  # is not searched, or its cost is not known, and then it is never feasible
    return num, is_whole
