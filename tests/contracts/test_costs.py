"""Every registered cost keeps the contract on every registered space, and the contract sees one that does not."""

from __future__ import annotations

import pytest

from nas.testing._costs import check_cost
from nas.testing._spaces import drawn_architectures, spaces_with
from predictors.costs import REGISTRY, Cost, Reading, ready_costs
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, ContractViolation


class Fixed(Cost):
    """A cost that gives prepared readings one after the other."""

    def __init__(self, *readings: Reading) -> None:
        self.readings = list(readings)

    def measure(self, architecture: Architecture) -> Reading:
        return self.readings.pop(0)


def spaces_of(cost: str) -> list[str]:
    """Those that have what the cost needs: networks to run, or counts on paper."""
    return spaces_with("networks" if REGISTRY[cost].flags["measured"] else "counts")


@pytest.mark.parametrize(("name", "space_name"), [(name, space) for name in ready_costs() for space in spaces_of(name)])
def test_every_cost_keeps_the_contract_on_every_space(name: str, space_name: str) -> None:
    space, plugin = SPACES[space_name]({"input_shape": (1, 8, 8), "num_classes": 4}), REGISTRY[name]
    check_cost(plugin({}, space, "cpu"), plugin.flags, drawn_architectures(space, samples=2))


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_cost_needs_settings_exactly_when_one_is_required(name: str) -> None:
    required = any(field.is_required() for field in REGISTRY[name].Config.model_fields.values())
    assert required == REGISTRY[name].flags.get("needs_config", False)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_the_settings_of_every_cost_are_described(name: str) -> None:
    schema = REGISTRY[name].Config.model_json_schema()
    assert not [field for field, about in schema.get("properties", {}).items() if not about.get("description")]


@pytest.mark.parametrize(
    ("readings", "flags", "promise"),
    [
        ([Reading(1.0, "u")], {"unit": "u"}, "flags unit"),
        ([Reading(1.0, "u")], {"unit": "u", "measured": False, "needs_config": True}, "flags unit"),
        ([Reading(1.0, "")], {"measured": False, "needs_config": True}, "unit"),
        ([Reading(float("nan"), "u")], {"unit": "u", "measured": False}, "finite and positive"),
        ([Reading(-1.0, "u")], {"unit": "u", "measured": False}, "finite and positive"),
        ([Reading(1.0, "v")], {"unit": "u", "measured": False}, "unit is its flag's"),
        ([Reading(1.0, "u", 0.1, {"predicted": True})], {"unit": "u", "measured": False}, "how far off"),
        ([Reading(1.0, "u"), Reading(2.0, "u")], {"unit": "u", "measured": False}, "equal every time"),
        ([Reading(1.0, "u", 0.1)], {"unit": "u", "measured": True}, "on which device"),
        ([Reading(1.0, "u", None, {"device": "cpu"})], {"unit": "u", "measured": True}, "has a spread"),
    ],
)
def test_the_contract_sees_a_cost_that_breaks_it(readings: list[Reading], flags: dict[str, str], promise: str) -> None:
    architecture = SPACES["macro"]({}).parse("00000000")
    with pytest.raises(ContractViolation, match=promise):
        check_cost(Fixed(*readings), flags, [architecture])
