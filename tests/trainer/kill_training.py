"""Kills training with SIGKILL at random steps, resumes it, and compares every step with an uninterrupted run.

    python tests/trainer/kill_training.py --kills 10
    python tests/trainer/kill_training.py --kills 10 --ranks 2 --zero 2 --background
    python tests/trainer/kill_training.py --kills 10 --ranks 2 1       # resumes on 2, 1, 2, 1, ... processes

One run of four stages (five phases) on a tiny corpus is killed again and again, all its processes at once, at steps drawn from
those ahead, some a moment later, so that kills also fall into saving, exporting and evaluating. On a fixed number of processes
losses and gradient norms must be the same to the bit, and so must every stage's model; on changing numbers the samples of each
step must be the same. Losses then differ by rounding, which grows from step to step once keys and experts are chosen by it; so
they may differ by ten times what two uninterrupted runs differ by, one on each of the first two numbers. The tests use its
functions for a few kills.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "trainer")]

from tiny_corpus import TinyCorpus, read_metrics, tiny_recipe, write_tokenizer  # noqa: E402

from manifests.fingerprint import canonical_json, sha256_file  # noqa: E402
from manifests.recipe import Recipe  # noqa: E402

SAME = {True: "bit-identical, models too", False: "the same samples in the same order"}
COMPARED = ("loss", "grad_norm", "indexer_loss", "balance_loss", "skipped")
RUN = """
import json, os, signal, sys
from pathlib import Path
from manifests.recipe_json import recipe_from_json
from trainer import train
from trainer.launch import Launch
corpus, recipe, out, stages, launch, end = sys.argv[1:7]
end = json.loads(end)

def kill_at_step(label, done, total, detail=""):
    if end == {"label": label, "step": done}:
        os.kill(os.getpid(), signal.SIGKILL)

if "saving" in end:
    import trainer.checkpoints
    genuine = trainer.checkpoints.save_file
    def half(tensors, path):
        genuine(tensors, path)
        if end["saving"] in str(path):
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    trainer.checkpoints.save_file = half

train(Path(corpus), recipe_from_json(recipe), stages=json.loads(stages), out=Path(out), resume=True,
      launch=Launch(**json.loads(launch)), progress=kill_at_step)
"""


def start(
    corpus: Path,
    recipe: Recipe,
    out: Path,
    *,
    stages: list[int],
    ranks: int = 1,
    end: dict[str, Any] | None = None,
    **launch: Any,
) -> subprocess.Popen[str]:
    """Starts training of stages, to be resumed, in processes of its own.

    Args:
        end: when the leading process kills itself: ``{"label": ..., "step": ...}`` as `Progress` tells, or ``{"saving": NAME}``
            halfway through a checkpoint's file.
        launch: fields of `trainer.launch.Launch`.
    """
    given = [str(corpus), canonical_json(recipe), str(out), json.dumps(stages), json.dumps(launch), json.dumps(end or {})]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if ranks == 1:
        command = [sys.executable, "-c", RUN, *given]
    else:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        command = [sys.executable, *launcher, "--no-python", sys.executable, "-c", RUN, *given]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """Waits for the end; returns what was printed.

    Raises:
        RuntimeError: it failed.
    """
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(printed[-3000:])
    return printed


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kills a process and everything that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [process, *psutil.Process(process.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                each.send_signal(signal.SIGKILL)
    process.communicate()


def steps_done(out: Path) -> int:
    """Steps that a run's metrics tell of."""
    with contextlib.suppress(OSError):
        return (out / "metrics.jsonl").read_bytes().count(b"\n")
    return 0


def differences(whole: Path, broken: Path, *, stages: Sequence[int] = (0, 1, 2, 3), tolerance: float = 0.0) -> list[str]:
    """What differs between two runs: steps, samples, losses by more than a relative tolerance, and without one the models."""
    found = []
    runs = [
        {(line["stage"], line["step"]): line for line in read_metrics(out) if line["stage"] in stages}
        for out in (whole, broken)
    ]
    if list(runs[0]) != list(runs[1]) or len(read_metrics(broken)) != len(
        {(e["stage"], e["step"]) for e in read_metrics(broken)}
    ):
        return [f"the steps differ: {list(runs[0])} and {list(runs[1])}"]
    for key, one in runs[0].items():
        other = runs[1][key]
        if (one["samples"], one["sequences"]) != (other["samples"], other["sequences"]):
            found.append(f"step {key}: other samples")
        differing = [name for name in COMPARED if not same(one[name], other[name], tolerance)]
        found += [f"step {key}: {name} {one[name]!r} and {other[name]!r}" for name in differing]
    if not tolerance:
        for model in sorted(path for stage in stages for path in whole.glob(f"stage{stage}/**/model.safetensors")):
            name = model.relative_to(whole)
            if sha256_file(model) != sha256_file(broken / name):
                found.append(f"{name} differs")
    return found


def largest(whole: Path, broken: Path, stage: int) -> float:
    """The largest relative difference between the losses of a stage's steps."""
    pairs = zip(read_metrics(whole), read_metrics(broken), strict=True)
    return max(abs(one["loss"] - other["loss"]) / one["loss"] for one, other in pairs if one["stage"] == stage)


def same(one: float | str | None, other: float | str | None, tolerance: float) -> bool:
    """Whether two figures are equal, or differ by less than the tolerance."""
    if one == other or not tolerance or not isinstance(one, float) or not isinstance(other, float):
        return one == other
    return abs(one - other) <= tolerance * max(abs(one), abs(other))


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1], help="processes of each start, in turn")
    parser.add_argument("--zero", type=int, nargs="+", default=[1], help="ZeRO stage of each start, in turn")
    parser.add_argument("--background", action="store_true", help="write checkpoints in the background")
    parser.add_argument("--samples", type=int, default=45)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    exact = len(set(arguments.ranks)) == len(set(arguments.zero)) == 1
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        corpus = TinyCorpus(Path(folder) / "corpus", tiny_recipe(write_tokenizer(Path(folder) / "bytes")))
        corpus.add_samples("train", arguments.samples)
        corpus.add_samples("heldout", 6)
        corpus.write()
        recipe = dataclasses.replace(corpus.recipe, train=dataclasses.replace(corpus.recipe.train, checkpoint_steps=3))

        def begin(out: Path, turn: int) -> subprocess.Popen[str]:
            ranks, zero = (each[turn % len(each)] for each in (arguments.ranks, arguments.zero))
            launch = {"zero_stage": zero, "checkpoint_in_background": arguments.background}
            return start(corpus.folder, recipe, out, stages=[0, 1, 2, 3], ranks=ranks, **launch)

        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        ended(begin(whole, 0))
        total = steps_done(whole)
        print(f"uninterrupted: {total} steps on {arguments.ranks[0]} process(es), ZeRO {arguments.zero[0]}", flush=True)
        kills = 0
        for turn, step in enumerate(sorted(rng.sample(range(1, total), min(arguments.kills, total - 1)))):
            process = begin(broken, turn)
            while steps_done(broken) < step and process.poll() is None:
                time.sleep(0.005)
            time.sleep(rng.choice((0.0, rng.uniform(0.0, 0.6))))
            if process.poll() is not None:
                ended(process)
                break
            kill_all(process)
            kills += 1
            unfinished = [path.parent.name for path in broken.glob("stage*/checkpoints/.unfinished-*")]
            print(f"kill {kills} after step {steps_done(broken)}{', while saving' if unfinished else ''}", flush=True)
        ended(begin(broken, kills))
        found = differences(whole, broken, tolerance=0.0 if exact else math.inf)
        print("\n".join(found[:20]))
        print(f"{kills} kills, {total} steps: {f'{len(found)} differences' if found else SAME[exact]}", flush=True)
        if not exact:
            ended(begin(other := Path(folder) / "other", 1))
            for stage in range(4):
                differs, control = (largest(whole, run, stage) for run in (broken, other))
                print(f"stage {stage}: losses differ by {differs:.2g} at most, between two uninterrupted runs by {control:.2g}")
                if differs > 10 * control + 1e-6:
                    found.append(f"stage {stage}")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
