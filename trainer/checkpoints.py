"""Checkpoints that are whole or not there, and the newest whole one.

    RUN/stage2/checkpoints/step-00000040/     rank-00000.safetensors, ...: the optimiser's state by published name
                                              (`trainer.optimiser_state`); checkpoint.json: where it stands, and every SHA-256
    RUN/stage2/phase0/model/                  a finished phase: the weights the next one starts from
    RUN/stage2/model/                         the finished stage, published names; checksums.json: SHA-256 of its files

Decided here: a folder is written under a hidden name and renamed when every rank's file is on disk. Each rank leaves a record
beside its file, and the leading rank waits for the records, not for a collective: so all of it can go on in a thread while
training continues (`in_background`), from a copy of the state. The next save waits for the last one, and only there the ranks
agree whether it went well. A write that fails is reported at once; training goes on as long as an older checkpoint stands, but
a second failure in a row ends it. The newest two are kept. A checkpoint is read back only if every file has its checksum (each
rank reads some of them); a damaged one is passed over for the one before it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from manifests import files
from manifests.errors import LongreelError
from manifests.fingerprint import sha256_file
from trainer.ranks import Ranks

KEPT = 2
POLL_S = 0.02
PATIENCE_S = 30.0
_RECORD = "checkpoint.json"
_CHECKSUMS = "checksums.json"
_UNFINISHED = ".unfinished-"
_OUR_OWN = (OSError, SafetensorError)


class CheckpointWriteError(LongreelError):
    """A checkpoint or a model could not be written, and training cannot go on without it."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a stage stands: `steps` steps done, the last of them in phase `phase`, on `world` ranks.

    Attributes:
        updates: steps of the phase that changed the weights (a skipped one does not).
    """

    stage: int
    phase: int
    steps: int
    world: int
    updates: int = 0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        files: of all the ranks that wrote it.
        rules: the state of what else decides on steps (`trainer.bad_steps`).
    """

    position: Position
    files: tuple[Path, ...]
    rules: Mapping[str, Any]


class _Save(threading.Thread):
    """One rank's work on one checkpoint; `error` is what went wrong, `given_up` tells it that another rank failed."""

    def __init__(self, name: str, work: Callable[[threading.Event], None]) -> None:
        super().__init__(name=f"longreel-{name}")
        self.checkpoint = name
        self.error: Exception | None = None
        self.given_up = threading.Event()
        self._work = work
        self.start()

    def run(self) -> None:
        """The thread."""
        try:
            self._work(self.given_up)
        except Exception as error:
            self.error = error


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: ``RUN/stageN/checkpoints``.
        in_background: write while training goes on; costs a copy of the state.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, in_background: bool = False) -> None:
        self.folder, self.ranks, self.in_background = folder, ranks, in_background
        self._last: _Save | None = None
        self._failures = 0

    def save(self, position: Position, state: Mapping[str, Tensor], rules: Mapping[str, Any]) -> None:
        """Makes a checkpoint and drops those beyond the newest two; in the background, settles the one before first.

        Args:
            state: this rank's tensors; copied if it is written in the background.

        Raises:
            CheckpointWriteError: it cannot be written and no older one stands, or it is the second in a row.
        """
        self.settle()
        name = f"step-{position.steps:08d}"
        hidden = self.folder / (_UNFINISHED + name)
        problem = self._make_folder(name, hidden) if self.ranks.leads else None
        if self.ranks.total([float(problem is not None)])[0] and problem is None:
            problem = OSError("the leading process could not make its folder")
        if self.in_background:
            state = {key: tensor.detach().to("cpu", copy=True) for key, tensor in state.items()}

        def work(given_up: threading.Event) -> None:
            if problem is not None:
                raise problem
            try:
                _write_rank(hidden, self.ranks.rank, state)
                if self.ranks.leads:
                    self._declare(hidden, position, rules, given_up)
            except _OUR_OWN as error:
                self._report(name, error)
                raise

        self._last = _Save(name, work)
        if not self.in_background:
            self.settle()

    def settle(self) -> None:
        """Waits for the checkpoint being written; every rank calls it.

        Raises:
            CheckpointWriteError: it could not be written and no older one stands, or it is the second in a row.
        """
        last, self._last = self._last, None
        if last is None:
            return
        if not self.ranks.leads:
            last.join()
        if self.ranks.total([float(not self.ranks.leads and last.error is not None)])[0]:
            last.given_up.set()
        last.join()
        failed = self.ranks.total([float(last.error is not None)])[0] > 0
        self._failures = self._failures + 1 if failed else 0
        if not failed:
            return
        if last.error is not None and not isinstance(last.error, _OUR_OWN):
            raise last.error
        if self.ranks.leads:
            shutil.rmtree(self.folder / (_UNFINISHED + last.checkpoint), ignore_errors=True)
        standing = self.names()
        if standing and self._failures < 2:
            return
        reason = _said(last.error) if last.error is not None else "on another process"
        also = (
            "nor the one before it: make room, then go on from " + standing[0]
            if standing
            else ("and no older checkpoint of the stage stands: make room, then go on")
        )
        raise CheckpointWriteError(f"{self.folder / last.checkpoint} could not be written ({reason}), {also} with --resume")

    def close(self) -> None:
        """Lets this rank's part of a checkpoint being written end, when the run ends early; other ranks need not call it."""
        if self._last is not None:
            self._last.join(timeout=PATIENCE_S)
            self._last.given_up.set()
            self._last.join()
            self._last = None

    def names(self) -> list[str]:
        """Names of the checkpoints, newest first."""
        return sorted((path.name for path in self.folder.glob("step-*") if path.is_dir()), reverse=True)

    def standing(self) -> int | None:
        """Steps of the newest one that is whole by name: not of one that is still being written or could not be."""
        names = self.names()
        return int(names[0].removeprefix("step-")) if names else None

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint (None when there is none), and what was wrong with newer ones; every rank calls it."""
        damaged: list[str] = []
        for name in self.names():
            problem, checkpoint = self._verify(name)
            if checkpoint is not None:
                return checkpoint, damaged
            damaged.append(f"{self.folder / name}: {problem}")
        return None, damaged

    def discard(self) -> None:
        """Removes all of them: the stage is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _declare(self, hidden: Path, position: Position, rules: Mapping[str, Any], given_up: threading.Event) -> None:
        """Waits for every rank's record, then gives the checkpoint its name."""
        records = [hidden / f"rank-{rank:05d}.json" for rank in range(self.ranks.world)]
        while not all(record.is_file() for record in records):
            if given_up.is_set():
                raise OSError("another process could not write its part")
            time.sleep(POLL_S)
        checksums = {}
        for record in records:
            checksums.update(files.read_json(record))
            record.unlink()
        files.write_json(hidden / _RECORD, {"position": asdict(position), "files": checksums, "rules": dict(rules)})
        name = hidden.name.removeprefix(_UNFINISHED)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        hidden.rename(self.folder / name)
        files.settle(self.folder)
        for old in self.names()[KEPT:]:
            shutil.rmtree(self.folder / old)

    def _make_folder(self, name: str, hidden: Path) -> OSError | None:
        """Makes the hidden folder and removes what killed runs left; returns what went wrong."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(_UNFINISHED + "*"):
                shutil.rmtree(left)
            hidden.mkdir()
        except OSError as error:
            self._report(name, error)
            return error
        return None

    def _report(self, name: str, error: Exception) -> None:
        """Says at once, on the rank where it happened, that a checkpoint was not written, and what stands."""
        others = [other for other in self.names() if other != name]
        stands = f"{others[0]} stands" if others else "none stands"
        print(f"longreel: {self.folder / name} could not be written ({_said(error)}): {stands}", file=sys.stderr, flush=True)

    def _verify(self, name: str) -> tuple[str, Checkpoint | None]:
        folder, mine = self.folder / name, ""
        checkpoint: Checkpoint | None = None
        try:
            record = files.read_json(folder / _RECORD)
            checkpoint = Checkpoint(
                position=Position(**record["position"]),
                files=tuple(folder / file for file in sorted(record["files"])),
                rules=record["rules"],
            )
            for file in sorted(record["files"])[self.ranks.rank :: self.ranks.world]:
                path = folder / file
                if not path.is_file():
                    mine = f"{file} is missing"
                elif sha256_file(path) != record["files"][file]:
                    mine = f"{file} is not what was written"
        except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            mine = f"its record cannot be read ({error})"
        damaged = self.ranks.total([float(bool(mine))])[0] > 0
        return (mine or "a file is not what was written", None) if damaged else ("", checkpoint)


def _write_rank(folder: Path, rank: int, state: Mapping[str, Tensor]) -> None:
    """Writes one rank's tensors, and beside them, once they are on disk, their checksum."""
    file = folder / f"rank-{rank:05d}.safetensors"
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}, file)
    files.write_json(file.with_suffix(".json"), {file.name: _settled(file)})


def _said(error: Exception | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _settled(path: Path) -> str:
    """Brings a file to the disk and returns its SHA-256."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return sha256_file(path)


def write_model(folder: Path, export: Callable[[Path], None], ranks: Ranks) -> None:
    """Writes an exported model, whole or not at all.

    Args:
        export: called on every rank with the hidden folder to write.

    Raises:
        CheckpointWriteError: it cannot be written.
    """
    hidden = folder.with_name(_UNFINISHED + folder.name)
    problem: Exception | None = None
    try:
        if ranks.leads:
            shutil.rmtree(hidden, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
        export(hidden)
        if ranks.leads:
            checksums = {path.name: _settled(path) for path in sorted(hidden.iterdir())}
            files.write_json(hidden / _CHECKSUMS, checksums)
            shutil.rmtree(folder, ignore_errors=True)
            hidden.rename(folder)
            files.settle(folder.parent)
    except _OUR_OWN as error:
        problem = error
    if ranks.total([float(problem is not None)])[0]:
        if ranks.leads:
            shutil.rmtree(hidden, ignore_errors=True)
        reason = _said(problem) if problem is not None else "on another process"
        raise CheckpointWriteError(
            f"{folder} could not be written ({reason}): make room, then go on from the newest checkpoint with --resume"
        )


def require_written(folder: Path) -> None:
    """Nothing, when the files of an exported model are those that `write_model` wrote; older folders have no record of them.

    Raises:
        OSError: one is not, or is missing.
    """
    record = folder / _CHECKSUMS
    if not record.is_file():
        return
    try:
        checksums = dict(files.read_json(record))
    except ValueError as error:
        raise OSError(f"{record.name} cannot be read: {error}") from error
    for name, checksum in checksums.items():
        if sha256_file(folder / name) != checksum:
            raise OSError(f"{name} is not what was written")
