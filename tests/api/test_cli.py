"""The command line: help and errors as a user meets them, and every command against a real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from api.installation import check_installation, version
from nas.resources import Job, JobState
from searchspaces import ServiceError
from tests.api.conftest import SPEC, TEXTS, Running, examining, service_with
from tests.journeys.processes import SMALL, children_of, environment, is_running, wait_for


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NAS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with service_with(tmp_path / "store") as found:
        yield found


def nas(running: Running | None, *words: object, code: int = 0) -> Result:
    """Run a command against a service."""
    address = {"NAS_URL": running.url} if running else {}
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200", **address})
    assert result.exit_code == code, result.output + result.stderr
    return result


def process(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-P", "-m", "api", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment(), **more  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps(SPEC))
    return file


# --- as a process -----------------------------------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    done = process("--help")
    assert done.returncode == 0
    for command in ("up", "worker", "run", "submit", "jobs", "show", "pareto", "export", "cancel", "data", "plugins"):
        assert command in done.stdout


def test_the_version_is_printed() -> None:
    assert process("--version").stdout == f"nas {version()}\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["submit", "nosuch.yaml"], 1, "nosuch.yaml"),
        (["show", "latest", "--url", "http://127.0.0.1:9"], 1, "nas up"),
        (["show"], 2, "JOB"),
        (["nosuch"], 2, "nosuch"),
        (["up", "--host", "0.0.0.0"], 1, "NAS_TOKENS"),
        (["export", "latest", "--format", "tflite"], 2, "tflite"),
    ],
)
def test_bad_input_is_one_clear_error_without_a_traceback(words: list[str], code: int, said: str) -> None:
    done = process(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_package_that_stands_before_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['nas', 'jobs']\n"
    code += "from api.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"{tmp_path / 'db'}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_installation_of_the_tests_is_whole() -> None:
    check_installation()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.installation.PACKAGES", ("nas", "nosuch_package"))
    with pytest.raises(ServiceError, match="nosuch_package"):
        check_installation()


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_is_submitted_listed_shown_and_cancelled(running: Running, spec: Path) -> None:
    out = nas(running, "submit", spec).stdout
    job = running.store.jobs().items[0]
    assert f"job {job.job_id}" in out
    assert f"{running.url}/#/jobs/{job.job_id}" in out
    assert job.job_id in nas(running, "jobs").stdout
    assert "accuracy@supernet max" in nas(running, "show", "latest").stdout
    assert "PAUS" in nas(running, "pause", job.job_id).stdout
    nas(running, "resume", job.job_id[:-1])
    assert "CANCELLED" in nas(running, "cancel", "latest").stdout
    assert "CANCELLED" in nas(running, "resume", "latest", code=1).stderr


def test_json_is_what_the_service_answers(running: Running, spec: Path) -> None:
    job = Job.model_validate_json(nas(running, "submit", spec, "--json").stdout)
    assert job == running.store.job(job.job_id)
    assert [Job.model_validate(item) for item in json.loads(nas(running, "jobs", "--json").stdout)] == [job]
    assert Job.model_validate_json(nas(running, "show", job.job_id, "--json").stdout) == job


def test_a_dry_run_prints_the_preflight_and_submits_nothing(running: Running, spec: Path) -> None:
    with examining(running.store):
        assert "15,625" in nas(running, "submit", spec, "--dry-run").stdout
        assert json.loads(nas(running, "submit", spec, "--dry-run", "--json").stdout)["space_size"] == 15_625
    assert running.store.jobs().items == ()


def test_every_violation_is_a_row(running: Running, spec: Path) -> None:
    spec.write_text(json.dumps({**SPEC, "colour": 1, "budget": {"evaluations": 0}}))
    result = nas(running, "submit", spec, code=1)
    assert "2 violations" in result.stderr
    assert "colour" in result.stderr
    assert "budget.evaluations" in result.stderr
    assert result.stdout == ""


def test_watching_a_job_that_was_cancelled_ends_with_one(running: Running, spec: Path) -> None:
    import threading

    def cancel() -> None:
        job = wait_for(lambda: running.store.jobs().items, what="the job")[0]
        running.store.act(job.job_id, "cancel")

    killer = threading.Thread(target=cancel)
    killer.start()
    result = nas(running, "submit", spec, "--watch", code=1)
    killer.join()
    assert "ended CANCELLED" in result.stdout


def test_the_front_is_a_table_with_the_best_first(running: Running) -> None:
    running.searched()
    lines = [line for line in nas(running, "pareto", "latest").stdout.splitlines() if "|" in line]
    assert [line.split()[-1] for line in lines] == list(reversed(TEXTS))
    assert len(json.loads(nas(running, "pareto", "latest", "--json").stdout)["points"]) == len(TEXTS)


def test_an_export_of_nothing_is_refused(running: Running, spec: Path, tmp_path: Path) -> None:
    nas(running, "submit", spec)
    assert "error: " in nas(running, "export", "latest", "-o", tmp_path / "out", code=1).stderr
    assert not (tmp_path / "out").exists()


# --- data sets and plug-ins -------------------------------------------------------------------------------------------


def test_a_data_set_is_added_listed_and_checked(running: Running, tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    file = tmp_path / "tiny.npz"
    images, labels = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 3
    np.savez(file, train_x=images, train_y=labels, test_x=images, test_y=labels)
    assert "tiny" in nas(running, "data", "add", "tiny", file).stdout
    assert json.loads(nas(running, "data", "list", "--json").stdout)[0]["num_classes"] == 3
    assert "ok" in nas(running, "data", "check", "tiny").stdout
    file.unlink()
    assert "does not exist" in nas(running, "data", "check", "tiny", code=1).stdout


def test_a_data_set_that_is_not_there_is_refused(running: Running, tmp_path: Path) -> None:
    assert "nosuch.npz" in nas(running, "data", "add", "tiny", tmp_path / "nosuch.npz", code=1).stderr
    assert running.store.datasets() == ()


def photos(root: Path) -> Path:
    """Two classes of photos of unlike sizes."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (20 + number, 40 - number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.jpg")
    return root


def test_photos_of_unlike_sizes_are_added_and_what_was_done_is_said(running: Running, tmp_path: Path) -> None:
    added = nas(running, "data", "add", "pets", photos(tmp_path / "images")).stdout
    assert "3 x 24 x 24" in added
    assert "pets: images of 31 x 29 to 40 x 20 pixels are cropped to squares and resized to 24 x 24" in added
    assert "resized to 24 x 24" in nas(running, "data", "check", "pets").stdout


def test_a_data_set_is_added_with_settings_under_a_free_name_only(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    settings = ["--size", 16, "--config", "mode=grey", "--config", "flips=false", "--config", "background=#102030"]
    nas(running, "data", "add", "pets", "images", *settings)
    info = running.store.dataset("pets")
    assert info.input_shape == (1, 16, 16)
    assert info.config == {
        "path": str(tmp_path / "images"), "size": 16, "mode": "grey", "flips": False, "background": "#102030",
    }  # fmt: skip
    refused = nas(running, "data", "add", "pets", "images", code=1).stderr
    assert "there is a data set 'pets' already; replace it with `nas data add --replace`" in refused
    nas(running, "data", "add", "pets", "images", "--replace")
    assert running.store.dataset("pets").input_shape == (3, 24, 24)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "size"], "'size' is not KEY=VALUE, such as mode=grey"),
        (["--config", "mode=grey", "--config", "mode=rgb"], "mode is given twice"),
    ],
)
def test_a_setting_that_is_not_written_as_one_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    assert said in nas(None, "data", "add", "pets", tmp_path, *words, code=2).stderr


def test_an_unknown_setting_of_a_data_set_is_named(running: Running, tmp_path: Path) -> None:
    said = nas(running, "data", "add", "pets", photos(tmp_path / "i"), "--config", "sise=3", code=1).stderr
    assert "config.sise" in said


def test_the_example_of_own_images_is_admitted_where_the_command_runs(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    example = Path(__file__).parents[2] / "examples" / "own_images.yaml"
    nas(running, "submit", example)
    (job,) = running.store.jobs().items
    assert job.spec["dataset"]["config"]["path"] == str(tmp_path / "images")


def test_plugins_are_listed_by_kind() -> None:
    assert "nasbench201" in nas(None, "plugins", "list", "spaces").stdout
    listed = json.loads(nas(None, "plugins", "list", "--json").stdout)
    assert {"spaces", "searchers", "costs"} <= {item["kind"] for item in listed}
    assert "no kind" in nas(None, "plugins", "list", "nosuch", code=2).stderr


PLUGIN = """
from nas.resources import Proposal
from nas.searchers import Searcher, proposal, unseen
from searchspaces import Config, Plugin


class Stubborn(Searcher):
    def __init__(self, config, space, objectives):
        super().__init__(space, objectives)

    def ask(self, history, n, rng):
        return [proposal(self.space.sample(rng)) for _ in range(n)]


PLUGIN = Plugin(name="stubborn", description="Proposes anything", source="nobody", create=Stubborn, Config=Config)
"""


def test_a_plugin_is_checked_by_kind_and_name_or_module() -> None:
    assert "searchers:random: keeps the contract" in nas(None, "plugins", "check", "searchers:random").stdout
    assert "tasks:classification: keeps the contract" in nas(None, "plugins", "check", "tasks").stdout
    assert "keeps the contract" in nas(None, "plugins", "check", "nas.searchers.random").stdout


def test_a_plugin_that_breaks_its_contract_is_told_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stubborn.py").write_text(PLUGIN)
    (tmp_path / "raising.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    told = nas(None, "plugins", "check", "stubborn", code=1).stdout
    assert told.startswith("searchers:stubborn: ")
    assert "keeps" not in told
    assert "ZeroDivisionError" in nas(None, "plugins", "check", "raising", code=1).stderr
    monkeypatch.undo()  # a file needs no path
    assert nas(None, "plugins", "check", tmp_path / "stubborn.py", code=1).stdout.startswith("searchers:stubborn: ")
    assert "raising.py:1" in nas(None, "plugins", "check", tmp_path / "raising.py", code=1).stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nosuch.module"], 1, "no module"),
        (["json"], 1, "no PLUGIN"),
        (["searchers:nosuch"], 1, "nosuch"),
        (["searchers:random", "--config", "text"], 2, "no mapping"),
        (["json", "--kind", "search"], 2, "no kind"),
    ],
)
def test_a_check_of_nothing_is_refused(words: list[str], code: int, said: str) -> None:
    assert said in nas(None, "plugins", "check", *words, code=code).stderr


# --- the whole run ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_ends_with_front_and_page_and_leaves_nothing_behind(tmp_path: Path) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(json.dumps(SMALL))
    words = ("run", str(spec), "--once", "--port", "0", "--folder", str(tmp_path / "store"))
    command = [sys.executable, "-P", "-m", "api", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as started:
        workers = wait_for(lambda: children_of(started.pid), what="a worker")
        out, err = started.communicate(timeout=360)
    assert started.returncode == 0, err
    assert "Pareto front" in out
    assert "page: http://127.0.0.1:" in out
    assert not any(is_running(number) for number in workers)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_interrupted_run_goes_on_with_the_same_job(tmp_path: Path) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(json.dumps(SMALL))
    command = [sys.executable, "-P", "-m", "api", "run", str(spec), "--once", "--port", "0"]
    command += ["--folder", str(tmp_path / "store")]

    def job_id(line: str) -> str:
        return line.split()[1]

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as first:
        assert first.stdout is not None
        line = next(line for line in first.stdout if line.startswith("job "))
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=60)
    assert first.returncode == 130, out + err
    assert "Traceback" not in err
    second = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=360, check=False)
    assert second.returncode == 0, second.stderr
    assert job_id(second.stdout) == job_id(line)
    assert JobState.SUCCEEDED in second.stdout
