"""What a supernet is known by: files, settings and sources that change its weights, and nothing else."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import torch

import nas.sources as sources_module
import searchspaces._registry as registry_module
from api.console import print_job
from db import Store
from nas.recipes import REGISTRY as RECIPES
from nas.resources import Phase, SupernetOrigin
from nas.sources import Source, changed_since_loaded, content_digest, library_versions, source_digest, sources_of
from nas.spec import JobSpec
from nas.stages import SupernetStage, UnitContext, _supernet
from nas.stages._keys import SupernetKey, output_key, settings_of
from nas.training._device import has_bf16
from nas.workbench import Workbench
from tests.conftest import ROOT
from tests.db.conftest import FakePlanner, claimed, new_job

SPEC: dict[str, Any] = {
    "dataset": {"name": "digits", "config": {"limit": 40}},
    "space": {"name": "nasbench201", "config": {"channels": 2, "cells_per_stage": 1}},
    "supernet": {"recipe": "spos"},
    "objectives": {"accuracy": "max"},
}
PLUGINS = ("searchspaces.nasbench201", "nas.recipes.pada", "nas.datasets.digits", "nas.tasks.classification")

THEIRS = '''"""Their recipe."""
from nas.recipes.spos import PLUGIN as SPOS
from searchspaces import LOCAL_PATH, Config, Plugin
from pydantic import Field
from {package}._rates import RATE

class Settings(Config):
    """Their settings."""
    weights: str | None = Field(None, json_schema_extra=LOCAL_PATH, description="Where to begin.")

PLUGIN = Plugin("theirs", "theirs", "them", lambda config, setting: SPOS(None, setting), Settings)
'''


def key_of(**changes: Any) -> SupernetKey:
    spec = JobSpec.from_mapping({**SPEC, **changes})
    return output_key(spec, Workbench(spec, device="cpu"), 3)


# --- what a source says ----------------------------------------------------------------------------------------------


def written(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    return source_digest(file)


def test_comments_docstrings_and_layout_say_nothing(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.py", "def f(x):\n    return 2 * x\n")
    assert (
        written(tmp_path / "b.py", '"""Doubles."""\n\n\ndef f(x):  # twice\n    """Of x."""\n    return (2 * x)\n')
        == plain
    )
    assert written(tmp_path / "c.py", "def f(x):\n    return 3 * x\n") != plain
    assert written(tmp_path / "d.py", 'def f(x):\n    return "2 * x"\n') != plain


def test_comments_of_kernels_say_nothing(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.cpp", '#define RATE 2\nchar c[] = "// no comment";\n')
    told = '\n#define RATE   2 // twice\n/* but\n this */ char c[] = "// no comment";\n'
    assert written(tmp_path / "b.cpp", told) == plain
    assert written(tmp_path / "c.cpp", '#define RATE 3\nchar c[] = "// no comment";\n') != plain
    assert written(tmp_path / "d.cpp", '#define RATE 2\nchar c[] = "// a comment";\n') != plain


def test_a_file_is_read_again_when_it_is_written_again_within_the_clocks_tick(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"one")
    found, stamp = content_digest(file), file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert content_digest(file) != found


def test_a_folder_says_what_all_its_files_say(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.bin").write_bytes(b"a")
    found = content_digest(folder)
    (folder / "inner" / "a.bin").rename(folder / "inner" / "b.bin")
    assert content_digest(folder) != found
    assert content_digest(tmp_path / "nothing") == "missing"


# --- which sources take part -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packages")
    for package in ("searchspaces", "predictors", "nas"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize(
    "file",
    [
        "searchspaces/_cell_networks.py",
        "searchspaces/_kernels.cpp",
        "searchspaces/nasbench201.py",
        "nas/training/_engine.py",
        "nas/training/_device.py",
        "nas/recipes/pada.py",
        "nas/tasks/classification.py",
        "nas/datasets/_assemble.py",
        "nas/streams.py",
    ],
)
def test_a_constant_of_whatever_can_change_a_number_changes_the_sources(copied: Path, file: str) -> None:
    def said() -> list[tuple[str, str]]:
        return [(s.label, source_digest(s.path)) for s in sources_of(PLUGINS, copied)]

    path, mark = copied / file, "//" if file.endswith(".cpp") else "#"
    plain, before = path.read_text(encoding="utf-8"), said()
    path.write_text(f"{plain}\n{mark} a comment\n", encoding="utf-8")
    assert said() == before
    path.write_text(f"{plain}\n{'int added = 1;' if mark == '//' else '_ADDED = 1'}\n", encoding="utf-8")
    assert said() != before
    path.write_text(plain, encoding="utf-8")


def test_plugins_that_take_no_part_do_not_count() -> None:
    labels = {source.label for source in sources_of(PLUGINS)}
    assert {"nas/recipes/pada.py", "nas/recipes/_splits.py"} <= labels
    assert not labels & {"nas/recipes/spos.py", "nas/datasets/cifar10.py", "searchspaces/autoformer.py", "nas/spec.py"}


def test_what_a_plugin_takes_from_another_counts() -> None:
    assert "nas/datasets/npz.py" in {source.label for source in sources_of(["nas.datasets.fashion_mnist"])}


# --- a third party's -------------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts the recipe `theirs` on the way: `package` and the module in it that holds the PLUGIN."""

    def put(package: str, inner: str) -> Path:
        folder = tmp_path / "site" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "_rates.py").write_text("RATE = 1\n")
        (folder / "unused.py").write_text("USED = False\n")
        (folder / f"{inner}.py").write_text(THEIRS.format(package=package))
        monkeypatch.syspath_prepend(folder.parent)
        point = EntryPoint("theirs", f"{package}.{inner}:PLUGIN", "nas.recipes")
        given = lambda *, group: EntryPoints([point] if group == "nas.recipes" else [])  # noqa: E731
        monkeypatch.setattr(registry_module, "entry_points", given)
        monkeypatch.delitem(RECIPES.__dict__, "_targets", raising=False)
        return folder

    yield put
    RECIPES.__dict__.pop("_targets", None)


def test_every_module_of_a_third_partys_package_counts(theirs: Callable[[str, str], Path]) -> None:
    folder = theirs("acme_nas", "recipes")
    found = key_of(supernet={"recipe": "theirs"})
    for file in ("_rates.py", "unused.py"):
        plain = (folder / file).read_text()
        (folder / file).write_text(f"# told\n{plain}")
        assert key_of(supernet={"recipe": "theirs"}).family == found.family
        (folder / file).write_text(plain.replace("1", "2").replace("False", "True"))
        assert key_of(supernet={"recipe": "theirs"}).family != found.family
        (folder / file).write_text(plain)
    (folder / "data.hpp").write_text("int x;")
    assert key_of(supernet={"recipe": "theirs"}).family != found.family


def test_a_file_alone_counts_with_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alone_recipe.py").write_text("import json\nimport torch\nimport beside_recipe\n")
    (tmp_path / "beside_recipe.py").write_text("RATE = 1\n")
    (tmp_path / "elsewhere.py").write_text("RATE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    labels = {source.label for source in sources_of(["alone_recipe"])}
    assert {"alone_recipe.py", "beside_recipe.py"} <= labels
    assert "elsewhere.py" not in labels


def test_libraries_count_by_their_version_unless_all_need_them(tmp_path: Path) -> None:
    file = tmp_path / "acme.py"
    file.write_text("import torch, numpy, json\nimport markupsafe\nfrom nas.spec import JobSpec\n")
    assert library_versions([Source("acme.py", file)]).keys() == {"markupsafe"}


def test_a_source_that_was_changed_after_it_was_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "loaded_recipe.py"
    file.write_text("RATE = 1\n")
    source = Source("loaded_recipe.py", file)
    assert changed_since_loaded([source]) == []
    file.write_text("RATE = 1  # told\n")
    assert changed_since_loaded([source]) == []
    file.write_text("RATE = 2\n")
    assert changed_since_loaded([source]) == ["loaded_recipe.py"]
    late = tmp_path / "late_recipe.py"
    late.write_text("RATE = 1\n")
    monkeypatch.setattr(sources_module, "_STARTED", time.time() - 60)
    monkeypatch.syspath_prepend(tmp_path)
    __import__("late_recipe")
    assert changed_since_loaded([Source("late_recipe.py", late)]) == ["late_recipe.py"]
    del sys.modules["late_recipe"]


# --- the key ---------------------------------------------------------------------------------------------------------


def test_the_content_of_a_file_that_a_setting_names_changes_the_key(
    theirs: Callable[[str, str], Path], tmp_path: Path
) -> None:
    theirs("acme_weights", "recipes")
    file = tmp_path / "weights.bin"
    file.write_bytes(b"trained")
    recipe = {"name": "theirs", "config": {"weights": str(file)}}
    held = {"name": "fewshot", "config": {"base": recipe}}
    before = [key_of(supernet={"recipe": ref}) for ref in (recipe, held)]
    assert [key_of(supernet={"recipe": ref}) for ref in (recipe, held)] == before
    file.write_bytes(bytes(7))
    after = [key_of(supernet={"recipe": ref}) for ref in (recipe, held)]
    assert not {key.family for key in before} & {key.family for key in after}


def test_a_data_set_counts_by_its_samples_wherever_they_lie(tmp_path: Path) -> None:
    spec = JobSpec.from_mapping({**SPEC, "dataset": {"name": "npz", "config": {"path": str(tmp_path / "a.npz")}}})
    assert spec.dataset is not None
    assert settings_of("datasets", spec.dataset)["config"]["path"] == "samples"
    assert key_of() != key_of(dataset={"name": "digits", "config": {"limit": 41}})


def test_the_key_is_of_all_that_changes_weights_and_of_no_more() -> None:
    found = key_of()
    assert found == key_of(name="other", budget={"evaluations": 3}, audit={"networks": 0}, reuse="never")
    assert found == key_of(space={"name": "nasbench201", "config": {"cells_per_stage": 1, "channels": 2}})
    others = [key_of(seed=1), key_of(supernet={"recipe": "fairnas"})]
    others += [key_of(supernet={"recipe": "spos", "batch_size": 32}), key_of(space="nasbench201")]
    if has_bf16(torch.device("cpu")):  # refused where the processor has none
        others.append(key_of(precision="bf16"))
    assert len({found.family, *(key.family for key in others)}) == 1 + len(others)


def test_keys_of_a_family_sort_by_length() -> None:
    lengths = [SupernetKey("f", epochs).text for epochs in (1, 9, 10, 100_000)]
    assert lengths == sorted(lengths)
    assert lengths[-1] < SupernetKey("f", 1).longest


# --- taking over -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path)
    yield found
    found.close()


class Trained:
    """A job that has come past its SUPERNET stage."""

    def __init__(self, store: Store, scratch: Path, *, timed_epochs: int | None = None, **changes: Any) -> None:
        stages = FakePlanner({Phase.PREFLIGHT: ["preflight"], Phase.SUPERNET: ["supernet"], Phase.SEARCH: ["search"]})
        worker_id = store.register_worker("host", 1, "cpu").worker_id
        self.store, self.job_id = store, new_job(store, **{**SPEC, **changes}).job_id
        preflight = claimed(store, worker_id, stages)
        if timed_epochs is not None:  # it promises time, into which so many fit
            preflight.journal.plan(promises="time", epochs=timed_epochs)
        preflight.complete({"epochs": 1})
        lease = claimed(store, worker_id, stages)
        assert lease.job_id == self.job_id
        context = UnitContext(
            journal=lease.journal,
            checkpoints=lease.checkpoints,
            artifacts=lease.artifacts,
            exchange=lease.exchange,
            view=lease.view,
            scratch=scratch,
            device="cpu",
        )
        self.result = SupernetStage().run(context)
        lease.complete(self.result)
        store.act(self.job_id, "cancel")

    @property
    def origin(self) -> SupernetOrigin:
        found = self.store.job(self.job_id).supernet
        assert found is not None
        return found

    def messages(self) -> str:
        return "\n".join(str(event.data.get("message")) for event in self.store.events(self.job_id).items)


def test_an_equal_job_takes_the_supernet_over_and_says_from_where(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Trained(store, tmp_path)
    assert (first.origin.job_id, first.origin.taken_over, first.origin.torch) == (
        first.job_id,
        False,
        torch.__version__,
    )
    monkeypatch.setattr(torch, "__version__", "99.1")
    second = Trained(store, tmp_path)
    assert second.result["artifact_id"] == first.result["artifact_id"]
    assert second.origin.job_id == first.job_id
    assert second.origin.taken_over
    assert second.origin.trained_at == first.origin.trained_at
    assert f"taken over: 1 epochs on {first.origin.trained_at:%Y-%m-%d}" in second.messages()
    assert f"by torch {first.origin.torch} (torch is 99.1 now); no training needed" in second.messages()
    print_job(store.job(second.job_id), "")
    assert f"supernet of job {first.job_id} taken over" in capsys.readouterr().out


def test_a_job_that_is_never_to_reuse_trains_its_own(store: Store, tmp_path: Path) -> None:
    first, second = Trained(store, tmp_path), Trained(store, tmp_path, reuse="never")
    assert second.origin.job_id == second.job_id
    assert second.result["output_key"] == first.result["output_key"]


def test_a_supernet_that_was_taken_over_outlives_the_job_that_trained_it(store: Store, tmp_path: Path) -> None:
    first, second = Trained(store, tmp_path), Trained(store, tmp_path)
    store.delete_job(first.job_id)
    third = Trained(store, tmp_path)
    assert third.origin.job_id == first.job_id
    assert third.result["artifact_id"] == second.result["artifact_id"]


def test_what_changed_while_it_was_trained_is_taken_over_by_nobody(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _supernet.output_key
    changed = lambda *given: plain(*given)._replace(changed=("nas/training/_engine.py",))  # noqa: E731
    monkeypatch.setattr(_supernet, "output_key", changed)
    first = Trained(store, tmp_path)
    assert "output_key" not in first.result
    assert "nas/training/_engine.py changed meanwhile" in first.messages()
    monkeypatch.undo()
    assert Trained(store, tmp_path).origin.taken_over is False


def test_a_job_that_promises_time_takes_over_what_was_trained_at_least_as_long(store: Store, tmp_path: Path) -> None:
    shorter, longer = (Trained(store, tmp_path, timed_epochs=epochs) for epochs in (1, 3))
    assert [ran.origin.taken_over for ran in (shorter, longer)] == [False, False]  # one epoch is not enough for three
    again = Trained(store, tmp_path, timed_epochs=2)
    assert (again.origin.job_id, again.origin.taken_over) == (longer.job_id, True)
    assert again.result["artifact_id"] == longer.result["artifact_id"]
    plan = store.job(again.job_id).plan
    assert plan is not None
    assert plan.epochs == again.origin.epochs == 3  # what it has, and plans on with
    assert Trained(store, tmp_path).origin.job_id == shorter.job_id  # one that promises its numbers takes those alone
    other = Trained(store, tmp_path, timed_epochs=2, seed=1)
    assert not other.origin.taken_over
