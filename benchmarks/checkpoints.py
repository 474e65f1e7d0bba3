"""What a checkpoint costs training: written in its way, written behind it, and as DeepSpeed writes one.

    python benchmarks/checkpoints.py [--experts 64] [--steps 6] [--rounds 3]

One engine (ZeRO 1, one process, fp32), text of random tokens, a checkpoint after every second step. Printed, as medians of the
rounds: seconds for which a save stops training, and that as a ratio to DeepSpeed's own `save_checkpoint` in the same run, which
neither forces files to disk nor makes checksums; seconds that a save adds in all (writing behind takes processor time from the
steps); bytes; and what going on with another number of processes costs: nothing more here, a conversion of the whole checkpoint
with `ds_to_universal` there.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from trainer.ranks import quietly, rest_while_waiting

rest_while_waiting()

import torch  # noqa: E402

from curriculum.recipes import laptop  # noqa: E402
from model import presets  # noqa: E402
from model.vlm import VisionLanguageModel  # noqa: E402
from trainer.checkpoints import Checkpoints, Position  # noqa: E402
from trainer.collate import PackedBatch  # noqa: E402
from trainer.engine import PhaseEngine  # noqa: E402
from trainer.loader import StepBatches  # noqa: E402
from trainer.ranks import start_ranks  # noqa: E402


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256)
    arguments = parser.parse_args()
    ranks, recipe = start_ranks(), laptop()
    train = dataclasses.replace(recipe.train, precision="fp32", zero_stage=1, activation_checkpointing=False)
    model = VisionLanguageModel(presets.by_name("tiny", experts=arguments.experts), seed=1)
    engine = PhaseEngine(model, recipe.stages[1].phases[0], train, passes=1, ranks=ranks)
    ids = torch.randint(0, 8000, (arguments.tokens,), generator=torch.Generator().manual_seed(1))
    batch = PackedBatch(
        input_ids=ids, labels=ids, cu_seqlens=torch.tensor([0, arguments.tokens]), pixel_values=None, image_grid_thw=None,
        targets=arguments.tokens - 1, visual_tokens=0,
    )  # fmt: skip

    def steps(save: Callable[[int], None], finish: Callable[[], None]) -> tuple[float, float]:
        """Seconds of all steps with a save after every second one, and how many of them training stood still in ``save``."""
        stood = 0.0
        begun = time.perf_counter()
        for step in range(1, arguments.steps + 1):
            engine.step(StepBatches(step=step, batches=((batch, 1.0),), waited_s=0.0), 1e-3)
            if step % 2 == 0:
                called = time.perf_counter()
                save(step)
                stood += time.perf_counter() - called
        finish()
        return time.perf_counter() - begun, stood

    with tempfile.TemporaryDirectory() as folder:
        in_its_way = Checkpoints(Path(folder) / "front", ranks)
        behind = Checkpoints(Path(folder) / "back", ranks, in_background=True)
        theirs = Path(folder) / "deepspeed"

        def ours(checkpoints: Checkpoints) -> Callable[[int], None]:
            return lambda step: checkpoints.save(Position(stage=1, phase=0, steps=step, world=1), engine.state.snapshot(), {})

        def deepspeed_saves(step: int) -> None:
            with quietly():
                engine.engine.save_checkpoint(
                    str(theirs),
                    client_state={"universal_checkpoint_info": {}},
                    tag=f"step-{step}",
                    exclude_frozen_parameters=True,
                )

        def drop() -> None:
            for old in sorted(theirs.glob("step-*"))[:-1]:
                shutil.rmtree(old)

        ways: dict[str, tuple[Callable[[int], None], Callable[[], None]]] = {
            "none": (lambda step: None, lambda: None),
            "ours, in its way": (ours(in_its_way), in_its_way.settle),
            "ours, behind it": (ours(behind), behind.settle),
            "DeepSpeed": (deepspeed_saves, drop),
        }
        steps(*ways["none"])
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                took[name].append(steps(*way))
        saves = arguments.steps // 2
        bare = statistics.median(whole for whole, _ in took["none"])
        trained = sum(parameter.numel() for parameter in engine.trained)
        print(f"{trained:,} trained parameters, a step {bare / arguments.steps:.2f} s, load {os.getloadavg()[0]:.1f}")
        theirs_s = statistics.median(stood for _, stood in took["DeepSpeed"]) / saves
        for name in list(ways)[1:]:
            stands = statistics.median(stood for _, stood in took[name]) / saves
            adds = (statistics.median(whole for whole, _ in took[name]) - bare) / saves
            print(
                f"{name:<18} a save stops training for {stands:6.2f} s ({stands / theirs_s:.2f} of DeepSpeed's), "
                f"adds {adds:6.2f} s"
            )
        mine, other = (size(max(path.glob("step-*"))) for path in (in_its_way.folder, theirs))
        print(f"bytes: {mine / 1e6:,.0f} MB against {other / 1e6:,.0f} MB")

        found, _ = in_its_way.newest()
        assert found is not None
        begun = time.perf_counter()
        in_its_way.newest()
        verified = time.perf_counter() - begun
        begun = time.perf_counter()
        engine.restore(found.files, 1)
        print(f"ours: checksums {verified:.2f} s, read {time.perf_counter() - begun:.2f} s, on any number of processes")
        tag = max(theirs.glob("step-*"))
        begun = time.perf_counter()
        command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--input_folder", str(tag)]
        done = subprocess.run(
            [*command, "--output_folder", str(theirs / "universal"), "--num_extract_workers", "1", "--num_merge_workers", "1"],
            capture_output=True, text=True, env={**os.environ, "DS_ACCELERATOR": "cpu"},
        )  # fmt: skip
        if done.returncode:
            print(f"DeepSpeed: ds_to_universal failed: {done.stderr.strip().splitlines()[-1]}")
        else:
            print(
                f"DeepSpeed: conversion {time.perf_counter() - begun:.2f} s, another {size(theirs / 'universal') / 1e6:,.0f} MB"
                f" in {sum(1 for path in (theirs / 'universal').rglob('*') if path.is_file()):,} files"
            )
    with contextlib.redirect_stdout(io.StringIO()):
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
