"""NAS-Bench-101: 20,001 of its 423,624 cells, trained on CIFAR-10 for 4, 12, 36 and 108 epochs.

Ying et al. (2019), NAS-Bench-101: Towards Reproducible Neural Architecture Search, arXiv 1902.09635.
"""

from __future__ import annotations

from typing import cast

from pydantic import Field

from searchspaces import LOCAL_PATH, Config, Plugin
from searchspaces import REGISTRY as SPACES
from searchspaces.nasbench101 import NASBench101
from searchspaces.tables._reading import archive, laid_out
from searchspaces.tables._table import Series, Table


class NASBench101Config(Config):
    """Settings of `nasbench101`."""

    path: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="The file nasbench101_subset.npz; none: that of the folder `$NAS_DATA`.",
    )


@laid_out("nasbench101")
def create(config: NASBench101Config) -> Table:
    """The table; `accuracy` is the validation accuracy of one run, a fraction.

    The time of a training of 108 epochs is known; shorter ones count their share of it.
    """
    found = archive("nasbench101_subset.npz", config.path)
    space = cast(NASBench101, SPACES["nasbench101"]())
    epochs, accuracy = found["epochs"].tolist(), found.floats("valid_acc")
    seconds = found.floats("training_time_s") / epochs[-1]
    return Table(
        name="nasbench101",
        space=space,
        texts=space.texts(found["adjacency"], found["ops"]),
        measured={
            "accuracy": {
                float(length): Series(column, "fraction", runs=column[:, None], seconds=seconds * length)
                for length, column in zip(epochs, accuracy.T, strict=True)
            }
        },
        digest=found.digest,
    )


PLUGIN = Plugin(
    name="nasbench101",
    description="20,001 cells of NAS-Bench-101 on CIFAR-10 after 4, 12, 36 and 108 epochs, with training times",
    source="Ying et al. (2019), NAS-Bench-101, arXiv 1902.09635",
    create=create,
    Config=NASBench101Config,
    flags={"space": "nasbench101", "files": ("nasbench101_subset.npz",)},
)
