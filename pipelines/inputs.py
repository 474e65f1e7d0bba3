"""From paths on a command line to items: every file below them is an item, belongs to one, or is an inventory. None is lost.

Names are independent of the order in which inputs are given and of where they lie: an item is called by its path below the
input it was found under (below the outermost one when inputs overlap); only a path that occurs in two inputs is prefixed with
its input's name. Bytes of a name that are not printable UTF-8 are escaped as ``\\xNN``. Links are not followed out of an input.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import stat
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import UsageError
from manifests.fingerprint import sha256_bytes, sha256_file
from pipelines.forms import PASTING
from pipelines.inventory import INVENTORY_FILES, Inventory, read_inventory
from pipelines.items import Attachment, Item, Problem
from pipelines.references import find_references
from pipelines.scan_series import ROLE as PAGE_ROLE
from pipelines.scan_series import find_series
from pipelines.screen_sets import ROLE as SCREEN_ROWS
from pipelines.trees import NOT_SOURCE, PROJECT, SERIES, Leaf, find_trees, may_belong
from pipelines.trees import ROLE as TREE_ROLE

_VIDEOS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".ts", ".mts", ".mpg", ".mpeg", ".ogv", ".flv", ".wmv", ".3gp")
SIDECARS: dict[str, tuple[str, ...]] = {
    ".captions.json": _VIDEOS,
    ".srt": _VIDEOS,
    ".vtt": _VIDEOS,
    ".caption.json": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    ".gui.json": (".png", ".jpg", ".jpeg", ".webp"),
    ".json": (".png", ".jpg", ".jpeg", ".webp"),
    ".xml": (".png", ".jpg", ".jpeg", ".webp"),
}
BARE = (".json", ".xml")
"""Suffixes of files that may also stand for themselves: without a picture of the same name they are items like any other."""
SUBTITLES = (".srt", ".vtt")
"""Suffixes before which the language may stand: ``NAME.en.srt``."""
TRACE = "trace.json"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that was found.

    Attributes:
        items: sorted by source name.
        attached: how many files describe other files (sidecars, screenshots of traces, inventories).
    """

    items: tuple[Item, ...]
    attached: int


@dataclass(frozen=True, kw_only=True)
class _Found:
    path: Path
    relative: str
    sidecars: tuple[tuple[str, Path], ...] = ()
    rows: tuple[tuple[Path, str], ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class _Root:
    path: Path
    only: tuple[str, ...] | None


def find_inputs(
    paths: Sequence[Path],
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    trees: bool = True,
    scans: bool = True,
) -> Inputs:
    """Walks files and folders and hashes what it finds.

    Args:
        paths: files or folders.
        progress: called with the number of items hashed and their total.
        trees: whether software projects and series of documents become one item each (`pipelines.trees`).
        scans: whether pictures of the pages of one document become one item (`pipelines.scan_series`).

    Raises:
        UsageError: a path does not exist, cannot be read, or is a folder without any file.
    """
    found: list[tuple[_Root, _Found]] = []
    attached = 0
    inventories: dict[Path, Inventory] = {}
    for root in _roots(paths):
        inventories[root.path] = read_inventory(root.path)
        attached += inventories[root.path].files
        items, sidecars = _walk(root, trees)
        if trees and root.only is None:
            items, joined = _with_trees(items, inventories[root.path])
            sidecars += joined
        if scans and root.only is None:
            items, joined = _with_scans(items, inventories[root.path])
            sidecars += joined
        attached += sidecars
        found += [(root, item) for item in items]
    prefixes = _prefixes({root.path for root, _ in found})
    roots_of: dict[str, set[Path]] = defaultdict(set)
    for root, item in found:
        roots_of[item.relative].add(root.path)

    def make(entry: tuple[_Root, _Found]) -> Item:
        root, item = entry
        prefix = prefixes[root.path] + "/" if len(roots_of[item.relative]) > 1 else ""
        return _item(item, prefix, inventories[root.path])

    items_made: list[Item] = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        for made in pool.map(make, found):
            items_made.append(made)
            progress(len(items_made), len(found))
    return Inputs(items=tuple(sorted(items_made, key=lambda item: item.source)), attached=attached)


def _roots(paths: Sequence[Path]) -> list[_Root]:
    folders: set[Path] = set()
    files: dict[Path, set[str]] = defaultdict(set)
    for given in paths:
        try:
            path = Path(given).resolve(strict=True)
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise UsageError(f"input {given} does not exist: name a file or a folder") from None
        except OSError as error:
            raise UsageError(f"input {given} cannot be read: {error.strerror}") from error
        if stat.S_ISDIR(mode):
            if not os.access(path, os.R_OK | os.X_OK):
                raise UsageError(f"input {given} cannot be read: permission denied")
            if not any(names for _, _, names in os.walk(path)):
                raise UsageError(f"input {given} is a folder without any file: name the folder that holds the data")
            folders.add(path)
        elif not stat.S_ISREG(mode):
            raise UsageError(f"input {given} is neither a file nor a folder")
        elif not os.access(path, os.R_OK):
            raise UsageError(f"input {given} cannot be read: permission denied")
        else:
            files[path.parent].add(path.name)
    outer = {path for path in folders if not any(parent in folders for parent in path.parents)}
    roots = [_Root(path=path, only=None) for path in outer]
    roots += [
        _Root(path=folder, only=tuple(sorted(names)))
        for folder, names in files.items()
        if folder not in outer and not any(parent in outer for parent in folder.parents)
    ]
    return sorted(roots, key=lambda root: os.fsencode(root.path))


def _prefixes(roots: set[Path]) -> dict[Path, str]:
    """The shortest ends of the paths that tell the inputs apart."""
    prefixes: dict[Path, str] = {}
    for root in roots:
        parts = root.parts
        for length in range(1, len(parts) + 1):
            end = parts[-length:]
            if all(other == root or other.parts[-length:] != end for other in roots):
                break
        prefixes[root] = "/".join(parts[-length:]).lstrip("/")
    return prefixes


def _walk(root: _Root, trees: bool) -> tuple[list[_Found], int]:
    """The items of one input, and how many sidecars belong to them."""
    items: list[_Found] = []
    attached = 0
    walked: set[Path] = set()
    for folder, names, files in os.walk(root.path, followlinks=False):
        here = Path(folder)
        for name in sorted(names):
            if (here / name).is_symlink():
                relative = os.path.relpath(here / name, root.path)
                problem = Problem(stage="probe", reason="unsafe_path", detail="a link to a folder is not followed")
                items.append(_Found(path=here / name, relative=relative, problem=problem))
        for name in sorted(name for name in names if trees and name in NOT_SOURCE and not (here / name).is_symlink()):
            detail = "folders of version control, installed packages and caches are not read"
            problem = Problem(stage="filter", reason="not_source", detail=detail)
            items.append(_Found(path=here / name, relative=os.path.relpath(here / name, root.path), problem=problem))
            names.remove(name)
        if root.only is not None:
            names.clear()
            files = _with_sidecars(root.only, set(files))
        present = sorted(name for name in files if not (here == root.path and name in INVENTORY_FILES))
        made, count = _items_of_folder(here, root.path, present)
        items += made
        attached += count
        walked.update(here / name for name in present)
    return _with_references(root.path, items, attached, walked)


def _with_trees(items: list[_Found], inventory: Inventory) -> tuple[list[_Found], int]:
    """The files of a project or series become one item: the first by name, with the others attached."""
    leaves: dict[str, _Found] = {}
    found: list[Leaf] = []
    marks: list[str] = []
    for item in items:
        path = item.relative.replace(os.sep, "/")
        name = posixpath.basename(path)
        if name in PROJECT or name in SERIES:
            marks.append(path)
        if item.problem is not None or item.sidecars or item.rows or name == TRACE or item.path.is_symlink():
            continue
        # What cannot be read stays alone: it must not cost the others.
        size = item.path.stat().st_size if os.access(item.path, os.R_OK) else -1
        if may_belong(name, size):
            leaves[path] = item
            found.append(Leaf(path=path, bytes=size, owner=inventory.of(escaped(item.relative))))
    joined: set[str] = set()
    grown: dict[str, _Found] = {}
    for tree in find_trees(found, marks):
        first, *others = tree.leaves
        sidecars = tuple((f"{TREE_ROLE}{tree.inside(leaf)}", leaves[leaf.path].path) for leaf in others)
        grown[first.path] = dataclasses.replace(leaves[first.path], sidecars=sidecars)
        joined.update(leaf.path for leaf in others)
    kept = [grown.get(path, item) for item in items if (path := item.relative.replace(os.sep, "/")) not in joined]
    return kept, len(joined)


def _with_scans(items: list[_Found], inventory: Inventory) -> tuple[list[_Found], int]:
    """Pictures of the pages of one document become one item: the first page, with the others attached."""
    plain = {
        item.relative.replace(os.sep, "/"): item
        for item in items
        if item.problem is None and not item.sidecars and not item.rows and not item.path.is_symlink()
    }
    joined: set[str] = set()
    grown: dict[str, _Found] = {}
    for first, *others in find_series(plain, lambda path: inventory.of(escaped(path))):
        pages = tuple((f"{PAGE_ROLE}{posixpath.basename(path)}", plain[path].path) for path in others)
        grown[first] = dataclasses.replace(plain[first], sidecars=pages)
        joined.update(others)
    kept = [grown.get(path, item) for item in items if (path := item.relative.replace(os.sep, "/")) not in joined]
    return kept, len(joined)


def _with_references(root: Path, items: list[_Found], attached: int, walked: set[Path]) -> tuple[list[_Found], int]:
    """Documents get their pictures, screenshots their rows; what only serves another file is attached instead of an item."""
    references = find_references(root, [item.path for item in items if item.problem is None])
    described = {item.path for item in items if item.sidecars} | references.described.keys() | references.shows.keys()
    served = {picture for shown in references.shows.values() for _, picture in shown} - described
    served |= {path for path, problems in references.unplaced.items() if not problems}
    kept = []
    for item in items:
        if item.path in served and item.problem is None:
            attached += 1
            continue
        rows = [*references.described.get(item.path, [])]
        if item.path in references.unplaced:
            rows.append((item.path, references.unplaced[item.path]))
        shown = references.shows.get(item.path, [])
        kept.append(dataclasses.replace(item, sidecars=(*item.sidecars, *shown), rows=tuple(rows)))
    return kept, attached + len(served - walked)


def _with_sidecars(only: tuple[str, ...], there: set[str]) -> list[str]:
    """Files named on the command line bring their sidecars, and a trace its screenshots."""
    wanted = set(only)
    for name in only:
        wanted |= {sidecar for sidecar, owner in _owners(sorted(there)).items() if name in owner}
    if TRACE in wanted:
        wanted |= {name for name in there if _is_step(name)}
    return sorted(wanted & there)


def _is_step(name: str) -> bool:
    return name.startswith("step-") and name.lower().endswith((".png", ".jpg", ".jpeg"))


def _owners(names: Sequence[str]) -> dict[str, list[str]]:
    """For each sidecar of a folder, the files that it describes (none: it is an orphan)."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_stem[Path(name).stem].append(name)
    owners: dict[str, list[str]] = {}
    for name in names:
        for suffix, extensions in SIDECARS.items():
            if name.endswith(suffix) and name not in (suffix, TRACE, PASTING):
                stem = name[: -len(suffix)]
                stems = (stem, Path(stem).stem) if suffix in SUBTITLES else (stem,)
                described = ([other for other in by_stem[at] if other != name] for at in stems)
                fitting = ([other for other in names if Path(other).suffix.lower() in extensions] for names in described)
                owned = next(filter(None, fitting), [])
                if owned or suffix not in BARE:
                    owners[name] = owned
                break
    return owners


def _items_of_folder(here: Path, root: Path, names: list[str]) -> tuple[list[_Found], int]:
    owners = _owners(names)
    belongs: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    attached: set[str] = set()
    for sidecar, described in owners.items():
        for name in described:
            belongs[name].append((sidecar[len(Path(name).stem) :], here / sidecar))
            attached.add(sidecar)
    if TRACE in names:
        steps = [name for name in names if _is_step(name)]
        belongs[TRACE] += [(name, here / name) for name in steps]
        attached.update(steps)
    items = []
    for name in names:
        if name in attached:
            continue
        problem = None
        if name in owners:
            detail = f"no file of this folder is described by it: {name} needs a picture or video of the same name"
            problem = Problem(stage="probe", reason="orphan_sidecar", detail=escaped(detail))
        path = here / name
        relative = os.path.relpath(path, root)
        items.append(
            _Found(path=path, relative=relative, sidecars=tuple(belongs[name]), problem=problem or _unsafe(path, root))
        )
    return items, len(attached)


def _unsafe(path: Path, root: Path) -> Problem | None:
    """Why a path must not be opened: special files block or never end, links may lead anywhere."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = path.resolve(strict=True)
            if not target.is_relative_to(root):
                return Problem(stage="probe", reason="unsafe_path", detail="a link that leads out of the input is not followed")
            mode = target.stat().st_mode
    except OSError as error:
        return Problem(stage="probe", reason="unreadable", detail=error.strerror or type(error).__name__)
    except RuntimeError:
        return Problem(stage="probe", reason="unreadable", detail="a link that leads to itself")
    if not stat.S_ISREG(mode):
        return Problem(stage="probe", reason="unsafe_path", detail="neither a file nor a folder")
    return None


def _item(found: _Found, prefix: str, inventory: Inventory) -> Item:
    source = escaped(prefix + found.relative)
    licence, origin = inventory.of(escaped(found.relative))
    size, checksum, problem = 0, None, found.problem
    attached: list[Attachment] = []
    if problem is None or problem.reason == "orphan_sidecar":
        try:
            checksum, size = sha256_file(found.path), found.path.stat().st_size
            for role, path in found.sidecars:
                attached.append(_attachment(role, path, _beside(source, found.path, path)))
            for path, content in found.rows:
                attached.append(_part(path, content, _beside(source, found.path, path)))
        except (OSError, ValueError) as error:
            words = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
            problem = Problem(stage="probe", reason="unreadable", detail=words)
            checksum, attached = None, []
    return Item(
        source=source,
        path=str(found.path),
        bytes=size + sum(file.bytes for file in attached),
        sha256=checksum,
        attached=tuple(attached),
        licence=licence,
        origin=origin,
        problem=problem,
    )


def _beside(source: str, path: Path, other: Path) -> str:
    """What another file is called, told by how it lies to an item's."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), escaped(os.path.relpath(other, path.parent))))


def _attachment(role: str, path: Path, source: str) -> Attachment:
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"its attached file {escaped(path.name)} is not a plain file")
    return Attachment(role=escaped(role), source=source, path=str(path), bytes=path.stat().st_size, sha256=sha256_file(path))


def _part(path: Path, content: str, source: str) -> Attachment:
    """The rows of a list that are about one item."""
    data = content.encode("ascii")
    return Attachment(
        role=SCREEN_ROWS, source=source, path=str(path), bytes=len(data), sha256=sha256_bytes(data), content=content
    )


def escaped(name: str) -> str:
    """A name as printable text, one to one: a backslash is doubled, every byte or character that does not print is escaped."""
    pieces: list[str] = []
    for character in name:
        code = ord(character)
        if character == "\\":
            pieces.append("\\\\")
        elif 0xDC80 <= code <= 0xDCFF:
            pieces.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            pieces.append(character)
        else:
            pieces.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(pieces)
