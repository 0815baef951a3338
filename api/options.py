"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

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
WatchParent = Annotated[bool, typer.Option("--watch-parent", hidden=True, help="End when standard input closes.")]


def among(*allowed: str) -> Callable[[str | None], str | None]:
    """Lets an option be one of a few words."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"{value!r} is not {one_of(value, allowed)}.")
        return value

    return check
