"""Every data set keeps its contract, on real files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.datasets import REGISTRY, Dataset
from nas.testing import check_dataset
from searchspaces import ContractViolation, Plugin


@pytest.fixture
def settings(tmp_path: Path, data_folder: Path) -> dict[str, Mapping[str, object]]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 6, 8, 3), dtype=np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "own.npz", train_x=images, train_y=labels)
    for image, label, number in zip(images, labels, range(60), strict=True):
        folder = tmp_path / "folder" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return {
        "cifar10": {"variant": "small", "limit": 200},
        "fashion_mnist": {"limit": 200},
        "npz": {"path": str(tmp_path / "own.npz")},
        "image_folder": {"path": str(tmp_path / "folder")},
    }


@pytest.mark.parametrize("name", REGISTRY)
def test_a_dataset_keeps_its_contract(name: str, settings: dict[str, Mapping[str, object]]) -> None:
    check_dataset(REGISTRY[name], settings.get(name))


def test_a_dataset_whose_splits_overlap_is_caught() -> None:
    from dataclasses import replace

    def leaking(config: object) -> Dataset:
        dataset = REGISTRY["digits"]()
        return replace(dataset, valid=dataset.train)

    plugin: Plugin[Dataset] = Plugin("leaking", "leaks", "none", leaking)
    with pytest.raises(ContractViolation, match="no sample is in two splits"):
        check_dataset(plugin)
