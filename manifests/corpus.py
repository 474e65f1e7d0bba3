"""A corpus is a folder. This module knows its layout and how a step's files become valid all at once.

    corpus.json                                   format, recipe and cost fingerprint
    steps/curate.json  synthesize.json  plan-laptop.json     per step: fingerprint, counts, every file with its SHA-256
    samples/origin=curate/context_bucket=32k/duration_bucket=15s/part-00000.parquet      (Hive-partitioned)
    media/shard-00000.tar                         pictures, WebDataset-compatible
    media/origin=curate/part-00000.parquet        where each picture lies;  likewise sources/ lineage/ quarantine/ dropped/
    sequences/recipe=laptop/stage=0/part-00000.parquet       likewise segments/ and stages/
    runs/*.json                                   the log: who ran what, when; the only files with wall-clock times
    _work/                                        finished items of an unfinished step; safe to delete

A step's record (``steps/NAME.json``) is written last. Until it is there the step is unfinished; a rerun reuses what is whole,
removes what it does not list, and ends with the same bytes. `digest` covers every file but ``runs/`` and ``_work/``.
"""

from __future__ import annotations

import datetime
import fcntl
import itertools
import json
import math
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from manifests import files, schemas
from manifests.errors import CorruptCorpusError, LongreelError, UsageError
from manifests.fingerprint import ID_DIGITS, canonical_json, sha256_bytes, sha256_file
from manifests.migration import require_known
from manifests.places import place
from manifests.recipe import Recipe

FORMAT = "longreel-corpus/1"
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What a finished step left: its fingerprint, its figures, and every file with its checksum.

    Attributes:
        version: of the tables it wrote, see `manifests.schemas.VERSION`.
    """

    step: str
    fingerprint: str
    counts: dict[str, Any]
    files: dict[str, str]
    version: int = schemas.VERSION

    @property
    def digest(self) -> str:
        """One hash over all files of the step."""
        return sha256_bytes(canonical_json(self.files).encode())[:ID_DIGITS]


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """A plan that was withdrawn: its record, and the folder that its files' paths are relative to."""

    folder: Path
    record: StepRecord


def _record(step: str, path: Path) -> StepRecord:
    try:
        value = files.read_json(path)
        return StepRecord(
            step=step,
            fingerprint=value["fingerprint"],
            counts=value["counts"],
            files=value["files"],
            version=int(value.get("tables", 1)),
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptCorpusError(f"{path} is not a step record ({error}): delete it and run the step again") from error


class Corpus:
    """Paths, records and rows of a corpus folder. Making one touches nothing.

    Args:
        folder: a local folder; for reading also an address, as `manifests.places` knows them.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = place(folder)
        self._held: TextIO | None = None

    @classmethod
    def open(cls, folder: Path | str) -> Corpus:
        """An existing corpus.

        Raises:
            UsageError: the folder holds none, or one of a newer longreel, or its object store does not answer.
        """
        corpus = cls(folder)
        if not isinstance(corpus.folder, Path):
            corpus._answers()
        if not corpus.record_path("curate").is_file():
            hint = (
                "curation has not finished: run the same `longreel curate` again"
                if (corpus.folder / "_work").is_dir()
                else "make one with `longreel curate INPUT --out CORPUS`"
            )
            raise UsageError(f"{corpus.folder} is no corpus; {hint}")
        for step, version in corpus.versions().items():
            require_known(version, f"{corpus.folder}: step {step}")
        return corpus

    def _answers(self) -> None:
        """Reads from an address once: asking whether a file is there takes every failure for "no"."""
        try:
            self.record_path("curate").read_bytes()
        except FileNotFoundError:
            return
        except Exception as error:  # drivers raise errors of their own: no credentials, no such host, no leave
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"{self.folder} cannot be read: {said}") from error

    @property
    def work(self) -> Path:
        """Finished items of an unfinished step, and the lock of who writes.

        Raises:
            UsageError: the corpus is behind an address.
        """
        self.require_local()
        return self.folder / "_work"

    def require_local(self) -> None:
        """Refuses to write a corpus behind an address.

        Raises:
            UsageError: it is.
        """
        if not isinstance(self.folder, Path):
            raise UsageError(f"{self.folder} is only read: make the corpus in a local folder and copy it there")

    def record_path(self, step: str) -> Path:
        """Where the record of a step stands."""
        return self.folder / "steps" / f"{step}.json"

    def record(self, step: str) -> StepRecord | None:
        """The record of a finished step, or None.

        Raises:
            CorruptCorpusError: the record is not readable.
        """
        path = self.record_path(step)
        return _record(step, path) if path.is_file() else None

    def steps(self) -> list[str]:
        """Names of the finished steps, sorted."""
        return sorted(path.stem for path in (self.folder / "steps").glob("*.json"))

    def records(self) -> list[StepRecord]:
        """The records of the finished steps, by name."""
        return [record for step in self.steps() if (record := self.record(step)) is not None]

    def versions(self) -> dict[str, int]:
        """For each finished step, the version of the tables it wrote."""
        return {record.step: record.version for record in self.records()}

    def files_of(self, table: str) -> dict[int, list[Path]]:
        """The Parquet files of a table that finished steps list, by the version of the tables they were written with."""
        found: dict[int, list[Path]] = {}
        for record in self.records():
            for name in sorted(record.files):
                if name.startswith(f"{table}/") and name.endswith(".parquet"):
                    found.setdefault(record.version, []).append(self.folder / name)
        return found

    def is_current(self, step: str, fingerprint: str) -> bool:
        """Whether this fingerprint made the finished step and its files are there (their bytes are `longreel check`'s work)."""
        record = self.record(step)
        if record is None or record.fingerprint != fingerprint:
            return False
        return all((self.folder / name).is_file() for name in record.files)

    def begin(self, step: str) -> None:
        """Declares a step unfinished before its first file changes, and withdraws the steps that were built on it.

        Their records go before their files: a reader sees a step whole or not at all. The corpus is held for this process
        until the step is committed or the process ends.

        Raises:
            LongreelError: another process is writing the corpus.
        """
        self._hold()
        later = {"curate": ("origin=synthesize", "recipe=*"), "synthesize": ("recipe=*",)}.get(step, ())
        for name in self.steps():
            if name.startswith("plan-") and (later or name == step):
                self._put_aside(name.removeprefix("plan-"))
            elif name == step or (step == "curate" and name == "synthesize"):
                files.remove(self.record_path(name))
        for partition in later:
            for folder in sorted(self.folder.glob(f"*/{partition}")):
                shutil.rmtree(folder)

    def _hold(self) -> None:
        """A lock of the process, so that two never write one corpus; it goes with the process, however it ends."""
        if self._held is not None:
            return
        self.work.mkdir(parents=True, exist_ok=True)
        lock = (self.work / "writing.lock").open("a")
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LongreelError(f"another process is writing {self.folder}: wait for it, or stop it") from None
        self._held = lock

    def _put_aside(self, recipe: str) -> None:
        """Moves a finished plan to the work folder, where `set_aside` finds it; an earlier one makes room.

        Its record goes first: a crash half-way leaves an unfinished plan and no whole one aside, never a wrong one.
        """
        target = self.work / "plans" / recipe
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        self.record_path(f"plan-{recipe}").replace(target / "moving.json")
        for folder in sorted(self.folder.glob(f"*/recipe={recipe}")):
            (target / folder.parent.name).mkdir(exist_ok=True)
            folder.rename(target / folder.parent.name / folder.name)
        (target / "moving.json").rename(target / "record.json")

    def set_aside(self, recipe: str) -> SetAside | None:
        """The plan of a recipe that was withdrawn last, because an earlier step or the plan itself was made anew."""
        folder = self.work / "plans" / recipe
        if not (folder / "record.json").is_file():
            return None
        return SetAside(folder=folder, record=_record(f"plan-{recipe}", folder / "record.json"))

    def commit(
        self, step: str, fingerprint: str, counts: dict[str, Any], written: Iterable[Path], owned: Iterable[Path]
    ) -> StepRecord:
        """Makes a step's files valid: removes what it owns but did not write, then writes its record.

        Args:
            written: the files the step made, below the corpus folder.
            owned: folders in which nothing but the step's files may stand.
        """
        names = {path.relative_to(self.folder).as_posix(): path for path in written}
        for folder in owned:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.relative_to(self.folder).as_posix() not in names:
                    path.unlink()
            for path in sorted(folder.rglob("*"), reverse=True):
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
        checksums = {name: sha256_file(path) for name, path in sorted(names.items())}
        record = StepRecord(step=step, fingerprint=fingerprint, counts=counts, files=checksums)
        files.write_json(
            self.record_path(step),
            {
                "step": step,
                "fingerprint": fingerprint,
                "counts": counts,
                "files": checksums,
                "digest": record.digest,
                "tables": record.version,
            },
        )
        if self._held is not None:
            self._held.close()
            self._held = None
        return record

    def write_identity(self, recipe: Recipe) -> Path:
        """Writes ``corpus.json``: format, recipe, and what its token counts depend on."""
        path = self.folder / "corpus.json"
        value = {
            "format": FORMAT,
            "recipe": json.loads(canonical_json(recipe)),
            "cost_fingerprint": recipe.cost_fingerprint,
        }
        files.write_json(path, value)
        return path

    def identity(self) -> dict[str, Any]:
        """The content of ``corpus.json``.

        Raises:
            CorruptCorpusError: it is missing, unreadable, or of another format.
        """
        path = self.folder / "corpus.json"
        try:
            value = files.read_json(path)
        except (OSError, json.JSONDecodeError) as error:
            raise CorruptCorpusError(f"{path}: {error}: curate again") from error
        if value.get("format") != FORMAT:
            raise CorruptCorpusError(f"{path} has format {value.get('format')!r}; this version reads {FORMAT}")
        return dict(value)

    def require_costs_of(self, recipe: Recipe) -> None:
        """Refuses a recipe whose idea of tokens is not the one the corpus was counted with.

        Raises:
            UsageError: the fingerprints differ.
        """
        identity = self.identity()
        if identity["cost_fingerprint"] != recipe.cost_fingerprint:
            made = identity["recipe"]["name"]
            raise UsageError(
                f"{self.folder} was counted with recipe {made!r}; {recipe.name!r} counts tokens differently "
                f"(tokenizer, pixels or buckets): "
                f"curate again with --recipe {recipe.name}, or plan with --recipe {made}"
            )

    def table(self, name: str, **partition: str | int | None) -> Path:
        """The folder of a table's partition, e.g. ``table("samples", origin="curate", context_bucket="32k")``."""
        folder = self.folder / name
        for key, value in partition.items():
            folder = folder / f"{key}={NULL_PARTITION if value is None else value}"
        return folder

    def write_table(
        self,
        name: str,
        rows: list[dict[str, Any]] | pa.Table,
        *,
        rows_per_file: int = 1_000_000,
        **partition: str | int | None,
    ) -> list[Path]:
        """Writes rows (or columns), in their order, as one or more Parquet files of a partition; returns the paths.

        An empty table still gets one file, so that readers find its columns.
        """
        parts = range(max(1, math.ceil(len(rows) / rows_per_file)))
        pieces = (rows[part * rows_per_file : (part + 1) * rows_per_file] for part in parts)
        return self.write_parts(name, pieces, **partition)

    def write_parts(
        self, name: str, pieces: Iterable[list[dict[str, Any]] | pa.Table], **partition: str | int | None
    ) -> list[Path]:
        """Writes each of ``pieces`` as one Parquet file of a partition before it asks for the next; returns the paths.

        Without any piece there is one empty file.
        """
        folder = self.table(name, **partition)
        written: list[Path] = []
        for piece in itertools.chain(pieces, itertools.repeat([])):
            if written and not len(piece):
                break
            path = folder / f"part-{len(written):05d}.parquet"
            files.write_rows(path, piece, schemas.TABLES[name])
            written.append(path)
        return written

    def log_run(
        self,
        *,
        step: str,
        recipe: str,
        started: datetime.datetime,
        seconds: float,
        fingerprint: str,
        outcome: str,
        counts: dict[str, Any],
    ) -> None:
        """Appends to the log of runs (the only place with wall-clock times)."""
        stamp = started.astimezone(datetime.UTC)
        name = f"{stamp.strftime('%Y%m%dT%H%M%S')}-{step}-{uuid.uuid4().hex[:6]}.json"
        files.write_json(
            self.folder / "runs" / name,
            {
                "step": step,
                "recipe": recipe,
                "started": stamp.isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "fingerprint": fingerprint,
                "outcome": outcome,
                "counts": canonical_json(counts),
            },
        )

    def digest(self) -> str:
        """One hash over every file of the corpus but the log and the work folder: equal corpora have equal digests."""
        checksums = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not name.startswith(("runs/", "_work/")):
                checksums[name] = sha256_file(path)
        return sha256_bytes(canonical_json(checksums).encode())[:ID_DIGITS]
