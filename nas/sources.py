"""What files and sources say, as digests: a change that can change a number changes them, a comment does not.

A worker's code is what it loaded, not what lies on the disk now: `changed_since_loaded` says where the two differ.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path
from typing import NamedTuple

from nas.spec import digest_of

_STARTED = time.time()
_SETTLED_SECONDS = 2.0  # a file written again within the clock's tick keeps its time and size: not remembered so early
_OURS = ("searchspaces", "predictors", "nas", "db", "api")
_FOLDERS = ("searchspaces", "nas.tasks", "nas.datasets", "nas.training", "nas.recipes")
"""Where numbers come from. Their machinery always counts, a plug-in of theirs where it takes part."""
_MACHINERY = ("nas.streams", "nas.workbench", "nas.stages._supernet")
_COMPILED = (".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".pyx")
_LIBRARIES = ("site-packages", "dist-packages")
# Texts are kept, comments go, and so does the layout within a line; a line's end ends a `#define`.
_C_TOKENS = re.compile(r'("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')|//[^\n]*|/\*.*?\*/|[ \t\r\f]+', re.DOTALL)

_Stamp = tuple[int, ...]
_known: dict[tuple[str, Path], tuple[_Stamp, str]] = {}
_first: dict[Path, str] = {}  # a source as this process met it first
_late: set[Path] = set()  # sources that were loaded, and written after this process began, when it met them


class Source(NamedTuple):
    """A file of a package that takes part; `label` is its place from the package on, wherever that lies."""

    label: str
    path: Path


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of all names and files below a folder; `missing` where there is nothing."""
    if path.is_dir():
        found = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        return digest_of({file.relative_to(path).as_posix(): content_digest(file) for file in found})
    return _cached("content", path, _file_digest) if path.is_file() else "missing"


def source_digest(path: Path) -> str:
    """SHA-256 of what a source says: of Python and C++ without comments and docstrings, of anything else as it is."""
    found = _cached("source", path, _meaning)
    if path not in _first:
        _first[path] = found
        if path.stat().st_mtime > _STARTED and path in _loaded_files():
            _late.add(path)
    return found


def changed_since_loaded(sources: Iterable[Source]) -> list[str]:
    """The sources that say something else than this process, which loaded them before, does."""
    now = [(source, source_digest(source.path)) for source in sources]
    return sorted(source.label for source, found in now if source.path in _late or _first[source.path] != found)


def sources_of(modules: Iterable[str], root: Path | None = None) -> list[Source]:
    """Every file that can change a number where the plug-ins of these modules train a supernet.

    The machinery of spaces, tasks, data sets, training and recipes with the kernels; of the plug-ins the modules
    themselves with what they import of ours; of a third party's the whole package, or the file where it is but one,
    and in the same way what that imports. Libraries are not followed: see `library_versions`.

    Args:
        root: where our own packages lie; None: where they are loaded from.
    """
    named = list(modules)
    theirs = _third_party([name for name in named if not _is_known(name.partition(".")[0])])
    wanted = [name for name in named if _is_ours(name)]
    wanted += [name for source in theirs for name in imported(source.path, _package(source)) if _is_ours(name)]
    return sorted({*_own(wanted, root or Path(__file__).parents[1]), *theirs})


def library_versions(sources: Iterable[Source]) -> dict[str, str]:
    """Library -> version of what a third party's sources import and this software does not itself need.

    Another version of what all need (torch and the like) is told, but makes no other supernet.
    """
    found = dict[str, str]()
    for source in sources:
        if not _is_ours(source.label.partition("/")[0].removesuffix(".py")):
            tops = {name.partition(".")[0] for name in imported(source.path, _package(source))}
            found |= {top: _version(top) for top in tops if _is_foreign_library(top)}
    return found


def imported(path: Path, package: str = "") -> frozenset[str]:
    """The modules that a Python source names in its imports, wherever they stand; of `from a import b` a and a.b."""
    if path.suffix != ".py":
        return frozenset()
    return frozenset(_imports(path, package, _stamp(path)))


# --- what a file says ------------------------------------------------------------------------------------------------


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _cached(kind: str, path: Path, digest: Callable[[Path], str]) -> str:
    stamp = _stamp(path)
    known = _known.get((kind, path))
    if known is not None and known[0] == stamp:
        return known[1]
    found = digest(path)
    if time.time() - stamp[0] / 1e9 > _SETTLED_SECONDS:
        _known[kind, path] = (stamp, found)
    return found


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _meaning(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".py":
        with suppress(SyntaxError, ValueError, RecursionError):  # what cannot be read is compared byte by byte
            content = _python(content)
    elif path.suffix in _COMPILED:
        text = _C_TOKENS.sub(lambda match: match[1] or " ", content.decode(errors="replace"))
        content = "\n".join(line for each in text.splitlines() if (line := each.strip())).encode()
    return hashlib.sha256(content).hexdigest()


def _python(content: bytes) -> bytes:
    """The syntax tree, without texts that stand alone: docstrings, and those below an attribute."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return ast.dump(tree, annotate_fields=False).encode()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _imports(path: Path, package: str, stamp: _Stamp) -> frozenset[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return frozenset()
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (above, node.module or "") if part)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(found - {""})


# --- which files -----------------------------------------------------------------------------------------------------


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS


def _package(source: Source) -> str:
    """The package that a source's relative imports begin at."""
    return ".".join(Path(source.label).parent.parts)


def _own(modules: Iterable[str], root: Path) -> Iterator[Source]:
    """Our sources: the machinery, and of the plain-named files those that are named or imported by one that counts."""
    todo = [*modules, *_MACHINERY]
    for folder in _FOLDERS:
        files = Path(root, *folder.split(".")).iterdir()
        todo += [f"{folder}.{file.stem}" for file in files if file.name.startswith("_") or folder == "nas.training"]
    seen = set[str]()
    while todo:
        name = todo.pop()
        path = _own_file(name, root)
        if name in seen or path is None or not (name in _MACHINERY or _counts(name)):
            continue
        seen.add(name)
        source = Source(path.relative_to(root).as_posix(), path)
        yield source
        for code in path.parent.glob("*"):
            if code.suffix in _COMPILED:
                yield Source(code.relative_to(root).as_posix(), code)
        if name not in _MACHINERY:  # what those import for other stages changes no weights
            todo += [found for found in imported(path, _package(source)) if _is_ours(found)]


def _counts(name: str) -> bool:
    folders = (*_FOLDERS, "predictors")
    return any(name == folder or name.startswith(f"{folder}.") for folder in folders)


def _own_file(name: str, root: Path) -> Path | None:
    place = Path(root, *name.removesuffix(".__init__").split("."))
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)


def _third_party(modules: list[str]) -> set[Source]:
    found = set[Source]()
    todo = sorted({_unit(name) for name in modules})
    named = {name.partition(".")[0] for name in todo}
    seen = set(todo)
    while todo:
        fresh = set(_files(todo.pop())) - found
        found |= fresh
        tops = {name.partition(".")[0] for source in fresh for name in imported(source.path, _package(source))}
        more = {top for top in tops if not _is_known(top) and (not _is_library(top) or _comes_with(top, named))}
        todo += sorted(more - seen)
        seen |= more
    return found


def _unit(module: str) -> str:
    """What is taken whole: the outermost package of a module that is no namespace, or the module alone."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        spec = _spec(name)
        if spec is not None and spec.origin is not None:
            return name
    return module


def _files(name: str) -> Iterator[Source]:
    spec = _spec(name)
    loaded = getattr(sys.modules.get(name), "__file__", None)
    origin = spec.origin if spec is not None and spec.has_location else loaded
    if origin is None:
        return
    path, above = Path(origin), name.rpartition(".")[0].replace(".", "/")
    prefix = f"{above}/" if above else ""
    if spec is None or not spec.submodule_search_locations:
        yield Source(f"{prefix}{path.name}", path)
        return
    suffixes = (".py", *_COMPILED, *importlib.machinery.EXTENSION_SUFFIXES)
    for folder, inner, files in os.walk(path.parent):
        inner[:] = [each for each in inner if not each.startswith((".", "__pycache__"))]
        for file in (Path(folder, each) for each in files if each.endswith(suffixes)):
            yield Source(f"{prefix}{file.relative_to(path.parent.parent).as_posix()}", file)


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):  # as of __main__
        return None


def _is_known(top: str) -> bool:
    """Whether a module is ours, Python's, or a library that this software itself needs."""
    return _is_ours(top) or top in sys.stdlib_module_names or any(d in _needed() for d in _distributions(top))


def _is_foreign_library(top: str) -> bool:
    return not _is_known(top) and _is_library(top)


@cache
def _is_library(top: str) -> bool:
    """Whether a module was installed, and is not somebody's file on the way."""
    spec = _spec(top)
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    return spec is None or any(part in _LIBRARIES for place in places for part in Path(place).parts)


def _comes_with(top: str, named: Iterable[str]) -> bool:
    """Whether a module was installed by the same distribution as one of those that are named."""
    mine = set(_distributions(top))
    return any(mine & set(_distributions(other)) for other in named)


@cache
def _distributions(top: str) -> tuple[str, ...]:
    return tuple(name.lower() for name in _packages().get(top, ()))


@cache
def _packages() -> dict[str, list[str]]:
    return dict(packages_distributions())


@cache
def _needed() -> frozenset[str]:
    try:
        wanted = requires("nas-service") or []
    except PackageNotFoundError:
        return frozenset()
    return frozenset(re.split(r"[^\w.-]", text, maxsplit=1)[0].lower() for text in wanted)


def _version(top: str) -> str:
    try:
        return ", ".join(f"{name} {version(name)}" for name in sorted(_distributions(top))) or "unknown"
    except PackageNotFoundError:
        return "unknown"


def _loaded_files() -> set[Path]:
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {Path(file) for file in files if file}
