"""Bounds on what is measured that nothing can meet, told before anything is measured."""

from __future__ import annotations

from nas.evaluators import ranges_of
from nas.quantities import Constraint
from nas.spec import JobSpec
from searchspaces import Violation


def unreachable_bounds(spec: JobSpec) -> list[Violation]:
    """The constraints beyond all that their metric can be, where its range is known: of a fraction, or of a table."""
    ranges, found = ranges_of(spec), []
    for number, (text, bound) in enumerate(zip(spec.constraints, spec.bounds(), strict=True)):
        low, high = ranges.get(bound.metric, (float("-inf"), float("inf")))
        if not _meets(bound, low, high):
            found.append(Violation(f"constraints.{number}", repr(text), _allowed(bound, low, high)))
    return found


def _meets(bound: Constraint, low: float, high: float) -> bool:
    return bound.violation(high if bound.operator == ">=" else low) == 0


def _allowed(bound: Constraint, low: float, high: float) -> str:
    """What there is, and the bound that was meant where somebody took fractions for percentages."""
    meant = [(f"{bound.bound:g}%", bound.bound / 100), (f"{bound.bound * 100:g}", bound.bound * 100)]
    near = [text for text, value in meant if _meets(Constraint(bound.metric, bound.operator, value), low, high)]
    ends = f"from {low:g} to {high:g}" if high < float("inf") else f"from {low:g} up"
    said = f"a bound that {bound.metric} can meet, which goes {ends}"
    return f"{said}; did you mean {bound.metric} {bound.operator} {near[0]}?" if near else said
