"""Names made from content: hashes of bytes, of values, of the code and configuration that made a thing.

Every identity in a corpus is a SHA-256. Identifiers keep the first 32 hexadecimal digits (128 bits: a collision among
10^12 samples has a probability near 10^-15); file checksums keep all 64.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

ID_DIGITS = 32
READERS = tuple(
    f"manifests/{name}"
    for name in (
        "catalog.py",
        "check.py",
        "diff/",
        "printable.py",
        "progress.py",
        "queries/",
        "report/",
        "schema_docs.py",
        "shell.py",
        "terminal.py",
    )
)
"""Sources that only look at a finished corpus: a change of these makes nothing stale."""


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, dataclasses as objects, non-finite floats as strings."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        plain = {str(key): _plain(item) for key, item in value.items()}
        if len(plain) != len(value):
            raise ValueError(f"two keys of a dictionary are the same text: {sorted(map(repr, value))}")
        return plain
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def sha256_bytes(data: bytes) -> str:
    """The 64 hexadecimal digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The 64 hexadecimal digits of SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def value_id(value: Any) -> str:
    """A 32-digit identifier of any canonical value."""
    return sha256_bytes(canonical_json(value).encode("utf-8", "surrogatepass"))[:ID_DIGITS]


def unit_hash(*parts: object) -> float:
    """A number in [0, 1) that depends only on ``parts``: what every random choice in a corpus is made from."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@cache
def code_fingerprint(*packages: str) -> str:
    """A fingerprint of the Python sources of ``packages`` and of the libraries whose results enter a corpus.

    A change of either makes finished work stale, so that a corpus never mixes what two versions made.
    """
    digest = hashlib.sha256()
    for package in sorted(packages):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"no package {package!r} to fingerprint")
        root = Path(next(iter(spec.submodule_search_locations)))
        for source in sorted(root.rglob("*.py")):
            name = f"{package}/{source.relative_to(root).as_posix()}"
            if not name.startswith(READERS):
                digest.update(f"{name}\0".encode())
                digest.update(source.read_bytes())
    for library in (
        "av",
        "lxml",
        "numpy",
        "onnxruntime",
        "opencv-python-headless",
        "openpyxl",
        "pdfplumber",
        "open_clip_torch",
        "pillow",
        "py3langid",
        "pyarrow",
        "pypdfium2",
        "python-docx",
        "python-pptx",
        "rapidocr",
        "reasoning-gym",
        "trafilatura",
    ):
        try:
            digest.update(f"{library}={importlib.metadata.version(library)}\0".encode())
        except importlib.metadata.PackageNotFoundError:
            digest.update(f"{library}=absent\0".encode())
    return digest.hexdigest()[:ID_DIGITS]
