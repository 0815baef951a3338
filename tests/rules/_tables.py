"""The tables of the documentation that say what the code says: plug-ins, routes, commands.

`make docs` writes them between their markers; a test holds that they are up to date.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nas.plugins import KINDS, registry
from tests.conftest import ROOT

_MARKED = re.compile(r"(<!-- table: ([\w /]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_METHODS = ("get", "post", "put", "patch", "delete")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; line breaks and bars inside a cell are made harmless."""
    cells = [list(header), ["---"] * len(list(header)), *rows]
    return "".join("| " + " | ".join(_cell(text) for text in row) + " |\n" for row in cells)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def plugins(kind: str) -> str:
    """What plug-ins of a kind there are, and their settings."""
    loaded = {name: registry(kind)[name] for name in registry(kind)}
    first = table(("name", "what", "from"), ((f"`{n}`", p.description, p.source) for n, p in loaded.items()))
    settings: dict[tuple[str, str, str], list[str]] = {}
    for name, plugin in loaded.items():
        for field, info in plugin.Config.model_fields.items():
            default = "required" if info.is_required() else f"`{info.get_default(call_default_factory=True)}`"
            settings.setdefault((field, default, info.description or ""), []).append(f"`{name}`")
    if not settings:
        return first + "\nNo settings.\n"
    rows = ((f"`{field}`", ", ".join(of), default, what) for (field, default, what), of in settings.items())
    return first + "\n" + table(("setting", "of", "default", "meaning"), rows)


def routes() -> str:
    """Every route of the service's OpenAPI document."""
    rows = sorted(_routes(), key=lambda row: (row[0].split()[1], row[0]))
    return table(("route", "what"), rows)


def _routes() -> Iterator[tuple[str, str]]:
    from api.serving import application
    from api.settings import Settings
    from db import Store

    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"sqlite:///{folder}/nas.db", Path(folder))
        try:
            paths = application(store, Settings(folder=Path(folder))).openapi()["paths"]
        finally:
            store.close()
    for path, verbs in paths.items():
        for method in _METHODS:
            if method in verbs:
                yield f"`{method.upper()} {path}`", verbs[method].get("description") or verbs[method]["summary"]


def commands() -> str:
    """Every command of the command line, with the first sentence of its help."""
    import typer.main

    from api.cli import app

    found = []
    waiting = [("nas", typer.main.get_command(app))]
    while waiting:
        prefix, command = waiting.pop()
        children = {name: c for name, c in getattr(command, "commands", {}).items() if not c.hidden}
        waiting += [(f"{prefix} {name}", child) for name, child in children.items()]
        if not children:
            words = (str(p.name).upper() for p in command.params if p.param_type_name == "argument")
            found.append((f"`{' '.join((prefix, *words))}`", (command.help or "").split("\n\n")[0]))
    return table(("command", "what"), sorted(found))


def overview() -> str:
    """The names of all plug-ins."""
    return table(("kind", "plug-ins"), ((kind, ", ".join(f"`{name}`" for name in registry(kind))) for kind in KINDS))


def example() -> str:
    """The example of the client, as it is."""
    return f"```python\n{(ROOT / 'examples' / 'search.py').read_text(encoding='utf-8')}```\n"


TABLES: dict[str, Callable[[], str]] = {
    "routes": routes,
    "commands": commands,
    "example": example,
    "overview": overview,
    **{kind: lambda kind=kind: plugins(kind) for kind in KINDS},  # type: ignore[misc]
}


def rendered(markdown: str) -> str:
    """The document with every marked table as the code has it now."""
    return _MARKED.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], markdown)


def marked(markdown: str) -> list[str]:
    """Names of the tables that a document holds."""
    return [match[2] for match in _MARKED.finditer(markdown)]


def main() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
