"""Data sets over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.resources import DatasetInfo
from tests.api.conftest import SPEC, Running
from tests.api.test_jobs import problem


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A small data set in a file."""
    rng = np.random.default_rng(0)
    path = tmp_path / "small.npz"
    np.savez(path, train_x=rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8), train_y=np.arange(60) % 3)
    return path


def test_a_data_set_is_loaded_once_and_then_known_by_name(service: Running, images: Path) -> None:
    wanted = {"name": "mine", "plugin": "npz", "config": {"path": str(images)}}
    answer = service.http.post("/v1/datasets", json=wanted)
    assert answer.status_code == 201, answer.text
    info = DatasetInfo.model_validate(answer.json())
    assert (info.num_classes, info.input_shape, sum(info.sizes.values())) == (3, (1, 8, 8), 60)
    assert answer.headers["location"] == "/v1/datasets/mine"
    assert DatasetInfo.model_validate(service.http.get("/v1/datasets/mine").json()) == info
    assert [item["name"] for item in service.http.get("/v1/datasets").json()["items"]] == ["mine"]
    job = service.http.post("/v1/jobs", json=SPEC | {"dataset": "mine"}).json()
    assert job["spec"]["dataset"] == {"name": "npz", "config": {"path": str(images)}}


def test_a_missing_file_is_refused_with_the_way_out(service: Running, tmp_path: Path) -> None:
    wanted = {"name": "mine", "plugin": "npz", "config": {"path": str(tmp_path / "none.npz")}}
    body = problem(service.http.post("/v1/datasets", json=wanted), 422, "INVALID_DATA")
    assert "none.npz" in str(body["detail"])
    assert service.http.get("/v1/datasets").json()["items"] == []


def test_a_broken_file_is_refused(service: Running, tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04 no more")
    wanted = {"name": "mine", "plugin": "npz", "config": {"path": str(path)}}
    problem(service.http.post("/v1/datasets", json=wanted), 422, "INVALID_DATA")


def test_unknown_formats_and_settings_are_named(service: Running) -> None:
    wanted = {"name": "mine", "plugin": "none"}
    body = problem(service.http.post("/v1/datasets", json=wanted), 422, "INVALID_CONFIG")
    assert "npz" in str(body["violations"])
    wanted = {"name": "mine", "plugin": "npz", "config": {"pth": "x"}}  # type: ignore[dict-item]
    body = problem(service.http.post("/v1/datasets", json=wanted), 422, "INVALID_CONFIG")
    assert "config.pth" in str(body["violations"])


@pytest.mark.parametrize("name", ["", "../etc", "a b", "x" * 101, "-x"])
def test_a_name_is_a_plain_word(service: Running, name: str) -> None:
    answer = service.http.post("/v1/datasets", json={"name": name, "plugin": "digits"})
    problem(answer, 422, "INVALID_REQUEST")


def test_a_check_says_whether_the_files_are_there_and_the_same(service: Running, images: Path) -> None:
    service.http.post("/v1/datasets", json={"name": "mine", "plugin": "npz", "config": {"path": str(images)}})

    def checked() -> DatasetInfo:
        return DatasetInfo.model_validate(service.http.post("/v1/datasets/mine/check").json())

    assert checked().available
    np.savez(images, train_x=np.zeros((60, 1, 8, 8), dtype=np.uint8), train_y=np.arange(60) % 3)
    changed = checked()
    assert (changed.available, "changed" in str(changed.error)) == (False, True)
    images.unlink()
    gone = checked()
    assert (gone.available, "small.npz" in str(gone.error)) == (False, True)


def test_a_format_that_needs_no_settings_is_checked_by_its_own_name(service: Running) -> None:
    found = DatasetInfo.model_validate(service.http.post("/v1/datasets/digits/check").json())
    assert (found.available, found.num_classes, sum(found.sizes.values())) == (True, 10, 1797)
    problem(service.http.post("/v1/datasets/none/check"), 404, "NOT_FOUND")


def test_a_removed_data_set_is_forgotten(service: Running, images: Path) -> None:
    service.http.post("/v1/datasets", json={"name": "mine", "plugin": "npz", "config": {"path": str(images)}})
    assert service.http.delete("/v1/datasets/mine").status_code == 204
    problem(service.http.get("/v1/datasets/mine"), 404, "NOT_FOUND")
    problem(service.http.delete("/v1/datasets/mine"), 404, "NOT_FOUND")
    assert images.is_file()


def test_a_shared_service_takes_no_paths(start: Callable[..., Running], images: Path) -> None:
    service = start(embedded=False)
    config = {"path": str(images)}
    problem(
        service.http.post("/v1/datasets", json={"name": "mine", "plugin": "npz", "config": config}),
        403,
        "EMBEDDED_ONLY",
    )
    spec = SPEC | {"dataset": {"name": "npz", "config": config}}
    body = problem(service.http.post("/v1/jobs", json=spec), 422, "INVALID_SPEC")
    assert "dataset.config.path" in str(body["violations"])


def test_a_name_that_is_taken_is_refused_unless_it_is_to_be_replaced(service: Running, images: Path) -> None:
    config = {"path": str(images)}
    first = service.http.post("/v1/datasets", json={"name": "mine", "plugin": "npz", "config": config}).json()
    wanted = {"name": "mine", "plugin": "npz", "config": {**config, "limit": 30}}
    for given in (wanted, {**wanted, "replace": False}):
        body = problem(service.http.post("/v1/datasets", json=given), 409, "CONFLICT")
        assert "there is a data set 'mine' already; replace it with `nas data add --replace`" in str(body["detail"])
    assert service.http.get("/v1/datasets/mine").json() == first
    answer = service.http.post("/v1/datasets", json={**wanted, "replace": True})
    assert (answer.status_code, answer.json()["sizes"]["train"]) == (201, 30)
    assert service.http.get("/v1/datasets/mine").json()["config"]["limit"] == 30


def test_a_name_that_is_free_may_be_added_with_replace(service: Running, images: Path) -> None:
    wanted = {"name": "mine", "plugin": "npz", "config": {"path": str(images)}, "replace": True}
    assert service.http.post("/v1/datasets", json=wanted).status_code == 201


def test_what_is_broken_replaces_nothing(service: Running, images: Path, tmp_path: Path) -> None:
    wanted = {"name": "mine", "plugin": "npz", "config": {"path": str(images)}}
    first = service.http.post("/v1/datasets", json=wanted).json()
    broken = {**wanted, "config": {"path": str(tmp_path / "none.npz")}, "replace": True}
    problem(service.http.post("/v1/datasets", json=broken), 422, "INVALID_DATA")
    assert service.http.get("/v1/datasets/mine").json() == first


def test_the_name_of_a_format_is_not_taken_away(service: Running, images: Path) -> None:
    wanted = {"name": "digits", "plugin": "npz", "config": {"path": str(images)}, "replace": True}
    body = problem(service.http.post("/v1/datasets", json=wanted), 409, "CONFLICT")
    assert "'digits' is a data set of this software" in str(body["detail"])
    assert service.http.post("/v1/datasets", json={"name": "digits", "plugin": "digits"}).status_code == 201


def test_a_relative_path_is_kept_whole(
    service: Running, images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(images.parent)
    wanted = {"name": "mine", "plugin": "npz", "config": {"path": images.name}}
    assert service.http.post("/v1/datasets", json=wanted).json()["config"] == {"path": str(images)}
    spec = SPEC | {"dataset": {"name": "npz", "config": {"path": images.name}}}
    job = service.http.post("/v1/jobs", json=spec).json()
    assert job["spec"]["dataset"]["config"]["path"] == str(images)


@pytest.mark.parametrize("path", ["x" * 300, "/tmp/" + "y" * 400, "/" + "a/" * 4000])
def test_a_path_that_is_too_long_is_refused_and_no_failure(service: Running, path: str) -> None:
    for plugin in ("npz", "image_folder", "cifar10"):
        body = {"name": "long", "plugin": plugin, "config": {"path": path}}
        found = problem(service.http.post("/v1/datasets", json=body), 422, "INVALID_CONFIG")["violations"]
        assert [violation["field"] for violation in found] == ["config.path"]
        assert "File name too long" in found[0]["allowed"]
    spec = {"dataset": {"name": "npz", "config": {"path": path}}}
    found = problem(service.http.post("/v1/jobs", json=spec), 422, "INVALID_SPEC")["violations"]
    assert [violation["field"] for violation in found] == ["dataset.config.path"]
