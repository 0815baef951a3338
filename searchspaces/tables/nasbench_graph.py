"""NAS-Bench-Graph: 26,206 graph networks on five data sets.

Qin et al. (2022), NAS-Bench-Graph: Benchmarking Graph Neural Architecture Search, arXiv 2206.09166.
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
from pydantic import Field

from searchspaces import LOCAL_PATH, Config, Plugin
from searchspaces import REGISTRY as SPACES
from searchspaces.nasbench_graph import NASBenchGraph
from searchspaces.tables._reading import archive, laid_out
from searchspaces.tables._table import Series, Table


class NASBenchGraphConfig(Config):
    """Settings of `nasbench_graph`."""

    dataset: Literal["cora", "citeseer", "pubmed", "computers", "arxiv"] = Field(
        "cora", description="What the networks were trained on."
    )
    path: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="The file nasbench_graph.npz; none: that of the folder `$NAS_DATA`.",
    )


@laid_out("nasbench_graph")
def create(config: NASBenchGraphConfig) -> Table:
    """The table of one data set; `accuracy` is on validation nodes, a fraction, the test accuracy is held out.

    `latency` (ms) is that of one pass; `parameters` the published number, which the space's `params` is for Cora.
    """
    found = archive("nasbench_graph.npz", config.path)
    column = found["dataset_names"].tolist().index(config.dataset)
    space = cast(NASBenchGraph, SPACES["nasbench_graph"]())
    texts = space.texts(found["links"], found["ops"])

    def series(name: str, unit: str, factor: float = 1.0) -> Series:
        return Series(np.ascontiguousarray(found.floats(name)[:, column]) * factor, unit)

    return Table(
        name="nasbench_graph",
        space=space,
        texts=texts,
        measured={"accuracy": {0.0: series("valid_acc", "fraction")}},
        costs={"latency": series("latency_s", "ms", 1e3), "parameters": series("params_m", "parameters", 1e6)},
        held_out={"accuracy": {0.0: series("test_acc", "fraction")}},
        digest=found.digest,
    )


PLUGIN = Plugin(
    name="nasbench_graph",
    description="NAS-Bench-Graph: 26,206 graph networks on Cora, Citeseer, PubMed, Computers and arXiv",
    source="Qin et al. (2022), NAS-Bench-Graph, arXiv 2206.09166",
    create=create,
    Config=NASBenchGraphConfig,
    flags={"space": "nasbench_graph", "files": ("nasbench_graph.npz",)},
)
