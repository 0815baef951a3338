"""The examples are what the service accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas import JobSpec
from nas.admission import metric_levels
from nas.plugins import registry
from nas.spec import PluginRef
from tests.conftest import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_valid_spec_of_plugins_that_exist(path: Path, request: pytest.FixtureRequest) -> None:
    spec = JobSpec.from_yaml(path)
    if registry("evaluators")[spec.evaluator.name].flags.get("reads_tables"):
        request.getfixturevalue("data_folder")
    refs: dict[str, PluginRef] = {
        "spaces": spec.space,
        **({"datasets": spec.dataset} if spec.dataset else {}),
        "tasks": spec.task,
        "recipes": spec.supernet.recipe,
        "evaluators": spec.evaluator,
        "searchers": spec.searcher,
    }
    for kind, ref in refs.items():
        registry(kind)[ref.name].configure(ref.config)
    for proxy in spec.scoring.proxies:
        registry("proxies")[proxy.name].configure(proxy.config)
    metrics = set(spec.objectives) | {bound.metric for bound in spec.bounds()}
    assert metrics <= metric_levels(spec).keys()


def test_there_are_examples() -> None:
    assert EXAMPLES
