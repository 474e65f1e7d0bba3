"""What does the trainer cost beside a bare PyTorch loop on the same model and batches?

Decided here:
- The trainer is the real one: `trainer.train` over a small plan of the demo's corpus, all four stages. Its step is everything
  between two calls of its progress callback: waiting for the loader, DeepSpeed, losses by kind, metrics, event files.
- Inside that callback the bare loop takes the same step: its own copy of the weights the phase began with, batches made
  beforehand, the same losses, fused AdamW, clipping, schedule and attention. So the two alternate in one process, and both do
  the same work: their losses are compared at every step.
- The loader reads ahead in a thread; what it takes of a core while the bare step runs is the bare step's loss. `--workers 1`
  reads in a process of its own, as beside a GPU.
- Time is the processor time of the main thread (one thread of torch) and wall time; ratios are medians over the steps of a
  phase, without its first (what is made on first use) and its last (a checkpoint, and the indexers' recall with it). The
  processor time of the loader's thread is told apart.

Run: `python benchmarks/trainer_overhead.py --corpus out/demo/corpus`. Goal: 5 % at most.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from curriculum import plan
from manifests.catalog import Catalog
from manifests.recipe import Recipe
from manifests.stage_spec import PhaseSpec
from trainer import train
from trainer.build import build_model, load_model
from trainer.collate import PackedBatch
from trainer.launch import Launch
from trainer.loader import StageSequences, step_positions
from trainer.run_folder import RunFolder
from trainer.stage_manifest import read_stages
from trainer.stages import Phase, phases_of, trained_parts

TOKENS = (5_000, 14_000, 33_000, 33_000)


def small_plan(corpus: Path, recipe_name: str, tokens: tuple[int, ...]) -> Recipe:
    """Plans the copied corpus anew with these tokens a stage."""
    recipe = next(iter(read_stages(Catalog(corpus), recipe_name).values())).recipe
    stages = tuple(replace(stage, tokens=budget) for stage, budget in zip(recipe.stages, tokens, strict=True))
    recipe = replace(recipe, stages=stages, train=replace(recipe.train, checkpoint_steps=10_000, heldout_sequences=1))
    plan(corpus, recipe)
    return recipe


class BareLoop:
    """A plain training loop over one phase."""

    def __init__(self, recipe: Recipe, phase: Phase, start: Path | None) -> None:
        self.model = build_model(recipe) if start is None else load_model(start, recipe.train)
        self.model.train_only(*trained_parts(phase.spec))
        self.model.gradient_checkpointing = recipe.train.activation_checkpointing
        self.phase, self.clip = phase, recipe.train.gradient_clip
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in self.trained if p.ndim > 1], "weight_decay": recipe.train.weight_decay},
            {"params": [p for p in self.trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=1.0, betas=(0.9, 0.95), eps=1e-8, fused=True
        )

    def step(self, number: int, batches: list[PackedBatch]) -> float:
        """One update; its mean next-token loss."""
        spec: PhaseSpec = self.phase.spec
        targets, tokens = sum(batch.targets for batch in batches), sum(batch.tokens for batch in batches)
        for group in self.optimizer.param_groups:
            group["lr"] = self.phase.learning_rate(number)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in batches:
            output = self.model(
                batch.input_ids, None, batch.cu_seqlens, batch.pixel_values, batch.image_grid_thw, spec.attention, batch.labels
            )
            share = batch.tokens / tokens
            loss = output.token_losses_sum / targets + spec.balance_lambda * share * output.load_balancing_loss
            if output.indexer_loss is not None:
                indexer = spec.indexer_lambda * share * output.indexer_loss
                loss = indexer if spec.trains == "indexer" else loss + indexer
            loss.backward()
            total += float(output.token_losses_sum.detach())
        for parameter in self.trained:
            if parameter.grad is None:  # a step without pictures decays the tower's moments and weights, as on many ranks
                parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(self.trained, self.clip)
        self.optimizer.step()
        return total / targets


@dataclass
class Times:
    """Seconds of one step: (wall, main thread's processor time) of the trainer and of the bare loop; and all threads' of the
    trainer."""

    trainer: tuple[float, float]
    bare: tuple[float, float]
    every_thread: float


class Alternating:
    """The trainer's progress callback: measures the step that just ended, then takes the bare one."""

    def __init__(self, corpus: Path, recipe: Recipe, run: Path) -> None:
        self.catalog, self.recipe, self.folder = Catalog(corpus), recipe, RunFolder(run)
        self.manifests = read_stages(self.catalog, recipe.name)
        self.phases = {
            f"stage {number}/{phase.spec.name}": (number, phase)
            for number, manifest in self.manifests.items()
            for phase in phases_of(manifest.spec, manifest.steps)
        }
        self.times: dict[str, list[Times]] = {}
        self.tokens: dict[str, int] = {}
        self.losses: dict[tuple[int, int], float] = {}
        self.loop: BareLoop | None = None

    def __call__(self, label: str, done: float, total: float | None, detail: str = "") -> None:
        ended = time.perf_counter(), time.thread_time(), time.process_time()
        if label not in self.phases:
            return
        number, phase = self.phases[label]
        if done == 0:
            self._begin(label, number, phase)
        else:
            step = phase.first + int(done) - 1
            begun = time.perf_counter(), time.thread_time()
            assert self.loop is not None
            self.losses[number, step + 1] = self.loop.step(step, self.batches[step])
            bare = time.perf_counter() - begun[0], time.thread_time() - begun[1]
            wall, thread, process = (end - start for end, start in zip(ended, self.begun, strict=True))
            self.times[label].append(Times((wall, thread), bare, process))
        self.begun = time.perf_counter(), time.thread_time(), time.process_time()

    def _begin(self, label: str, number: int, phase: Phase) -> None:
        start = self.folder.model(number - 1) if number else None
        if phase.index:
            start = self.folder.phase_model(number, phase.index - 1)
        self.loop = BareLoop(self.recipe, phase, start)
        manifest = self.manifests[number]
        sequences = StageSequences(self.catalog, self.recipe, stage=number, split="train")
        self.batches = {
            step: [
                sequences.batch(position)
                for position in step_positions(step, sequences=manifest.sequences, per_step=manifest.spec.sequences_per_step)
            ]
            for step in range(phase.first, phase.last)
        }
        self.times[label] = []
        self.tokens[label] = sum(batch.tokens for batches in self.batches.values() for batch in batches) // len(self.batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("out/demo/corpus"))
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--workers", type=int, help="reader processes of the trainer; default: as on this machine")
    parser.add_argument("--scale", type=float, default=1.0, help="tokens of every stage, times this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        corpus, run = Path(scratch) / "corpus", Path(scratch) / "run"
        shutil.copytree(arguments.corpus, corpus, ignore=shutil.ignore_patterns("_work"))
        recipe = small_plan(corpus, arguments.recipe, tuple(int(tokens * arguments.scale) for tokens in TOKENS))
        alternating = Alternating(corpus, recipe, run)
        train(corpus, recipe, stages=[0, 1, 2, 3], out=run, launch=Launch(workers=arguments.workers), progress=alternating)
        lines = RunFolder(run).metrics.lines()
    print(f"one thread; load {os.getloadavg()[0]:.1f}; trainer over bare loop, medians of steps")
    print("phase                        steps  tokens  bare CPU     wall  over in CPU  in wall  loader CPU  data wait")
    every: list[float] = []
    for label, times in alternating.times.items():
        kept = times[1:-1]
        if not kept:
            print(f"{label:<28} only {len(times)} steps: not measured, give it more tokens (--scale)")
            continue
        number, phase = alternating.phases[label]
        mine = [line for line in lines if (line["stage"], line["phase"]) == (number, phase.spec.name)]
        waited = sum(line["data_wait_s"] for line in mine) / sum(line["seconds"] for line in mine)
        cpu = [each.trainer[1] / each.bare[1] for each in kept]
        wall = statistics.median(each.trainer[0] / each.bare[0] for each in kept)
        loader = statistics.median((each.every_thread - each.trainer[1]) / each.trainer[1] for each in kept)
        every += cpu
        print(
            f"{label:<28} {len(kept):>5} {alternating.tokens[label]:>7,} {statistics.median(e.bare[1] for e in kept):>7.3f} s "
            f"{statistics.median(e.bare[0] for e in kept):>6.3f} s {statistics.median(cpu) - 1:>+12.1%} {wall - 1:>+8.1%} "
            f"{loader:>11.1%} {waited:>10.2%}"
        )
    if not every:
        sys.exit("no phase is long enough to be measured")
    first, every_step = (
        max(abs(line["loss"] / alternating.losses[line["stage"], line["step"]] - 1) for line in some)
        for some in ([line for line in lines if line["step"] <= 2], lines)
    )
    print(f"losses of the two are at most {first:.0e} apart in a stage's first two steps, {every_step:.0e} in all")
    print(f"all steps: {statistics.median(every) - 1:+.1%} in CPU time of the main thread")


if __name__ == "__main__":
    main()
