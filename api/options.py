"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.yaml import read_yaml
from searchspaces import one_of

DEFAULT_PORT = 8421

Url = Annotated[
    str | None, typer.Option("--url", envvar="NAS_URL", help=f"Address of the service; else port {DEFAULT_PORT} here.")
]
Token = Annotated[str | None, typer.Option("--token", envvar="NAS_TOKEN", help="Bearer token.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobRef = Annotated[str, typer.Argument(metavar="JOB", help="Id, a unique beginning of it, or `latest`.")]
SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="A job spec (YAML).")]
Host = Annotated[str | None, typer.Option(help="Address to bind.")]
Port = Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to bind; 0 takes a free one.")]
Folder = Annotated[Path | None, typer.Option(help="Where store, artifacts and checkpoints lie.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="SQLAlchemy URL of the store.")]
Workers = Annotated[int | None, typer.Option(min=0, max=256, help="Worker processes to start.")]
LeaseSeconds = Annotated[
    float | None,
    typer.Option(envvar="NAS_LEASE_SECONDS", min=0.5, max=3600, help="How long a silent worker keeps a unit."),
]
PreflightSeconds = Annotated[
    float, typer.Option(envvar="NAS_PREFLIGHT_SECONDS", min=1, max=86_400, help="How long preflight may measure.")
]
PreflightMemory = Annotated[
    int | None,
    typer.Option(
        envvar="NAS_PREFLIGHT_MEMORY", min=2**28, help="Bytes that preflight may use; else four fifths of what is free."
    ),
]
WatchParent = Annotated[bool, typer.Option("--watch-parent", hidden=True, help="End when standard input closes.")]


def settings_of(pairs: Sequence[str]) -> dict[str, object]:
    """Settings written as KEY=VALUE, each value as YAML reads it: a number, true, a list, else text."""
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE, such as mode=grey.")
        if key in found:
            raise typer.BadParameter(f"{key} is given twice; give it once.")
        found[key] = _value(text)
    return found


def _value(text: str) -> object:
    try:
        value = read_yaml(text)
    except ValueError:
        return text
    is_comment = value is None and text.strip().casefold() not in ("null", "~")  # a colour such as #102030
    return text if is_comment or not isinstance(value, bool | int | float | str | list | dict | None) else value


def among(*allowed: str) -> Callable[[str | None], str | None]:
    """Lets an option be one of a few words."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"{value!r} is not {one_of(value, allowed)}.")
        return value

    return check
