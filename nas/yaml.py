"""YAML without surprises: a key that is written twice is refused, where the standard loader keeps the last."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written: merged keys (`<<`) come later, and may be overwritten."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                said = f"{key.value!r} is there twice, in line {lines[name]} and in line {line}; write it once"
                raise yaml.MarkedYAMLError(problem=said)
            lines[name] = line
        return node


def read_yaml(text: str) -> object:
    """The plain values that a YAML text holds.

    Raises:
        ValueError: it is no YAML, or a mapping has a key twice; the message says where.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
