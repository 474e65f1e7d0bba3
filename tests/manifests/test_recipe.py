"""Recipes keep the published figures, refuse nonsense by name, and survive JSON."""

from __future__ import annotations

import dataclasses

import pytest

from curriculum.recipes import RECIPES, keye_vl_2, laptop
from manifests.errors import CorruptCorpusError
from manifests.fingerprint import canonical_json
from manifests.recipe import BucketSpec, Recipe
from manifests.recipe_json import recipe_from_json


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_survives_json(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.name == name
    assert recipe_from_json(canonical_json(recipe)) == recipe


def test_published_sizes() -> None:
    recipe = keye_vl_2()
    assert [stage.context for stage in recipe.stages] == [8192, 32768, 65536, 262144]
    assert [form.visual_budget for form in recipe.curate.video_forms] == [24 * 1024, 64 * 1024, 180 * 1024]
    assert [stage.tokens for stage in recipe.stages] == [4 * 10**9, 10**12, 2 * 10**12, 5 * 10**11]
    assert recipe.model.top_k == 2048


def test_laptop_is_a_thirty_second_of_it() -> None:
    small, full = laptop(), keye_vl_2()
    assert [stage.context * 32 for stage in small.stages] == [stage.context for stage in full.stages]
    assert [form.visual_budget * 32 for form in small.curate.video_forms] == [f.visual_budget for f in full.curate.video_forms]
    assert small.model.top_k * 32 == full.model.top_k
    assert small.buckets.context_256k * 32 == full.buckets.context_256k


def test_buckets_are_the_smallest_that_hold() -> None:
    buckets = BucketSpec()
    assert [buckets.context(n) for n in (1, 32768, 32769, 65536, 65537, 262144, 262145)] == [
        "32k", "32k", "64k", "64k", "256k", "256k", None,
    ]  # fmt: skip
    assert [buckets.duration(s) for s in (None, 0.5, 15.0, 15.1, 900, 901, 7200, 7201)] == [
        None, "15s", "15s", "15min", "15min", "2h", "2h", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 0}, r"stage1: context=0 must be above 0"),
        ({"visual_budget": 10**9}, r"stage1: visual_budget=1000000000 must be between 0 and context=32768"),
        ({"tokens": -1}, r"stage1: tokens=-1"),
        ({"mixture": ()}, r"stage1: mixture is empty"),
        ({"epochs_max": 0}, r"stage1: epochs_max=0"),
    ],
)
def test_a_bad_stage_names_its_field(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(keye_vl_2().stages[1], **change)


def test_stages_must_grow() -> None:
    recipe = keye_vl_2()
    shrunk = dataclasses.replace(recipe.stages[3], context=1024, visual_budget=512)
    with pytest.raises(ValueError, match="contexts of the stages must not fall"):
        dataclasses.replace(recipe, stages=(*recipe.stages[:3], shrunk))


def test_costs_depend_on_tokenizer_pixels_and_buckets_only() -> None:
    recipe: Recipe = laptop()
    assert dataclasses.replace(recipe, name="other", stages=recipe.stages).cost_fingerprint == recipe.cost_fingerprint
    changed = dataclasses.replace(recipe, visual=dataclasses.replace(recipe.visual, fps=2.0))
    assert changed.cost_fingerprint != recipe.cost_fingerprint


def test_what_is_no_recipe_is_refused() -> None:
    with pytest.raises(CorruptCorpusError, match="not a recipe that this version reads"):
        recipe_from_json('{"name": "x"}')
