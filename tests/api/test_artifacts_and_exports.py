"""Artifacts and exports over HTTP."""

from __future__ import annotations

import pytest

from nas.resources import ArtifactInfo, Export, Job, Phase
from tests.api.conftest import TEXTS, Running, SearchOnly, digest_of, fill
from tests.api.test_jobs import problem

CONTENT = bytes(range(256)) * 40


def artifact_of(service: Running, job: Job) -> ArtifactInfo:
    (item,) = service.http.get(f"/v1/jobs/{job.job_id}/artifacts").json()["items"]
    return ArtifactInfo.model_validate(item)


def test_an_artifact_is_downloaded_whole_under_its_name(delivered: tuple[Running, Job]) -> None:
    service, job = delivered
    info = artifact_of(service, job)
    assert ArtifactInfo.model_validate(service.http.get(f"/v1/artifacts/{info.artifact_id}").json()) == info
    answer = service.http.get(f"/v1/artifacts/{info.artifact_id}/content")
    assert answer.content == CONTENT
    assert answer.headers["content-disposition"] == 'attachment; filename="model.onnx"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_broken_download_goes_on_where_it_broke(delivered: tuple[Running, Job]) -> None:
    service, job = delivered
    path = f"/v1/artifacts/{artifact_of(service, job).artifact_id}/content"
    first = service.http.get(path, headers={"Range": "bytes=0-999"})
    tag = first.headers["etag"]
    rest = service.http.get(path, headers={"Range": "bytes=1000-", "If-Range": tag})
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.content + rest.content == CONTENT
    assert service.http.get(path, headers={"If-None-Match": tag}).status_code == 304
    other = service.http.get(path, headers={"Range": "bytes=1000-", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, CONTENT)


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("bytes=99999-", 416, "RANGE_NOT_SATISFIABLE"),
        ("bytes=9-3", 400, "MALFORMED_RANGE"),
        ("bytes=-", 400, "MALFORMED_RANGE"),
        ("lines=1-2", 400, "MALFORMED_RANGE"),
        ("bytes=a-b", 400, "MALFORMED_RANGE"),
        ("bytes=0-1,99999-", 416, "RANGE_NOT_SATISFIABLE"),
        ("bytes=0-1,5", 400, "MALFORMED_RANGE"),
    ],
)
def test_a_range_that_cannot_be_sent_is_a_problem(
    delivered: tuple[Running, Job], asked: str, status: int, code: str
) -> None:
    service, job = delivered
    path = f"/v1/artifacts/{artifact_of(service, job).artifact_id}/content"
    problem(service.http.get(path, headers={"Range": asked}), status, code)


def test_several_parts_are_sent_in_one_answer(delivered: tuple[Running, Job]) -> None:
    service, job = delivered
    path = f"/v1/artifacts/{artifact_of(service, job).artifact_id}/content"
    answer = service.http.get(path, headers={"Range": "bytes=0-3, -2"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")


def test_a_file_that_was_damaged_is_not_sent(delivered: tuple[Running, Job]) -> None:
    service, job = delivered
    info = artifact_of(service, job)
    service.store.artifact_path(info.artifact_id).write_bytes(b"x" * len(CONTENT))
    answer = service.http.get(f"/v1/artifacts/{info.artifact_id}/content")
    problem(answer, 503, "STORE_UNAVAILABLE")


@pytest.mark.parametrize("path", ["", "/content"])
def test_an_unknown_artifact_is_not_found(service: Running, path: str) -> None:
    problem(service.http.get(f"/v1/artifacts/art_none{path}"), 404, "NOT_FOUND")


def test_an_export_is_queued_and_found_again(delivered: tuple[Running, Job]) -> None:
    service, job = delivered
    wanted = {"candidate": digest_of(TEXTS[0]), "formats": ["onnx", "pytorch", "onnx"]}
    answer = service.http.post(f"/v1/jobs/{job.job_id}/exports", json=wanted)
    assert answer.status_code == 202
    export = Export.model_validate(answer.json())
    assert (export.formats, export.weights, export.state) == (("onnx", "pytorch"), "trained", "QUEUED")
    assert Export.model_validate(service.http.get(answer.headers["location"]).json()) == export
    assert [item["export_id"] for item in service.http.get(f"/v1/jobs/{job.job_id}/exports").json()["items"]] == [
        export.export_id
    ]


def test_the_best_candidate_is_exported_with_the_weights_it_was_delivered_with(delivered: tuple[Running, Job]) -> None:
    service, job = delivered
    export = service.http.post(f"/v1/jobs/{job.job_id}/exports", json={}).json()
    assert (export["digest"], export["weights"]) == (job.deliveries[0].digest, "trained")


class SharedWeights(SearchOnly):
    """A planner of jobs that train a supernet before they search."""

    def stages(self, job: Job) -> tuple[Phase, ...]:
        return (Phase.SUPERNET, Phase.SEARCH)


def test_without_a_supernet_the_default_is_trained_and_inherited_is_refused_with_that_way_out(
    delivered: tuple[Running, Job],
) -> None:
    service, job = delivered
    path, wanted = f"/v1/jobs/{job.job_id}/exports", {"candidate": digest_of(TEXTS[0])}
    assert service.http.post(path, json=wanted).json()["weights"] == "trained"
    refused = problem(service.http.post(path, json=wanted | {"weights": "inherited"}), 409, "INVALID_STATE")
    assert "no trained supernet" in str(refused["detail"])
    assert "`trained`" in str(refused["detail"])


def test_with_a_supernet_what_was_not_delivered_comes_with_inherited_weights(service: Running) -> None:
    job, worker = service.submit(), service.store.register_worker("tests", 1, "cpu")
    for _ in SharedWeights().stages(job):
        lease = service.store.claim(worker.worker_id, lease_seconds=60, planner=SharedWeights())
        assert lease is not None
        if lease.unit.stage is Phase.SEARCH:
            fill(lease, 2)
        lease.complete({"artifact_id": "art_1"})
    answer = service.http.post(f"/v1/jobs/{job.job_id}/exports", json={"candidate": digest_of(TEXTS[0])})
    assert answer.json()["weights"] == "inherited"


@pytest.mark.parametrize(
    ("wanted", "field", "allowed"),
    [
        ({"formats": ["tflite"]}, "formats.0", "torch_export"),
        ({"formats": []}, "formats", "at least 1"),
        ({"weights": "random"}, "weights", "inherited"),
        ({"digest": "best"}, "digest", "no such key"),
    ],
)
def test_a_wrong_export_names_what_is_allowed(
    delivered: tuple[Running, Job], wanted: dict[str, object], field: str, allowed: str
) -> None:
    service, job = delivered
    body = problem(service.http.post(f"/v1/jobs/{job.job_id}/exports", json=wanted), 422, "INVALID_REQUEST")
    violations = body["violations"]
    assert isinstance(violations, list)
    assert violations[0]["field"] == field
    assert allowed in violations[0]["allowed"]


def test_a_job_that_trains_nothing_exports_nothing(service: Running) -> None:
    measured = {"name": "external", "config": {"metrics": {"accuracy": "full"}}}
    job = service.submit(dataset=None, evaluator=measured)
    fill(service.lease(), 1)
    answer = service.http.post(f"/v1/jobs/{job.job_id}/exports", json={"candidate": digest_of(TEXTS[0])})
    body = problem(answer, 409, "INVALID_STATE")
    assert "names no data set" in str(body["detail"])


def test_an_export_of_an_unknown_candidate_is_not_found(delivered: tuple[Running, Job]) -> None:
    service, job = delivered
    answer = service.http.post(f"/v1/jobs/{job.job_id}/exports", json={"candidate": "0" * 16})
    problem(answer, 404, "NOT_FOUND")
    problem(service.http.get("/v1/exports/exp_none"), 404, "NOT_FOUND")
