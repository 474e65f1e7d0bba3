"""`config.json` of a checkpoint folder <-> `ModelConfig`.

Decided here: the decoder's fields stand at the top level under the names Qwen3-MoE uses (so a Qwen3-MoE folder reads
with the same code), the vision tower's under `vision_config` with SigLIP's names, the projector's and the indexer's
under `projector_config` and `indexer_config`. A folder whose `model_type` is `qwen3_moe` has no vision part and no
indexers: those start from a seed.
"""

from __future__ import annotations

from typing import Any

from model.config import DecoderConfig, IndexerConfig, ModelConfig, MoEConfig, ProjectorConfig, RopeConfig, VisionConfig

MODEL_TYPE = "keye_vl_2"


def to_json(config: ModelConfig) -> dict[str, Any]:
    """The contents of config.json."""
    decoder, vision = config.decoder, config.vision
    contents: dict[str, Any] = {
        "architectures": ["KeyeVL2ForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "preset": config.name,
        "image_token_id": config.image_token_id,
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.head_dim,
        "rms_norm_eps": decoder.norm_eps,
        "max_position_embeddings": decoder.max_positions,
        "initializer_range": decoder.initializer_range,
        "rope_theta": decoder.rope.theta,
        "rope_scaling": {"rope_type": "default", "mrope_section": list(decoder.rope.sections)},
        "num_experts": decoder.moe.experts,
        "num_experts_per_tok": decoder.moe.experts_per_token,
        "moe_intermediate_size": decoder.moe.expert_size,
        "norm_topk_prob": decoder.moe.renormalise,
        "router_balance": decoder.moe.balance,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "indexer_config": {
            "num_heads": decoder.indexer.heads,
            "head_dim": decoder.indexer.head_dim,
            "top_k": decoder.indexer.top_k,
            "norm_eps": decoder.indexer.norm_eps,
            "query_chunk": decoder.indexer.query_chunk,
        },
        "projector_config": {"merge_size": config.projector.merge_size, "norm_eps": config.projector.norm_eps},
        "vision_config": None,
    }
    if vision is not None:
        contents["vision_config"] = {
            "hidden_size": vision.hidden_size,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "intermediate_size": vision.intermediate_size,
            "patch_size": vision.patch_size,
            "num_channels": vision.channels,
            "position_side": vision.position_side,
            "packing_positions": vision.packing_positions,
            "rope_theta": vision.rope_theta,
            "layer_norm_eps": vision.norm_eps,
        }
    return contents


def to_qwen_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """config.json of the language model alone, as Qwen3-MoE; `dtype` is the tensors' ("float32", "bfloat16")."""
    decoder = config.decoder
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        # The width of a dense layer: this decoder has none, but readers require the field.
        "intermediate_size": decoder.moe.expert_size * decoder.moe.experts_per_token,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.head_dim,
        "rms_norm_eps": decoder.norm_eps,
        "max_position_embeddings": decoder.max_positions,
        "initializer_range": decoder.initializer_range,
        "rope_theta": decoder.rope.theta,
        "rope_scaling": None,
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
        "torch_dtype": dtype,
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
    head_dim = contents.get("head_dim") or contents["hidden_size"] // contents["num_attention_heads"]
    rope = contents.get("rope_parameters") or contents.get("rope_scaling") or {}
    pairs = head_dim // 2
    # The published proportions 16 : 24 : 24, for a text model that has none of its own.
    sections = rope.get("mrope_section") or [pairs - 2 * (pairs * 3 // 8), pairs * 3 // 8, pairs * 3 // 8]
    indexer, projector, vision = (contents.get(f"{part}_config") for part in ("indexer", "projector", "vision"))
    if indexer is None:
        own = IndexerConfig()
        indexer = {"num_heads": own.heads, "head_dim": head_dim // 2, "top_k": own.top_k}
    decoder = DecoderConfig(
        vocab_size=contents["vocab_size"],
        hidden_size=contents["hidden_size"],
        layers=contents["num_hidden_layers"],
        heads=contents["num_attention_heads"],
        kv_heads=contents["num_key_value_heads"],
        head_dim=head_dim,
        norm_eps=contents["rms_norm_eps"],
        max_positions=contents["max_position_embeddings"],
        initializer_range=contents.get("initializer_range", 0.02),
        rope=RopeConfig(theta=float(rope.get("rope_theta") or contents["rope_theta"]), sections=tuple(sections)),
        moe=MoEConfig(
            # transformers 5 writes num_local_experts, the published Qwen folders num_experts.
            experts=contents["num_experts"] if "num_experts" in contents else contents["num_local_experts"],
            experts_per_token=contents["num_experts_per_tok"],
            expert_size=contents["moe_intermediate_size"],
            renormalise=contents.get("norm_topk_prob", False),
            balance=contents.get("router_balance", "loss"),
        ),
        indexer=IndexerConfig(
            heads=indexer["num_heads"],
            head_dim=indexer["head_dim"],
            top_k=indexer["top_k"],
            norm_eps=indexer.get("norm_eps", 1e-6),
            query_chunk=indexer.get("query_chunk", 64),
        ),
    )
    if text_only or vision is None:
        return ModelConfig(decoder=decoder, vision=None, name=contents.get("preset", "qwen3_moe"))
    return ModelConfig(
        name=contents.get("preset", "custom"),
        decoder=decoder,
        image_token_id=contents["image_token_id"],
        projector=ProjectorConfig(**projector) if projector else ProjectorConfig(),
        vision=VisionConfig(
            hidden_size=vision["hidden_size"],
            layers=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            intermediate_size=vision["intermediate_size"],
            patch_size=vision["patch_size"],
            channels=vision.get("num_channels", 3),
            position_side=vision["position_side"],
            packing_positions=vision["packing_positions"],
            rope_theta=vision["rope_theta"],
            norm_eps=vision["layer_norm_eps"],
        ),
    )
