"""Sidecar files: JSON that people and tools write beside a file. Read with limits; whatever does not fit is a named problem."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pipelines.items import Attachment, Quarantined

BYTES_MAX = 64 * 2**20


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Quarantined: it is too large, not UTF-8, not JSON or not an object.
    """
    try:
        if len(data) > BYTES_MAX:
            raise ValueError(f"{len(data):,} bytes are more than {BYTES_MAX:,}")
        value = json.loads(data.decode("utf-8"), parse_constant=refuse_constant)
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except (ValueError, RecursionError) as error:
        raise Quarantined("check", "bad_sidecar", f"{name}: {str(error).splitlines()[0]}") from error
    return value


def refuse_constant(constant: str) -> float:
    """For ``json.loads``: NaN and infinities are not JSON, whatever Python's parser thinks."""
    raise ValueError(f"{constant} is no number of JSON")


def read_sidecar(sidecar: Attachment) -> dict[str, Any]:
    """The object in a sidecar file.

    Raises:
        Quarantined: there is none.
    """
    return parse_object(Path(sidecar.path).read_bytes(), sidecar.source)


def text_field(value: dict[str, Any], key: str, sidecar: Attachment) -> str:
    """A text of an object, stripped; empty when it is missing.

    Raises:
        Quarantined: it is something else than text.
    """
    found = value.get(key, "")
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Quarantined("check", "bad_sidecar", f"{sidecar.source}: {key} is {type(found).__name__}, not text")
    return clean(found)


def clean(words: str) -> str:
    """Text that any UTF-8 reader takes: no lone surrogates, no NUL, no blank ends."""
    return words.encode("utf-8", "replace").decode("utf-8").replace("\0", "").strip()


def number(value: Any) -> float | None:
    """A finite number, or None: booleans, texts and infinities are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
