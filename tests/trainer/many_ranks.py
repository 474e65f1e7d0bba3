"""Run under a launcher: every way of spreading a step over the ranks, on the same sequences; writes the figures as JSON.

torchrun --nproc-per-node 2 many_ranks.py CORPUS RECIPE.json OUT.json
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from manifests.catalog import Catalog
from manifests.recipe import Recipe
from manifests.recipe_json import recipe_from_json
from manifests.stage_spec import PhaseSpec
from trainer.build import build_model
from trainer.checkpoints import Checkpoints, Position
from trainer.collate import PackedBatch
from trainer.engine import PhaseEngine
from trainer.launch import Launch
from trainer.loader import StageSequences, StepBatches, rank_positions, step_positions
from trainer.parallel import make_groups
from trainer.ranks import start_ranks

STEPS, PER_STEP = 3, 3
RATE = 3e-3


def phases(recipe: Recipe) -> dict[str, PhaseSpec]:
    """The four kinds there are."""
    align, dense = recipe.stages[0].phases[0], recipe.stages[1].phases[0]
    warmup, sparse = recipe.stages[2].phases
    return {"projector": align, "dense": dense, "warmup": warmup, "sparse": sparse}


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to spread a step."""

    zero: int = 1
    sequence: int = 1
    expert: int = 1
    precision: str = "fp32"
    checkpointing: bool = False


def losses(recipe: Recipe, sequences: list[PackedBatch], phase: PhaseSpec, way: Way, export: Path) -> list[list[float | None]]:
    """Loss, KL, balancing loss and gradient norm of a few steps; writes the model they leave, and a checkpoint beside it where
    the ways differ in what each rank holds of the optimiser's state."""
    ranks = dataclasses.replace(start_ranks(), sharing=way.sequence)
    train = dataclasses.replace(
        recipe.train, zero_stage=way.zero, precision=way.precision, activation_checkpointing=way.checkpointing,
        gradient_clip=0.5,
    )  # fmt: skip
    recipe = dataclasses.replace(recipe, train=train)
    model = build_model(recipe)
    engine = PhaseEngine(
        model, phase, train, passes=-(-PER_STEP // ranks.data_world), ranks=ranks,
        groups=make_groups(Launch(sequence_parallel=way.sequence, expert_parallel=way.expert)),
    )  # fmt: skip
    found: list[list[float | None]] = []
    for step in range(STEPS):
        positions = step_positions(step, sequences=len(sequences), per_step=PER_STEP)
        mine = rank_positions(positions, rank=ranks.data_rank, world=ranks.data_world)
        batches = tuple((sequences[positions[0] if at is None else at], float(at is not None)) for at in mine)
        figures = engine.step(StepBatches(step=step, batches=batches, waited_s=0.0), RATE)
        found.append([figures.loss, figures.indexer_loss, figures.balance_loss, figures.grad_norm])
    engine.export(export)
    if phase.attention == "sparse" and way.sequence == 1 and way.precision == "fp32":
        checkpoints = Checkpoints(checkpoints_of(export), ranks, in_background=way.zero == 2)
        position = Position(stage=2, phase=1, steps=STEPS, world=ranks.world, updates=engine.updates)
        checkpoints.save(position, engine.state.snapshot(), {})
        checkpoints.settle()
    engine.close()
    return found


def checkpoints_of(export: Path) -> Path:
    """The folder of the checkpoint that belongs to an exported model."""
    return export.with_name(f"{export.name} checkpoints")


def measure(corpus: Path, recipe: Recipe, runs: list[tuple[list[str], dict[str, Any]]], models: Path) -> dict[str, Any]:
    """Figures of each phase in each way it is asked for, by `key`; the models they leave go to ``models / key``."""
    stored = StageSequences(Catalog(corpus), recipe, stage=2, split="train")
    rank = start_ranks().rank

    def read(sharing: int) -> list[PackedBatch]:
        last = min(len(stored), STEPS * PER_STEP)
        sequences = [stored.batch(position, (rank % sharing, sharing)) for position in range(last)]
        return [*sequences[:-1], shortest(sequences[-1])]

    found = phases(recipe)
    return {
        key(name, way): losses(recipe, read(way.get("sequence", 1)), found[name], Way(**way), models / key(name, way))
        for names, way in runs
        for name in names
    }


def shortest(batch: PackedBatch) -> PackedBatch:
    """Three tokens of the batch, too few to be shared by two ranks."""
    ids = batch.input_ids[-3:]
    return dataclasses.replace(
        batch, input_ids=ids, labels=ids, cu_seqlens=batch.cu_seqlens.new_tensor([0, 3]), pixel_values=None,
        image_grid_thw=None, targets=2, visual_tokens=0, facts=(), share=None,
    )  # fmt: skip


def key(phase: str, way: dict[str, Any]) -> str:
    """What a run is called in the results."""
    return " ".join([phase, *(f"{name}={value}" for name, value in sorted(way.items()))])


def main() -> None:
    corpus, recipe, out, runs = sys.argv[1:]
    results = measure(Path(corpus), recipe_from_json(Path(recipe).read_text()), json.loads(runs), Path(out).parent / "models")
    if start_ranks().leads:
        Path(out).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
