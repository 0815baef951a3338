"""What every unit of work needs of a job's spec: space, data set, task, device, and the trained supernet.

Made anywhere from plain values and a file; loads torch.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nas.datasets import REGISTRY as DATASETS
from nas.datasets import Dataset
from nas.evaluators import costs_of, space_of
from nas.scoring import free_costs
from nas.spec import JobSpec, PluginRef
from nas.tasks import REGISTRY as TASKS
from nas.tasks import Task
from nas.training import Precision, choose_device, choose_dtype, precision_note, to_device
from predictors.costs import REGISTRY as COSTS
from predictors.costs import Cost, Estimated, Reading, ready_costs
from searchspaces import REGISTRY as SPACES
from searchspaces import (
    CheckpointError,
    ConfigError,
    DataError,
    InvalidArchitecture,
    RoutedSupernet,
    SearchSpace,
    Split,
    StorageFull,
    Supernet,
    Violation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from searchspaces import Architecture

_FORMAT = "nas-supernet-1"
_IDENTITY = "supernet"  # one key, since the order of several is not kept: equal weights are to be equal bytes


class Workbench:
    """The parts that a job's spec names, each made when first asked for.

    Args:
        supernet_file: the trained supernet, as `save_supernet` wrote it; None while there is none.
        device: overrides the spec's device.
    """

    def __init__(self, spec: JobSpec, *, supernet_file: Path | None = None, device: str | None = None) -> None:
        self.spec, self.supernet_file, self._device = spec, supernet_file, device
        self._supernet: Supernet | None = None
        self._made: dict[str, Cost] = {}

    @cached_property
    def dataset(self) -> Dataset:
        if self.spec.dataset is None:
            raise DataError("this job names no data set; give one under `dataset`.")
        return DATASETS[self.spec.dataset.name](self.spec.dataset.config)

    @cached_property
    def space(self) -> SearchSpace:
        """The part of the spec's space that is searched: what the evaluator can measure and every cost is known of.

        Raises:
            InfeasibleSpace: there is none.
        """
        part = self.measurable
        for cost in self.given_costs().values():
            part = cost.within(part)
        return part

    @cached_property
    def measurable(self) -> SearchSpace:
        """The part of the spec's space that the evaluator can measure; the supernet is of it, whatever costs know."""
        return space_of(self.spec, self.whole)

    @cached_property
    def whole(self) -> SearchSpace:
        """The spec's space, whether the evaluator can measure it or not: a file of costs may know more of it."""
        return space_for(self.spec.space, self.dataset if self.spec.dataset else None)

    @cached_property
    def task(self) -> Task:
        return TASKS[self.spec.task.name](self.spec.task.config, self.dataset)

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self._device or self.spec.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The number format of forward passes; float32 where there is no data set."""
        if self.spec.dataset is None:
            return torch.float32
        return choose_dtype(self.spec.precision, self.device, self.dataset.input_shape)

    @property
    def precision_note(self) -> str | None:
        """What is to be said of the number format on this device; None where it is what was asked for and gains.

        Raises:
            ConfigError: the spec asks for a format that the device lacks.
        """
        _ = self.dtype
        return precision_note(self.spec.precision, self.device, self.dataset.input_shape)

    @property
    def precision(self) -> Precision:
        """`dtype` as the training functions take it."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    def supernet(self) -> Supernet:
        """The trained supernet on the device, in evaluation mode; loaded once.

        Raises:
            CheckpointError: there is none, its file is cut short, or it is another space's.
        """
        if self._supernet is None:
            if self.supernet_file is None:
                raise CheckpointError("this job has no trained supernet; run its SUPERNET stage first.")
            loaded = load_supernet(self.measurable, self.supernet_file)
            to_device(loaded, self.device).eval()
            self._supernet = loaded
        return self._supernet

    def untrained(self) -> Workbench:
        """This bench with the supernet as it is before its training: to see how long those take that read it."""
        other = copy(self)
        made = self.space.supernet(seed=self.spec.seed)
        to_device(made, self.device).eval()
        other._supernet = made
        return other

    def costs(self, metrics: Iterable[str]) -> dict[str, Cost]:
        """The costs of these names: the spec's own, those that the evaluator knows, and the plug-ins.

        Raises:
            ConfigError: a cost of the spec does not fit the space.
            DataError: the file of one is missing or broken.
        """
        return {metric: self._cost(metric) for metric in metrics}

    def needed_costs(self) -> tuple[str, ...]:
        """The costs that are known on paper, the spec's own, and those that an objective or a constraint names."""
        asked = [*self.spec.objectives, *(bound.metric for bound in self.spec.bounds())]
        priced = {*self.spec.costs, *self._offered, *ready_costs()}
        own = [*free_costs(self.spec.space), *self.spec.costs]
        return tuple(dict.fromkeys([*own, *(metric for metric in asked if metric in priced)]))

    def given_costs(self) -> dict[str, Cost]:
        """The costs whose values somebody gave, and perhaps not of all: the spec's own, and those of a table."""
        given = {*self.spec.costs, *self._offered}
        return self.costs(metric for metric in self.needed_costs() if metric in given)

    def known_costs(self) -> dict[str, Cost]:
        """Every cost that is known without measuring, a prediction included."""
        named = dict.fromkeys([*self.spec.costs, *self._offered, *free_costs(self.spec.space), *self.needed_costs()])
        return self.costs(metric for metric in named if self.is_predicted(metric) or not self.is_measured(metric))

    def predict_cost(self, metric: str, known: Mapping[Architecture, Reading]) -> None:
        """Predict a cost that is dear to measure from what was measured of some networks.

        Raises:
            MeasurementError: these are too few.
        """
        self._made[metric] = Estimated(self.measuring_cost(metric), self.measurable, known)

    def measuring_cost(self, metric: str) -> Cost:
        """A cost as it is measured, whether it is predicted by now or not."""
        cost = self._cost(metric)
        return cost.cost if isinstance(cost, Estimated) else cost

    def is_predicted(self, metric: str) -> bool:
        """Whether a cost that runs the network is predicted for most."""
        return isinstance(self._made.get(metric), Estimated)

    def is_measured(self, metric: str) -> bool:
        """Whether a cost runs the network."""
        if metric in self._offered and metric not in self.spec.costs:
            return False
        name = self.spec.costs[metric].name if metric in self.spec.costs else metric
        return bool(COSTS[name].flags["measured"])

    def _cost(self, metric: str) -> Cost:
        if metric not in self._made:
            ref = self.spec.costs.get(metric)
            if ref is None and metric in self._offered:
                self._made[metric] = self._offered[metric]
            else:
                name, config = (ref.name, ref.config) if ref else (metric, None)
                self._made[metric] = COSTS[name](config, self.whole, self.device)
        return self._made[metric]

    @cached_property
    def _offered(self) -> dict[str, Cost]:
        return costs_of(self.spec, self.measurable)


def space_for(ref: PluginRef, dataset: Dataset | None) -> SearchSpace:
    """The space for this data set: its input shape and number of classes are filled in where they are not given.

    Raises:
        ConfigError: a setting is wrong, or is not the data set's.
    """
    if dataset is None:
        return SPACES[ref.name](ref.config)
    own: Mapping[str, object] = {"input_shape": list(dataset.input_shape), "num_classes": dataset.num_classes}
    given = {key: value for key, value in ref.config.items() if value is not None}
    wrong = [
        Violation(f"space.config.{key}", repr(given[key]), f"{value}, the data set's (or leave it out)")
        for key, value in own.items()
        if key in given and (list(given[key]) if isinstance(given[key], tuple) else given[key]) != value
    ]
    if wrong:
        raise ConfigError(wrong)
    return SPACES[ref.name]({**given, **own})


def save_supernet(supernet: Supernet, path: Path) -> None:
    """Write the weights and what they are of, atomically; one in parts with the splits that made them.

    Raises:
        StorageFull: no room is left; what was at `path` stays.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in supernet.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    try:
        identity: dict[str, object] = {**_identity(supernet.space)}
        if supernet.splits:
            identity["splits"] = supernet.splits
        save_file(tensors, partial, metadata={_IDENTITY: json.dumps(identity, sort_keys=True)})
        os.replace(partial, path)
    except (SafetensorError, OSError) as error:
        partial.unlink(missing_ok=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in str(error):
            raise StorageFull(f"no room is left to write {path}; free some and try again.") from error
        raise


def load_supernet(space: SearchSpace, path: Path) -> Supernet:
    """The supernet that `save_supernet` wrote, on the CPU.

    Raises:
        CheckpointError: the file is missing, cut short, or of another space.
    """
    try:
        with safe_open(path, framework="pt") as file:
            held = json.loads((file.metadata() or {}).get(_IDENTITY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no whole supernet file: {error}; train it again.") from error
    splits = [Split.of(*split) for split in held.pop("splits", ())]
    wanted = _identity(space)
    if held != wanted:
        raise CheckpointError(
            f"{path} holds a supernet of {held.get('space')} {held.get('config')}, "
            f"not of {wanted['space']} {wanted['config']}."
        )
    try:
        supernet = RoutedSupernet.arranged(space, splits) if splits else space.supernet()
        supernet.load_state_dict(tensors)
    except (RuntimeError, InvalidArchitecture) as error:
        raise CheckpointError(f"{path} does not fit the supernet of {space.name}: {error}.") from error
    return supernet


def _identity(space: SearchSpace) -> dict[str, str]:
    config = json.dumps(space.config.model_dump(mode="json"), sort_keys=True)
    return {"format": _FORMAT, "space": space.name, "config": config}
