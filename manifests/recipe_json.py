"""A recipe from its canonical JSON, exactly: what the trainer and the checks read back from a stage manifest."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any

from manifests.errors import CorruptCorpusError
from manifests.recipe import Recipe


def recipe_from_json(text: str) -> Recipe:
    """The inverse of ``canonical_json(recipe)``.

    Raises:
        CorruptCorpusError: the text is not a recipe of this version.
    """
    try:
        recipe = _build(Recipe, json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptCorpusError(f"this is not a recipe that this version reads: {error}") from error
    assert isinstance(recipe, Recipe)
    return recipe


def _build(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _build(hints[name], item) for name, item in value.items()})
    if origin is tuple:
        arguments = typing.get_args(kind)
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(_build(each, item) for each, item in zip(kinds, value, strict=True))
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _build(next(each for each in typing.get_args(kind) if each is not type(None)), value)
    if kind is float:
        return float(value)
    return value
