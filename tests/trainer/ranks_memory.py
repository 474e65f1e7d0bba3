"""Run under a launcher: bytes of all tensors there are, for each ZeRO stage; the leading rank's, as JSON.

torchrun --nproc-per-node 2 ranks_memory.py RECIPE.json OUT.json
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from manifests.recipe_json import recipe_from_json
from trainer.build import build_model
from trainer.collate import PackedBatch
from trainer.engine import PhaseEngine
from trainer.launch import Launch
from trainer.loader import StepBatches
from trainer.parallel import make_groups
from trainer.ranks import start_ranks


def held() -> int:
    """Bytes of every tensor's storage, each once."""
    gc.collect()
    found = {}
    for each in gc.get_objects():
        if isinstance(each, torch.Tensor):
            for tensor in (each, each.grad):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def watched(engine: Any) -> list[int]:
    """Fills with what is held when a pass has gone backward, before the next; once."""
    found: list[int] = []
    update = engine.step

    def step() -> None:
        if not found:
            found.append(held())
        update()

    engine.step = step
    return found


def main() -> None:
    recipe = recipe_from_json(Path(sys.argv[1]).read_text())
    ranks = start_ranks()
    ids = torch.arange(64) % 200
    labels = ids.clone()
    labels[0] = -100
    batch = PackedBatch(
        input_ids=ids, labels=labels, cu_seqlens=torch.tensor([0, 64], dtype=torch.int32), pixel_values=None,
        image_grid_thw=None, targets=63, visual_tokens=0,
    )  # fmt: skip
    results = {}
    for zero, precision, experts in ((0, "fp32", 1), (1, "bf16", 1), (2, "bf16", 1), (3, "bf16", 1), (1, "bf16", 2)):
        train = dataclasses.replace(recipe.train, zero_stage=zero, precision=precision)
        before = held()
        model = build_model(dataclasses.replace(recipe, train=train))
        engine = PhaseEngine(
            model, recipe.stages[3].phases[0], train, passes=2, ranks=ranks, groups=make_groups(Launch(expert_parallel=experts))
        )
        batches = ((batch, 1.0),) * 2
        engine.step(StepBatches(step=0, batches=batches, waited_s=0.0), 1e-4)
        between, after_first = held() - before, watched(engine.engine)
        engine.step(StepBatches(step=1, batches=batches, waited_s=0.0), 1e-4)
        results[f"{zero} {precision} {experts}"] = {"between": between, "first pass": after_first[0] - before}
        engine.close()
        del engine, model
    if ranks.leads:
        Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
