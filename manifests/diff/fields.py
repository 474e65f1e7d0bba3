"""Recipes field by field: dotted names, as ``--set`` takes them, with the old and the new value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from manifests.errors import LongreelError
from manifests.fingerprint import canonical_json
from manifests.recipe_json import recipe_from_json

NAMES = ("name", "task")
"""By which an element of a tuple is called; the others by their index, as in `curriculum.overrides`."""


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """One field; the values as JSON, None where the recipe has no such field."""

    field: str
    a: str | None
    b: str | None


def changed_fields(a: dict[str, Any], b: dict[str, Any]) -> list[FieldChange]:
    """Every field that differs between two recipes as JSON objects, in order of their names.

    A recipe that was written before a field existed counts with the field's default.
    """
    old, new = flattened(_completed(a)), flattened(_completed(b))
    return [
        FieldChange(field=name, a=old.get(name), b=new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _completed(recipe: dict[str, Any]) -> dict[str, Any]:
    try:
        whole = json.loads(canonical_json(recipe_from_json(canonical_json(recipe))))
    except (LongreelError, ValueError, TypeError, KeyError):
        return recipe  # of a newer version, or torn: as it stands
    return dict(whole)


def flattened(value: Any, name: str = "") -> dict[str, str]:
    """Dotted name to JSON value of every leaf: ``stage1.mixture.video.weight``, ``stage3.context``, ``buckets.context_32k``."""
    below: dict[str, Any] = {}
    if isinstance(value, dict) and value:
        below = value
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        labels = [next((str(item[key]) for key in NAMES if key in item), str(index)) for index, item in enumerate(value)]
        if name == "stages" or len(set(labels)) < len(labels):
            labels = [str(index) for index in range(len(value))]
        below = dict(zip(labels, value, strict=True))
    else:
        return {name: canonical_json(int(value) if isinstance(value, float) and value.is_integer() else value)}
    flat: dict[str, str] = {}
    for label, item in below.items():
        path = f"stage{label}" if name == "stages" else f"{name}.{label}" if name else label
        flat |= flattened(item, path)
    return flat
