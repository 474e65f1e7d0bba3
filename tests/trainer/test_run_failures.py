"""A full disk, missing rights, a damaged model: one line that says what to do, and the run goes on from there."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
from kill_training import differences
from tiny_corpus import TinyCorpus

from manifests.errors import CorruptCorpusError, LongreelError
from model.vlm import VisionLanguageModel
from trainer import train
from trainer.checkpoints import CheckpointWriteError
from trainer.metrics import MetricsFile, TrainResult
from trainer.run_folder import RunFolder, RunFolderError


def fails(corpus: TinyCorpus, out: Path, kind: type[LongreelError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        train(corpus.folder, corpus.recipe, stages=[0], out=out, resume=True)
    assert "\n" not in str(caught.value)


def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on_as_if_nothing_had_been(
    tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First with a line of metrics, then with the finished model."""
    append = MetricsFile.append

    def full_at_third(self: MetricsFile, line: Any) -> None:
        if line.step == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, line)

    def half_a_model(self: VisionLanguageModel, folder: Path, **options: Any) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "model.safetensors"))

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(MetricsFile, "append", full_at_third)
        message = r"run could not be written \(No space left on device\): make room or give rights, then go on with --resume"
        fails(tiny_corpus, out, RunFolderError, message)
    with monkeypatch.context() as patched:
        patched.setattr(VisionLanguageModel, "save_pretrained", half_a_model)
        message = r"stage0/model could not be written \(.*No space left.*then go on from the newest checkpoint with --resume"
        fails(tiny_corpus, out, CheckpointWriteError, message)
    assert not (out / "stage0" / "model").exists()
    assert sorted(path.name for path in (out / "stage0" / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
    train(tiny_corpus.folder, tiny_corpus.recipe, stages=[0], out=out, resume=True)
    assert differences(whole_run[0], out, stages=[0]) == []


def test_a_folder_without_rights_is_named(tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights do not bind the superuser, so the refusal is made."""

    def refused(self: RunFolder, number: int, identity: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self.stage(number) / "begun.json"))

    monkeypatch.setattr(RunFolder, "begin", refused)
    message = r"stage0/begun\.json could not be written \(Permission denied\): make room or give rights"
    fails(tiny_corpus, tmp_path / "run", RunFolderError, message)


def test_a_folder_below_a_file_is_named(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    fails(tiny_corpus, tmp_path / "file" / "run", RunFolderError, r"file.* could not be written \(Not a directory\)")


def test_a_stage_does_not_start_from_a_damaged_model(
    tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole_run[0] / "stage0", out / "stage0")
    shutil.copy(whole_run[0] / "evaluations.json", out)
    model = out / "stage0" / "model" / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    message = (
        r"stage0/model holds no whole model \(model\.safetensors is not what was written\): delete it and train that stage"
    )
    with pytest.raises(CorruptCorpusError, match=message):
        train(tiny_corpus.folder, tiny_corpus.recipe, stages=[1], out=out)
