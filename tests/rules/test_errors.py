"""One tree of errors, drawn where it is defined; nobody swallows what was not expected."""

from __future__ import annotations

import ast
import builtins
import re

import pytest

import searchspaces
from searchspaces import NASError
from tests.rules._sources import dotted, files, functions, name, tree

HOME = "searchspaces/_errors.py"
# Process edges: where one failing unit of work, request or plug-in must not take the process with it.
EDGES = frozenset(
    {
        "api/plugin_checks.py::check",
        "api/plugin_checks.py::_module",
        "api/tracing.py::Tracing.__call__",
        "api/worker.py::WorkerLoop.do",
        "nas/stages/_apart.py::_measure",
        "searchspaces/_registry.py::Registry.__getitem__",  # the edge of a file that somebody else wrote
        "nas/stages/_strangers.py::refuse_broken",  # the edge of what somebody else wrote, tried before all else
        "predictors/zerocost/_harness.py::_scored",  # the edge of one proxy: the others of the call go on
    }
)


def new_exceptions(syntax: ast.AST, known: frozenset[str]) -> list[str]:
    """Classes that derive, directly or through each other, from a built-in exception or a known one."""
    found: dict[str, int] = {}
    classes = [node for node in ast.walk(syntax) if isinstance(node, ast.ClassDef)]
    for _ in classes:
        for node in classes:
            if any(dotted(base).split(".")[-1] in known | found.keys() for base in node.bases):
                found[node.name] = node.lineno
    return [f"line {line}: {class_name}" for class_name, line in found.items()]


def broad_excepts(syntax: ast.AST, edges: frozenset[str] = frozenset()) -> list[str]:
    """`except:`, `except Exception`, `except BaseException` and `suppress(Exception)` outside the named functions.

    One that cleans up and always raises again catches nothing, so it is allowed.
    """
    allowed = {line for edge, node in functions(syntax) if edge in edges for line in _lines(node)}
    findings = []
    for node in ast.walk(syntax):
        if isinstance(node, ast.ExceptHandler) and not _raises_again(node):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] == "suppress":
            caught = list(node.args)
        else:
            continue
        is_broad = any(c is None or dotted(c).split(".")[-1] in ("Exception", "BaseException") for c in caught)
        if is_broad and node.lineno not in allowed:
            findings.append(f"line {node.lineno}")
    return findings


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    leaves = any(isinstance(node, ast.Return | ast.Break | ast.Continue) for node in ast.walk(handler))
    return isinstance(last, ast.Raise) and last.exc is None and not leaves


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def known_exceptions() -> frozenset[str]:
    built_in = {
        n for n, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
    }
    return frozenset(built_in | {error.__name__ for error in descendants(NASError)} | {"NASError"})


def descendants(error: type[NASError]) -> list[type[NASError]]:
    children = error.__subclasses__()
    return children + [below for child in children for below in descendants(child)]


def drawn(docstring: str) -> dict[str, tuple[str, str]]:
    """Class name -> (class name above it, builtin in brackets), as the tree in the docstring draws them."""
    found: dict[str, tuple[str, str]] = {}
    above: list[str] = ["NASError"]
    for line in docstring.splitlines():
        match = re.match(r"^((?:│   |    )*)[├└]── (\w+) +\((\w+)\)", line)
        if match:
            depth = len(match[1]) // 4
            found[match[2]] = (above[depth], match[3])
            above[depth + 1 :] = [match[2]]
    return found


def test_errors_are_defined_in_one_file() -> None:
    findings = [
        f"{name(f)} {hit}" for f in files() if name(f) != HOME for hit in new_exceptions(tree(f), known_exceptions())
    ]
    assert not findings, "\n".join(findings)


def test_the_tree_in_the_errors_docstring_is_the_tree_of_classes() -> None:
    import searchspaces._errors as home

    public = {error.__name__: error for error in descendants(NASError) if not error.__name__.startswith("_")}
    tree_drawn = drawn(home.__doc__ or "")
    assert set(tree_drawn) == set(public)
    for error_name, (parent, builtin) in tree_drawn.items():
        assert issubclass(public[error_name], getattr(home, parent)), f"{error_name} is not a {parent}"
        assert issubclass(public[error_name], getattr(builtins, builtin)), f"{error_name} is not a {builtin}"


def test_every_error_is_documented_and_exported() -> None:
    public = [error for error in descendants(NASError) if not error.__name__.startswith("_")]
    assert [e.__name__ for e in public if not e.__doc__] == []
    assert [e.__name__ for e in public if e.__name__ not in searchspaces.__all__] == []


def test_only_process_edges_catch_everything() -> None:
    findings = []
    for file in files():
        edges = frozenset(edge.split("::")[1] for edge in EDGES if edge.startswith(f"{name(file)}::"))
        findings += [f"{name(file)} {finding}" for finding in broad_excepts(tree(file), edges)]
    assert not findings, "\n".join(findings)


def test_every_listed_process_edge_exists_and_still_needs_its_place() -> None:
    for edge in EDGES:
        path, function = edge.split("::")
        file = next((f for f in files() if name(f) == path), None)
        assert file is not None, f"{path} is gone"
        others = frozenset(e.split("::")[1] for e in EDGES if e.startswith(f"{path}::")) - {function}
        assert broad_excepts(tree(file), others), f"{edge} catches nothing broad any more"


@pytest.mark.parametrize(
    "bad",
    [
        "try: f()\nexcept: pass",
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept Exception:\n    if x: raise",
        "try: f()\nexcept Exception:\n    if x: return 0\n    raise",
        "try: f()\nexcept (ValueError, BaseException): pass",
        "import contextlib\nwith contextlib.suppress(Exception): f()",
    ],
)
def test_the_broad_except_rule_sees_one(bad: str) -> None:
    assert broad_excepts(ast.parse(bad))


def test_the_broad_except_rule_allows_cleaning_up_and_raising_again() -> None:
    assert not broad_excepts(ast.parse("try: f()\nexcept BaseException:\n    g()\n    raise"))


def test_the_broad_except_rule_allows_the_named_edge_only() -> None:
    edge = ast.parse("def main():\n    try: f()\n    except Exception: pass")
    assert not broad_excepts(edge, frozenset({"main"}))
    assert broad_excepts(edge, frozenset({"other"}))


def test_the_one_file_rule_sees_a_new_error() -> None:
    assert new_exceptions(ast.parse("class A(ValueError): ...\nclass B(A): ..."), known_exceptions())
    assert not new_exceptions(ast.parse("class A(dict): ..."), known_exceptions())


def test_the_drawing_is_read_with_its_levels() -> None:
    text = "NASError\n├── A  (ValueError)  x\n│   └── B  (OSError)  y\n└── C  (LookupError)  z"
    assert drawn(text) == {"A": ("NASError", "ValueError"), "B": ("A", "OSError"), "C": ("NASError", "LookupError")}
