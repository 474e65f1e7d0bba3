"""The memory of a plan is what DeepSpeed and torch really hold on two ranks, and falls as a plan divides more."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_corpus import tiny_recipe

from curriculum.recipes import keye_vl_2
from manifests.fingerprint import canonical_json
from manifests.recipe import Recipe
from trainer.layout import Layout
from trainer.memory import BUCKET, Memory, memory
from trainer.model_shape import model_config


@pytest.fixture(scope="module")
def two_ranks(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    folder, here = tmp_path_factory.mktemp("memory"), Path(__file__).parent
    (folder / "recipe.json").write_text(canonical_json(tiny_recipe(tokenizer_folder)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(here / "ranks_memory.py"), str(folder / "recipe.json"), str(folder / "out.json")],
        env={**os.environ, "PYTHONPATH": str(here.parents[1]), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads((folder / "out.json").read_text()))


def said(recipe: Recipe, layout: Layout, stage: int = 3, phase: int = -1, **train: Any) -> Memory:
    changed = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **train))
    spec = changed.stages[stage]
    return memory(changed, model_config(changed), spec, spec.phases[phase], layout)


@pytest.mark.parametrize("way", ["0 fp32 1", "1 bf16 1", "2 bf16 1", "3 bf16 1", "1 bf16 2"])
def test_two_ranks_hold_what_is_said(two_ranks: dict[str, dict[str, int]], tokenizer_folder: Path, way: str) -> None:
    zero, precision, experts = int(way[0]), way.split()[1], int(way[-1])
    found = two_ranks[way]
    plan = said(tiny_recipe(tokenizer_folder), Layout(2, zero=zero, expert=experts), precision=precision)
    # All that trains is one bucket; divided experts take a whole one, which may be gone when backward is done.
    whole = said(tiny_recipe(tokenizer_folder), Layout(1, zero=0), precision=precision).weights
    gradients = plan.gradients - (2 * BUCKET if experts > 1 else whole)
    summed = gradients if experts > 1 else plan.gradients
    lasting = plan.weights + plan.optimiser + (gradients if zero == 3 else 0)
    # Under ZeRO 3 parameters below DeepSpeed's threshold stay whole, and the largest here is not far above it.
    assert lasting <= found["between"] * 1.001
    assert found["between"] <= 1.02 * lasting + plan.gathered
    first = found["first pass"] - (2 * BUCKET if experts > 1 and found["first pass"] > 2 * BUCKET else 0)
    assert plan.weights + plan.optimiser + gradients <= first * 1.001
    assert first <= 1.02 * (plan.weights + plan.optimiser + summed) + plan.gathered


def test_what_is_divided_is_smaller() -> None:
    recipe = keye_vl_2()
    one, two, three = (said(recipe, Layout(64, zero=zero)) for zero in (1, 2, 3))
    assert one.optimiser == two.optimiser == three.optimiser
    assert one.gradients > 10 * two.gradients
    assert two.gradients == three.gradients
    assert (two.weights, two.gathered) == (three.weights * 64, 0)
    assert three.gathered > 0
    whole, half, eighth = (said(recipe, Layout(64, sequence=size, zero=3)).activations for size in (1, 2, 8))
    assert half < 0.6 * whole
    assert eighth < 0.2 * whole, "keys of the whole sequence stay"
    assert eighth > whole / 8
    dense, apart = (said(recipe, Layout(64, expert=size), stage=1) for size in (1, 8))
    assert apart.weights < 0.2 * dense.weights
    assert said(recipe, Layout(64), stage=0).optimiser < dense.optimiser / 100, "a phase holds states of what it trains"
