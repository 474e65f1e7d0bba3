"""The published model has the published number of parameters, counted on the modules and by arithmetic."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model import VisionLanguageModel, presets
from model.config import DecoderConfig, IndexerConfig, MoEConfig, RopeConfig, VisionConfig
from model.costs import forward_flops, parameters, visible_pairs


def _built(config):
    with torch.device("meta"):
        parts = VisionLanguageModel(config).parts()
    return {part: sum(p.numel() for p in named.values()) for part, named in parts.items()}


def test_the_published_model_has_exactly_its_parameters():
    built = _built(presets.keye_vl_2_30b_a3b())
    assert sum(built.values()) == 31_122_082_160
    assert built["decoder"] + built["embeddings"] + built["lm_head"] == 30_532_122_624
    assert (built["indexer"], built["vision"], built["projector"]) == (108_536_832, 450_735_984, 30_686_720)


@pytest.mark.parametrize("name", ["keye_vl_2_30b_a3b", "small", "tiny"])
def test_counted_parameters_equal_built_ones(name):
    assert parameters(presets.by_name(name)) == _built(presets.by_name(name))


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match=r"'tinny'; nearest is 'tiny'"):
        presets.by_name("tinny")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DecoderConfig(heads=32, kv_heads=5), "heads 32 is not a multiple of kv_heads 5"),
        (lambda: RopeConfig(sections=(16, 24)), r"three counts .*\(16, 24\)"),
        (lambda: DecoderConfig(rope=RopeConfig(sections=(16, 16, 16))), "sum to 48, but .* 64 frequency pairs"),
        (lambda: DecoderConfig(indexer=IndexerConfig(head_dim=40)), "cannot be scaled by .* 40/128"),
        (lambda: MoEConfig(experts=4, experts_per_token=5), "experts_per_token 5 exceeds MoEConfig.experts 4"),
        (lambda: VisionConfig(heads=7), "1152 over 7 heads"),
        (lambda: IndexerConfig(top_k=0), "top_k must be positive, got 0"),
        (lambda: presets.tiny(vocab_size=100, image_token_id=100), "image_token_id 100 lies outside the vocabulary of 100"),
    ],
)
def test_a_wrong_configuration_cannot_be_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sparse_attention_costs_grow_linearly_and_equal_dense_below_k():
    assert visible_pairs(100, 100) == visible_pairs(100) == 5050
    assert visible_pairs(8192, 64) - visible_pairs(4096, 64) == 4096 * 64
    config = presets.keye_vl_2_30b_a3b()
    dense, sparse = (forward_flops(config, [131072], attention=mode) for mode in ("dense", "sparse"))
    assert dense.attention / sparse.attention > 30
    assert dense.decoder_linear == sparse.decoder_linear
    # About 3B parameters are active a token: 2 operations each.
    per_token = (dense.decoder_linear + dense.lm_head) / 131072
    assert 5.5e9 < per_token < 6.8e9


def test_config_fields_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        presets.tiny().name = "other"
