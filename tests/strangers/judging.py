"""A task whose flag promises metrics that it does not give."""

from __future__ import annotations

from nas.datasets import Dataset
from nas.tasks import REGISTRY, Task
from searchspaces import Config, Plugin


class Maker:
    """An object that can be called."""

    def __call__(self, config: Config, dataset: Dataset) -> Task:
        made: Task = REGISTRY["classification"](None, dataset)
        return made


PLUGIN = Plugin("judging", "Promises more.", "nobody", Maker(), flags={"metrics": ("accuracy", "loss", "fame")})
