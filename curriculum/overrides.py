"""``--set FIELD=VALUE``: a recipe with some fields changed, checked as strictly as one written in Python.

A field is a dotted path over the nested dataclasses of `manifests.recipe.Recipe`: ``curate.jpeg_quality``. ``stage2``
stands for ``stages.2``; an element of a tuple is named by its index or its name (``stage2.phases.sparse.share``,
``stage3.mixture.video.weight``). A value is read by the field's type. All changes are made at once, so that fields which
only make sense together (the shares of two phases) can be changed together; each dataclass then checks itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from manifests.errors import UsageError
from manifests.recipe import Recipe

TRUE, FALSE, NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")


def apply(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with every ``FIELD=VALUE`` of ``changes`` made; of two values for one field the last counts.

    Values: whole numbers as ``4096``, ``4_096``, ``32K`` (x 1024) or ``4e9``; fractions; ``true`` or ``false``; ``none``
    where a field may be empty; text as it stands; tuples as JSON.

    Raises:
        UsageError: a field does not exist, a value does not fit it, or the fields make no sense together.
    """
    parsed: dict[tuple[str, ...], tuple[str, str]] = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals or not field.strip():
            raise UsageError(f"--set {change}: write FIELD=VALUE, e.g. stage3.context=4096")
        path = tuple(field.strip().split("."))
        alias = re.fullmatch(r"stage(\d+)", path[0])
        parsed[("stages", alias.group(1), *path[1:]) if alias else path] = (change, value.strip())
    if not parsed:
        return recipe
    changed = _changed(recipe, Recipe, parsed, "the recipe")
    assert isinstance(changed, Recipe)
    return changed


def _changed(old: Any, kind: Any, changes: dict[tuple[str, ...], tuple[str, str]], where: str) -> Any:
    """``old`` with the changes below it; ``where`` is what messages call it."""
    if () in changes:
        change, value = changes[()]
        if dataclasses.is_dataclass(old):
            raise UsageError(f"--set {change}: {where} has fields of its own; name one of {_listed(_fields(old))}")
        if len(changes) == 1:
            try:
                return _read(kind, value)
            except ValueError as error:
                raise UsageError(f"--set {change}: {value!r} is no value for {where}: {error}") from error
    below: dict[str, dict[tuple[str, ...], tuple[str, str]]] = {}
    for path, entry in changes.items():
        if path:
            below.setdefault(path[0], {})[path[1:]] = entry
    first = next(entry[0] for entries in below.values() for entry in entries.values())
    absent = _absent(kind) if old is None else None
    if absent is not None:
        return _made(absent, below, where)
    if dataclasses.is_dataclass(old) and not isinstance(old, type):
        hints = typing.get_type_hints(type(old))
        values = {}
        for name, entries in below.items():
            if name not in hints:
                raise _unknown(_first(entries), where, name, _fields(old))
            values[name] = _changed(
                getattr(old, name), hints[name], entries, name if where == "the recipe" else f"{where}.{name}"
            )
        try:
            return dataclasses.replace(old, **values)
        except ValueError as error:
            said = ", ".join(dict.fromkeys(entry[0] for entries in below.values() for entry in entries.values()))
            raise UsageError(f"--set {said}: {error}") from error
    if isinstance(old, tuple) and old:
        items = list(old)
        kinds = typing.get_args(kind)
        for name, entries in below.items():
            index = _index(old, name)
            if index is None:
                names = [str(number) for number in range(len(old))] + [label for item in old if (label := _label(item))]
                raise _unknown(_first(entries), where, name, names)
            item_kind = kinds[0] if kinds[-1] is Ellipsis else kinds[index]
            label = f"stage{index}" if where == "stages" else f"{where}.{name}"
            items[index] = _changed(old[index], item_kind, entries, label)
        return tuple(items)
    raise UsageError(f"--set {first}: {where} is a single value, it has no field {next(iter(below))!r}")


def _absent(kind: Any) -> Any:
    """The dataclass that a field of type ``kind`` may hold and does not hold by default; None for other types."""
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return None
    return next((each for each in typing.get_args(kind) if dataclasses.is_dataclass(each)), None)


def _made(kind: Any, below: dict[str, dict[tuple[str, ...], tuple[str, str]]], where: str) -> Any:
    """A part that the recipe does not have yet, from the fields that are given and its defaults."""
    hints = typing.get_type_hints(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    values = {}
    for name, entries in below.items():
        if name not in hints:
            raise _unknown(_first(entries), where, name, list(defaults))
        old = None if defaults[name] is dataclasses.MISSING else defaults[name]
        values[name] = _changed(old, hints[name], entries, f"{where}.{name}")
    said = ", ".join(dict.fromkeys(entry[0] for entries in below.values() for entry in entries.values()))
    missing = [name for name, default in defaults.items() if default is dataclasses.MISSING and name not in values]
    if missing:
        raise UsageError(f"--set {said}: {where} also needs {_listed([f'{where}.{name}' for name in missing])}")
    try:
        return kind(**values)
    except ValueError as error:
        raise UsageError(f"--set {said}: {error}") from error


def _first(entries: dict[tuple[str, ...], tuple[str, str]]) -> str:
    """The change, as it was written, that comes first."""
    return next(iter(entries.values()))[0]


def _fields(value: Any) -> list[str]:
    names = [field.name for field in dataclasses.fields(value)]
    return [*names, "stage0", "stage1", "stage2", "stage3"] if isinstance(value, Recipe) else names


def _label(item: Any) -> str | None:
    return getattr(item, "task", None) or getattr(item, "name", None)


def _index(items: tuple[Any, ...], name: str) -> int | None:
    if name.isdecimal() and int(name) < len(items):
        return int(name)
    return next((index for index, item in enumerate(items) if _label(item) == name), None)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _unknown(change: str, where: str, name: str, valid: Sequence[str]) -> UsageError:
    nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    guess = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    return UsageError(f"--set {change}: {where} has no {name!r}{guess} it has: {_listed(valid)}")


def _read(kind: Any, text: str) -> Any:
    """``text`` as a value of type ``kind``; ValueError says what would fit."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = [each for each in typing.get_args(kind) if each is not type(None)]
        return None if text.lower() in NONE else _read(inner[0], text)
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        if text not in choices:
            raise ValueError(f"one of {', '.join(map(str, choices))}")
        return text
    if typing.get_origin(kind) is tuple:
        try:
            return _from_json(kind, json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"a JSON list ({error})") from error
    if kind is bool:
        if text.lower() not in (*TRUE, *FALSE):
            raise ValueError("true or false")
        return text.lower() in TRUE
    if kind is int:
        return _whole(text)
    if kind is float:
        return _fraction(text)
    return text


def _whole(text: str) -> int:
    match = re.fullmatch(r"([+-]?\d+(?:_\d+)*)([kK]?)", text)
    if match:
        return int(match.group(1)) * (1024 if match.group(2) else 1)
    if re.fullmatch(r"[+-]?\d+(?:\.\d+)?[eE]\+?\d{1,2}", text) and float(text) == int(float(text)):
        return int(float(text))
    raise ValueError("a whole number, such as 4096, 4_096, 32K or 4e9")


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("a number") from None
    if not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def _from_json(kind: Any, value: Any) -> Any:
    """A JSON value as ``kind``; ValueError says what would fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"a list, not {value!r}")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ValueError(f"a list of {len(arguments)}, not {value!r}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(_from_json(each, item) for each, item in zip(kinds, value, strict=True))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) - set(hints):
            raise ValueError(f"an object with fields among {_listed(list(hints))}, not {value!r}")
        try:
            return kind(**{name: _from_json(hints[name], item) for name, item in value.items()})
        except TypeError as error:
            raise ValueError(f"an object with its required fields ({error})") from error
    if isinstance(value, bool) or value is None:
        return _read(kind, json.dumps(value))
    if isinstance(value, int | float) and kind in (int, float):
        return _read(kind, repr(value))
    if not isinstance(value, str) or kind in (int, float):
        raise ValueError(f"{getattr(kind, '__name__', kind)} values, not {value!r}")
    return _read(kind, value)
