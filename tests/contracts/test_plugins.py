"""Every plug-in of every kind keeps the promises of a record."""

from __future__ import annotations

import pytest

import nas.testing
from nas.plugins import KINDS, registry
from nas.testing import check_plugin
from searchspaces import ContractViolation, UnknownPlugin


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in registry(kind)])
def test_a_plugins_record_is_complete(kind: str, name: str) -> None:
    check_plugin(kind, name)


def test_a_plugin_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(UnknownPlugin, match=r"'nowhere'.*regularized_evolution"):
        registry("searchers")["nowhere"]


@pytest.mark.parametrize("name", nas.testing.__all__)
def test_every_check_that_is_exported_loads(name: str) -> None:
    assert callable(getattr(nas.testing, name))


def test_a_setting_that_breaks_the_contract_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from pydantic import Field

    from nas.searchers import REGISTRY, random
    from searchspaces import Config

    class Unbounded(Config):
        size: int = Field(3, ge=1, description="No largest value.")

    class Unmarked(Config):
        start_path: str | None = Field(None, max_length=100, description="A file of this machine.")

    for wrong, promise in ((Unbounded, "size has a smallest and a largest value"), (Unmarked, "start_path is marked")):
        monkeypatch.setattr(random, "PLUGIN", replace(REGISTRY["random"], Config=wrong))
        with pytest.raises(ContractViolation, match=promise):
            check_plugin("searchers", "random")
