"""`config.json` of a checkpoint folder <-> `ModelConfig`.

Decided here: the names and places are the released Keye-VL-2.0 configuration's, as far as public material shows them
(the authors' serving code, which reads these fields, and descriptions of the released file): the decoder's fields at
the top level under the names Qwen3-MoE uses (so a Qwen3-MoE folder reads with the same code), the indexer's under
`sa_config`, the vision tower's and the projector's under `vision_config` with SigLIP's names; the side of the position
table is image_size // patch_size. What the released code fixes in its source and this model leaves open has no public
name: it stands under `longreel`, and a file without that part means the released constants. A folder whose
`model_type` is `qwen3_moe` has no vision part and no indexers: those start from a seed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from model.config import DecoderConfig, IndexerConfig, ModelConfig, MoEConfig, ProjectorConfig, RopeConfig, VisionConfig

MODEL_TYPE = "KeyeVL2"
_OWN = "longreel"
_VISION_ACTIVATION = "gelu_pytorch_tanh"


def to_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The contents of config.json; `dtype` is the tensors' ("float32", "bfloat16")."""
    decoder, vision = config.decoder, config.vision
    contents: dict[str, Any] = {
        "architectures": ["KeyeVL2MoeForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "image_token_id": config.image_token_id,
        **_decoder_json(decoder),
        "rope_scaling": {"rope_type": "default", "mrope_section": list(decoder.rope.sections)},
        "sa_config": {
            "indexer_num_heads": decoder.indexer.heads,
            "indexer_head_dim": decoder.indexer.head_dim,
            "topk": decoder.indexer.top_k,
        },
        "vision_config": None,
        _OWN: {
            "preset": config.name,
            "router_balance": decoder.moe.balance,
            "indexer_norm_eps": decoder.indexer.norm_eps,
            "indexer_query_chunk": decoder.indexer.query_chunk,
            "projector_norm_eps": config.projector.norm_eps,
            "packing_positions": vision.packing_positions if vision else 0,
        },
    }
    if vision is not None:
        contents["vision_config"] = {
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "num_channels": vision.channels,
            "image_size": vision.position_side * vision.patch_size,
            "patch_size": vision.patch_size,
            "hidden_act": _VISION_ACTIVATION,
            "layer_norm_eps": vision.norm_eps,
            "rope_theta": vision.rope_theta,
            "spatial_merge_size": config.projector.merge_size,
        }
    return contents


def to_qwen_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """config.json of the language model alone, as Qwen3-MoE; `dtype` is the tensors' ("float32", "bfloat16")."""
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        **_decoder_json(config.decoder),
        "rope_scaling": None,
        "torch_dtype": dtype,
    }


def _decoder_json(decoder: DecoderConfig) -> dict[str, Any]:
    """What the two layouts say of the decoder alike."""
    return {
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        # The width of a dense layer: this decoder has none, but readers require the field (6144 in the released file).
        "intermediate_size": decoder.moe.expert_size * decoder.moe.experts_per_token,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.head_dim,
        "rms_norm_eps": decoder.norm_eps,
        "max_position_embeddings": decoder.max_positions,
        "initializer_range": decoder.initializer_range,
        "rope_theta": decoder.rope.theta,
        "num_experts": decoder.moe.experts,
        "num_experts_per_tok": decoder.moe.experts_per_token,
        "moe_intermediate_size": decoder.moe.expert_size,
        "norm_topk_prob": decoder.moe.renormalise,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }


def from_json(contents: dict[str, Any]) -> ModelConfig:
    """The configuration a config.json describes.

    Raises:
        ValueError: a field that is missing, or a model type or feature this decoder does not have.
    """
    kind = contents.get("model_type")
    if kind not in (MODEL_TYPE, "qwen3_moe"):
        raise ValueError(f"config.json has model_type {kind!r}; this model reads {MODEL_TYPE!r} and 'qwen3_moe'")
    if contents.get("tie_word_embeddings"):
        raise ValueError("config.json ties the word embeddings; this decoder has a head of its own")
    if contents.get("mlp_only_layers") or contents.get("decoder_sparse_step", 1) != 1:
        raise ValueError("config.json has dense layers (mlp_only_layers or decoder_sparse_step); all layers here are experts")
    if contents.get("attention_bias") or contents.get("use_sliding_window"):
        raise ValueError("config.json asks for attention biases or a sliding window; this decoder has neither")
    try:
        return _from_json(contents, text_only=kind == "qwen3_moe")
    except KeyError as missing:
        raise ValueError(f"config.json lacks the field {missing.args[0]!r}") from missing


def _from_json(contents: dict[str, Any], *, text_only: bool) -> ModelConfig:
    own = contents.get(_OWN, {})
    decoder = _decoder(contents, own, text_only=text_only)
    if text_only:
        return ModelConfig(decoder=decoder, vision=None, name="qwen3_moe")
    vision = contents["vision_config"]
    whole = ModelConfig(
        decoder=decoder, vision=None, image_token_id=contents["image_token_id"], name=own.get("preset", "custom")
    )
    if vision is None:
        return whole
    if vision.get("hidden_act", _VISION_ACTIVATION) != _VISION_ACTIVATION:
        raise ValueError(f"config.json's vision_config has hidden_act {vision['hidden_act']!r}; the tower has the tanh GELU")
    return dataclasses.replace(
        whole,
        projector=ProjectorConfig(
            merge_size=vision["spatial_merge_size"],
            norm_eps=own.get("projector_norm_eps", ProjectorConfig.norm_eps),
        ),
        vision=VisionConfig(
            hidden_size=vision["hidden_size"],
            layers=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            intermediate_size=vision["intermediate_size"],
            patch_size=vision["patch_size"],
            channels=vision.get("num_channels", VisionConfig.channels),
            position_side=vision["image_size"] // vision["patch_size"],
            packing_positions=own.get("packing_positions", VisionConfig.packing_positions),
            rope_theta=vision.get("rope_theta", VisionConfig.rope_theta),
            norm_eps=vision["layer_norm_eps"],
        ),
    )


def _decoder(contents: dict[str, Any], own: dict[str, Any], *, text_only: bool) -> DecoderConfig:
    head_dim = contents.get("head_dim") or contents["hidden_size"] // contents["num_attention_heads"]
    rope = contents.get("rope_parameters") or contents.get("rope_scaling") or {}
    # "mrope" is the older word for the default frequencies on three axes.
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ("default", "mrope"):
        raise ValueError(f"config.json scales its RoPE by {kind!r}; this decoder's frequencies are the plain ones")
    pairs = head_dim // 2
    # The published proportions 16 : 24 : 24, for a text model that has none of its own.
    plain = [pairs - 2 * (pairs * 3 // 8), pairs * 3 // 8, pairs * 3 // 8]
    if text_only:
        indexer = IndexerConfig(head_dim=head_dim // 2)
    else:
        indexer = IndexerConfig(
            heads=contents["sa_config"]["indexer_num_heads"],
            head_dim=contents["sa_config"]["indexer_head_dim"],
            top_k=contents["sa_config"]["topk"],
            norm_eps=own.get("indexer_norm_eps", IndexerConfig.norm_eps),
            query_chunk=own.get("indexer_query_chunk", IndexerConfig.query_chunk),
        )
    return DecoderConfig(
        vocab_size=contents["vocab_size"],
        hidden_size=contents["hidden_size"],
        layers=contents["num_hidden_layers"],
        heads=contents["num_attention_heads"],
        kv_heads=contents["num_key_value_heads"],
        head_dim=head_dim,
        norm_eps=contents["rms_norm_eps"],
        max_positions=contents["max_position_embeddings"],
        initializer_range=contents.get("initializer_range", DecoderConfig.initializer_range),
        rope=RopeConfig(
            theta=float(rope.get("rope_theta") or contents["rope_theta"]), sections=tuple(rope.get("mrope_section") or plain)
        ),
        moe=MoEConfig(
            # transformers 5 writes num_local_experts, the published folders num_experts.
            experts=contents["num_experts"] if "num_experts" in contents else contents["num_local_experts"],
            experts_per_token=contents["num_experts_per_tok"],
            expert_size=contents["moe_intermediate_size"],
            # Qwen3-MoE's default is not to; the released model's experts are Qwen3-VL-MoE's, which always do.
            renormalise=contents.get("norm_topk_prob", not text_only),
            balance=own.get("router_balance", "loss"),
        ),
        indexer=indexer,
    )
