"""Names come from anybody: nothing that a terminal would obey is written to it as it came."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import UTC, datetime

import pytest
from rich.console import Console

from api import console
from api.logs import PlainFormatter
from nas.client._progress import ProgressDisplay
from nas.plain import visible
from nas.reports import TrustReport
from nas.resources import (
    DatasetInfo,
    FrontPoint,
    Job,
    JobState,
    Objective,
    ParetoFront,
    Phase,
    PluginInfo,
    PreflightReport,
    Progress,
    Spent,
)
from nas.spec import Budget
from searchspaces import NotFound, SpecError, Violation

EVIL = "\x1b]0;owned\x07\x9b31m\r\x7f\u202eevil\u2066\ud800\nline"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
OBJECTIVE = Objective(metric=EVIL, level="full", direction="max")


def job() -> Job:
    return Job(
        job_id="job_1",
        name=EVIL,
        state=JobState.FAILED,
        reason=EVIL,
        progress=Progress(phase=Phase.PREFLIGHT, message=EVIL),
        spec={"space": {"name": EVIL}, "dataset": {"name": EVIL}},
        spec_digest="d",
        budget=Budget(),
        spent=Spent(),
        objectives=(OBJECTIVE,),
        labels={EVIL: EVIL},
        version=1,
        created_at=datetime.now(UTC),
        trust=trust(),
    )


def trust() -> TrustReport:
    return TrustReport(audited=3, verdict=EVIL, truth=EVIL, rankers=(), best=EVIL, notes=(EVIL,))


def test_no_command_writes_what_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    point = FrontPoint(digest="d", text=EVIL, number=0, values={OBJECTIVE.key: 0.5})
    console.print_jobs([job()])
    console.print_job(job(), "http://x")
    console.print_front(ParetoFront(job_id="j", objectives=(OBJECTIVE,), points=(point,)))
    console.print_trust(trust())
    console.print_preflight(PreflightReport(space_size=3, costs=(), satisfiable=True, notes=(EVIL,)))
    console.print_datasets([DatasetInfo(name=EVIL, plugin=EVIL, error=EVIL)])
    console.print_plugins([PluginInfo(kind="spaces", name=EVIL, description=EVIL, source=EVIL)])
    console.print_error(NotFound(f"no job {EVIL}"))
    console.print_error(SpecError([Violation(EVIL, EVIL, EVIL)]))
    console.say(EVIL)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "owned" in text
        assert not OBEYED.search(text), OBEYED.search(text)
    console.say(EVIL)
    assert capsys.readouterr().out.count("\n") == 1


def test_json_keeps_every_character_and_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    text = EVIL.replace("\ud800", "größe 資料")
    console.print_json({"name": text})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"name": text}
    assert "größe 資料" in shown
    assert not OBEYED.search(shown)


def test_progress_and_logs_write_none(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    with ProgressDisplay(job(), shown=True, console=Console(file=stream)) as display:
        display.update(job())
    record = logging.LogRecord("nas", logging.ERROR, "f", 1, "unit of %s failed", (EVIL,), None)
    for text in (stream.getvalue(), PlainFormatter().format(record)):
        assert "owned" in text
        assert not OBEYED.search(text)


def test_what_is_no_control_character_is_shown_as_it_is() -> None:
    for text in ("größe 資料 👩‍🔬", "a\\x1b", "1 < 2 & 'x'"):
        assert visible(text) == text
    assert visible("a\x1b[31m\u202e\x9b") == r"a\x1b[31m\u202e\x9b"
