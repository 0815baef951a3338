"""Plug-ins, workers, health, metrics, the page, and what happens when something fails."""

from __future__ import annotations

import gzip
import logging
from importlib.resources import files

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nas.plugins import KINDS, registry
from nas.resources import PluginInfo, Worker
from searchspaces import NASError, StorageFull, StoreError
from tests.api.conftest import SPEC, Running
from tests.api.test_jobs import problem

NOUNS = {"datasets": "dataset_plugins", "tables": "table_plugins"}  # the other kinds are called what they are


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_is_listed_with_the_schema_of_its_settings(service: Running, kind: str) -> None:
    path = f"/v1/{NOUNS.get(kind, kind)}"
    listed = [PluginInfo.model_validate(item) for item in service.http.get(path).json()["items"]]
    assert [info.name for info in listed] == list(registry(kind))
    for info in listed:
        assert info.error is None
        assert info.config_schema["type"] == "object"
        assert PluginInfo.model_validate(service.http.get(f"{path}/{info.name}").json()) == info


def test_an_unknown_plugin_names_those_there_are(service: Running) -> None:
    body = problem(service.http.get("/v1/spaces/none"), 404, "UNKNOWN_PLUGIN")
    assert "nasbench201" in str(body["detail"])


def test_workers_are_listed(service: Running) -> None:
    worker = service.store.register_worker("here", 42, "cpu")
    assert [Worker.model_validate(item) for item in service.http.get("/v1/workers").json()["items"]] == [worker]


def test_health_is_that_of_the_store(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service.http.get("/healthz").json()["status"] == "ok"

    def broken() -> None:
        raise StoreError("the database does not answer: check that it runs")

    monkeypatch.setattr(service.store, "workers", broken)
    answer = service.http.get("/healthz")
    problem(answer, 503, "STORE_UNAVAILABLE")
    assert answer.headers["retry-after"]


def test_metrics_count_what_the_store_holds_and_what_was_asked(service: Running) -> None:
    service.searched(num_candidates=3)
    service.http.get("/nowhere/at/all")
    text = service.http.get("/metrics").text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["nas_jobs", "SUCCEEDED"] == 1
    assert samples["nas_evaluations_total", "FINISHED"] == 3
    assert samples["nas_http_requests_total", "/v1/jobs", "201", "POST"] == 1
    assert samples["nas_http_requests_total", "(none)", "404", "GET"] == 1
    assert "/nowhere" not in text


def test_two_services_in_one_process_count_apart(service: Running) -> None:
    from api.metrics import Metrics

    assert b"nas_http_requests_total{" not in Metrics(service.store).text()


def test_plotly_is_served_from_its_package_and_kept_by_browsers(service: Running) -> None:
    shipped = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    answer = service.http.get("/static/plotly.min.js")
    assert answer.content == shipped
    assert answer.headers["content-encoding"] == "gzip"
    assert "max-age" in answer.headers["cache-control"]
    plain = service.http.get("/static/plotly.min.js", headers={"Accept-Encoding": "identity"})
    assert plain.content == shipped
    assert len(gzip.compress(shipped, 1)) < len(shipped)
    tag = answer.headers["etag"]
    assert service.http.get("/static/plotly.min.js", headers={"If-None-Match": tag}).status_code == 304


def test_the_page_and_its_files_are_asked_about_each_time(service: Running) -> None:
    page = service.http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    script = service.http.get("/static/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert page.headers["cache-control"] == script.headers["cache-control"] == "no-cache"
    again = service.http.get("/static/app.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/nothing", "/static/none.js", "/static/../app.py"])
def test_an_unknown_route_is_a_problem(service: Running, path: str) -> None:
    problem(service.http.get(path), 404, "NOT_FOUND")


def test_a_wrong_method_names_the_right_ones(service: Running) -> None:
    answer = service.http.put("/v1/jobs", json={})
    problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StorageFull(28, "no room left"), 507, "STORAGE_FULL"),
        (StoreError("the database does not answer"), 503, "STORE_UNAVAILABLE"),
    ],
)
def test_a_store_that_fails_is_told_with_its_reason(
    service: Running, monkeypatch: pytest.MonkeyPatch, error: NASError, status: int, code: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(service.store, "create_job", fail)
    problem(service.http.post("/v1/jobs", json=SPEC), status, code)


@pytest.mark.parametrize("error", [ZeroDivisionError("secret detail"), NASError("secret detail")])
def test_an_unexpected_error_is_logged_whole_and_told_without_detail(
    service: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(service.store, "job", fail)
    with caplog.at_level(logging.ERROR, "nas.api"):
        answer = service.http.get("/v1/jobs/some", headers={"X-Request-ID": "mine-7"})
    body = problem(answer, 500, "INTERNAL")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert body["request_id"] == "mine-7"
    record = next(record for record in caplog.records if "mine-7" in record.getMessage())
    assert record.exc_info
    assert "secret detail" in str(record.exc_info[1])


def test_a_request_id_that_could_confuse_a_log_is_replaced(service: Running) -> None:
    given = "a b; rm"
    answer = service.http.get("/healthz", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] != given
