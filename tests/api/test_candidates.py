"""Candidates, front and figures of a job over HTTP."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import pytest

from nas.resources import Candidate, Event, Page, ParetoFront
from tests.api.conftest import TEXTS, Running, digest_of
from tests.api.test_jobs import problem


def all_of(service: Running, path: str, **query: Any) -> list[dict[str, Any]]:
    """The items of all pages."""
    found: list[dict[str, Any]] = []
    while True:
        page = service.http.get(path, params=query).json()
        found += page["items"]
        if "next_page_token" not in page or page["next_page_token"] is None:
            return found
        query["page_token"] = page["next_page_token"]


def test_candidates_come_in_the_order_that_is_asked_for(service: Running) -> None:
    job = service.searched()
    path = f"/v1/jobs/{job.job_id}/candidates"
    in_order = [digest_of(text) for text in TEXTS]
    assert [c["digest"] for c in all_of(service, path, page_size=5)] == in_order
    best_first = all_of(service, path, page_size=5, order_by="accuracy@supernet", descending=True)
    assert [c["digest"] for c in best_first] == in_order[::-1]
    assert Candidate.model_validate(best_first[0]).values == {"accuracy@supernet": 0.61, "params@cost": 1011.0}


def test_candidates_are_filtered_by_feasibility_and_front(service: Running) -> None:
    job = service.searched(num_candidates=4)
    path = f"/v1/jobs/{job.job_id}/candidates"
    assert len(all_of(service, path, on_front=True)) == 4
    assert all_of(service, path, on_front=False) == []
    assert all_of(service, path, feasible=False) == []


def test_an_order_that_is_none_is_refused(service: Running) -> None:
    job = service.searched(num_candidates=1)
    answer = service.http.get(f"/v1/jobs/{job.job_id}/candidates?order_by=accuracy")
    assert "metric@level" in str(problem(answer, 422, "INVALID_REQUEST")["violations"])


def test_a_candidate_shows_its_evaluations(service: Running) -> None:
    job = service.searched(num_candidates=2)
    found = service.http.get(f"/v1/jobs/{job.job_id}/candidates/{digest_of(TEXTS[1])}").json()
    candidate = Candidate.model_validate(found)
    assert [m.metric for e in candidate.evaluations for m in e.measurements] == ["accuracy", "params"]


def test_the_best_candidate_is_the_first_of_the_front_by_the_first_objective(service: Running) -> None:
    job = service.searched()
    best = service.http.get(f"/v1/jobs/{job.job_id}/candidates/best").json()
    assert best["digest"] == digest_of(TEXTS[-1])
    front = ParetoFront.model_validate(service.http.get(f"/v1/jobs/{job.job_id}/pareto").json())
    assert front.points[0].digest == best["digest"]
    assert len(front.points) == len(TEXTS)


def test_there_is_no_best_candidate_before_the_first_evaluation(service: Running) -> None:
    job = service.submit()
    answer = service.http.get(f"/v1/jobs/{job.job_id}/candidates/best")
    assert "evaluated yet" in str(problem(answer, 404, "NOT_FOUND")["detail"])


def test_an_unknown_candidate_is_not_found(service: Running) -> None:
    job = service.submit()
    problem(service.http.get(f"/v1/jobs/{job.job_id}/candidates/0123456789abcdef"), 404, "NOT_FOUND")


@pytest.mark.parametrize("name", ["pareto", "hypervolume", "training", "paths"])
def test_every_figure_is_one_that_plotly_draws_before_and_after_the_search(service: Running, name: str) -> None:
    early = service.submit()
    empty = service.http.get(f"/v1/jobs/{early.job_id}/figures/{name}").json()
    assert empty["data"] == []
    assert empty["layout"]["annotations"][0]["text"]
    service.http.post(f"/v1/jobs/{early.job_id}/cancel")
    job = service.searched()
    figure = service.http.get(f"/v1/jobs/{job.job_id}/figures/{name}").json()
    assert len(go.Figure(figure).data) >= 1


def test_a_point_of_the_front_is_resolved_by_its_customdata(service: Running) -> None:
    job = service.searched()
    figure = service.http.get(f"/v1/jobs/{job.job_id}/figures/pareto?sample=3").json()
    front = next(trace for trace in figure["data"] if trace["name"] == "Pareto front")
    for digest in front["customdata"]:
        assert service.http.get(f"/v1/jobs/{job.job_id}/candidates/{digest}").status_code == 200


def test_any_two_values_are_axes_of_the_front(service: Running) -> None:
    address = f"/v1/jobs/{service.searched().job_id}/figures/pareto"
    front = service.http.get(address, params={"x": "number", "y": "params@cost"}).json()["data"][-1]
    assert front["x"] == list(range(len(TEXTS)))
    assert front["y"] == [1000.0 + number for number in range(len(TEXTS))]
    problem(service.http.get(address, params={"x": "params"}), 422, "INVALID_REQUEST")


def test_an_unknown_figure_names_those_there_are(service: Running) -> None:
    job = service.submit()
    answer = service.http.get(f"/v1/jobs/{job.job_id}/figures/pie")
    assert "hypervolume" in str(problem(answer, 422, "INVALID_REQUEST")["violations"])


def test_a_candidate_is_drawn_with_its_operations(service: Running) -> None:
    job = service.searched(num_candidates=1)
    for named in (digest_of(TEXTS[0]), "best"):
        figure = service.http.get(f"/v1/jobs/{job.job_id}/candidates/{named}/figure").json()
        names = {trace["name"] for trace in figure["data"]}
        assert {"nor_conv_3x3", "nor_conv_1x1", "skip_connect", "nodes"} <= names


def test_events_come_in_pages_from_any_point_and_by_type(service: Running) -> None:
    job = service.searched()
    path = f"/v1/jobs/{job.job_id}/events"
    every = [Event.model_validate(item) for item in all_of(service, path, page_size=4)]
    assert [event.sequence for event in every] == list(range(1, len(every) + 1))
    later = Page[Event].model_validate(service.http.get(path, params={"after": 5}).json())
    assert later.items == tuple(every[5:])
    epochs = service.http.get(path, params={"type": ["epoch"]}).json()["items"]
    assert [item["data"]["epoch"] for item in epochs] == [0, 1, 2]
