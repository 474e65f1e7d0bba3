"""Killed at any moment, a run goes on to the bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tiny_corpus import TinyCorpus, read_metrics

from manifests.fingerprint import canonical_json, sha256_file
from trainer import train
from trainer.metrics import TrainResult

KILLED = """
import os, signal, sys
from pathlib import Path
from manifests.recipe_json import recipe_from_json
from trainer import train
from trainer.metrics import TrainResult
corpus, recipe, out, label, step = sys.argv[1:6]
def kill(at, done, total, detail=""):
    if (at, done) == (label, int(step)):
        os.kill(os.getpid(), signal.SIGKILL)
train(Path(corpus), recipe_from_json(recipe), stages=[1, 2], out=Path(out), resume=True, progress=kill)
"""


def killed(corpus: TinyCorpus, out: Path, label: str, step: int) -> str:
    """Trains stages 1 and 2 in a process that kills itself at a step; returns what it printed."""
    root = str(Path(__file__).parents[2])
    arguments = [str(corpus.folder), canonical_json(corpus.recipe), str(out), label, str(step)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_kill_and_resume_is_bit_identical(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path) -> None:
    whole, broken = whole_run[0], tmp_path / "broken"
    shutil.copytree(whole / "stage0", broken / "stage0")
    shutil.copy(whole / "evaluations.json", broken / "evaluations.json")
    killed(tiny_corpus, broken, "stage 1/dense", 5)
    assert [line["step"] for line in read_metrics(broken) if line["stage"] == 1] == [1, 2, 3, 4, 5]
    newest = broken / "stage1" / "checkpoints" / "step-00000004"
    state = newest / "rank-00000.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    printed = killed(tiny_corpus, broken, "stage 2/sparse", 1)
    assert "rank-00000.safetensors is not what was written: passed over" in printed
    assert "Traceback" not in printed
    assert "Warning" not in printed
    train(tiny_corpus.folder, tiny_corpus.recipe, stages=[1, 2], out=broken, resume=True)

    steps = [
        [
            (line["stage"], line["step"], line["loss"], line["grad_norm"], line["samples"])
            for line in read_metrics(out)
            if line["stage"] in (1, 2)
        ]
        for out in (whole, broken)
    ]
    assert steps[0] == steps[1]
    assert sha256_file(whole / "stage2/model/model.safetensors") == sha256_file(broken / "stage2/model/model.safetensors")
    assert not (broken / "stage2" / "checkpoints").exists()
