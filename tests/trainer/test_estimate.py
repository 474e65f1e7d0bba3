"""What a plan would cost is the model's own count times what training adds, and a plan that does not fit says what does not."""

from __future__ import annotations

import dataclasses

import pytest

from curriculum.cost import read_pairs, visible_pairs
from curriculum.recipes import keye_vl_2, laptop
from manifests.errors import UsageError
from manifests.recipe import Recipe
from model.costs import forward_flops, parameters
from trainer.estimate import GPUS, estimate, training_flops
from trainer.model_shape import model_config

LENGTHS = [300, 700, 1000]
FIGURES = {
    "sequences": 40, "steps": 20, "tokens": sum(LENGTHS), "visual_tokens": 64,
    "visible_pairs": int(visible_pairs(LENGTHS).sum()), "read_pairs": int(read_pairs(LENGTHS, 64).sum()),
}  # fmt: skip


@pytest.mark.parametrize("attention", ["dense", "sparse"])
def test_training_everything_is_three_forward_passes_of_the_model(attention: str) -> None:
    recipe = laptop()  # no activation checkpointing; 64 visual tokens are two frames of 32, that is 10 x 10 patches each
    config = model_config(recipe)
    phase = dataclasses.replace(recipe.stages[1].phases[0], attention=attention)
    counted = forward_flops(config, LENGTHS, [(10, 10)] * 2, attention=attention)  # type: ignore[arg-type]
    estimated = training_flops(recipe, config, phase, FIGURES)
    vision = 3 * (counted.vision + counted.projector)
    assert estimated - 3 * (counted.total - counted.vision - counted.projector) == pytest.approx(vision, rel=0.3)
    again = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, activation_checkpointing=True))
    assert training_flops(again, config, phase, FIGURES) > 1.25 * estimated


def test_what_is_frozen_costs_less() -> None:
    recipe = laptop()
    config, phases = model_config(recipe), [stage.phases[0] for stage in recipe.stages]
    align, dense, warmup, sparse = (training_flops(recipe, config, phase, FIGURES) for phase in phases)
    assert align < dense
    assert warmup < sparse


def test_hours_memory_and_shares() -> None:
    costs = estimate(keye_vl_2(), [FIGURES] * 4, gpu="h100", gpus=64, mfu=0.5)
    assert [(cost.stage, cost.phase) for cost in costs] == [
        (0, "align"), (1, "dense"), (2, "indexer warm-up"), (2, "sparse"), (3, "sparse"),
    ]  # fmt: skip
    for cost in costs:
        assert cost.gpu_hours == pytest.approx(cost.flops / (989e12 * 0.5) / 3600)
        assert cost.wall_hours == pytest.approx(cost.gpu_hours / 64)
    dense = costs[1]
    every = sum(parameters(model_config(keye_vl_2())).values())
    assert (dense.weights, dense.gradients, dense.optimiser) == pytest.approx((2 * every / 64, 2 * every / 64, 12 * every / 64))
    assert costs[0].optimiser < dense.optimiser / 100
    assert costs[2].tokens == round(0.001 * FIGURES["tokens"])
    assert dense.too_large is None
    assert costs[4].too_large == "activations", "a 256K sequence on one GPU"


def zero(stage: int) -> Recipe:
    return dataclasses.replace(keye_vl_2(), train=dataclasses.replace(keye_vl_2().train, zero_stage=stage))


def test_what_does_not_fit_is_named() -> None:
    by_stage = [estimate(zero(stage), [FIGURES] * 4, gpu="h100", gpus=64)[1] for stage in range(4)]
    assert [cost.too_large for cost in by_stage] == ["optimiser", "weights", "weights", None]
    assert by_stage[0].memory > by_stage[1].memory > by_stage[2].memory > by_stage[3].memory
    assert estimate(zero(1), [FIGURES] * 4, gpu="b200", gpus=64)[1].room == GPUS["b200"].memory * 0.92


@pytest.mark.parametrize(
    ("words", "message"),
    [({"gpu": "tpu", "gpus": 1}, "no GPU 'tpu'; known are a100, b200, h100, h200"), ({"gpu": "h100", "gpus": 0}, "gpus=0 must"),
     ({"gpu": "h100", "gpus": 1, "mfu": 1.5}, r"mfu=1\.5 in \(0, 1\]")],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(words: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        estimate(laptop(), [FIGURES] * 4, **words)
