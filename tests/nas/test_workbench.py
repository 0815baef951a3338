"""The workbench: what a spec names, made when asked for; the supernet's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas.spec import JobSpec, PluginRef
from nas.testing._recipes import small_dataset, small_space
from nas.workbench import Workbench, load_supernet, save_supernet, space_for
from searchspaces import REGISTRY as SPACES
from searchspaces import CheckpointError, ConfigError, RoutedSupernet, Split, UnknownPlugin

SPEC = JobSpec.from_mapping(
    {
        "dataset": {"name": "digits", "config": {"limit": 40}},
        "space": {"name": "nasbench201", "config": {"channels": 2, "cells_per_stage": 1}},
    }
)


def test_a_bench_makes_what_its_spec_names() -> None:
    bench = Workbench(SPEC, device="cpu")
    assert bench.dataset.name == "digits"
    assert bench.space.input_shape == (1, 8, 8)
    assert bench.space.supernet()(torch.zeros(2, 1, 8, 8), bench.space.extremes().largest).shape == (2, 10)
    assert bench.device == torch.device("cpu")
    assert bench.precision == "fp32"  # images of 8 x 8 gain nothing by bf16 on a CPU
    assert "accuracy" in bench.task.metrics(torch.eye(3), torch.arange(3))


def test_costs_are_those_asked_for() -> None:
    bench = Workbench(SPEC, device="cpu")
    costs, largest = bench.costs(["params", "flops"]), bench.space.extremes().largest
    assert costs["params"].measure(largest).value == bench.space.counts(largest).params
    with pytest.raises(UnknownPlugin):
        bench.costs(["charm"])


def test_a_file_of_costs_may_know_more_than_the_evaluator(data_folder: Path, tmp_path: Path) -> None:
    table = {"space": "nasbench101", "evaluator": "table", "objectives": {"accuracy": "max"}}
    every = Workbench(JobSpec.from_mapping(table))
    inside = next(every.space.iterate())
    outside = next(a for a in SPACES["nasbench101"]().iterate() if every.space.validate(a))
    path = tmp_path / "phone.csv"
    path.write_text(f'architecture,value\n"{inside.text}",1.5\n"{outside.text}",2.5\n')
    costs = {"phone": {"name": "lookup", "config": {"path": str(path), "unit": "ms"}}}
    known = Workbench(JobSpec.from_mapping({**table, "costs": costs})).costs(["phone"])
    assert known["phone"].measure(inside).value == 1.5


def test_the_space_takes_shape_and_classes_from_the_data_set_and_refuses_others() -> None:
    space = space_for(PluginRef(name="nasbench201"), small_dataset())
    assert space.input_shape == (1, 6, 6)
    assert space_for(PluginRef(name="nasbench201", config={"num_classes": 4}), small_dataset()).input_shape == (1, 6, 6)
    with pytest.raises(ConfigError) as error:
        space_for(PluginRef(name="nasbench201", config={"num_classes": 7, "input_shape": [3, 6, 6]}), small_dataset())
    assert [v.field for v in error.value.violations] == ["space.config.input_shape", "space.config.num_classes"]


def test_a_supernet_comes_back_from_its_file_bit_for_bit(tmp_path: Path) -> None:
    file = tmp_path / "supernet.safetensors"
    trained = Workbench(SPEC).space.supernet(seed=3)
    save_supernet(trained, file)
    loaded = Workbench(SPEC, supernet_file=file, device="cpu").supernet()
    assert not loaded.training
    held = loaded.state_dict()
    assert all(torch.equal(tensor, held[name]) for name, tensor in trained.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_supernet_in_parts_is_one_file(tmp_path: Path) -> None:
    file, bench = tmp_path / "supernet.safetensors", Workbench(SPEC)
    trained = RoutedSupernet.of(bench.space.supernet(seed=3))
    trained.split(Split(0, "0->1", (("none", "skip_connect"), ("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"))))
    trained.split(Split(1, "0->1", (("nor_conv_1x1",), ("nor_conv_3x3", "avg_pool_3x3"))))
    with torch.no_grad():
        next(trained.parts[2].parameters()).add_(1)
    save_supernet(trained, file)
    loaded = Workbench(SPEC, supernet_file=file, device="cpu").supernet()
    assert loaded.splits == trained.splits
    held = loaded.state_dict()
    assert held.keys() == trained.state_dict().keys()
    assert all(torch.equal(tensor, held[name]) for name, tensor in trained.state_dict().items())


def test_a_file_whose_parts_do_not_split_the_space_is_refused(tmp_path: Path) -> None:
    file, space = tmp_path / "supernet.safetensors", small_space()
    parted = RoutedSupernet.of(space.supernet())
    parted.splits = (Split(0, "2->3", (("none",),)),)
    save_supernet(parted, file)
    with pytest.raises(CheckpointError, match="exactly"):
        load_supernet(space, file)


def test_without_a_file_there_is_no_supernet() -> None:
    with pytest.raises(CheckpointError, match="SUPERNET"):
        Workbench(SPEC).supernet()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    file = tmp_path / "supernet.safetensors"
    space = small_space()
    save_supernet(space.supernet(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="no whole supernet"):
        load_supernet(space, file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no whole supernet"):
        load_supernet(small_space(), tmp_path / "none.safetensors")


def test_a_supernet_of_another_space_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "supernet.safetensors"
    save_supernet(Workbench(SPEC).space.supernet(), file)
    with pytest.raises(CheckpointError, match="not of"):
        load_supernet(small_space(), file)
