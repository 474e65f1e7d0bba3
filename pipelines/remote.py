"""Inputs behind an address of Beam's file systems (``gs://``, ``s3://``, ``hdfs://``): brought beside the corpus, then local.

Everything that finds and reads inputs (sidecars, pictures of a document, projects, seeking in a film) wants files that can be
opened again and again, and every byte is hashed before anything else. So an address is mirrored once, file by file, below the
work folder of the corpus; the next curation fetches only what changed. Whether a file changed is told by its size and time of
change; a file system that gives no time is read in full. The price is the archive's bytes once on the corpus's disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import LongreelError, UsageError
from manifests.files import writing
from manifests.fingerprint import value_id
from manifests.places import address

if TYPE_CHECKING:
    from apache_beam.io.filesystem import FileMetadata

THREADS = 16
TRIES = 3


@dataclass(frozen=True, kw_only=True)
class _Object:
    """A remote file and where it belongs in the mirror."""

    address: str
    relative: str
    size: int
    changed_ns: int


def bring(
    given: Path,
    mirrors: Path,
    beam_options: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Mirrors an input when it is an address; returns where it now lies on this machine.

    Args:
        given: a local path, which is returned as it is, or an address of a file or folder.
        mirrors: folder for mirrors, each under a hash of its address.
        beam_options: where Beam's file systems find their hosts and keys.
        progress: called with the number of files that are there and their total.

    Raises:
        UsageError: no file system for the address, nothing there, or a name that cannot be a file here.
        LongreelError: a file could not be fetched; what was fetched is kept.
    """
    remote = address(given)
    if remote is None:
        return given
    objects = _list(remote, beam_options)
    base = remote.rstrip("/")
    mirror = mirrors / value_id(base)[:16] / _safe(base.rpartition("/")[2])
    single = len(objects) == 1 and not objects[0].relative
    places = {mirror if single else mirror / found.relative: found for found in objects}
    clash = next((path for path in places if any(parent in places for parent in path.parents)), None)
    if clash is not None:
        raise UsageError(f"{places[clash].address} lies below another file of {remote}: no folder can hold both, rename one")
    if mirror.is_dir():
        _forget(mirror, set(places))
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for done, _ in enumerate(pool.map(lambda place: _fetch(*place), places.items()), start=1):
            progress(done, len(places))
    return mirror


def _list(remote: str, beam_options: Sequence[str]) -> list[_Object]:
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    base = remote.rstrip("/")
    if set("*?[") & set(base):
        raise UsageError(f"input {remote} is a pattern: name a file or a folder")
    FileSystems.set_options(PipelineOptions(list(beam_options)))
    try:
        exact, below = FileSystems.match([base, f"{base}/**"])
    except ValueError as error:
        raise UsageError(
            f"input {remote}: {str(error).split('.')[0]}; for gs:// and s3:// install apache-beam[gcp,aws]"
        ) from error
    except (BeamIOError, OSError) as error:
        raise UsageError(f"input {remote} cannot be listed: {error}") from error
    files = {entry.path: entry for entry in (*exact.metadata_list, *below.metadata_list) if not entry.path.endswith("/")}
    if not files:
        raise UsageError(f"input {remote} does not exist, or holds no file: name a file or a folder")
    return [_object(base, entry) for _, entry in sorted(files.items())]


def _object(base: str, entry: FileMetadata) -> _Object:
    inside = entry.path[len(base) :].removeprefix("/")
    relative = "/".join(_safe(part) for part in inside.split("/")) if inside else ""
    changed_ns = int((entry.last_updated_in_seconds or 0) * 1e9)
    return _Object(address=entry.path, relative=relative, size=entry.size_in_bytes, changed_ns=changed_ns)


def _safe(part: str) -> str:
    """A piece of an object's name as the name of a file: what leads out of a folder, or is nothing, is escaped."""
    return part.replace(".", "%2E") if part in (".", "..") else part.replace("\0", "%00") or "%"


def _fetch(path: Path, found: _Object) -> None:
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems

    try:
        there = path.lstat()
        if found.changed_ns and (there.st_size, there.st_mtime_ns) == (found.size, found.changed_ns):
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"{found.address} cannot be a file here: {error.strerror}; rename it") from error
    for attempt in range(1, TRIES + 1):
        try:
            with FileSystems.open(found.address, compression_type="uncompressed") as source, writing(path) as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
            if path.stat().st_size != found.size:
                raise OSError(f"{path.stat().st_size} of {found.size} bytes came")
            os.utime(path, ns=(found.changed_ns, found.changed_ns))
            return
        except (OSError, BeamIOError) as error:
            if attempt == TRIES:
                raise LongreelError(f"{found.address} could not be fetched: {error}; what is fetched is kept") from error


def _forget(mirror: Path, wanted: set[Path]) -> None:
    """Removes what is no longer behind the address."""
    for folder, _, names in os.walk(mirror, topdown=False):
        for name in names:
            if Path(folder) / name not in wanted:
                (Path(folder) / name).unlink()
        if not os.listdir(folder):
            os.rmdir(folder)
