"""In which order the files of a project are read: what a file uses comes before it, as far as that is told by its imports.

Imports are found by pattern, not by parsing: Python's ``import`` and ``from``, C's ``#include "..."``, JavaScript's relative
``import`` and ``require``. A file that others name in ways this does not see keeps its place in the order of names. Cycles are
cut at the file that comes first by name; README files stand before everything (the order of files in repository-level
pre-training of DeepSeek-Coder, arXiv 2401.14196, section 2.2).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence

_PYTHON = re.compile(r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+([\w, \t]+|\()|import[ \t]+([\w., \t]+))", re.MULTILINE)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', re.MULTILINE)
_SCRIPT = re.compile(r"""(?:from|import|require\()\s*["'](\.[^"'\n]+)["']""")
_SCRIPTS = (".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".vue", ".svelte")
_C = (".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".cu", ".cuh", ".m", ".mm")


def reading_order(files: Mapping[str, str]) -> list[str]:
    """The paths of ``files`` (path with ``/`` to text), each once, used ones before their users."""
    names = sorted(files, key=lambda path: (not _readme(path), path))
    known = set(names)
    uses = {path: sorted(set(_uses(path, files[path], known)) - {path}) for path in names}
    order: list[str] = []
    state: dict[str, int] = {}
    for first in names:
        # Depth first without recursion: chains of imports may be longer than Python's stack.
        stack = [(first, 0)]
        while stack:
            path, at = stack.pop()
            if at == 0 and path in state:
                continue
            state[path] = 1
            if at < len(uses[path]):
                stack.append((path, at + 1))
                if uses[path][at] not in state:
                    stack.append((uses[path][at], 0))
            else:
                order.append(path)
    return order


def _readme(path: str) -> bool:
    return posixpath.basename(path).lower().startswith("readme")


def _uses(path: str, words: str, known: set[str]) -> Iterator[str]:
    extension = posixpath.splitext(path)[1].lower()
    folder = posixpath.dirname(path)
    if extension in (".py", ".pyi"):
        for source, imported, plain in _PYTHON.findall(words):
            yield from _python(folder, source, imported, plain, known)
    elif extension in _C:
        for name in _INCLUDE.findall(words):
            yield from _first((posixpath.join(folder, name), name, f"include/{name}", f"src/{name}"), known)
    elif extension in _SCRIPTS:
        for name in _SCRIPT.findall(words):
            stem = posixpath.join(folder, name)
            yield from _first([stem, *(f"{stem}{end}" for end in (*_SCRIPTS, "/index.js", "/index.ts"))], known)


def _python(folder: str, source: str, imported: str, plain: str, known: set[str]) -> Iterator[str]:
    modules = [name.split()[0] for name in plain.split(",") if name.strip()]
    if source:
        modules = [source]
        modules += [
            f"{source}{'' if source.endswith('.') else '.'}{name.split()[0]}"
            for name in imported.split(",")
            if name.strip(" (")
        ]
    for module in modules:
        bare = module.lstrip(".")
        dots = len(module) - len(bare)
        stem = bare.replace(".", "/")
        if dots:
            base = posixpath.join(folder, *[".."] * (dots - 1))
            places = [posixpath.join(base, stem)]
        else:
            places = [stem, f"src/{stem}", posixpath.join(folder, stem)]
        yield from _first([f"{place}{end}" for place in places for end in (".py", "/__init__.py", ".pyi")], known)


def _first(candidates: Sequence[str], known: set[str]) -> Iterator[str]:
    found = next((path for path in map(posixpath.normpath, candidates) if path in known), None)
    if found is not None:
        yield found
