"""A sequence costs what the model counts: pairs as one can count them, operations as `model.costs` has them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from curriculum.cost import attention_cost, read_pairs, sample_flops, visible_pairs
from curriculum.recipes import keye_vl_2, laptop
from manifests.recipe import Recipe
from model.costs import forward_flops
from trainer.model_shape import model_config


@pytest.mark.parametrize(("tokens", "top_k"), [(1, 4), (4, 4), (5, 4), (37, 8), (20, 64)])
def test_pairs_are_those_of_every_query(tokens: int, top_k: int) -> None:
    scored = sum(visible for visible in range(1, tokens + 1))
    attended = sum(min(visible, top_k) for visible in range(1, tokens + 1))
    assert visible_pairs([tokens]).tolist() == [scored]
    assert read_pairs([tokens], top_k).tolist() == [attended]
    assert attention_cost([tokens], top_k).tolist() == [scored + attended]


def test_cost_of_the_longest_context_does_not_overflow() -> None:
    tokens = 262_144
    expected = tokens * (tokens + 1) // 2 + 2048 * 2049 // 2 + 2048 * (tokens - 2048)
    assert attention_cost(np.array([tokens], dtype=np.int32), 2048).tolist() == [expected]


@pytest.mark.parametrize("recipe", [laptop(), keye_vl_2()], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("attention", ["dense", "warmup", "sparse"])
def test_operations_are_the_models(recipe: Recipe, attention: str) -> None:
    """A recipe carries what its model costs; this is where the two are held together."""
    trains = {"dense": "everything", "warmup": "indexer", "sparse": "everything"}[attention]
    phase = dataclasses.replace(recipe.stages[3].phases[0], attention=attention, trains=trains)
    stage = dataclasses.replace(recipe.stages[3], phases=(phase,))
    lengths = [1, recipe.model.top_k - 1, recipe.model.top_k, 3 * recipe.model.top_k, recipe.stages[3].context]
    for length in lengths:
        counted = forward_flops(model_config(recipe), [length], attention=attention)
        assert sample_flops([length], recipe.model, stage)[
            0
        ] == counted.decoder_linear + counted.lm_head + counted.attention + (counted.indexer)


def test_phases_weigh_by_their_share() -> None:
    recipe = laptop()
    stage = recipe.stages[2]
    parts = [
        phase.share
        * sample_flops([700], recipe.model, dataclasses.replace(stage, phases=(dataclasses.replace(phase, share=1.0),)))
        for phase in stage.phases
    ]
    assert sample_flops([700], recipe.model, stage)[0] == pytest.approx(sum(part[0] for part in parts))
