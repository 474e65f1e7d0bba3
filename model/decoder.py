"""The decoder: embeddings, mixture-of-experts layers with one attention module each, final norm.

Decided here: the residual stream is one packed row [T, M]. In warm-up the whole stream runs without a graph and only
the indexers build one, which is what makes warm-up cheap: no activation of the model is kept. Activation
checkpointing is per layer. Names are the published checkpoint's (and Qwen3-MoE's).

Shapes: T tokens, M hidden size, N layers, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.attention import Attention, AttentionContext, LayerAttention, LayerCache
from model.config import DecoderConfig
from model.dsa_cpu import recomputed_later
from model.moe import LayerRouting, MoE
from model.norms import RMSNorm


class DecoderLayer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = MoE(config.moe, config.hidden_size)

    def forward(
        self, x_TM: Tensor, context: AttentionContext, cache: LayerCache | None = None
    ) -> tuple[Tensor, LayerAttention, LayerRouting]:
        mixed_TM, attention = self.self_attn(self.input_layernorm(x_TM), context, cache)
        x_TM = x_TM + mixed_TM
        routed_TM, routing = self.mlp(self.post_attention_layernorm(x_TM), context.shard)
        return x_TM + routed_TM, attention, routing


class Decoder(nn.Module):
    """`model` of the checkpoint."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.gradient_checkpointing = False

    def forward(
        self, x_TM: Tensor, context: AttentionContext, caches: Sequence[LayerCache] | None = None
    ) -> tuple[Tensor, list[LayerAttention], list[LayerRouting]]:
        """Embedded tokens [T, M] -> normalised hidden states [T, M] and what each layer reports."""
        attentions, routings = [], []
        with torch.set_grad_enabled(torch.is_grad_enabled() and context.mode != "warmup"):
            for number, layer in enumerate(self.layers):
                if self.gradient_checkpointing and torch.is_grad_enabled():
                    x_TM, attention, routing = checkpoint(
                        layer, x_TM, context, use_reentrant=False, context_fn=lambda: (recomputed_later(), nullcontext())
                    )
                else:
                    x_TM, attention, routing = layer(x_TM, context, caches[number] if caches is not None else None)
                attentions.append(attention)
                routings.append(routing)
            return self.norm(x_TM), attentions, routings
