"""Folders: round trip with the published names, shards, Qwen3-MoE both ways, and clear errors."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import qwen_of, random_model, small_config, text_row
from transformers import Qwen3MoeForCausalLM

from model import VisionLanguageModel, presets
from model.checkpoint import CheckpointError


def test_round_trip_is_exact_in_one_file_and_in_shards(model, tmp_path):
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_bytes=300_000)
    index = json.loads((tmp_path / "many/model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    for folder in ("one", "many"):
        again = VisionLanguageModel.from_pretrained(tmp_path / folder)
        assert again.config == model.config
        state = again.state_dict()
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    row = text_row(40)
    assert torch.equal(again(row, attention="sparse").logits, model(row, attention="sparse").logits)


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        state = VisionLanguageModel(presets.keye_vl_2_30b_a3b()).state_dict()
    wanted = {
        "model.embed_tokens.weight": (151936, 2048),
        "model.layers.47.self_attn.sa_indexer.q_proj.weight": (16 * 64 + 16, 2048),
        "model.layers.0.self_attn.sa_indexer.k_norm.bias": (64,),
        "model.layers.0.mlp.gate.weight": (128, 2048),
        "model.layers.0.mlp.experts.gate_up_proj": (128, 2048, 1536),
        "model.layers.0.mlp.experts.down_proj": (128, 768, 2048),
        "visual.vision_model.embeddings.patch_embedding.weight": (1152, 3, 14, 14),
        "visual.vision_model.embeddings.packing_position_embedding.weight": (32768, 1152),
        "visual.vision_model.encoder.layers.26.self_attn.out_proj.bias": (1152,),
        "visual.vision_model.post_layernorm.weight": (1152,),
        "mlp_AR.pre_norm.weight": (4608,),
        "mlp_AR.linear_2.weight": (2048, 4608),
        "lm_head.weight": (151936, 2048),
    }
    assert {name: tuple(state[name].shape) for name in wanted} == wanted


@pytest.mark.parametrize("fused", [False, True])
def test_a_qwen3_moe_folder_loads_with_equal_logits(model, tmp_path, fused):
    qwen = qwen_of(model)
    qwen.save_pretrained(tmp_path)
    if fused:
        save_file({name: value.contiguous() for name, value in qwen.state_dict().items()}, tmp_path / "model.safetensors")
    ours = VisionLanguageModel.from_pretrained(tmp_path)
    assert ours.config.vision is None
    row = text_row(70)
    assert (ours(row).logits - qwen(row[None]).logits[0]).abs().max() <= 1e-4
    assert bool(torch.isfinite(ours(row, attention="sparse", top_k=8, labels=row).indexer_loss))


@pytest.mark.parametrize("max_shard_bytes", [2**30, 300_000])
def test_the_language_model_leaves_as_qwen3_moe_and_comes_back(model, tmp_path, max_shard_bytes):
    model.save_pretrained(tmp_path / "ours", layout="qwen3_moe", max_shard_bytes=max_shard_bytes)
    qwen, report = Qwen3MoeForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    row = text_row(70)
    positions = torch.arange(70).expand(3, -1)
    assert (model(row, positions).logits - qwen(row[None]).logits[0]).abs().max() <= 1e-4

    qwen.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        state = VisionLanguageModel.from_pretrained(tmp_path / folder).state_dict()
        language = {name: value for name, value in model.state_dict().items() if name.startswith(("model.", "lm_head."))}
        assert state.keys() == language.keys()
        assert all(torch.equal(state[name], value) for name, value in language.items() if ".sa_indexer." not in name)


def test_a_layout_that_cannot_hold_the_model_is_refused(tmp_path):
    model = VisionLanguageModel(presets.tiny(vocab_size=512, layers=1, balance="bias"))
    with pytest.raises(ValueError, match="no place for the selection biases"):
        model.save_pretrained(tmp_path, layout="qwen3_moe")
    with pytest.raises(ValueError, match="got 'llama'"):
        model.save_pretrained(tmp_path, layout="llama")
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_named(model, tmp_path):
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.norm.weight"]
    tensors["model.extra"] = torch.zeros(3)
    tensors["mlp_AR.linear_2.bias"] = torch.zeros(5)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        VisionLanguageModel.from_pretrained(tmp_path)
    message = str(error.value)
    assert "missing tensor model.norm.weight [64]" in message
    assert "unknown tensor model.extra [3]" in message
    assert "tensor mlp_AR.linear_2.bias has shape [5], the model needs [64]" in message


def test_no_folder_and_a_foreign_model_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        VisionLanguageModel.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="model_type 'llama'"):
        VisionLanguageModel.from_pretrained(tmp_path)


def test_dtype_is_kept_or_chosen(tmp_path):
    model = random_model(small_config()).bfloat16()
    model.save_pretrained(tmp_path)
    assert VisionLanguageModel.from_pretrained(tmp_path).lm_head.weight.dtype == torch.bfloat16
    assert VisionLanguageModel.from_pretrained(tmp_path, dtype=torch.float32).lm_head.weight.dtype == torch.float32
