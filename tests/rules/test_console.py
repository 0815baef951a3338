"""The command line prints by one function, which lets no control character of a name through."""

from __future__ import annotations

import ast
import inspect

from api import cli, console


def test_the_command_line_prints_by_say_alone() -> None:
    """What prints past it would be raw again."""
    for module, allowed in ((console, {"print_json", "say"}), (cli, set[str]())):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)] if isinstance(node, ast.FunctionDef) else []
            raw = [c for c in calls if ast.unparse(c.func) in ("print", "typer.echo", "sys.stdout.write")]
            assert not raw or getattr(node, "name", "") in allowed, ast.unparse(raw[0])
