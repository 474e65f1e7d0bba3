"""Files that name other files: documents their pictures, lists their screenshots, a pasting plan its objects and backgrounds.

Found while the inputs are walked, because it decides what is an item: a picture that a document shows, and that nothing else
describes, belongs to the document; a screenshot that a list describes stays an item and carries its rows; a list all of whose
rows found their picture describes others and is no item. What a file names is looked for where such sets are kept, always
inside the input, and never through a link:

- a document's picture: from the document's folder; for JSON also in ``images/`` there;
- a list's screenshot: from the list's folder, in each folder directly below it, and in ``images/`` beside that folder.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.forms import HEAD_BYTES, PASTING, json_form
from pipelines.interleaved_forms import PICTURES, ROLE, Piece, json_pieces, markdown_pieces
from pipelines.items import Quarantined
from pipelines.screen_sets import parse_rows, rows_by_picture
from pipelines.sidecars import BYTES_MAX

MARKDOWN = (".md", ".markdown")
PASTING_FOLDERS = ("objects", "backgrounds")


@dataclass(kw_only=True)
class References:
    """What files name.

    Attributes:
        shows: for a document or plan, (role, picture) of each picture that it uses.
        described: for a screenshot, (list, its rows as JSON) of each list that describes it.
        unplaced: for a list, its rows without a picture as JSON; "" when there are none.
    """

    shows: dict[Path, list[tuple[str, Path]]] = field(default_factory=dict)
    described: dict[Path, list[tuple[Path, str]]] = field(default_factory=dict)
    unplaced: dict[Path, str] = field(default_factory=dict)


def find_references(root: Path, paths: Sequence[Path]) -> References:
    """What the files of an input name.

    Args:
        root: the input, resolved.
        paths: its plain files that belong to no other; a list describes none but these.
    """
    found = References()
    own = set(paths)
    for path in sorted(paths):
        extension = path.suffix.lower()
        if extension in MARKDOWN:
            _document(root, path, found)
        elif path.name == PASTING:
            found.shows[path] = _pasting(path)
        elif extension in (".json", ".jsonl"):
            match json_form(path.name, _head(path)):
                case "screens":
                    _screens(path, own, found)
                case "interleaved":
                    _document(root, path, found)
    return found


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""


def _read(path: Path) -> str:
    """A file's text, as far as it is text of a size to be looked at; its reader says what is wrong with it."""
    try:
        if path.stat().st_size > BYTES_MAX:
            return ""
        return path.read_bytes().decode("utf-8-sig", "replace")
    except OSError:
        return ""


def _document(root: Path, path: Path, found: References) -> None:
    extension = path.suffix.lower()
    folders = [path.parent] if extension in MARKDOWN else [path.parent, path.parent / "images"]
    shown: dict[str, Path] = {}
    for pieces in _documents(path):
        for link in (piece.picture for piece in pieces if piece.picture):
            if link not in shown and (there := _picture(root, folders, link)) is not None:
                shown[link] = there
    if shown:
        found.shows[path] = [(ROLE + link, there) for link, there in sorted(shown.items())]


def _documents(path: Path) -> Iterator[list[Piece]]:
    """The documents of a file; what cannot be read gives none here, and its reader says why."""
    extension = path.suffix.lower()
    if extension in MARKDOWN:
        words = _read(path)
        if "](" in words or "<img" in words.lower():
            yield markdown_pieces(words)
        return
    try:
        # A .jsonl may be larger than memory; its lines are not.
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            for entry in stream if extension == ".jsonl" else [_read(path)]:
                with contextlib.suppress(ValueError, RecursionError):
                    yield json_pieces(json.loads(entry))
    except OSError:
        return


def _picture(root: Path, folders: Sequence[Path], link: str) -> Path | None:
    """The picture that a link names, or None: outside the input, through a link of the file system, or not there."""
    if "\0" in link or "://" in link or link.startswith(("/", "data:")) or not link.lower().endswith(PICTURES):
        return None
    for folder in folders:
        there = Path(os.path.normpath(folder / link))
        if there.is_relative_to(root) and _plain(there):
            return there
    return None


def _plain(path: Path) -> bool:
    try:
        return path.is_file() and path.resolve(strict=True) == path
    except (OSError, RuntimeError, ValueError):
        return False


def _pasting(path: Path) -> list[tuple[str, Path]]:
    named = []
    for name in PASTING_FOLDERS:
        for folder, below, files in os.walk(path.parent / name):
            below.sort()
            for file in sorted(files):
                there = Path(folder) / file
                if there.suffix.lower() in PICTURES and _plain(there):
                    named.append((there.relative_to(path.parent).as_posix(), there))
    return sorted(named)


def _screens(path: Path, own: set[Path], found: References) -> None:
    try:
        rows, problems = rows_by_picture(parse_rows(path.read_bytes(), path.name))
    except (Quarantined, OSError):
        return  # it stays an item, whose reader says so
    try:
        below = sorted(Path(entry.path) for entry in os.scandir(path.parent) if entry.is_dir(follow_symlinks=False))
    except OSError:
        below = []
    folders = [path.parent, *below, path.parent.parent / "images"]
    lookup = _lookup(own, folders)
    for name, entries in rows.items():
        there = lookup(name)
        if there is None:
            detail = f"no picture {name[:120]!r} among the inputs beside the list, in a folder below it or in ../images"
            problems += [(place, "missing_picture", detail) for place, _ in entries]
        else:
            found.described.setdefault(there, []).append((path, json.dumps(entries)))
    found.unplaced[path] = json.dumps(sorted(problems)) if problems else ""


def _lookup(own: set[Path], folders: Sequence[Path]) -> Callable[[str], Path | None]:
    def find(name: str) -> Path | None:
        candidates = (Path(os.path.normpath(folder / name)) for folder in folders)
        return next((path for path in candidates if path in own and path.suffix.lower() in PICTURES), None)

    return find
