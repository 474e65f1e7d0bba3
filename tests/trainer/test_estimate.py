"""What a plan would cost is the model's own count times what training adds, and a plan that does not fit says what does not."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_corpus import TinyCorpus

from curriculum.cost import read_pairs, visible_pairs
from curriculum.recipes import keye_vl_2, laptop
from manifests.catalog import Catalog
from manifests.errors import UsageError
from model.costs import forward_flops, parameters
from trainer.collate import PackedBatch
from trainer.estimate import PhaseEstimate, estimate, training_flops
from trainer.figures import assumed_figures, planned_figures
from trainer.flops import step_flops
from trainer.gpus import GPUS
from trainer.model_shape import model_config
from trainer.refusal import remedy, why

LENGTHS = [300, 700, 1000]
FIGURES = {
    "sequences": 40, "steps": 20, "tokens": sum(LENGTHS), "visual_tokens": 64,
    "visible_pairs": int(visible_pairs(LENGTHS).sum()), "read_pairs": int(read_pairs(LENGTHS, 64).sum()),
}  # fmt: skip
STAGES = [FIGURES | {"stage": stage} for stage in range(4)]


@pytest.mark.parametrize("attention", ["dense", "sparse"])
def test_training_everything_is_what_a_step_counts(attention: str) -> None:
    recipe = laptop()  # no activation checkpointing; 64 visual tokens are two frames of 32, that is 10 x 10 patches each
    config = model_config(recipe)
    phase = dataclasses.replace(recipe.stages[1].phases[0], attention=attention)
    counted = forward_flops(config, LENGTHS, [(10, 10)] * 2, attention=attention)  # type: ignore[arg-type]
    estimated = training_flops(recipe, config, phase, FIGURES)
    vision = 3 * (counted.vision + counted.projector)
    row = torch.zeros(sum(LENGTHS), dtype=torch.int64)
    batch = PackedBatch(
        input_ids=row, labels=row, cu_seqlens=torch.tensor([0, *LENGTHS]).cumsum(0), pixel_values=None,
        image_grid_thw=torch.tensor([[1, 10, 10]] * 2), targets=0, visual_tokens=50,
    )  # fmt: skip
    assert estimated - (step_flops(config, phase, batch) - vision) == pytest.approx(vision, rel=0.3)
    again = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, activation_checkpointing=True))
    assert training_flops(again, config, phase, FIGURES) > 1.25 * estimated


def test_what_is_frozen_costs_less() -> None:
    recipe = laptop()
    config, phases = model_config(recipe), [stage.phases[0] for stage in recipe.stages]
    align, dense, warmup, sparse = (training_flops(recipe, config, phase, FIGURES) for phase in phases)
    assert align < dense
    assert warmup < sparse


def test_hours_and_shares() -> None:
    costs = estimate(keye_vl_2(), STAGES, gpu="h100", gpus=8, mfu=0.5, zero=3, sequence=8)
    assert [(cost.stage, cost.phase) for cost in costs] == [
        (0, "align"), (1, "dense"), (2, "indexer warm-up"), (2, "sparse"), (3, "sparse"),
    ]  # fmt: skip
    for cost in costs:
        step = keye_vl_2().stages[cost.stage].sequences_per_step
        assert cost.passes == step, "eight GPUs share each sequence"
        one = cost.flops / (cost.steps or 1) / (FIGURES["sequences"] / FIGURES["steps"])
        if cost.steps:
            assert cost.compute_s == pytest.approx(step * one / 8 / (989e12 * 0.5), rel=0.02)
        assert cost.gpu_hours == pytest.approx(8 * cost.wall_hours)
        assert cost.step_s == pytest.approx(cost.compute_s + cost.traffic.seconds)
    dense = costs[1]
    every = sum(parameters(model_config(keye_vl_2())).values())
    indexers = parameters(model_config(keye_vl_2()))["indexer"]
    assert dense.memory.weights == pytest.approx(2 * every / 8)
    assert dense.memory.optimiser == pytest.approx(12 * (every - indexers) / 8)
    assert dense.checkpoint == 12 * (every - indexers)
    assert costs[2].tokens == round(0.001 * FIGURES["tokens"])


def test_traffic_is_what_a_ring_sends() -> None:
    recipe = keye_vl_2()
    decoder, tokens = model_config(recipe).decoder, FIGURES["tokens"] / FIGURES["sequences"]
    every = sum(parameters(model_config(recipe)).values())

    def of(**layout: int) -> PhaseEstimate:
        return estimate(recipe, STAGES, gpu="h100", gpus=64, **{"expert": 1} | layout)[4]  # type: ignore[arg-type]

    one, two, three = (of(zero=zero, sequence=1).traffic for zero in (1, 2, 3))
    assert one.data == pytest.approx(63 / 64 * 2 * every * 2)
    assert two.data == one.data, "a step of 64 sequences is one pass of 64 GPUs"
    assert three.data == pytest.approx(63 / 64 * (3 + 1) * every * 2), "weights: forward, recomputed, backward; gradients"
    assert one.sequence == one.experts == 0
    shared = of(zero=3, sequence=8)
    keys = 2 * decoder.kv_heads * decoder.head_dim * 3 + decoder.indexer.head_dim * 3
    assert shared.passes == 8
    assert shared.traffic.sequence == pytest.approx(8 * 7 / 8 * tokens * decoder.layers * keys * 2)
    assert shared.traffic.seconds == pytest.approx(shared.traffic.data / 50e9 + shared.traffic.sequence / 450e9)
    apart = of(zero=1, sequence=1, expert=8)
    experts = decoder.layers * 3 * decoder.moe.experts * decoder.hidden_size * decoder.moe.expert_size
    copies = 2 * (1 - 8 / 64) * 4 * experts / 8
    assert apart.traffic.data == pytest.approx(63 / 64 * 2 * (every - experts) * 2 + copies)
    rows = tokens * decoder.moe.experts_per_token * decoder.hidden_size
    assert apart.traffic.experts == pytest.approx(7 / 8 * decoder.layers * 2 * 3 * rows * 2), "there and back, three times"
    slow = estimate(recipe, STAGES, gpu="h100", gpus=64, zero=3, sequence=16, expert=1, network=25.0)[4].traffic
    assert slow.seconds == pytest.approx((slow.data + slow.sequence) / 25e9), "sixteen are more than a node"


def test_the_cheapest_plan_that_fits_is_chosen() -> None:
    recipe, figures = keye_vl_2(), assumed_figures(keye_vl_2())
    chosen = estimate(recipe, figures, gpu="h100", gpus=64)
    assert all(cost.fits for cost in chosen)
    for stage in range(4):
        mine = [cost for cost in chosen if cost.stage == stage]
        assert len({cost.layout for cost in mine}) == 1, "a launch has one plan"
        for zero in (1, 2, 3):
            for sequence in (1, 2, 4, 8, 64):
                fixed = estimate(recipe, [figures[stage]], gpu="h100", gpus=64, zero=zero, sequence=sequence)
                if all(cost.fits for cost in fixed):
                    assert sum(c.wall_hours for c in mine) <= 1.006 * sum(c.wall_hours for c in fixed)
    assert chosen[4].layout.sequence > 1, "a 256K sequence does not fit on one GPU"


def test_what_does_not_fit_is_named_with_its_parts_and_a_remedy() -> None:
    recipe, figures = keye_vl_2(), assumed_figures(keye_vl_2())
    long = estimate(recipe, figures, gpu="h100", gpus=64, zero=2, sequence=1, expert=1)[4]
    assert long.too_large == "activations"
    lines = why(long)
    assert lines[0] == "stage 3 (sparse) does not fit with --zero 2:"
    assert f"{long.memory.total / long.room:.2f} x the room of 68.5 GiB" in lines[1]
    named = {line.split()[0]: float(line.split()[-2]) for line in lines[2:]}
    assert list(named)[:2] == ["activations", "weights"]
    assert named["weights"] == pytest.approx(long.memory.weights / long.room, abs=0.01)
    assert max(map(len, lines)) <= 80
    fix = remedy(recipe, figures, 3, gpu="h100", gpus=64, given={"zero": 2, "sequence": 1, "expert": 1})
    assert fix == "it fits with --zero 2 --sequence-parallel 4 --expert-parallel 4"
    assert estimate(recipe, figures, gpu="h100", gpus=64, zero=3, sequence=4)[4].fits
    more = remedy(recipe, figures, 3, gpu="a100", gpus=1, given={})
    assert more.startswith("it fits on ")
    size = int(more.split()[3].replace(",", ""))
    assert estimate(recipe, figures, gpu="a100", gpus=size)[4].fits
    assert not estimate(recipe, figures, gpu="a100", gpus=size // 2)[4].fits
    never = dataclasses.replace(recipe.stages[3], context=2**26, visual_budget=0)
    huge = dataclasses.replace(recipe, stages=(*recipe.stages[:3], never))
    assert "no plan of up to" in remedy(huge, assumed_figures(huge), 3, gpu="h100", gpus=4096, given={})


def test_an_estimate_of_the_recipe_alone_says_its_budget() -> None:
    recipe = keye_vl_2()
    for figures, stage in zip(assumed_figures(recipe), recipe.stages, strict=True):
        assert figures["tokens"] == pytest.approx(stage.tokens, rel=1e-3)
        assert figures["tokens"] / figures["sequences"] == pytest.approx(0.97 * stage.context, rel=1e-3)
        assert figures["visual_tokens"] / figures["sequences"] == pytest.approx(stage.visual_budget / 2, rel=1e-3)
        assert figures["steps"] == -(-figures["sequences"] // stage.sequences_per_step)
    with pytest.raises(UsageError, match=r"fill=1\.5"):
        assumed_figures(recipe, fill=1.5)


def test_the_figures_of_a_plan_are_counted_in_its_segments(tiny_corpus: TinyCorpus) -> None:
    catalog, recipe = Catalog(tiny_corpus.folder), tiny_corpus.recipe
    lengths = catalog.connection.execute(
        "SELECT token_end - token_start FROM segments WHERE stage = 3 AND split = 'train'"
    ).fetchnumpy()["(token_end - token_start)"]
    found = planned_figures(catalog, recipe)[3]
    assert found["tokens"] == lengths.sum()
    assert found["visible_pairs"] == visible_pairs(lengths).sum()
    assert found["read_pairs"] == read_pairs(lengths, recipe.model.top_k).sum()
    assert found["read_pairs"] < found["visible_pairs"]
    with pytest.raises(UsageError, match="no plan for recipe 'laptop'"):
        planned_figures(catalog, laptop())


def test_a_precision_that_needs_a_copy_is_not_planned_without() -> None:
    assert {cost.layout.zero for cost in estimate(laptop(), STAGES, gpu="h100", gpus=1)} == {0}
    with pytest.raises(UsageError, match="ZeRO 0 keeps no fp32 copy of bf16 weights"):
        estimate(keye_vl_2(), STAGES, gpu="h100", gpus=64, zero=0)
    assert GPUS["b200"].room == 180e9 * 0.92


@pytest.mark.parametrize(
    ("words", "message"),
    [({"gpu": "tpu", "gpus": 1}, "no GPU 'tpu'; known are a100, b200, h100, h200"), ({"gpu": "h100", "gpus": 0}, "gpus=0 must"),
     ({"gpu": "h100", "gpus": 1, "mfu": 1.5}, r"mfu=1\.5 in \(0, 1\]"),
     ({"gpu": "h100", "gpus": 8, "sequence": 3}, "--sequence-parallel 3 does not divide the 8 ranks")],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(words: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        estimate(laptop(), STAGES, **words)
