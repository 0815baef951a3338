"""Numbers as people write them, `57%`, `2.01k`, `10m`: read in decimal arithmetic, so that .57 is what 57 % means."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, NamedTuple

Operator = Literal["<=", ">="]

_LARGEST = sys.float_info.max
_NUMBER = r"[-+]?(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?"
_FACTORS = {"": "1", "%": "0.01", "k": "1e3", "K": "1e3", "M": "1e6", "G": "1e9", "T": "1e12"}
_SECONDS = {"s": "1", "m": "60", "h": "3600", "d": "86400"}
_CONSTRAINT = re.compile(rf"\s*([A-Za-z_][\w.]*)\s*(<=|>=)\s*({_NUMBER})\s*([kKMGT%]?)\s*")
_DURATION = re.compile(rf"\s*({_NUMBER})\s*([smhd])\s*")


class Constraint(NamedTuple):
    """A bound on a metric, as written in `params <= 200k`."""

    metric: str
    operator: Operator
    bound: float

    def violation(self, value: float) -> float:
        """How far `value` lies outside the bound, relative to the bound; 0 when it holds. Never more than a float."""
        excess = value - self.bound if self.operator == "<=" else self.bound - value
        return within_floats(max(0.0, excess / abs(self.bound)) if self.bound else max(0.0, excess))


def parse_constraint(text: str) -> Constraint:
    """Read `metric <= number` or `metric >= number`; k, M, G, T multiply, % divides by 100.

    >>> parse_constraint("accuracy >= 57%"), parse_constraint("params <= 2.01k").bound
    (Constraint(metric='accuracy', operator='>=', bound=0.57), 2010.0)

    Raises:
        ValueError: `text` is not written so, or its number is none that a float can hold.
    """
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise ValueError(
            "`metric <= number` or `metric >= number`, such as `params <= 200k` (k, M, G, T multiply, % divides by 100)"
        )
    return Constraint(match[1], "<=" if match[2] == "<=" else ">=", _times(match[3], _FACTORS, match[4]))


def parse_seconds(text: str) -> float:
    """Read `90`, `90s`, `10m`, `1.5h` or `2d`.

    Raises:
        ValueError: `text` is not written so.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("a number of seconds, or a number with s, m, h or d, such as 10m")
    return _times(match[1], _SECONDS, match[2])


def within_floats(value: float) -> float:
    """What overflowed as the largest float, which can still be written and compared."""
    return max(-_LARGEST, min(value, _LARGEST))


def _times(number: str, factors: Mapping[str, str], unit: str) -> float:
    found = float(Decimal(number) * Decimal(factors[unit]))
    if not math.isfinite(found):
        raise ValueError(f"a number up to {_LARGEST:.2g}, which {number}{unit} is not")
    return found


def counted(number: int, noun: str) -> str:
    """A number and what is counted.

    >>> counted(1, "point"), counted(1200, "point")
    ('1 point', '1,200 points')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"
