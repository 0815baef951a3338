"""NAS-Bench-Macro: all 6,561 chains of the space `macro`, trained on CIFAR-10.

Su et al. (2021), Prioritized Architecture Sampling with Monte-Carlo Tree Search, arXiv 2103.11922.
"""

from __future__ import annotations

from pydantic import Field

from searchspaces import LOCAL_PATH, Config, Plugin
from searchspaces import REGISTRY as SPACES
from searchspaces.tables._reading import archive, laid_out
from searchspaces.tables._table import Series, Table

_EPOCHS = 50.0


class MacroConfig(Config):
    """Settings of `macro`."""

    path: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="The file nasbench_macro.npz; none: that of the folder `$NAS_DATA`.",
    )


@laid_out("macro")
def create(config: MacroConfig) -> Table:
    """The table; `accuracy` is the mean test accuracy of three runs, a fraction: no other one is published."""
    found = archive("nasbench_macro.npz", config.path)
    accuracy = Series(found.floats("mean_acc") / 100, "fraction", runs=found.floats("test_acc") / 100)
    return Table(
        name="macro",
        space=SPACES["macro"](),
        texts=[str(text) for text in found["arch_str"]],
        measured={"accuracy": {_EPOCHS: accuracy}},
        digest=found.digest,
        is_complete=True,
    )


PLUGIN = Plugin(
    name="macro",
    description="NAS-Bench-Macro: 6,561 chains on CIFAR-10, test accuracy of three runs",
    source="Su et al. (2021), NAS-Bench-Macro, arXiv 2103.11922",
    create=create,
    Config=MacroConfig,
    flags={"space": "macro", "files": ("nasbench_macro.npz",)},
)
