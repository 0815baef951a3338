"""What pydantic found wrong with an input, in words for people: field, value, what is allowed, what may be meant."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from inspect import isclass
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from searchspaces._errors import Violation

Item = Mapping[str, Any]
"""One of `ValidationError.errors()`."""

_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "string": "text",
    "path": "a path",
    "dict": "a mapping of keys to values",
    "mapping": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "dataclass": "a mapping of keys to values",
    "invalid_key": "text as a key",
    **dict.fromkeys(("list", "tuple", "set", "frozen_set", "iterable"), "a list"),
    **dict.fromkeys(("datetime", "date"), "a time, such as 2024-05-01T12:00:00Z"),
}
_FAULT = re.compile(r"_(type|parsing|parsing_size|from_float|from_date_parsing|attributes_type|sub|unicode|not_str)$")
_NOT_FAULTS = ("default_factory_not_called",)  # the fault of another field, which is told by itself
_KEY = "[key]"


def violations(error: ValidationError, prefix: str = "", *, model: type[BaseModel] | None = None) -> list[Violation]:
    """What pydantic found wrong, in our words: field path, the value given, what is allowed.

    Args:
        error: what pydantic raised.
        prefix: where in the whole input that was.
        model: what the input was checked against: names near a wrong key are then told.
    """
    return told(error.errors(include_url=False), prefix, model=model)


def told(items: Iterable[Item], prefix: str = "", *, model: type[BaseModel] | None = None) -> list[Violation]:
    """As `violations`, of the items of one; the alternatives of one field are one violation."""
    found: dict[tuple[str, str], list[str]] = {}
    for item in items:
        if item["type"] in _NOT_FAULTS:
            continue
        place = _place(model, item["loc"])
        field = ".".join(part for part in (prefix, *place.path) if part)
        value = "nothing" if item["type"] == "missing" else shortened(item.get("input"))
        allowed = found.setdefault((field or "(whole)", value), [])
        allowed += [text for text in [_allowed(item, place, model)] if text not in allowed]
    return [Violation(field, value, " or ".join(allowed)) for (field, value), allowed in found.items()]


def one_of(given: object, names: Iterable[str]) -> str:
    """What is allowed where a name is asked for, and which one may be meant.

    >>> one_of("nasbench-20l", ["macro", "nasbench201"])
    'one of macro, nasbench201; did you mean nasbench201?'
    """
    known = list(names)
    return (f"one of {', '.join(known)}" if known else "a name, but there is none") + did_you_mean(given, known)


def did_you_mean(given: object, names: Collection[str]) -> str:
    """The end of a message, `; did you mean NAME?`; empty where no name is near."""
    near = nearest(given, names)
    return f"; did you mean {near}?" if near else ""


def nearest(given: object, names: Collection[str]) -> str | None:
    """The name that was probably meant: but for case and dashes the same, nearly the same, or its beginning."""
    if not isinstance(given, str) or not given or given in names:
        return None
    known = {_plain(name): name for name in reversed(list(names))}
    wanted = _plain(given)
    close = get_close_matches(wanted, known, n=1, cutoff=0.65)
    close = close or [name for name in known if min(len(name), len(wanted)) >= 3 and _begins(name, wanted)]
    return known[close[0]] if close else None


def shortened(value: object) -> str:
    """A value as it was given, on one short line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def places(model: type[BaseModel], at: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a model and of its sections, with the path of the section it stands in; `""` is the top."""
    for key, field in _fields(model).items():
        yield key, at
        section = _model(field.annotation)
        if section is not None and "config" not in section.model_fields:  # a plug-in's own settings are its own
            yield from places(section, f"{at}.{key}" if at else key)


def elsewhere(key: str, section: str, model: type[BaseModel]) -> str:
    """Where a key stands that is none of this section: `precision is a key at the top`; empty where it is none."""
    found = dict.fromkeys(at for name, at in places(model) if name == key and at != section)
    said = [f"of {at}" if at else "at the top" for at in sorted(found, key=lambda at: _far(at, section))]
    return f"{key} is a key {' or '.join(said)}" if said else ""


class _Place(NamedTuple):
    """Where an item is: its path as a user writes it, the model that holds its last key, and that key's field."""

    path: tuple[str, ...]
    holder: type[BaseModel] | None
    field: FieldInfo | None


def _place(model: type[BaseModel] | None, loc: Sequence[str | int]) -> _Place:
    """Walk a location down a model, leaving out what pydantic adds for keys and the branches of a union."""
    path: list[str] = []
    kind: object = model
    holder, field = None, None
    for part in loc:
        if part == _KEY:
            continue
        holder = _model(kind)
        field = _fields(holder).get(str(part)) if holder else None
        inner = _step(kind, part)
        if inner is None and holder is None and isinstance(part, str) and _is_union(kind):
            continue
        path.append(str(part))
        kind = inner
    return _Place(tuple(path), holder, field)


def _allowed(item: Item, place: _Place, model: type[BaseModel] | None) -> str:
    kind, context = str(item["type"]), item.get("ctx", {})
    if kind == "extra_forbidden":
        return _no_such_key(place, model)
    if kind == "missing":
        said = place.field.description if place.field else None
        return f"this key: {said}" if said else "this key, which is needed"
    if kind in ("literal_error", "enum"):
        expected = str(context["expected"])
        return expected + did_you_mean(item.get("input"), re.findall(r"'([^']*)'", expected))
    if kind in ("too_short", "too_long"):
        least, number = kind == "too_short", context.get("min_length", context.get("max_length"))
        return f"at {'least' if least else 'most'} {number} {'entry' if number == 1 else 'entries'}"
    if kind == "string_pattern_mismatch":
        examples = (place.field.examples if place.field else None) or ()
        such = f", such as {', '.join(map(str, examples))}" if examples else ""
        return f"text of the form {context['pattern']}{such}"
    text = str(item["msg"]).removeprefix("Value error, ")
    text = text.removeprefix("Input should be ").replace("String should have", "text of")
    return _WORDS.get(_FAULT.sub("", kind), text)


def _no_such_key(place: _Place, model: type[BaseModel] | None) -> str:
    """No key of that name is known here: where it stands, or what it may be meant for."""
    *above, key = place.path
    section = ".".join(above)
    if model is not None and (known := elsewhere(key, section, model)):
        return f"no such key here; {known}"
    names = list(_fields(place.holder)) if place.holder else []
    near = nearest(key, names)
    if near is None and "config" in names:
        return f"no such key; settings of a plug-in stand under {'.'.join((*above, 'config'))}"
    listed = f"; there {'are' if len(names) > 1 else 'is'} {', '.join(names)}" if names and near is None else ""
    return f"no such key{did_you_mean(key, names)}{listed}"


def _fields(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """The fields of a model by the key that a user writes."""
    return {field.alias or name: field for name, field in model.model_fields.items()} if model else {}


def _arms(kind: object) -> tuple[object, ...]:
    """The alternatives of an annotation; one, itself, where it is no union."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_union(kind: object) -> bool:
    return len([arm for arm in _arms(kind) if arm is not type(None)]) > 1


def _model(kind: object) -> type[BaseModel] | None:
    """The model that an annotation means, alone or beside None."""
    for arm in _arms(kind):
        bare = _arms(arm)[0]
        if isclass(bare) and issubclass(bare, BaseModel):
            return bare
    return None


def _step(kind: object, part: str | int) -> object:
    """The annotation of a key or an entry; None where it is not known."""
    if (model := _model(kind)) is not None:
        field = _fields(model).get(str(part))
        return field.annotation if field else None
    for arm in _arms(kind):
        origin, inner = get_origin(arm), get_args(arm)
        if inner and isclass(origin):
            return inner[-1] if issubclass(origin, Mapping) else inner[0]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", name).casefold()


def _begins(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _far(place: str, section: str) -> tuple[bool, int]:
    """Places below the section come first, then the highest."""
    return (not place.startswith(f"{section}.") or not section, place.count("."))
