"""A finished corpus to an address of Beam's file systems (``gs://``, ``s3://``, ``hdfs://``), so that a reader never sees half.

A corpus is made in a local folder, because every promise about killed processes rests on renaming there. It is then published
file by file: records of steps that changed are taken away first, files follow, each whole or not at all, and the records, which
alone make a step valid, are written last. Whoever reads through `manifests.corpus` follows records, so it sees a step as it
was, as it is, or not. What a record at the address vouched for, and the new one lists with the same checksum, is not sent
again. A publication that was killed is run again; it then sends the files of its unfinished steps anew. Nothing is taken away
but what a record at the address listed.

An object store shows an object when it is complete; other file systems show it while it grows. So a file is written under
another name and moved, everywhere. One writer at a time: two that publish different corpora to one address are not told apart.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError, LongreelError, UsageError
from manifests.fingerprint import sha256_file
from manifests.places import address

THREADS = 16
TRIES = 3
STEPS = "steps/"
PART = ".part"
_IDENTITY = "corpus.json"


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was done: files sent and their bytes, files that were there already, files that were taken away."""

    sent: int
    sent_bytes: int
    kept: int
    removed: int


def publish(
    folder: Path,
    target: str,
    beam_options: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Published:
    """Makes an address hold exactly the finished steps of a local corpus.

    Args:
        beam_options: where Beam's file systems find their hosts and keys.
        progress: called with the number of files that are sent and their total.

    Raises:
        UsageError: the folder holds no corpus, there is no file system for the address, or something else is there.
        CorruptCorpusError: a file has other bytes than its record says; nothing at the address changed.
        LongreelError: the address could not be read or written; what was sent stays, run it again.
    """
    corpus = Corpus.open(folder)
    if address(target) is None:
        raise UsageError(f"{target} is no address: name one like s3://bucket/corpus, or copy the folder")
    store = _Store(target, beam_options)
    records = {f"{STEPS}{record.step}.json": record for record in corpus.records()}
    wanted = {name: checksum for record in records.values() for name, checksum in record.files.items()}
    for name, checksum in sorted(wanted.items()):
        if sha256_file(corpus.folder / name) != checksum:
            raise CorruptCorpusError(f"{name} has other bytes than its record says: run `longreel check {folder}`")
    there = store.listed()
    if there and _IDENTITY not in there:
        raise UsageError(f"{target} holds something else than a corpus: name an empty or a new folder")
    before = {name: store.read(name) for name in sorted(there) if name.startswith(STEPS) and name.endswith(".json")}
    vouched = {name: checksum for value in before.values() for name, checksum in _files(value).items() if name in there}
    kept = {name for name, checksum in wanted.items() if vouched.get(name) == checksum}
    current = {name for name, value in before.items() if name in records and value == (corpus.folder / name).read_bytes()}
    store.remove(sorted(before.keys() - current))
    if _IDENTITY not in there or store.read(_IDENTITY) != (corpus.folder / _IDENTITY).read_bytes():
        store.send(corpus.folder / _IDENTITY, _IDENTITY)
    send = sorted(wanted.keys() - kept)
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for done, _ in enumerate(pool.map(lambda name: store.send(corpus.folder / name, name), send), start=1):
            progress(done, len(send))
    surplus = sorted(vouched.keys() - wanted.keys())
    store.remove(surplus)
    for name in sorted(records.keys() - current):
        store.send(corpus.folder / name, name)
    sent_bytes = sum((corpus.folder / name).stat().st_size for name in send)
    return Published(sent=len(send), sent_bytes=sent_bytes, kept=len(kept), removed=len(surplus))


def _files(record: bytes) -> dict[str, str]:
    """What a record at the address lists; nothing when it is none."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return dict(json.loads(record)["files"])
    return {}


class _Store:
    """Whole files below an address."""

    def __init__(self, target: str, beam_options: Sequence[str]) -> None:
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import PipelineOptions

        self.base = target.rstrip("/")
        self.systems: Any = FileSystems
        FileSystems.set_options(PipelineOptions(list(beam_options)))
        try:
            FileSystems.get_filesystem(self.base)
        except ValueError as error:
            raise UsageError(
                f"{target}: {str(error).split('.')[0]}; for gs:// and s3:// install apache-beam[gcp,aws]"
            ) from error

    def listed(self) -> set[str]:
        """Names of everything that is there."""
        from apache_beam.io.filesystem import BeamIOError

        try:
            (found,) = self.systems.match([f"{self.base}/**"])
        except (BeamIOError, OSError) as error:
            raise LongreelError(f"{self.base} cannot be listed: {error}") from error
        return {entry.path[len(self.base) + 1 :] for entry in found.metadata_list if not entry.path.endswith("/")}

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""
        with self._saying(name), self.systems.open(f"{self.base}/{name}", compression_type="uncompressed") as stream:
            return bytes(stream.read())

    def send(self, path: Path, name: str) -> None:
        """Writes a file under another name and moves it to its own."""
        target = f"{self.base}/{name}"
        folder, last = posixpath.split(target)
        temporary = f"{folder}/.{last}{PART}"
        with self._saying(name):
            for attempt in range(1, TRIES + 1):
                try:
                    self._make_folder(folder)
                    kind = {"mime_type": "application/octet-stream", "compression_type": "uncompressed"}
                    with path.open("rb") as source, self.systems.create(temporary, **kind) as stream:
                        shutil.copyfileobj(source, stream, 1 << 20)
                    if self.systems.exists(target):
                        self.systems.delete([target])
                    self.systems.rename([temporary], [target])
                    return
                except Exception:
                    if attempt == TRIES:
                        raise

    def _make_folder(self, folder: str) -> None:
        # Object stores have none; where there are some, one that is there already is no error here.
        with contextlib.suppress(Exception):
            self.systems.mkdirs(folder)

    def remove(self, names: Sequence[str]) -> None:
        """Takes files away."""
        if names:
            with self._saying(names[0]):
                self.systems.delete([f"{self.base}/{name}" for name in names])

    @contextlib.contextmanager
    def _saying(self, name: str) -> Any:
        from apache_beam.io.filesystem import BeamIOError

        try:
            yield
        except (BeamIOError, OSError) as error:
            raise LongreelError(f"{self.base}/{name} could not be read or written: {error}; run it again") from error
