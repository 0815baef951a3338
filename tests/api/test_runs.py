"""`nas run` takes up the unfinished job of a spec, with what was edited since, and ignores nothing in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api.runs import Run, begin_or_go_on
from nas.client import Client
from nas.resources import JobState
from nas.spec import JobSpec
from tests.api.conftest import Running

WRITTEN: dict[str, Any] = {"name": "mine", "dataset": "digits", "budget": {"evaluations": 40}, "labels": {"a": "b"}}


@pytest.fixture
def client(service: Running) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def run(client: Client, **changes: Any) -> Run:
    return begin_or_go_on(client, JobSpec.from_mapping({**WRITTEN, **changes}))


def test_an_unfinished_job_goes_on(client: Client) -> None:
    first = run(client)
    assert first.notes == ()
    again = run(client)
    assert (again.handle.job_id, again.notes) == (first.handle.job_id, ("it goes on where it was",))


def test_an_edited_budget_is_taken_for_the_known_job_and_said(client: Client) -> None:
    first = run(client)
    for number in (80, 60, 40):  # back to what was submitted, too
        again = run(client, budget={"evaluations": number, "wall_time": "10m"})
        assert again.handle.job_id == first.handle.job_id
        if number == 40:
            assert "budget.evaluations stays 60, to which the job was changed since; the file says 40" in again.notes
        else:
            assert again.handle.refresh().budget.evaluations == number
            assert any(note.startswith(f"budget.evaluations is {number} now") for note in again.notes)
    assert again.handle.refresh().budget.wall_time == 600
    gone = run(client, budget={"evaluations": 70})
    assert "budget.wall_time stays 600, to which the job was changed since; the file says none" in gone.notes


def test_an_edited_name_and_labels_are_taken(client: Client) -> None:
    first = run(client)
    again = run(client, name="other", labels={"c": "d"})
    assert again.handle.job_id == first.handle.job_id
    job = again.handle.refresh()
    assert (job.name, job.labels) == ("other", {"c": "d"})
    assert "name is other now, as edited; it was mine" in again.notes


def test_what_was_changed_on_the_job_alone_stays(client: Client) -> None:
    first = run(client)
    first.handle.change(budget={"evaluations": 500}, name="page")
    again = run(client)
    assert (again.handle.refresh().budget.evaluations, again.handle.job.name) == (500, "page")
    assert "name stays page, to which the job was changed since; the file says mine" in again.notes


def test_where_the_job_cannot_take_it_a_new_one_begins_and_the_other_is_named(service: Running, client: Client) -> None:
    first = run(client)
    service.lease()  # it starts, and with that the length of its training is fixed
    again = run(client, budget={"evaluations": 40, "epochs": 7})
    assert again.handle.job_id != first.handle.job_id
    assert again.handle.job.budget.epochs == 7
    (note,) = again.notes
    assert "budget.epochs" in note
    assert f"nas cancel {first.handle.job_id}" in note


def test_a_paused_job_goes_on_and_an_ended_one_does_not(client: Client) -> None:
    first = run(client)
    first.handle.pause()
    assert run(client).handle.refresh().state is not JobState.PAUSED
    first.handle.cancel()
    second = run(client)
    assert second.handle.job_id != first.handle.job_id
    assert second.notes == (f"job {first.handle.job_id} of the same spec has ended (CANCELLED); this is a new one",)
    assert run(client, seed=1).notes == ()
