"""The inventory of an input, ``SOURCES.json`` at its top: licence and origin of each path, as the person who gathered it says.

Read leniently, because people write it by hand: a list of entries (or an object with such a list under ``files``), each with
a ``path``, a ``licence`` (SPDX) and an ``origin``; or an object from path to such an entry. An entry for a folder holds for
all that lies below it unless a longer path says otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manifests.errors import UsageError

INVENTORY_FILES = ("SOURCES.json", "SOURCES.md")
_LICENCE_KEYS = ("licence", "license", "spdx")
_ORIGIN_KEYS = ("origin", "url", "source")


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Licence and origin by path.

    Attributes:
        entries: path to (licence, origin).
        files: how many inventory files the input has.
    """

    entries: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    files: int = 0

    def of(self, path: str) -> tuple[str, str | None]:
        """Licence and origin of the longest entry that holds ``path``; ``unknown`` and None without one."""
        here = path
        while here:
            if here in self.entries:
                return self.entries[here]
            here = here.rpartition("/")[0]
        return self.entries.get(".", ("unknown", None))


def read_inventory(root: Path) -> Inventory:
    """Reads the inventory at the top of an input, if there is one.

    Raises:
        UsageError: it is there, but is not an inventory: wrong licences would be worse than no corpus.
    """
    files = sum((root / name).is_file() for name in INVENTORY_FILES)
    path = root / "SOURCES.json"
    if not path.is_file():
        return Inventory(files=files)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not readable JSON ({error}): correct or remove it") from error
    entries = {_path(name): _entry(entry, path, name) for name, entry in _listed(value, path)}
    return Inventory(entries=entries, files=files)


def _listed(value: Any, path: Path) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in ("files", "sources"):
            if isinstance(value.get(key), list | dict):
                return _listed(value[key], path)
        return [(name, entry) for name, entry in value.items() if isinstance(entry, dict)]
    if isinstance(value, list) and all(isinstance(entry, dict) and isinstance(entry.get("path"), str) for entry in value):
        return [(entry["path"], entry) for entry in value]
    raise UsageError(f"{path} is no inventory: give a list of objects with path, licence and origin")


def _path(name: str) -> str:
    return name.removeprefix("./").rstrip("/") or "."


def _entry(entry: Any, path: Path, name: str) -> tuple[str, str | None]:
    licence = next((entry[key] for key in _LICENCE_KEYS if entry.get(key)), "unknown")
    origin = next((entry[key] for key in _ORIGIN_KEYS if entry.get(key)), None)
    if not isinstance(licence, str) or not (origin is None or isinstance(origin, str)):
        raise UsageError(f"{path}: licence and origin of {name!r} must be text")
    return licence.encode("utf-8", "replace").decode(), None if origin is None else origin.encode("utf-8", "replace").decode()
