"""How long the trainings are that no plan can shorten once they run: their rates fall over their whole length.

Whether the supernet's training takes as long as preflight measured is seen in its first part; if not, it is begun once
more with another length. What becomes slow after that costs what follows, which is planned by the pace at its end. The
final training gets what time is left when it begins; the contest before it ends early where it would leave too little.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from nas.resources import AUDITED, Phase
from nas.stages._planned import Promise, in_words, paced, promise_of, with_amounts, with_final_epochs
from nas.stages._schedule import AIM, fitting
from nas.stages._trust import audit_level

if TYPE_CHECKING:
    from nas.stages._context import UnitContext
    from searchspaces import Architecture

# When the pace is looked at, as shares of the job's time since the look before, and by how much it may differ. What a
# second look would throw away is dearer, so it wants a machine that became much slower.
_LOOKS = ((0.05, 0.12), (0.1, 0.5))
_LEAST_SECONDS, _LEAST_STEPS = 2.0, 10
_WARM = 3
_TOLERATED = 0.12  # of the pace at the end of a training, above which what follows is planned by it
_WORTH = 0.1  # a change of the length by less is not worth beginning once more
_FINAL = "final"  # the checkpoint that says how long the final training is
_CONTEST = "contest"  # the checkpoint that says how many trainings the contest came to
# Of the planned epochs of the final training, what a contest has to leave. A contest of two rungs is planned to take
# about as long as that training: on a machine that became twice as slow the first rung still fits, on a slower one
# none does.
_LEFT_FOR_FINAL = 0.5
_RECENT = 3  # trainings whose speed is that of the machine now


class Pace:
    """Asked before every step whether to stop: the unit has to end, or another length is wanted."""

    def __init__(self, context: UnitContext, steps_per_epoch: int, *, is_open: bool) -> None:
        self._context, self._steps_per_epoch = context, steps_per_epoch
        self._looks = list(_LOOKS) if is_open and self._expected > 0 else []
        self._steps = self._first = 0
        self._began = 0.0
        self.epochs: int | None = None

    @property
    def _expected(self) -> float:
        """Seconds of an epoch as they were planned; 0 where the length does not follow from the time."""
        job = self._context.job
        if job.plan is None or job.plan.promises != "time" or job.preflight is None or job.preflight.speeds is None:
            return 0.0
        return job.preflight.speeds.supernet_epoch

    def __call__(self) -> bool:
        if self._context.must_end():
            return True
        self._steps += 1
        if self._steps == _WARM:
            self._mark()
        if not self._looks or self._steps - self._first < _LEAST_STEPS:
            return False
        (share, tolerated), is_first = self._looks[0], len(self._looks) == len(_LOOKS)
        passed = time.monotonic() - self._began
        if passed < max(_LEAST_SECONDS, share * (self._context.job.budget.wall_time or 0.0)):
            return False
        self._looks.pop(0)
        pace = self._recent()
        self._mark()
        if abs(pace - 1) > tolerated and (is_first or pace > 1):
            self.epochs = self._planned_anew(pace)
        return self.epochs is not None

    def end(self) -> None:
        """Keep the pace since the last look where it was slower than what is known: what follows is planned by it."""
        plan = self._context.journal.job().plan
        if plan is None or self._expected <= 0 or self._steps - self._first < _LEAST_STEPS:
            return
        pace = self._recent()
        if pace > plan.pace * (1 + _TOLERATED):
            note = (
                f"in its later part training took {pace:.2g} times what preflight measured; the rest is planned by it"
            )
            self._context.journal.plan(pace=pace, notes=[*plan.notes, note])

    def _mark(self) -> None:
        self._first, self._began = self._steps, time.monotonic()

    def _recent(self) -> float:
        """What an epoch took since the last mark, over what was planned."""
        each = (time.monotonic() - self._began) / (self._steps - self._first)
        return each * self._steps_per_epoch / self._expected

    def _planned_anew(self, pace: float) -> int | None:
        """The length where training takes `pace` times what was measured; None where it is about what it was."""
        job = self._context.journal.job()
        promise = promise_of(job)
        if promise is None or job.preflight is None or job.preflight.speeds is None:
            return None
        plan, _, limit, limits, spec = promise
        speeds = paced(job.preflight.speeds, pace)
        amounts = fitting(limits, speeds, AIM * limit - self._context.journal.elapsed())
        if plan.epochs is None or abs(amounts.epochs - plan.epochs) <= _WORTH * plan.epochs:
            return None
        found = with_amounts(plan.model_copy(update={"pace": pace}), amounts, speeds, limits, Phase.SUPERNET)
        note = f"training takes {pace:.2g} times what preflight measured; planned anew: {in_words(found, spec)}"
        self._context.journal.plan(**found.model_dump(mode="json", exclude={"notes"}), notes=[*plan.notes, note])
        return amounts.epochs


class ContestPace:
    """Asked before each training of a contest whether the rest of its rung leaves time for the final training.

    A contest that is taken up again, or done again by the plan of another job, ends where it ended.
    """

    def __init__(self, context: UnitContext) -> None:
        self._context, self.trained = context, 0
        plan, kept = context.journal.job().plan, context.checkpoints.load(_CONTEST)
        self._most: int | None = None
        if kept is not None:
            self._most = int(kept.meta["trained"])
        elif plan is not None and plan.fixed:
            self._most = plan.contested.get(context.unit.key)
        self._is_known = self._most is not None

    def allows(self, num_networks: int, epochs: int) -> bool:
        """Whether so many networks, the rest of a rung, can be trained for so many epochs each."""
        if self._most is not None:
            return self.trained < self._most
        context = self._context
        job, planned_epochs = context.journal.job(), context.spec.deliver.training.epochs
        promise = promise_of(job)
        if promise is None:
            return True
        of_train, of_both = _epoch_seconds(context, promise)
        waiting = max(1, context.spec.deliver.networks - len(job.deliveries))
        left = (AIM * promise.seconds - context.journal.elapsed()) / waiting - promise.speeds.delivery
        return num_networks * epochs * of_train + _LEFT_FOR_FINAL * planned_epochs * of_both <= left

    def end(self, num_rungs: int, done: int) -> None:
        """Keep how far the contest came, and say what was left out of it."""
        self._context.checkpoints.save(_CONTEST, {}, {"trained": self.trained})
        plan = self._context.journal.job().plan
        if plan is None:
            return
        late = (
            f"late in the delivery, so {num_rungs - done} of {num_rungs} rungs of its contest were left out: they "
            f"would have left less than {_LEFT_FOR_FINAL:g} of the planned epochs for the final training"
        )
        notes = plan.notes if done == num_rungs or self._is_known else (*plan.notes, late)
        self._context.journal.plan(contested={self._context.unit.key: self.trained}, notes=list(notes))


def fix_final_training(context: UnitContext, winner: Architecture) -> None:
    """Set how long the final training is, by the time that is left; one that is taken up again keeps its length.

    Where several networks are delivered, all are trained as long as was planned for them together.
    """
    plan, asked = context.journal.job().plan, context.spec.deliver.training.epochs
    if plan is None:
        return
    kept = context.checkpoints.load(_FINAL)
    if kept is not None:
        epochs = int(kept.meta["epochs"])
    elif plan.fixed:
        epochs = plan.final_epochs or asked
    else:
        epochs = asked if context.spec.deliver.networks > 1 else _affordable(context, winner) or asked
    context.checkpoints.save(_FINAL, {}, {"epochs": epochs})
    context.spec = with_final_epochs(context.spec, epochs)
    late = f"late before the final training, so budget.wall_time leaves {epochs} of {asked} epochs for it"
    notes = plan.notes if epochs >= asked or plan.fixed else (*plan.notes, late)
    context.journal.plan(
        final_epochs=epochs,
        delivery_epochs=asked,
        contenders=context.spec.deliver.contenders,
        precision=context.bench.precision,
        notes=list(notes),
    )


def _affordable(context: UnitContext, winner: Architecture) -> int | None:
    """The epochs of the final training for which there is time, as fast as the machine is now."""
    promise = promise_of(context.journal.job())
    if promise is None:
        return None
    _, epoch = _epoch_seconds(context, promise, of=winner)
    left = AIM * promise.seconds - context.journal.elapsed() - promise.speeds.delivery
    return promise.limits.delivery_epochs.affordable(left, epoch)


def _epoch_seconds(context: UnitContext, promise: Promise, *, of: Architecture | None = None) -> tuple[float, float]:
    """Of an epoch over train, and of one over train and valid: by the contest, the audit, or the plan.

    Args:
        of: the network whose longest training in the contest counts; none, or one that did not contend: the last few.
    """
    plan, speeds, data = promise.plan, promise.speeds, context.bench.dataset
    more = (len(data.train) + len(data.valid)) / len(data.train)
    trained = [
        (e.proposal.fidelity.resources["epochs"], e.seconds, e.proposal.digest)
        for e in context.journal.settled("contender")
        if e.seconds
    ]
    own = [max(mine)] if of and (mine := [each for each in trained if each[2] == of.digest]) else trained[-_RECENT:]
    if own:
        each = statistics.mean(seconds / epochs for epochs, seconds, _ in own)
        return each, more * each
    # a planned epoch holds its share of the contest: one more pass over train
    each = speeds.delivery_epoch / (more + (context.spec.deliver.contenders > 1))
    level, expected = audit_level(context.spec), (plan.audit_epochs or 0) * speeds.audit_epoch + speeds.audit_network
    audited = [e.seconds for e in context.journal.settled(level) if e.seconds and e.proposal.reason == AUDITED]
    if audited and expected and context.spec.audit.evaluator is None:
        each *= statistics.mean(audited[-_RECENT:]) / expected
    return each, more * each
