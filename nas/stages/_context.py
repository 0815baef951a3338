"""What every stage works with."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nas.ports import Artifacts, Checkpoints, Control, Exchange, JobView, Journal
from nas.resources import Job, JsonObject, Phase, Unit, UnitPlan
from nas.spec import JobSpec
from nas.stages._planned import planned
from nas.stages._schedule import AIM
from searchspaces import Cancelled

if TYPE_CHECKING:
    from nas.stages._apart import Limits
    from nas.workbench import Workbench


@dataclass
class UnitContext:
    """One leased unit: the store behind it, a scratch folder, and the device it may use."""

    journal: Journal
    checkpoints: Checkpoints
    artifacts: Artifacts
    exchange: Exchange
    view: JobView
    scratch: Path
    device: str | None = None
    max_threads: int | None = None
    should_yield: Callable[[], bool] = lambda: False
    limits: Limits | None = None
    """What preflight may take in a process of its own; None: it runs in this one, and nothing watches it."""

    @cached_property
    def job(self) -> Job:
        """The job as it stood when the unit began; the spec never changes, budgets may (ask the journal)."""
        return self.journal.job()

    @cached_property
    def spec(self) -> JobSpec:
        """The job's spec with the numbers of its plan."""
        return planned(JobSpec.from_mapping(self.job.spec), self.job.plan)

    @property
    def unit(self) -> Unit:
        return self.journal.unit

    @cached_property
    def bench(self) -> Workbench:
        """Space, data set, task and device; with the supernet once it is trained, and costs as preflight left them."""
        from nas.stages._dear_costs import restored
        from nas.workbench import Workbench

        outputs = self.view.results(Phase.SUPERNET)
        file = self.artifacts.path(outputs[-1]["artifact_id"]) if outputs else None
        bench = Workbench(self.spec, supernet_file=file, device=self.device)
        preflights = self.view.results(Phase.PREFLIGHT)
        restored(preflights[-1].get("measured", {}) if preflights else {}, bench)
        return bench

    def set_threads(self) -> None:
        """Use as many CPU threads as preflight found fastest: more of them make small networks slower."""
        import torch

        allowed = self.max_threads or os.cpu_count() or 1
        results = self.view.results(Phase.PREFLIGHT)
        wanted = results[-1].get("threads") if results else None
        torch.set_num_threads(min(wanted or allowed, allowed))

    def control(self) -> Control:
        """What the user wants; a worker that is to shut down reads as PAUSE."""
        wanted = self.journal.control()
        return Control.PAUSE if wanted is Control.GO and self.should_yield() else wanted

    def must_leave(self) -> bool:
        """Whether the unit has to be given back now: paused, cancelled, or the worker shuts down."""
        return self.control() in (Control.PAUSE, Control.CANCEL)

    def must_end(self) -> bool:
        """Whether no more work is to be begun: `must_leave`, or the user asked to stop."""
        return self.control() is not Control.GO

    def leave(self) -> Cancelled:
        """The error that gives the unit back to the store; its checkpoints and pending evaluations stay."""
        return Cancelled(f"unit {self.unit.unit_id} was asked to end before it was done.")

    def time_left(self, phase: Phase) -> float:
        """Seconds until a phase has to be over, so that those after it keep theirs; infinite without a time.

        The search may take half of the audit's, of which networks are dropped first.
        """
        job = self.journal.job()
        limit, plan = job.budget.wall_time, job.plan
        if limit is None or (plan is not None and plan.fixed):
            return math.inf
        if plan is None or plan.promises != "time":
            return limit - self.journal.elapsed()
        later = list(Phase)[list(Phase).index(phase) + 1 :]
        kept = sum(plan.seconds.get(each, 0.0) for each in later)
        if phase is Phase.SEARCH:
            kept -= plan.seconds.get(Phase.AUDIT, 0.0) / 2
        return AIM * limit - kept - self.journal.elapsed()

    def out_of_time(self, phase: Phase) -> bool:
        """Whether a phase has to end now."""
        return self.time_left(phase) <= 0

    def expected_seconds(self, phase: Phase) -> float:
        """Expected seconds of a phase, as preflight saw them."""
        job = self.journal.job()
        if job.plan is not None and job.plan.promises == "time" and phase in job.plan.seconds:
            return job.plan.seconds[phase]
        return job.preflight.phase_seconds.get(phase, 0.0) if job.preflight else 0.0

    def seconds_after(self, phase: Phase) -> float:
        """Expected seconds of the phases after this one, as preflight saw them."""
        report = self.journal.job().preflight
        later = list(Phase)[list(Phase).index(phase) + 1 :]
        return sum(report.phase_seconds.get(phase, 0.0) for phase in later) if report else 0.0


class Stage(Protocol):
    """A step of a job."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        """The units of work; none when there is nothing to do."""

    def run(self, context: UnitContext) -> JsonObject:
        """Do one unit; its result. Raises Cancelled when it has to be given back unfinished."""
