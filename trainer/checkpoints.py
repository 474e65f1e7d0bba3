"""Checkpoints that are whole or not there, and the newest whole one.

    RUN/stage2/checkpoints/step-00040/     DeepSpeed's files, and checkpoint.json: where it stands, and every file's SHA-256
    RUN/stage2/checkpoints/latest          the name of the newest, written last
    RUN/stage2/phase0/model/               a finished phase: the weights the next one starts from
    RUN/stage2/model/                      the finished stage, published names

A folder is written under a hidden name and renamed when every rank is done. The newest two are kept. A checkpoint is read
back only if every file has its checksum; a damaged one is passed over for the one before it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from manifests import files
from manifests.errors import UsageError
from manifests.fingerprint import sha256_file
from trainer.ranks import Ranks

KEPT = 2
_RECORD = "checkpoint.json"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a stage stands: `steps` optimiser steps done, the last of them in phase `phase`, on `world` ranks."""

    stage: int
    phase: int
    steps: int
    world: int


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: ``RUN/stageN/checkpoints``.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self.folder, self.ranks = folder, ranks

    def save(self, position: Position, write: Callable[[Path, str], None]) -> None:
        """Makes a checkpoint and drops those beyond the newest two.

        Args:
            write: writes the files of every rank into ``folder / tag``.
        """
        name = f"step-{position.steps:08d}"
        hidden = _UNFINISHED + name
        if self.ranks.leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.folder / hidden, ignore_errors=True)
        self.ranks.wait()
        write(self.folder, hidden)
        self.ranks.wait()
        if self.ranks.leads:
            made = self.folder / hidden
            checksums = {
                path.relative_to(made).as_posix(): _settled(path) for path in sorted(made.rglob("*")) if path.is_file()
            }
            files.write_json(made / _RECORD, {"position": asdict(position), "files": checksums})
            shutil.rmtree(self.folder / name, ignore_errors=True)
            made.rename(self.folder / name)
            files.write_bytes(self.folder / "latest", name.encode())
            for old in self.names()[KEPT:]:
                shutil.rmtree(self.folder / old)
        self.ranks.wait()

    def names(self) -> list[str]:
        """Names of the checkpoints, newest first."""
        return sorted((path.name for path in self.folder.glob("step-*") if path.is_dir()), reverse=True)

    def newest(self) -> tuple[Position | None, str | None, list[str]]:
        """The newest whole checkpoint and its name (None when there is none), and what was wrong with newer ones.

        Raises:
            UsageError: it was made by another number of ranks.
        """
        damaged: list[str] = []
        for name in self.names():
            problem, position = self._verify(name)
            if position is None:
                damaged.append(f"{self.folder / name}: {problem}")
                continue
            if position.world != self.ranks.world:
                raise UsageError(
                    f"{self.folder / name} was written by {position.world} processes and this run has {self.ranks.world}: "
                    f"resume with {position.world}"
                )
            return position, name, damaged
        return None, None, damaged

    def discard(self) -> None:
        """Removes all of them: the stage is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _verify(self, name: str) -> tuple[str, Position | None]:
        try:
            record = files.read_json(self.folder / name / _RECORD)
            position = Position(**record["position"])
            for file, checksum in record["files"].items():
                path = self.folder / name / file
                if not path.is_file():
                    return f"{file} is missing", None
                if sha256_file(path) != checksum:
                    return f"{file} is not what was written", None
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            return f"its record cannot be read ({error})", None
        return "", position


def _settled(path: Path) -> str:
    """Brings a file to the disk and returns its SHA-256."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return sha256_file(path)


def write_model(folder: Path, export: Callable[[Path], None], ranks: Ranks) -> None:
    """Writes an exported model, whole or not at all.

    Args:
        export: called on every rank with the hidden folder to write.
    """
    hidden = folder.with_name(_UNFINISHED + folder.name)
    if ranks.leads:
        shutil.rmtree(hidden, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
    ranks.wait()
    export(hidden)
    if ranks.leads:
        for path in sorted(hidden.rglob("*")):
            if path.is_file():
                _settled(path)
        shutil.rmtree(folder, ignore_errors=True)
        hidden.rename(folder)
    ranks.wait()
