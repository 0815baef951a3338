"""Jobs over HTTP: submitting, listing, changing, acting, deleting."""

from __future__ import annotations

import httpx
import pytest

from nas.resources import Job, JobState, Page
from tests.api.conftest import SPEC, Running


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_a_submitted_job_is_answered_with_its_address_and_version(service: Running) -> None:
    answer = service.http.post("/v1/jobs", json=SPEC)
    assert answer.status_code == 201
    job = Job.model_validate(answer.json())
    assert job.state is JobState.QUEUED
    assert [o.key for o in job.objectives] == ["accuracy@supernet", "params@cost"]
    assert answer.headers["location"] == f"/v1/jobs/{job.job_id}"
    assert answer.headers["etag"] == '"1"'
    assert Job.model_validate(service.http.get(answer.headers["location"]).json()) == job


def test_a_wrong_spec_is_refused_with_every_violation(service: Running) -> None:
    wrong = {"dataset": "digits", "space": "nowhere", "searcher": "nobody", "supernet": {"recipe": "none"}}
    body = problem(service.http.post("/v1/jobs", json=wrong), 422, "INVALID_SPEC")
    violations = body["violations"]
    assert isinstance(violations, list)
    assert {v["field"] for v in violations} == {"space", "searcher", "supernet.recipe"}
    assert all("nasbench201" in v["allowed"] for v in violations if v["field"] == "space")


def test_unknown_keys_and_wrong_types_are_named_together(service: Running) -> None:
    body = problem(service.http.post("/v1/jobs", json={"datset": 1, "batch": "many"}), 422, "INVALID_SPEC")
    assert isinstance(body["violations"], list)
    assert {v["field"] for v in body["violations"]} == {"datset", "batch"}


@pytest.mark.parametrize("body", [b"{", b"[1, 2]", b'"text"', b"null", b"", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_mapping_is_refused(service: Running, body: bytes) -> None:
    answer = service.http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    problem(answer, 422, "INVALID_REQUEST")


def test_pages_of_jobs_hold_every_job_once_newest_first(service: Running) -> None:
    made = [service.submit(name=f"job {number}").job_id for number in range(5)]
    found: list[str] = []
    token = None
    while True:
        query = {"page_size": 2} | ({"page_token": token} if token else {})
        page = Page[Job].model_validate(service.http.get("/v1/jobs", params=query).json())
        found += [job.job_id for job in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert found == sorted(made, reverse=True)


def test_jobs_are_found_by_state_and_label(service: Running) -> None:
    first = service.submit(labels={"team": "vision"})
    second = service.submit(labels={"team": "sound"})
    service.http.post(f"/v1/jobs/{second.job_id}/cancel")

    def found(**query: str) -> list[str]:
        return [job["job_id"] for job in service.http.get("/v1/jobs", params=query).json()["items"]]

    assert found(label="team:vision") == [first.job_id]
    assert found(label="team") == [second.job_id, first.job_id]
    assert found(state="CANCELLED") == [second.job_id]
    assert found(state="FAILED") == []


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        ({"state": "DONE"}, "state", "SUCCEEDED"),
        ({"page_size": "0"}, "page_size", "1"),
        ({"page_size": "1001"}, "page_size", "1000"),
        ({"page_size": "many"}, "page_size", "whole number"),
        ({"page_token": "nonsense"}, "page_token", "next_page_token"),
    ],
)
def test_a_wrong_query_names_the_parameter_and_what_is_allowed(
    service: Running, query: dict[str, str], field: str, allowed: str
) -> None:
    answer = service.http.get("/v1/jobs", params=query)
    assert answer.status_code == 422
    violation = answer.json()["violations"][0]
    assert violation["field"] == field
    assert allowed in violation["allowed"]
    assert query[field] in violation["value"]


def test_a_change_needs_the_version_that_it_changes(service: Running) -> None:
    job = service.submit()
    problem(service.http.patch(f"/v1/jobs/{job.job_id}", json={"name": "other"}), 428, "PRECONDITION_REQUIRED")
    changed = service.http.patch(f"/v1/jobs/{job.job_id}", json={"name": "other"}, headers={"If-Match": '"1"'})
    assert changed.status_code == 200
    assert changed.json()["name"] == "other"
    assert changed.headers["etag"] == '"2"'


@pytest.mark.parametrize("stale", ['"7"', '"0"', '"abc"', "job", ""])
def test_a_change_of_another_version_is_refused(service: Running, stale: str) -> None:
    job = service.submit()
    answer = service.http.patch(f"/v1/jobs/{job.job_id}", json={"name": "x"}, headers={"If-Match": stale})
    problem(answer, 412, "PRECONDITION_FAILED")
    assert service.store.job(job.job_id).name == "small"


def test_a_star_changes_whichever_version_there_is(service: Running) -> None:
    job = service.submit()
    change = {"budget": {"evaluations": 999}, "labels": {"a": "b"}}
    answer = service.http.patch(f"/v1/jobs/{job.job_id}", json=change, headers={"If-Match": "*"})
    changed = Job.model_validate(answer.json())
    assert changed.budget.evaluations == 999
    assert changed.budget.epochs == job.budget.epochs
    assert changed.labels == {"a": "b"}


def test_a_change_of_what_is_frozen_is_refused(service: Running) -> None:
    job = service.submit()
    answer = service.http.patch(f"/v1/jobs/{job.job_id}", json={"seed": 3}, headers={"If-Match": "*"})
    assert problem(answer, 422, "INVALID_REQUEST")["violations"] == [
        {"field": "seed", "value": "3", "allowed": "no such key; there are name, labels, budget"}
    ]


def test_verbs_move_the_job(service: Running) -> None:
    job = service.submit()
    assert service.http.post(f"/v1/jobs/{job.job_id}/pause").json()["state"] == "PAUSED"
    assert service.http.post(f"/v1/jobs/{job.job_id}/resume").json()["state"] == "QUEUED"
    assert service.http.post(f"/v1/jobs/{job.job_id}/stop").json()["state"] == "STOPPING"
    assert service.http.post(f"/v1/jobs/{job.job_id}/cancel").json()["state"] == "CANCELLED"
    body = problem(service.http.post(f"/v1/jobs/{job.job_id}/pause"), 409, "INVALID_STATE")
    assert "CANCELLED" in str(body["detail"])


def test_a_job_that_waits_for_its_data_says_so_and_is_resumed(service: Running) -> None:
    path = f"/v1/jobs/{service.submit().job_id}"
    service.lease().pause("dataset changed since this job began")
    job = service.http.get(path).json()
    assert (job["state"], job["reason"]) == ("PAUSED", "dataset changed since this job began")
    told = [event["data"] for event in service.http.get(f"{path}/events").json()["items"]]
    assert {"state": "PAUSED", "reason": "dataset changed since this job began"} in told
    resumed = service.http.post(f"{path}/resume").json()
    assert (resumed["state"], resumed["reason"]) == ("RUNNING", None)


def test_only_a_job_that_is_over_is_deleted(service: Running) -> None:
    job = service.submit()
    problem(service.http.delete(f"/v1/jobs/{job.job_id}"), 409, "INVALID_STATE")
    service.http.post(f"/v1/jobs/{job.job_id}/cancel")
    assert service.http.delete(f"/v1/jobs/{job.job_id}").status_code == 204
    problem(service.http.get(f"/v1/jobs/{job.job_id}"), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["", "/candidates", "/pareto", "/events", "/figures/pareto", "/artifacts", "/exports"])
def test_an_unknown_job_is_not_found_wherever_it_is_named(service: Running, path: str) -> None:
    body = problem(service.http.get(f"/v1/jobs/job_none{path}"), 404, "NOT_FOUND")
    assert "job_none" in str(body["detail"])
