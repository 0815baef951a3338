"""A job's progress in the terminal: a bar with phase, counters, best value and time left, or plain lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nas.client._events import Message
from nas.plain import visible
from nas.resources import Job, JobState, ParetoFront, Phase

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_LINE_SECONDS = 10.0
_FRONT_SECONDS = 2.0
_LOUD = ("warning", "error")


class ProgressDisplay:
    """Shows a job while somebody waits for it. Does nothing when not `shown`."""

    def __init__(self, job: Job, *, shown: bool, console: Console | None = None) -> None:
        self.job, self.shown, self._console = job, shown, console
        self._best = ""
        self._front_at, self._front_grew = -_FRONT_SECONDS, True
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._line_at, self._line = 0.0, ("", "")
        self._cell: _Cell | None = None

    def __enter__(self) -> Self:
        if self.shown:
            self._start()
            self.update(self.job)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, job: Job) -> None:
        """The job changed."""
        self.job = job
        if self._bar is not None and self._task is not None:
            done = 1.0 if job.state is JobState.SUCCEEDED else job.progress.fraction
            self._bar.update(
                self._task,
                completed=done,
                phase=_phase(job),
                counters=visible(counters(job)),
                best=visible(self._best),
                left=_left(job),
            )
        elif self.shown:
            self._print_line()

    def tell(self, message: Message) -> None:
        """An event that is worth a line of its own."""
        if not self.shown:
            return
        data = message.data.get("data") or {}
        is_loud = message.type == "log" and data.get("level") in _LOUD
        if is_loud or message.type == "lease":
            self._say(f"{message.type}: {data.get('message', '')}")
        elif message.type == "job.state" and data.get("state") == JobState.PAUSED and data.get("reason"):
            self._say(f"paused: {data['reason']}")  # it waits for whoever reads this

    def wants_front(self, message: Message) -> bool:
        """Whether to ask for the front: it may have grown since, and was not asked for just now; whatever is told.

        Asked too soon it is asked for at a later message; whoever waits asks once more at the end.
        """
        self._front_grew |= message.type in ("evaluations", "front", "phase", "delivery")
        now = time.monotonic()
        if not self.shown or not self._front_grew or now - self._front_at < _FRONT_SECONDS:
            return False
        self._front_at, self._front_grew = now, False
        return True

    def front(self, front: ParetoFront) -> None:
        """The front as it stands."""
        self._best = best_value(front)
        self.update(self.job)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._console = self._console or Console()
        if self._console.is_jupyter:  # rich's bar needs ipywidgets there
            self._cell = _Cell()
        if self._cell or not self._console.is_terminal:
            return
        columns = (
            TextColumn("[bold]{task.fields[phase]}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[counters]}"),
            TextColumn("[green]{task.fields[best]}"),
            TextColumn("[cyan]{task.fields[left]}"),
        )
        self._bar = Progress(*columns, console=self._console)
        self._task = self._bar.add_task("job", total=1.0, phase="", counters="", best="", left="")
        self._bar.start()

    def _print_line(self) -> None:
        if self._cell:
            self._cell.show(self._words())
            return
        key = (self.job.state.value, _phase(self.job))
        now = time.monotonic()
        if key == self._line and now - self._line_at < _LINE_SECONDS:
            return
        self._line, self._line_at = key, now
        self._say(self._words())

    def _words(self) -> str:
        share = whole_percent(self.job.progress.fraction)
        parts = (f"{self.job.name}: {_phase(self.job)}", share, counters(self.job), self._best, _left(self.job))
        return "  ".join(part for part in parts if part)

    def _say(self, line: str) -> None:
        if self._console:
            self._console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


class _Cell:
    """One line of a notebook, written over as the job goes on."""

    def __init__(self) -> None:
        display = sys.modules["IPython.display"].display  # loaded in every notebook, and needed in no other place
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, line: str) -> None:
        self._handle.update({"text/plain": line}, raw=True)


def whole_percent(fraction: float) -> str:
    """`29%`; 100 % only of what is whole."""
    return f"{min(round(100 * fraction), 100 if fraction >= 1 else 99)}%"


def counters(job: Job) -> str:
    """What has been done in the job's phase, in words."""
    progress = job.progress
    counted = {
        Phase.SUPERNET: (progress.epochs_done, progress.epochs_total, "epochs"),
        Phase.SEARCH: (progress.evaluations_done, progress.evaluations_total, "evaluations"),
        Phase.AUDIT: (progress.audited, progress.audits_total, "audited"),
        Phase.DELIVER: (progress.delivered, progress.deliveries_total, "delivered"),
    }
    done, total, noun = counted.get(progress.phase, (0, 0, "")) if progress.phase else (0, 0, "")
    return f"{done}/{total} {noun}" if total else progress.message


def best_value(front: ParetoFront) -> str:
    """The best value of the first objective on the front, and the size of the front."""
    if not front.points or not front.objectives:
        return ""
    first = front.objectives[0]
    values = [point.values[first.key] for point in front.points if first.key in point.values]
    if not values:
        return ""
    best = max(values) if first.direction == "max" else min(values)
    return f"best {first.metric} {best:.4g}, front {len(front.points)}"


def duration(seconds: float) -> str:
    """Seconds for people: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _phase(job: Job) -> str:
    if job.state is JobState.RUNNING and job.progress.phase:
        return job.progress.phase.value
    return job.state.value


def _left(job: Job) -> str:
    if job.state.is_terminal:
        return duration(job.spent.wall_seconds)
    return f"{duration(job.progress.seconds_left)} left" if job.progress.seconds_left else ""
