"""The shape of the model that a recipe names: its preset with the recipe's top-k, vocabulary and context. Loads no torch."""

from __future__ import annotations

import dataclasses

from manifests.errors import UsageError
from manifests.recipe import Recipe
from manifests.tokenizer import load_tokenizer
from model import presets
from model.config import ModelConfig

# Rows of the embedding table are rounded up to this: products with ragged sides are slow.
VOCABULARY_MULTIPLE = 64
PUBLISHED = "keye_vl_2_30b_a3b"


def model_config(recipe: Recipe) -> ModelConfig:
    """The preset with the recipe's top-k and its tokenizer's vocabulary; the published geometry keeps its own.

    Raises:
        UsageError: there is no such preset, or its shape does not fit the tokenizer or the pixels.
    """
    tokenizer = load_tokenizer(recipe.tokenizer)
    image_token_id = tokenizer.special("<|image_pad|>")
    try:
        config = presets.by_name(recipe.model.preset)
    except ValueError as error:
        raise UsageError(f"recipe {recipe.name!r}: {error}") from error
    decoder = config.decoder
    if recipe.model.preset != PUBLISHED:
        decoder = dataclasses.replace(decoder, vocab_size=-(-len(tokenizer) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE)
    if len(tokenizer) > decoder.vocab_size:
        raise UsageError(
            f"tokenizer {recipe.tokenizer!r} has {len(tokenizer):,} entries, more than the {decoder.vocab_size:,} of model "
            f"{recipe.model.preset!r}"
        )
    context = max(stage.context for stage in recipe.stages)
    if context > decoder.max_positions:
        decoder = dataclasses.replace(decoder, max_positions=context)
    config = dataclasses.replace(config, decoder=decoder, image_token_id=image_token_id).with_top_k(recipe.model.top_k)
    assert config.vision is not None
    ours, theirs = (recipe.visual.patch, recipe.visual.merge), (config.vision.patch_size, config.projector.merge_size)
    if ours != theirs:
        raise UsageError(f"recipe {recipe.name!r} counts patches of {ours[0]} px merged {ours[1]} x, the model has {theirs}")
    return config
