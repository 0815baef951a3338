"""What is sent is JSON that means one thing and can be kept, or it is refused with the field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Running

JSON = {"Content-Type": "application/json"}
HUGE = 10**30
LONG = int("9" * 4000)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"space": "macro", "space": "nasbench201"}', "space"),
        ('{"budget": {"epochs": 1, "epochs": 2}}', "epochs"),
        ('{"searcher": {"name": "random", "config": {"x": NaN}}}', "searcher.config.x"),
        ('{"searcher": {"name": "random", "config": {"x": [-Infinity]}}}', "searcher.config.x.0"),
        ('{"searcher": {"name": "random", "config": {"x": 1e999}}}', "searcher.config.x"),
        ('{"name": "a\\u0000b"}', "name"),
        ('{"labels": {"a": "\\ud800"}}', "labels.a"),
        ('{"labels": {"\\u0000": "a"}}', "labels.\\x00"),
        (json.dumps({"labels": {"a": LONG}}), "labels.a"),
        (json.dumps({"seed": HUGE}), "seed"),
        ('{"labels": {"a": ' + "9" * 5000 + "}}", "(body)"),
        ("[" * 100_000, "(body)"),
        ('{"dataset": ' + "[" * 400 + "]" * 400 + "}", None),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_or_means_two_things_is_refused(service: Running, body: str, field: str | None) -> None:
    for path in ("/v1/jobs", "/v1/jobs?dry_run=true", "/v1/datasets", "/v1/evaluations/claim"):
        answer = service.http.post(path, content=body, headers=JSON)
        assert answer.status_code == 422, (path, answer.text[:300])
        found = [violation["field"] for violation in answer.json()["violations"]]
        assert found
        assert field is None or path == "/v1/evaluations/claim" or field in found or "(body)" in found, found


def test_a_change_that_cannot_be_kept_is_refused(service: Running) -> None:
    job = service.submit()
    for change in ({"name": "a\0b"}, {"labels": {"a": "\0"}}, {"budget": {"wall_time": LONG}}):
        answer = service.http.patch(f"/v1/jobs/{job.job_id}", json=change, headers={"If-Match": "*"})
        assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("text", ["a%00b", "%ED%A0%80", "a%0Ab", "x" * 90, "%2e%2e", HUGE, -HUGE, LONG])
def test_no_odd_name_or_number_in_an_address_fails_inside(service: Running, text: Any) -> None:
    job = service.submit()
    paths = (
        "/v1/jobs/{}", "/v1/datasets/{}", "/v1/tables/{}", "/v1/spaces/{}", "/v1/artifacts/{}/content",
        "/v1/exports/{}", "/v1/jobs?label={}", "/v1/jobs?page_size={}", "/v1/jobs?page_token={}", "/v1/jobs?state={}",
        f"/v1/jobs/{job.job_id}/events?after={{}}", f"/v1/jobs/{job.job_id}/candidates/{{}}",
        f"/v1/jobs/{job.job_id}/candidates?order_by={{}}", f"/v1/jobs/{job.job_id}/figures/{{}}",
    )  # fmt: skip
    for path in paths:
        answer = service.http.get(path.format(text))
        assert answer.status_code < 500, (path, answer.status_code, answer.text[:300])
    for path, body in (
        ("/v1/evaluations/eval_a_1/renew", {"attempt": HUGE}),
        ("/v1/evaluations/eval_a_1/measurements", {"attempt": HUGE, "measurements": {"accuracy": HUGE}}),
        (f"/v1/evaluations/eval_a_{HUGE}/renew", {"attempt": 1}),
        ("/v1/evaluations/claim", {"worker": "w", "target": "t", "count": HUGE}),
    ):
        assert service.http.post(path, json=body).status_code < 500, path
