"""Does the curriculum teach more than the same tokens in a random order, and what does sparse attention cost? At laptop scale.

Decided here:
- Every arm takes the same updates once: the packed sequences of the demo's plan, grouped into optimiser steps as each stage
  says (`--share` takes evenly spaced steps of each stage). Weights start from the seed, and the seed also orders the steps, so
  arms are compared pairwise within a seed.
- `curriculum`: the four stages as the trainer runs them: what trains, DSA phases, schedules and a fresh optimiser a phase.
  Steps are in random order within their stage.
- `shuffled`: all steps in one random order. Everything trains from the start, in dense attention for as many tokens as stages 0
  and 1 have, then the indexers alone for the warm-up's tokens, then sparse to the end: one schedule (5 % warm-up, cosine to a
  tenth), one optimiser. It has no projector-only stage: a random decoder gains nothing from one, and freezing is part of what a
  curriculum is.
- `order`: that random order with the curriculum's phases, schedules and freezing by number of steps: the order alone.
- `dense`: the curriculum with dense attention in the sparse phases. It continues the same weights after stage 1, and leaves out
  the warm-up's sequences, from which the model of the curriculum learns nothing either.
- Rates: for seed 0, curriculum and shuffled try 1 and 2 times the recipe's rates (stage 1's peak for shuffled), and go on by a
  factor of 2 while the best is at the edge. Chosen by the loss on tuning samples; `dense` and `order` take the curriculum's.
- Held-out samples are read one by one (a context bucket is a property of a sample). Tuning and test samples are disjoint.

Run: `python benchmarks/learning_proof.py --corpus out/demo/corpus [--full]`. A run is one file under `--work`; finished ones
are kept. `benchmarks/learning_proof_report.py` makes tables and plots from them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from manifests import files
from manifests.catalog import Catalog
from manifests.recipe import Recipe
from manifests.stage_spec import Attention, PhaseSpec
from model.vlm import VisionLanguageModel
from trainer.build import build_model, load_model
from trainer.collate import PackedBatch
from trainer.engine import Objective
from trainer.evaluate import evenly_spaced
from trainer.loader import StageSequences, step_positions
from trainer.stage_manifest import read_stages
from trainer.stages import learning_rate, phases_of, trained_parts

BRANCH = "stage 1"  # the leg after which the dense arm leaves the curriculum
CURVE_POINTS = 8
# Held-out samples by context bucket: (tuning, test). The largest bucket has six in the demo.
HELDOUT = {"32k": (16, 64), "64k": (5, 12), "256k": (2, 4)}
CURVE = {"32k": 8, "64k": 2, "256k": 1}


@dataclass(frozen=True)
class Update:
    """One optimiser step: its sequences, as (stage, position), and their tokens."""

    sequences: tuple[tuple[int, int], ...]
    tokens: int


@dataclass(frozen=True)
class Leg:
    """Updates that share what trains. `rate` takes the number of the update in the leg; `fresh` starts a new optimiser."""

    name: str
    phase: PhaseSpec
    updates: Sequence[Update]
    rate: Callable[[int], float]
    fresh: bool = True


class Material:
    """The plan's sequences and the held-out samples, read once and kept."""

    def __init__(self, corpus: Path, recipe_name: str, share: float) -> None:
        catalog = Catalog(corpus)
        manifests = read_stages(catalog, recipe_name)
        self.recipe: Recipe = manifests[0].recipe
        self.stages = {number: StageSequences(catalog, self.recipe, stage=number, split="train") for number in manifests}
        self._kept: dict[tuple[int, int], PackedBatch] = {}
        sizes = {
            (stage, position): tokens
            for stage, position, tokens in catalog.connection.execute(
                "SELECT stage, position, tokens FROM sequences WHERE recipe = ? AND split = 'train'", [recipe_name]
            ).fetchall()
        }
        self.updates: dict[int, list[Update]] = {}
        for number, manifest in manifests.items():
            wanted = evenly_spaced(manifest.steps, max(len(manifest.spec.phases), round(manifest.steps * share)))
            of_step = lambda step, m=manifest: step_positions(  # noqa: E731
                step, sequences=m.sequences, per_step=m.spec.sequences_per_step
            )
            names = [tuple((number, position) for position in of_step(step)) for step in wanted]
            self.updates[number] = [Update(name, sum(sizes[one] for one in name)) for name in names]
        self.heldout = StageSequences(catalog, self.recipe, stage=3, split="heldout")
        self.sets = _heldout_sets(catalog, self.heldout)

    def batch(self, name: tuple[int, int]) -> PackedBatch:
        """One packed sequence."""
        if name not in self._kept:
            self._kept[name] = self.stages[name[0]].batch(name[1])
        return self._kept[name]

    def sample(self, sample_id: str) -> PackedBatch:
        """One held-out sample alone."""
        self.heldout.segments = [[sample_id]]
        return self.heldout.batch(0)


def _heldout_sets(catalog: Catalog, heldout: StageSequences) -> dict[str, list[dict[str, Any]]]:
    """Tuning, test and curve samples: spread over each bucket by length, disjoint but for `curve`, a part of `tuning`."""
    ids = ", ".join(f"'{one}'" for one in heldout.row_of)
    rows = catalog.connection.execute(
        f"SELECT sample_id, context_bucket, task, total_tokens, visual_tokens FROM samples WHERE sample_id IN ({ids}) "
        "ORDER BY total_tokens, sample_id"
    ).fetchall()
    named = [dict(zip(("sample", "bucket", "task", "tokens", "visual"), row, strict=True)) for row in rows]
    sets: dict[str, list[dict[str, Any]]] = {"tuning": [], "test": [], "curve": []}
    for bucket, (tuning, test) in HELDOUT.items():
        mine = [row for row in named if row["bucket"] == bucket]
        chosen = [mine[index] for index in evenly_spaced(len(mine), tuning + test)]
        at = {int((index + 0.5) * len(chosen) / tuning) for index in range(tuning)} if chosen else set()
        tune = [row for index, row in enumerate(chosen) if index in at]
        sets["tuning"] += tune
        sets["test"] += [row for index, row in enumerate(chosen) if index not in at]
        sets["curve"] += [tune[index] for index in evenly_spaced(len(tune), CURVE[bucket])] if tune else []
    return sets


def curriculum_legs(material: Material, seed: int, scale: float) -> list[Leg]:
    """The stages in order; a stage's steps in an order of the seed's."""
    legs = []
    for number, updates in material.updates.items():
        order = np.random.default_rng([seed, number]).permutation(len(updates))
        for phase in phases_of(material.recipe.stages[number], len(updates)):
            factor = 1.0 if phase.spec.trains == "indexer" else scale
            name = f"stage {number}" + (f" {phase.spec.attention}" if number == 2 else "")
            taken = [updates[index] for index in order[phase.first : phase.last]]
            legs.append(Leg(name, phase.spec, taken, lambda s, p=phase, f=factor: f * p.learning_rate(p.first + s)))
    return legs


def mixed(material: Material, seed: int) -> list[Update]:
    """All updates in one random order."""
    every = [update for updates in material.updates.values() for update in updates]
    return [every[index] for index in np.random.default_rng([seed, 99]).permutation(len(every))]


def shuffled_legs(material: Material, seed: int, scale: float) -> list[Leg]:
    """One random order: dense, indexer warm-up and sparse for as many tokens as in the curriculum; one schedule."""
    every, dense_spec = mixed(material, seed), material.recipe.stages[1].phases[0]
    warm, sparse = material.recipe.stages[2].phases
    first = sum(update.tokens for stage in (0, 1) for update in material.updates[stage])
    reached = np.cumsum([update.tokens for update in every])
    cut = int(np.searchsorted(reached, first)) + 1
    warmed = sum(u.tokens for leg in curriculum_legs(material, seed, scale) if leg.phase is warm for u in leg.updates)
    cut_sparse = max(int(np.searchsorted(reached, reached[cut - 1] + warmed)) + 1, cut + 1)
    peak = scale * dense_spec.learning_rate

    def rate(offset: int) -> Callable[[int], float]:
        return lambda s: learning_rate(offset + s, len(every), peak=peak, warmup_share=dense_spec.warmup_share)

    def warm_rate(s: int) -> float:
        return learning_rate(s, cut_sparse - cut, peak=warm.learning_rate, warmup_share=warm.warmup_share)

    return [
        Leg("dense", dense_spec, every[:cut], rate(0)),
        Leg("warm-up", warm, every[cut:cut_sparse], warm_rate, fresh=False),
        Leg("sparse", sparse, every[cut_sparse:], rate(cut_sparse), fresh=False),
    ]


def order_legs(material: Material, seed: int, scale: float) -> list[Leg]:
    """The curriculum's phases over the shuffled order."""
    every, legs, at = mixed(material, seed), [], 0
    for leg in curriculum_legs(material, seed, scale):
        legs.append(replace(leg, updates=every[at : at + len(leg.updates)]))
        at += len(leg.updates)
    return legs


def dense_legs(material: Material, seed: int, scale: float) -> list[Leg]:
    """What follows stage 1, in dense attention, without the warm-up."""
    legs = curriculum_legs(material, seed, scale)
    after = legs[[leg.name for leg in legs].index(BRANCH) + 1 :]
    return [
        replace(leg, name=leg.name.replace("sparse", "dense"), phase=replace(leg.phase, attention="dense"))
        for leg in after
        if leg.phase.trains != "indexer"
    ]


ARMS = {"curriculum": curriculum_legs, "shuffled": shuffled_legs, "order": order_legs, "dense": dense_legs}


def step(objective: Objective, optimizer: torch.optim.Optimizer, batches: list[PackedBatch], rate: float, clip: float) -> float:
    """One update as `trainer.engine` makes it; its mean next-token loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    targets, tokens = sum(batch.targets for batch in batches), sum(batch.tokens for batch in batches)
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for batch in batches:
        objective(batch, targets, tokens, 1.0).backward()
        total += objective.sums[0]
    torch.nn.utils.clip_grad_norm_([p for p in objective.parameters() if p.grad is not None], clip)
    optimizer.step()
    return total / targets


@torch.no_grad()
def losses(model: VisionLanguageModel, material: Material, rows: list[dict[str, Any]], mode: Attention) -> list[list[float]]:
    """(summed loss, targets) of each sample."""
    found = []
    for row in rows:
        batch = material.sample(row["sample"])
        output = model(
            batch.input_ids, None, batch.cu_seqlens, batch.pixel_values, batch.image_grid_thw, mode, batch.labels,
            need_logits=False,
        )  # fmt: skip
        assert output.token_losses_sum is not None
        found.append([round(float(output.token_losses_sum), 3), batch.targets])
    return found


def mean(found: list[list[float]]) -> float:
    """Mean loss over the targets."""
    return sum(loss for loss, _ in found) / sum(targets for _, targets in found)


def make_run(material: Material, arm: str, seed: int, scale: float, branch: Path) -> dict[str, Any]:
    """Trains one arm and measures it. The curriculum leaves its weights after stage 1 in `branch`; `dense` starts there."""
    recipe = replace(material.recipe, model=replace(material.recipe.model, seed=material.recipe.model.seed + seed))
    legs = ARMS[arm](material, seed, scale)
    model = load_model(branch, recipe.train) if arm == "dense" else build_model(recipe)
    done = updates_done = 0
    if arm == "dense":
        before = curriculum_legs(material, seed, scale)[:2]
        done, updates_done = (sum(f(leg) for leg in before) for f in (_tokens, lambda leg: len(leg.updates)))
    every = sum(update.tokens for updates in material.updates.values() for update in updates)
    marks = [every * (n + 1) / CURVE_POINTS for n in range(CURVE_POINTS)]
    curve: list[dict[str, Any]] = []
    mode: Attention = "dense"
    began, cpu = time.perf_counter(), time.process_time()

    def look(leg: str) -> None:
        loss = mean(losses(model, material, material.sets["curve"], mode))
        curve.append({"tokens": done, "updates": updates_done, "leg": leg, "attention": mode, "loss": round(loss, 4)})
        print(f"  {arm} seed {seed} x{scale:g} {leg:<14} {done:>9,} tokens  held-out {loss:.3f}  "
              f"{time.process_time() - cpu:5.0f} s CPU", flush=True)  # fmt: skip

    look("start")
    optimizer: torch.optim.Optimizer | None = None
    training: list[dict[str, Any]] = []
    for leg in legs:
        model.train_only(*trained_parts(leg.phase))
        objective = Objective(model, leg.phase)
        if leg.fresh or optimizer is None:
            # Parameters without a gradient are passed over, so one optimiser serves phases that train less.
            held = list(model.parameters())
            groups = [
                {"params": [p for p in held if p.ndim > 1], "weight_decay": recipe.train.weight_decay},
                {"params": [p for p in held if p.ndim <= 1], "weight_decay": 0.0},
            ]
            optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8, fused=True)
        if leg.phase.attention == "sparse":
            mode = "sparse"
        total = 0.0
        for number, update in enumerate(leg.updates):
            batches = [material.batch(name) for name in update.sequences]
            total += step(objective, optimizer, batches, leg.rate(number), recipe.train.gradient_clip)
            done, updates_done = done + update.tokens, updates_done + 1
            if sum(mark <= done for mark in marks) > sum(mark <= done - update.tokens for mark in marks):
                look(leg.name)
        training.append({
            "leg": leg.name, "attention": leg.phase.attention, "trains": leg.phase.trains, "updates": len(leg.updates),
            "tokens": _tokens(leg), "mean_loss": round(total / max(len(leg.updates), 1), 4),
        })  # fmt: skip
        if arm == "curriculum" and leg.name == BRANCH:
            model.save_pretrained(branch)
    tuning = losses(model, material, material.sets["tuning"], mode)
    return {
        "arm": arm, "seed": seed, "scale": scale, "attention": mode, "legs": training, "curve": curve, "tuning": mean(tuning),
        "test": {way: losses(model, material, material.sets["test"], way) for way in ("dense", "sparse")},
        "seconds": round(time.perf_counter() - began), "cpu_seconds": round(time.process_time() - cpu),
    }  # fmt: skip


def _tokens(leg: Leg) -> int:
    return sum(update.tokens for update in leg.updates)


class Runs:
    """The runs of one work folder: made when first asked for."""

    def __init__(self, material: Material, work: Path) -> None:
        self.material, self.work = material, work

    def get(self, arm: str, seed: int, scale: float) -> dict[str, Any]:
        path = self.work / f"{arm}-seed{seed}-x{scale:g}.json"
        if not path.is_file():
            print(f"{arm}, seed {seed}, rates x {scale:g}", flush=True)
            branch = self.work / f"branch-seed{seed}-x{scale:g}"
            files.write_json(path, make_run(self.material, arm, seed, scale, branch))
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def best_scale(self, arm: str) -> float:
        """The same search for every arm that has one, on seed 0 and the tuning samples."""
        tried = {scale: self.get(arm, 0, scale)["tuning"] for scale in (1.0, 2.0)}
        while len(tried) < 4 and (best := min(tried, key=lambda s: tried[s])) in (edges := (min(tried), max(tried))):
            scale = best / 2 if best == edges[0] else best * 2
            tried[scale] = self.get(arm, 0, scale)["tuning"]
        return min(tried, key=lambda s: tried[s])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("out/demo/corpus"))
    parser.add_argument("--work", type=Path, default=Path("out/learning-proof"))
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--share", type=float, default=1 / 3, help="part of each stage's steps")
    parser.add_argument("--full", action="store_true", help="all steps of the plan")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scales", type=float, nargs=2, metavar=("CURRICULUM", "SHUFFLED"), help="rates, without a search")
    arguments = parser.parse_args()
    share = 1.0 if arguments.full else arguments.share
    material = Material(arguments.corpus, arguments.recipe, share)
    counts = {number: (len(ups), sum(up.tokens for up in ups)) for number, ups in material.updates.items()}
    arguments.work.mkdir(parents=True, exist_ok=True)
    files.write_json(arguments.work / "set.json", {"share": share, "stages": counts, "sets": material.sets})
    print(f"(steps, tokens) by stage: {counts}", flush=True)
    runs = Runs(material, arguments.work)
    staged, random = arguments.scales or (runs.best_scale("curriculum"), runs.best_scale("shuffled"))
    print(f"rates: curriculum x {staged:g}, shuffled x {random:g}", flush=True)
    scales = {"curriculum": staged, "shuffled": random, "dense": staged, "order": staged}
    files.write_json(arguments.work / "scales.json", scales)
    for arms in (("curriculum", "shuffled", "dense"), ("order",)):
        for seed in range(arguments.seeds):
            for arm in arms:
                run = runs.get(arm, seed, scales[arm])
                print(f"{arm:<11} seed {seed}: test loss {mean(run['test'][run['attention']]):.4f}", flush=True)


if __name__ == "__main__":
    main()
