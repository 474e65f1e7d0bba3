"""config.json speaks the released configuration's names; what this model cannot be is refused."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from small_model import small_config

from model import presets
from model.hub_config import from_json, to_json

# The fields of the released configuration that the authors' serving code reads, with the published values.
RELEASED = {
    "architectures": ["KeyeVL2MoeForConditionalGeneration"],
    "model_type": "KeyeVL2",
    "dtype": "bfloat16",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "image_token_id": 151655,
    "intermediate_size": 6144,
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
    "rope_theta": 10000000,
    "sa_config": {"indexer_head_dim": 64, "indexer_num_heads": 16, "topk": 2048},
    "tie_word_embeddings": False,
    "vision_config": {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "image_size": 384,
        "intermediate_size": 4304,
        "layer_norm_eps": 1e-6,
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "spatial_merge_size": 2,
    },
    "vocab_size": 151936,
}


def test_the_released_fields_are_the_published_preset():
    assert dataclasses.replace(from_json(RELEASED), name="keye_vl_2_30b_a3b") == presets.keye_vl_2_30b_a3b()


def test_what_is_written_has_every_released_field_at_its_place():
    written = to_json(presets.keye_vl_2_30b_a3b(), "bfloat16")
    wanted = copy.deepcopy(RELEASED)
    del wanted["rope_scaling"]["type"]  # the older spelling of rope_type
    wanted["vision_config"]["image_size"] = 378  # 27 whole patches, as 384 // 14
    assert {name: written[name] for name in wanted if name != "vision_config"} == {
        name: value for name, value in wanted.items() if name != "vision_config"
    }
    assert wanted["vision_config"].items() <= written["vision_config"].items()


@pytest.mark.parametrize(
    "config",
    [
        presets.keye_vl_2_30b_a3b(),
        presets.small(),
        presets.tiny(balance="bias"),
        small_config(),
        dataclasses.replace(small_config(), vision=None),
    ],
    ids=["published", "small", "tiny", "odd sizes", "text only"],
)
def test_a_configuration_comes_back_whole(config):
    assert from_json(json.loads(json.dumps(to_json(config, "float32")))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sa_config": None}, "lacks the field 'sa_config'"),
        ({"sa_config": {"indexer_head_dim": 64, "topk": 2048}}, "lacks the field 'indexer_num_heads'"),
        (
            {"vision_config": {**RELEASED["vision_config"], "hidden_act": "gelu"}},
            "hidden_act 'gelu'; the tower has the tanh GELU",
        ),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "scales its RoPE by 'yarn'"),
        ({"model_type": "KeyeVL1_5"}, "has model_type 'KeyeVL1_5'; this model reads 'KeyeVL2' and 'qwen3_moe'"),
        ({"rope_scaling": {"mrope_section": [16, 24, 20]}}, r"\(16, 24, 20\) sum to 60"),
    ],
)
def test_what_this_model_cannot_be_is_refused(change, message):
    contents = RELEASED | change
    if change.get("sa_config", "") is None:
        del contents["sa_config"]
    with pytest.raises(ValueError, match=message):
        from_json(contents)


def test_the_older_word_for_three_axes_is_read():
    contents = RELEASED | {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
    assert from_json(contents).decoder.rope == presets.keye_vl_2_30b_a3b().decoder.rope
