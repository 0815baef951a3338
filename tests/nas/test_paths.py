"""Relative paths begin where the program runs that hands a spec over, in every setting that is marked as a path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.admission import admit
from nas.client._calls import add_dataset, spec_mapping
from nas.paths import with_absolute_paths
from nas.resources import DatasetInfo
from nas.spec import JobSpec
from searchspaces import DataError, SpecError, data_file


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_every_path_of_a_spec_begins_in_the_current_folder(here: Path) -> None:
    (here / "phone.csv").write_text("architecture,value\n")
    spec = JobSpec.from_mapping(
        {
            "dataset": {"name": "image_folder", "config": {"path": "images", "size": 8, "mode": "grey"}},
            "space": {"name": "options", "config": {"file": "sub/mine.parquet"}},
            "evaluator": {"name": "table", "config": {"table": {"name": "file", "config": {"path": "../t.csv"}}}},
            "audit": {
                "evaluator": {"name": "table", "config": {"table": {"name": "macro", "config": {"path": "~/m"}}}}
            },
            "costs": {
                "phone": {"name": "lookup", "config": {"path": "phone.csv", "unit": "ms"}},
                "fpga": {"name": "lookup", "config": {"path": "in_nas_data.csv", "unit": "ms"}},
            },
        }
    )
    found = with_absolute_paths(spec)
    assert found.dataset is not None
    assert found.dataset.config == {"path": str(here / "images"), "size": 8, "mode": "grey"}
    assert found.space.config["file"] == str(here / "sub" / "mine.parquet")
    assert found.evaluator.config["table"]["config"]["path"] == str(here / ".." / "t.csv")
    assert found.audit.evaluator is not None
    assert found.audit.evaluator.config["table"]["config"]["path"] == str(here / "home" / "m")
    assert found.costs["phone"].config["path"] == str(here / "phone.csv")
    assert found.costs["fpga"].config["path"] == "in_nas_data.csv"
    assert with_absolute_paths(found) == found


def test_a_spec_without_relative_paths_stays_as_it_is(here: Path) -> None:
    for dataset in ("digits", "pets", {"name": "npz", "config": {"path": str(here / "a.npz")}}):
        spec = JobSpec.from_mapping({"dataset": dataset})
        assert with_absolute_paths(spec) is spec


def test_the_sdk_sends_whole_paths(here: Path) -> None:
    (here / "job.yaml").write_text("dataset: {name: npz, config: {path: a.npz}}\n")
    sent = [spec_mapping("job.yaml"), spec_mapping({"dataset": {"name": "npz", "config": {"path": "a.npz"}}})]
    assert [each["dataset"]["config"] for each in sent] == [{"path": str(here / "a.npz")}] * 2
    body = add_dataset("mine", "npz", {"path": "~/a.npz", "layout": "NHWC"}).body
    assert body is not None
    assert body["config"] == {"path": str(here / "home" / "a.npz"), "layout": "NHWC"}


def test_what_a_request_still_has_relative_is_made_whole_at_admission(here: Path) -> None:
    (here / "a.npz").touch()
    spec, _ = admit({"dataset": {"name": "npz", "config": {"path": "a.npz"}}}, datasets={})
    assert spec.dataset is not None
    assert spec.dataset.config["path"] == str(here / "a.npz")


def test_a_shared_service_makes_no_path_whole() -> None:
    with pytest.raises(SpecError, match=r"dataset.config.path: got 'a.npz'; expected"):
        admit({"dataset": {"name": "npz", "config": {"path": "a.npz"}}}, datasets={}, embedded=False)


def test_an_error_names_the_whole_path(here: Path) -> None:
    with pytest.raises(DataError, match=f"^{here / 'a.npz'} does not exist"):
        data_file("a.npz", "a.npz")
    (here / "folder").mkdir()
    with pytest.raises(DataError, match=f"^{here / 'folder'} is a folder; give the path of a file"):
        data_file("a.npz", "folder")


LONG = "x" * 300


def test_a_path_that_nobody_can_reach_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    specs: list[dict[str, Any]] = [
        {"dataset": {"name": "npz", "config": {"path": "PATH"}}},
        {"dataset": {"name": "image_folder", "config": {"path": "PATH"}}},
        {"space": {"name": "options", "config": {"file": "PATH"}}, "evaluator": "table", "objectives": {"a": "max"}},
        {"dataset": "digits", "costs": {"phone": {"name": "lookup", "config": {"path": "PATH"}}}},
        {"dataset": "mine"},
    ]
    for path, reason in (
        (f"{tmp_path}/{LONG}", "File name too long"),
        (LONG, "too long"),
        (str(loop), "symbolic links"),
    ):
        for mapping in specs:
            written = yaml.safe_load(yaml.safe_dump(mapping).replace("PATH", path))
            known = {"mine": DatasetInfo(name="mine", plugin="npz", config={"path": path})}
            with pytest.raises(SpecError, match=reason) as caught:
                admit(written, datasets=known)
            assert ".config." in caught.value.violations[0].field
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SpecError, match="Permission denied"):
        admit({"dataset": {"name": "image_folder", "config": {"path": str(tmp_path)}}}, datasets={})


def test_a_path_at_which_nothing_is_is_refused_at_admission(tmp_path: Path) -> None:
    missing = {"dataset": {"name": "npz", "config": {"path": str(tmp_path / "none.npz")}}}
    with pytest.raises(SpecError) as caught:
        admit(missing, datasets={})
    (violation,) = caught.value.violations
    assert violation.field == "dataset.config.path"
    assert "nothing is at" in violation.allowed
    (tmp_path / "none.npz").write_bytes(b"what is in it, preflight says")
    admit(missing, datasets={})
