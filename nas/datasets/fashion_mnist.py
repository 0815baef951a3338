"""Fashion-MNIST from a local file: 70,000 grey images of clothes, 28 x 28, 10 classes."""

from __future__ import annotations

from pydantic import Field

from nas.datasets._assemble import Augmentation, SplitConfig
from nas.datasets._dataset import Dataset
from nas.datasets.npz import from_file
from searchspaces import LOCAL_PATH, Plugin, data_file


class FashionMnistConfig(SplitConfig):
    """Settings of `fashion_mnist`."""

    path: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="The file; else fashion_mnist.npz in $NAS_DATA.",
    )


def create(config: FashionMnistConfig) -> Dataset:
    """60,000 images, of which a part becomes the valid split, and the 10,000 of the test split."""
    file = data_file("fashion_mnist.npz", config.path)
    return from_file(file, "fashion_mnist", config, Augmentation(flips=True, max_shift=2))


PLUGIN = Plugin(
    name="fashion_mnist",
    description="Fashion-MNIST, 70,000 grey images of clothes, 28 x 28, in 10 classes; from a local file",
    source="Xiao, Rasul and Vollgraf (2017), Fashion-MNIST, arXiv 1708.07747",
    create=create,
    Config=FashionMnistConfig,
)
