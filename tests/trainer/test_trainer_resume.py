"""Killed at any moment, a run goes on to the bit; on another number of processes, with the same samples."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from kill_training import differences, start
from tiny_corpus import TinyCorpus, read_metrics

from trainer import train
from trainer.launch import Launch
from trainer.metrics import TrainResult


def begun(whole: Path, out: Path) -> Path:
    """A run that has the finished stage 0 of another."""
    shutil.copytree(whole / "stage0", out / "stage0")
    shutil.copy(whole / "evaluations.json", out)
    lines = [line for line in (whole / "metrics.jsonl").read_text().splitlines(keepends=True) if '"stage": 0' in line]
    (out / "metrics.jsonl").write_text("".join(lines))
    return out


def killed(corpus: TinyCorpus, out: Path, end: dict[str, Any], **choices: Any) -> str:
    """Trains stages 1 to 3 in a process that kills itself; returns what it printed."""
    process = start(corpus.folder, corpus.recipe, out, stages=[1, 2, 3], end=end, **choices)
    printed, _ = process.communicate()
    assert process.returncode != 0, printed[-2000:]
    assert choices.get("ranks", 1) > 1 or process.returncode == -signal.SIGKILL, printed[-2000:]
    return printed


def test_kill_and_resume_is_bit_identical(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """Killed within a phase, halfway through the file of a checkpoint, and after a switch of stage and one of phase; and a
    checkpoint that somebody damages in between."""
    whole, broken = whole_run[0], begun(whole_run[0], tmp_path / "broken")
    killed(tiny_corpus, broken, {"label": "stage 1/dense", "step": 5})
    assert [line["step"] for line in read_metrics(broken) if line["stage"] == 1] == [1, 2, 3, 4, 5]
    state = broken / "stage1" / "checkpoints" / "step-00000004" / "rank-00000.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    printed = killed(tiny_corpus, broken, {"saving": "step-00000006"})
    assert "rank-00000.safetensors is not what was written: passed over" in printed
    assert "Traceback" not in printed
    assert "Warning" not in printed
    names = {path.name for path in (broken / "stage1" / "checkpoints").iterdir()}
    assert names == {"step-00000002", "step-00000004", ".unfinished-step-00000006"}
    killed(tiny_corpus, broken, {"label": "stage 2/sparse", "step": 1}, checkpoint_in_background=True)
    train(tiny_corpus.folder, tiny_corpus.recipe, stages=[1, 2, 3], out=broken, resume=True)
    assert differences(whole, broken) == []
    assert not (broken / "stage2" / "checkpoints").exists()


def test_a_stage_begun_by_two_processes_is_finished_by_one(
    tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And with another ZeRO stage: two processes under ZeRO 3 write what one under ZeRO 1 reads. Before, the two evaluate."""
    whole, broken = whole_run[0], begun(whole_run[0], tmp_path / "broken")
    (broken / "evaluations.json").unlink()
    killed(tiny_corpus, broken, {"label": "stage 1/dense", "step": 5}, ranks=2, zero_stage=3)
    newest = broken / "stage1" / "checkpoints" / "step-00000004"
    assert sorted(path.name for path in newest.glob("rank*")) == ["rank-00000.safetensors", "rank-00001.safetensors"]
    capsys.readouterr()
    train(tiny_corpus.folder, tiny_corpus.recipe, stages=[1], out=broken, resume=True, launch=Launch(zero_stage=1))
    assert "stage 1 goes on from step 4 on 1 processes, written by 2" in capsys.readouterr().err
    assert differences(whole, broken, stages=[1], tolerance=1e-4) == []
    figures = [json.loads((run / "evaluations.json").read_text())["0"] for run in (whole, broken)]
    assert figures[0]["loss"] == pytest.approx(figures[1]["loss"], rel=1e-4)
    assert figures[0]["targets"] == figures[1]["targets"]
