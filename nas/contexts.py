"""Which measurements may be compared: those whose contexts agree in all that changes the value.

A measurement's context says more than that, such as versions and numbers of passes: for people, and for doing it again.
A job's candidates, its front and what is chosen from it hold values of one context for every metric: the first that
was settled. Values of another are kept as measurements of the evaluation, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping

from nas.resources import Measurement

Context = Mapping[str, str | int | float | bool]

_ALWAYS = ("split", "dataset", "bn", "proxy", "images", "reduced", "table", "sha256", "digest", "noise")
_OF_DEVICES = ("device", "device_name", "runtime", "provider", "threads", "batch")
_WITH_SHARED_WEIGHTS = ("supernet", "proxy")


def comparable(measurement: Measurement) -> dict[str, str | int | float | bool]:
    """The part of a measurement's context that its value depends on; equal parts may share a front.

    What is measured on samples depends on these, on how the network normalises, and with weights that it was not
    trained alone for on the number format, but not on the device: networks trained on a GPU and on a CPU are two draws
    of one experiment. What is timed, or known from a file, depends on the device, how it was used, and the file.
    """
    context, keys = measurement.context, list(_ALWAYS)
    if "split" not in context:
        keys += _OF_DEVICES
    if "split" not in context or measurement.fidelity.level in _WITH_SHARED_WEIGHTS:
        keys.append("dtype")
    if context.get("bn") == "batch":
        keys.append("eval_batch")  # whose statistics are taken
    return {key: context[key] for key in keys if key in context}


def key_of(measurement: Measurement) -> str:
    """How candidates hold the value: `metric@level`."""
    return f"{measurement.metric}@{measurement.fidelity.level}"


def differences(first: Context, other: Context) -> str:
    """In what two comparable parts differ, in words: `device cpu, here cuda`."""
    keys = [key for key in (*first, *(k for k in other if k not in first)) if first.get(key) != other.get(key)]
    return ", ".join(f"{key} {first.get(key, 'not said')}, here {other.get(key, 'not said')}" for key in keys)
