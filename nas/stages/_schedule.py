"""From the time that a job has to what it does in it: epochs, evaluations, audit and final training. Pure arithmetic.

Every part has a share of the time; what a part cannot use, since nothing more of it helps or the user bounds it, goes
to the others (filling with water: all parts rise with one level). More time never makes a part smaller. Planned again
before each stage with the time that is really left: what is too late costs the audit's networks first, then the final
training and the search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nas.reports import Speeds
from nas.resources import Phase

AIM = 0.93
"""The share of the time that is planned: a job that promises time ends between 0.8 and 1.05 of it."""

_SHARES = {Phase.SUPERNET: 0.35, Phase.SEARCH: 0.15, Phase.AUDIT: 0.2, Phase.DELIVER: 0.3}
_STAGES = tuple(_SHARES)
_HALVINGS = 60
_ROUNDING = 1 + 1e-9  # of sums of seconds
_LARGEST = 1e6  # times the usual audit: far above what any limit allows


class Range(NamedTuple):
    """How much of something is the least, what is usual, and how much is the most."""

    least: int
    usual: int
    most: int

    def within(self, amount: float) -> int:
        """The nearest whole amount, rounded down."""
        return int(min(max(amount, self.least), self.most))

    def from_least(self, amount: int) -> Range:
        """The same with nothing below `amount`."""
        return Range(max(self.least, amount), max(self.usual, amount), max(self.most, amount))

    def affordable(self, seconds: float, each: float) -> int:
        """How many fit into so many seconds; what costs nothing is done as usual."""
        return self.within(seconds / each if each > 0 else self.usual)


class Amounts(NamedTuple):
    """How much of everything a job does; the audit trains `audit_networks` for `audit_epochs` each."""

    epochs: int
    evaluations: int
    audit_networks: int
    audit_epochs: int
    delivery_epochs: int


class Limits(NamedTuple):
    """The ranges of all amounts, and how many networks are delivered."""

    epochs: Range
    evaluations: Range
    audit_networks: Range
    audit_epochs: Range
    delivery_epochs: Range
    delivered: int = 1

    def at_most(self, amounts: Amounts) -> Limits:
        """The same limits with nothing above these amounts."""
        return self._of([Range(min(r.least, a), min(r.usual, a), a) for r, a in zip(self.ranges, amounts, strict=True)])

    def at_least(self, amounts: Amounts) -> Limits:
        """The same limits with nothing below these amounts."""
        return self._of([r.from_least(amount) for r, amount in zip(self.ranges, amounts, strict=True)])

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Those of the amounts, in their order."""
        return self.epochs, self.evaluations, self.audit_networks, self.audit_epochs, self.delivery_epochs

    def _of(self, ranges: Sequence[Range]) -> Limits:
        epochs, evaluations, networks, audit_epochs, delivery_epochs = ranges
        return Limits(epochs, evaluations, networks, audit_epochs, delivery_epochs, self.delivered)


def seconds_of(amounts: Amounts, speeds: Speeds, limits: Limits, first: Phase) -> dict[Phase, float]:
    """What each stage from `first` on takes."""
    seconds = {
        Phase.SUPERNET: amounts.epochs * speeds.supernet_epoch,
        Phase.SEARCH: amounts.evaluations * speeds.evaluation,
        Phase.AUDIT: amounts.audit_networks * (amounts.audit_epochs * speeds.audit_epoch + speeds.audit_network),
        Phase.DELIVER: limits.delivered * (amounts.delivery_epochs * speeds.delivery_epoch + speeds.delivery),
    }
    return {phase: seconds[phase] for phase in _from(first)}


def fitting(limits: Limits, speeds: Speeds, seconds: float, first: Phase = Phase.SUPERNET) -> Amounts:
    """The most that fits into so many seconds from stage `first` on; the least of everything where nothing does.

    What lies before `first` is at its least: give what was done as that.
    """

    def at(level: float) -> Amounts:
        return _at(level, limits, speeds, first)

    def fits(amounts: Amounts) -> bool:
        return sum(seconds_of(amounts, speeds, limits, first).values()) <= seconds * _ROUNDING

    return at(_largest(lambda level: fits(at(level)), max(seconds, 0.0) / min(_SHARES.values())))


def replanned(before: Amounts, limits: Limits, speeds: Speeds, seconds: float, first: Phase) -> Amounts:
    """What was planned before, fitted into the time that is left from stage `first` on.

    With time to spare nothing becomes less. Where it is short, networks of the audit are dropped first, then the rest
    shrinks together.
    """
    raised = limits.at_least(before)
    if _total(before, speeds, limits, first) <= seconds * _ROUNDING:
        return fitting(raised, speeds, seconds, first)
    without = before._replace(audit_networks=limits.audit_networks.least)
    if first in (Phase.SUPERNET, Phase.SEARCH, Phase.AUDIT):
        each = before.audit_epochs * speeds.audit_epoch + speeds.audit_network
        left = seconds * _ROUNDING - _total(without, speeds, limits, first)
        if left >= 0:
            kept = without.audit_networks + (math.floor(left / each) if each else before.audit_networks)
            return before._replace(audit_networks=min(before.audit_networks, kept))
    return fitting(_done(limits.at_most(without), before, first), speeds, seconds, first)


def _at(level: float, limits: Limits, speeds: Speeds, first: Phase) -> Amounts:
    """What every stage from `first` on does where each has its share of `level` seconds; before it, the least."""
    found = _least(limits)
    for phase in _from(first):
        seconds = _SHARES[phase] * level
        if phase is Phase.SUPERNET:
            found = found._replace(epochs=limits.epochs.affordable(seconds, speeds.supernet_epoch))
        elif phase is Phase.SEARCH:
            found = found._replace(evaluations=limits.evaluations.affordable(seconds, speeds.evaluation))
        elif phase is Phase.AUDIT:
            networks, epochs = _audit(seconds, limits, speeds)
            found = found._replace(audit_networks=networks, audit_epochs=epochs)
        else:
            each = seconds / max(1, limits.delivered) - speeds.delivery
            found = found._replace(delivery_epochs=limits.delivery_epochs.affordable(each, speeds.delivery_epoch))
    return found


def _audit(seconds: float, limits: Limits, speeds: Speeds) -> tuple[int, int]:
    """Networks and epochs of an audit: both grow, the number of networks the faster, from the usual ones."""

    def at(size: float) -> tuple[int, int]:
        networks = limits.audit_networks.within(limits.audit_networks.usual * size**0.6)
        return networks, limits.audit_epochs.within(limits.audit_epochs.usual * size**0.4)

    def fits(size: float) -> bool:
        networks, epochs = at(size)
        return networks * (epochs * speeds.audit_epoch + speeds.audit_network) <= seconds

    if speeds.audit_epoch <= 0 and speeds.audit_network <= 0:
        return at(1.0)
    return at(_largest(fits, _LARGEST))


def _largest(fits: Callable[[float], bool], top: float) -> float:
    """The largest number from 0 to `top` that fits, where all below one that fits do."""
    if fits(top):
        return top
    low, high = 0.0, top
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _least(limits: Limits) -> Amounts:
    return Amounts(*(each.least for each in limits.ranges))


def _done(limits: Limits, before: Amounts, first: Phase) -> Limits:
    """The limits with what lies before `first` as it was."""
    fixed = limits
    if first is not Phase.SUPERNET:
        fixed = fixed._replace(epochs=Range(before.epochs, before.epochs, before.epochs))
    if first not in (Phase.SUPERNET, Phase.SEARCH):
        fixed = fixed._replace(evaluations=Range(before.evaluations, before.evaluations, before.evaluations))
    return fixed


def _total(amounts: Amounts, speeds: Speeds, limits: Limits, first: Phase) -> float:
    return sum(seconds_of(amounts, speeds, limits, first).values())


def _from(first: Phase) -> Iterable[Phase]:
    order = list(Phase)
    return [phase for phase in _STAGES if order.index(phase) >= order.index(first)]
