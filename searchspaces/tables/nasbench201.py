"""NAS-Bench-201: 15,625 cells trained on CIFAR-10 and CIFAR-100, and what they cost on 27 devices.

Dong and Yang (2020), NAS-Bench-201, arXiv 2001.00326; latency: Lee et al. (2021), HELP, arXiv 2106.08630, and Li et al.
(2021), HW-NAS-Bench, arXiv 2103.10584.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from searchspaces import LOCAL_PATH, Config, Plugin
from searchspaces import REGISTRY as SPACES
from searchspaces.tables._reading import Archive, archive, laid_out
from searchspaces.tables._table import Series, Table

_EPOCHS = (12.0, 200.0)
_UNITS = {"latency": "ms", "energy": "mJ", "arithmetic_intensity": "operations per byte"}


class NASBench201Config(Config):
    """Settings of `nasbench201`."""

    dataset: Literal["cifar10", "cifar100"] = Field("cifar10", description="What the networks were trained on.")
    split: Literal["valid", "test"] = Field(
        "valid", description="Where accuracy was measured; single runs are known on test images of CIFAR-10 alone."
    )
    path: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="Folder with the three files; none: the folder `$NAS_DATA`.",
    )

    @model_validator(mode="after")
    def _is_one_folder(self) -> NASBench201Config:
        if self.path is not None and self.path.endswith(".npz"):
            raise ValueError("path as the folder that holds nasbench201.npz, not a file")
        return self


@laid_out("nasbench201")
def create(config: NASBench201Config) -> Table:
    """The table of one data set; accuracies are fractions.

    `accuracy` after 12 and 200 epochs is the mean over runs. Held out: the test accuracy, where the other is measured
    on validation images. Costs: `latency_pixel3` and of 28 other devices (ms), `energy_fpga` and of two others (mJ); of
    some devices not for every architecture.
    """
    main, hardware = _open("nasbench201.npz", config), _open("nasbench201_hardware.npz", config)
    valid, test = (_accuracies(main, config.dataset, split) for split in ("valid", "test"))
    return Table(
        name="nasbench201",
        space=SPACES["nasbench201"](),
        texts=[str(text) for text in main["arch_str"]],
        measured={"accuracy": valid if config.split == "valid" else test},
        costs=_costs(hardware),
        held_out={"accuracy": test} if config.split == "valid" else {},
        digest=hashlib.sha256(f"{main.digest}{hardware.digest}".encode()).hexdigest(),
        is_complete=True,
    )


def _open(name: str, config: NASBench201Config) -> Archive:
    return archive(name, config.path and f"{config.path}/{name}")


def _accuracies(main: Archive, dataset: str, split: str) -> dict[float, Series]:
    single = f"{dataset}_{split}_acc_seeds"
    runs = main.floats(single) / 100 if single in main else None
    return {
        12.0: Series(main.floats(f"{dataset}_{split}_acc_12ep") / 100, "fraction"),
        200.0: Series(main.floats(f"{dataset}_{split}_acc") / 100, "fraction", runs=runs),
    }


def _costs(hardware: Archive) -> dict[str, Series]:
    latency = hardware.floats("latency_ms")
    names = hardware["device_names"].tolist()
    found = {f"latency_{name}": Series(column, "ms") for name, column in zip(names, latency.T, strict=True)}
    metrics = hardware.floats("hwnasbench_cifar10").T
    for text, column in zip(hardware["hwnasbench_metric_names"].tolist(), metrics, strict=True):
        device, _, metric = str(text).partition("_")
        if f"{metric}_{device}" not in found:
            found[f"{metric}_{device}"] = Series(column, _UNITS[metric])
    return found


PLUGIN = Plugin(
    name="nasbench201",
    description="15,625 cells on CIFAR-10 and CIFAR-100: accuracy after 12 and 200 epochs, 27 devices' latency, energy",
    source="Dong and Yang (2020), NAS-Bench-201, arXiv 2001.00326; HELP, arXiv 2106.08630; HW-NAS-Bench, 2103.10584",
    create=create,
    Config=NASBench201Config,
    flags={"space": "nasbench201", "files": ("nasbench201.npz", "nasbench201_hardware.npz")},
)
