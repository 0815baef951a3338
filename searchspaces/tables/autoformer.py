"""200 vision transformers of AutoFormer's space, measured on four data sets.

Wei et al. (2024), Auto-Prox: Training-Free Vision Transformer Architecture Search via Automatic Proxy Discovery, arXiv
2312.09059; the space: Chen et al. (2021), AutoFormer, arXiv 2107.00651.
"""

from __future__ import annotations

from typing import Literal, cast

from pydantic import Field

from searchspaces import LOCAL_PATH, Config, Plugin
from searchspaces import REGISTRY as SPACES
from searchspaces.autoformer import AutoFormer
from searchspaces.tables._reading import archive, laid_out
from searchspaces.tables._table import Series, Table

_COLUMNS = {
    "cifar100": "c100_kd_acc",
    "flowers": "flower_kd_acc",
    "chaoyang": "chaoyang_kd_acc",
    "imagenet": "imagenet_super_acc",
}


class AutoFormerConfig(Config):
    """Settings of `autoformer`."""

    dataset: Literal["cifar100", "flowers", "chaoyang", "imagenet"] = Field(
        "cifar100", description="What accuracy was measured on; on ImageNet with the supernet's weights."
    )
    path: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="The file vit_autoformer_bench.csv.gz; none: that of `$NAS_DATA`.",
    )


@laid_out("autoformer")
def create(config: AutoFormerConfig) -> Table:
    """The table; `accuracy` is that after training with distillation, a fraction, the only one known of all 200."""
    found = archive("vit_autoformer_bench.csv.gz", config.path)
    space = cast(AutoFormer, SPACES["autoformer"]())
    return Table(
        name="autoformer",
        space=space,
        texts=space.texts(found["hidden_dim"].tolist(), found["mlp_ratio"].tolist(), found["num_heads"].tolist()),
        measured={"accuracy": {0.0: Series(found.floats(_COLUMNS[config.dataset]) / 100, "fraction")}},
        digest=found.digest,
    )


PLUGIN = Plugin(
    name="autoformer",
    description="200 vision transformers of AutoFormer's space on CIFAR-100, Flowers, Chaoyang and ImageNet",
    source="Wei et al. (2024), Auto-Prox, arXiv 2312.09059; Chen et al. (2021), AutoFormer, arXiv 2107.00651",
    create=create,
    Config=AutoFormerConfig,
    flags={"space": "autoformer", "files": ("vit_autoformer_bench.csv.gz",)},
)
