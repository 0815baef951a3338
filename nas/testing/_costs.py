"""The contract of a cost as a plain function that raises `ContractViolation`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from predictors.costs import Cost
from searchspaces import Architecture, ContractViolation, Flag


def check_cost(cost: Cost, flags: Mapping[str, Flag], architectures: Sequence[Architecture]) -> None:
    """Checks what a cost promises on these architectures; `flags` are its plug-in's.

    A reading is finite and positive, its unit is the flag's (or that of the settings, where it needs some), its context
    is plain, and where the number is predicted says its error; a cost that is not measured gives the same number twice,
    one that is measured says how widely it spread and on what.

    Raises:
        ContractViolation: a promise is broken.
    """
    measured, needs_config = flags.get("measured"), flags.get("needs_config", False)
    if isinstance(flags.get("unit"), str) == needs_config or not isinstance(measured, bool):
        raise ContractViolation(
            f"a cost has the flags unit (text; none when it needs settings) and measured (bool); got {dict(flags)}."
        )
    for architecture in architectures:
        reading = cost.measure(architecture)
        if not math.isfinite(reading.value) or reading.value <= 0:
            raise ContractViolation(f"a cost is finite and positive; got {reading.value} for {architecture}.")
        if not reading.unit or reading.unit != flags.get("unit", reading.unit):
            raise ContractViolation(f"a reading's unit is its flag's, {flags.get('unit')}; got {reading.unit!r}.")
        json.dumps(dict(reading.context), allow_nan=False)
        if reading.context.get("predicted") and (cost.error is None or "error" not in reading.context):
            raise ContractViolation(f"what is predicted says how far off it may be; got {reading}.")
        if not measured and cost.measure(architecture) != reading:
            raise ContractViolation(
                f"what is not measured is equal every time; got another reading for {architecture}."
            )
        if measured and (reading.std is None or reading.std < 0 or "device" not in reading.context):
            raise ContractViolation(f"what is measured has a spread and says on which device; got {reading}.")
