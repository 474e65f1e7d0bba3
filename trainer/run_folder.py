"""The folder of a run: what is finished, what is not, and what belongs to another plan.

    RUN/stage0/begun.json     written first: the identity of the plan it trains from
    RUN/stage0/stage.json     written last: the same, its row, its model's files with their sizes

A finished stage is never redone. A stage folder without its record is unfinished work.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from manifests import files
from manifests.errors import CorruptCorpusError, LongreelError, OtherPlanError, UsageError
from trainer.bad_steps import SkippedFile
from trainer.evaluate import Evaluation
from trainer.metrics import MetricsFile, StageRow, write_summary

START = "start"
# What a disk or its rights refuse; anything else that goes wrong with a file is a defect and stays one.
_REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR})


class RunFolderError(LongreelError):
    """The run's folder cannot be written."""


@contextlib.contextmanager
def readable_failures(folder: Path) -> Iterator[None]:
    """Says a full disk or missing rights in one line that names the file, where it is known.

    Raises:
        RunFolderError: in place of the system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise RunFolderError(
            f"{error.filename or folder} could not be written ({error.strerror}): make room or give rights, then go on with "
            f"--resume"
        ) from error


class RunFolder:
    """Paths and records of a run. Making one touches nothing."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.metrics = MetricsFile(self.folder / "metrics.jsonl")
        self.skipped = SkippedFile(self.folder / "skipped.jsonl")

    def stage(self, number: int) -> Path:
        """The folder of a stage."""
        return self.folder / f"stage{number}"

    def model(self, number: int) -> Path:
        """The exported model of a stage."""
        return self.stage(number) / "model"

    def phase_model(self, number: int, phase: int) -> Path:
        """The weights that a phase before a stage's last left."""
        return self.stage(number) / f"phase{phase}" / "model"

    def finished(self, number: int, identity: str) -> StageRow | None:
        """The row of a finished stage, None when it is not finished.

        Raises:
            UsageError: it was trained from another plan, or files of its model are gone.
        """
        path = self.stage(number) / "stage.json"
        if not path.is_file():
            return None
        record = files.read_json(path)
        if record["identity"] != identity:
            raise OtherPlanError(
                f"{self.stage(number)} was trained from another plan than the corpus has now: give another --out, "
                f"or delete {self.folder}"
            )
        for name, size in record["files"].items():
            file = self.stage(number) / name
            if not file.is_file() or file.stat().st_size != size:
                raise UsageError(f"{file} is missing or cut short: delete {self.stage(number)} and train stage {number} again")
        return StageRow(**record["row"])

    def finish(self, number: int, identity: str, row: StageRow) -> None:
        """Declares a stage finished."""
        model = self.model(number)
        sizes = {
            path.relative_to(self.stage(number)).as_posix(): path.stat().st_size
            for path in sorted(model.rglob("*"))
            if path.is_file()
        }
        files.write_json(self.stage(number) / "stage.json", {"identity": identity, "row": asdict(row), "files": sizes})

    def summarise(self, recipe: str) -> None:
        """Writes ``summary.json`` from the records of the finished stages."""
        records = [files.read_json(path) for path in sorted(self.folder.glob("stage*/stage.json"))]
        write_summary(self.folder / "summary.json", recipe, [StageRow(**record["row"]) for record in records])

    def require_room(self, number: int, identity: str, *, resume: bool, command: str) -> None:
        """Refuses to start a stage over unfinished work, or in a folder that is no run's.

        Args:
            command: what to type to train the stages asked for, without ``--resume``.

        Raises:
            UsageError: the stage is unfinished and `resume` is off, or was begun from another plan.
        """
        if self.folder.is_file():
            raise UsageError(f"{self.folder} is a file: give --out a folder")
        ours = ("metrics.jsonl", "skipped.jsonl", "replaced.jsonl", "summary.json", "evaluation", "stage", "tensorboard", ".")
        strangers = sorted(path.name for path in self.folder.glob("*") if not path.name.startswith(ours))
        if strangers and not (self.folder / "evaluations.json").is_file():
            raise UsageError(f"{self.folder} is not empty and no run (it holds {strangers[0]}): give another --out")
        begun = self.stage(number) / "begun.json"
        if begun.is_file() and not resume:
            raise UsageError(f"{self.stage(number)} is unfinished: go on with `{command} --resume`, or give another --out")
        if begun.is_file() and files.read_json(begun)["identity"] != identity:
            raise OtherPlanError(
                f"{self.stage(number)} was begun from another plan than the corpus has now: give another --out, "
                f"or delete {self.stage(number)}"
            )

    def begin(self, number: int, identity: str) -> None:
        """Declares a stage begun, and for which plan."""
        files.write_json(self.stage(number) / "begun.json", {"identity": identity})

    def evaluations(self) -> dict[str, Evaluation]:
        """Held-out figures by stage number, and at the start.

        Raises:
            CorruptCorpusError: the file cannot be read.
        """
        path = self.folder / "evaluations.json"
        if not path.is_file():
            return {}
        try:
            return {name: Evaluation(**value) for name, value in files.read_json(path).items()}
        except (ValueError, TypeError) as error:
            raise CorruptCorpusError(
                f"{path} cannot be read ({error}): delete it, and its stages are evaluated again"
            ) from error

    def record_evaluation(self, name: str, evaluation: Evaluation) -> None:
        """Adds held-out figures."""
        known = {key: asdict(value) for key, value in self.evaluations().items()}
        files.write_json(self.folder / "evaluations.json", {**known, name: asdict(evaluation)})
