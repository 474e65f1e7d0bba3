"""What one forward pass leaves in memory for its backward, in bytes per part: exact counts in float32.

Decided here: counted is what autograd keeps beyond parameters and inputs it shares with another kept tensor (a view
and its base count once): the operands of products, the inputs of norms and their row statistics, the router's indices,
the gradients that losses form in the forward pass. Temporaries, parameters' gradients and optimiser state are not.
The three trainings a recipe knows: everything, the projector alone (the decoder is then only passed through), the
indexers alone in warm-up (the stream keeps nothing). bf16 keeps more than half of it: norms, router and attention
widen.

Shapes: T tokens of the row, M hidden size, H query heads, G KV groups, D head dim, J indexer heads, E indexer head
dim, K experts a token, I expert size, P patches, W vision width, F its MLP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from model.config import AttentionMode, DecoderConfig, ModelConfig, VisionConfig

Trained = Literal["everything", "projector", "indexer"]
_FLOAT, _INT32, _INT64 = 4, 4, 8


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes kept from forward to backward by each part; `recomputed`: what backward holds on top while it runs the
    largest checkpointed layer again."""

    vision: int
    projector: int
    embeddings: int
    decoder: int
    indexer: int
    lm_head: int
    recomputed: int = 0

    @property
    def kept(self) -> int:
        """At the end of the forward pass."""
        return self.vision + self.projector + self.embeddings + self.decoder + self.indexer + self.lm_head

    @property
    def peak(self) -> int:
        """The most that is alive at once."""
        return self.kept + self.recomputed


def activations(
    config: ModelConfig,
    lengths: Iterable[int],
    grids: Iterable[tuple[int, int]] = (),
    *,
    attention: AttentionMode = "dense",
    trains: Trained = "everything",
    checkpointing: bool = False,
) -> Activations:
    """Counts one training pass over a packed row whose every token but the samples' first ones is a target.

    Args:
        lengths: tokens of each sample, visual ones included. grids: (h, w) in patches of each image or frame.
        trains: as a phase of a recipe says it. "everything" in dense attention leaves the indexers out.

    Raises:
        ValueError: a training that has no such attention: the projector learns in dense mode, the indexers alone in warm-up.
    """
    if (trains == "projector" and attention != "dense") or (trains == "indexer") != (attention == "warmup"):
        raise ValueError(
            f"trains={trains!r} does not go with attention={attention!r}: the projector alone trains in dense mode, "
            "the indexers alone in warm-up"
        )
    lengths, grids = list(lengths), list(grids)
    tokens, decoder = sum(lengths), config.decoder
    all_trains = trains == "everything"
    index_tables = tokens * decoder.indexer.head_dim * _FLOAT if attention != "dense" else 0
    indexer = _indexer_layer(decoder, lengths, warmup=attention == "warmup") if attention != "dense" else 0
    if trains == "indexer":
        return Activations(
            vision=0, projector=0, embeddings=0, decoder=0, lm_head=0, indexer=decoder.layers * indexer + index_tables
        )
    layer = _decoder_layer(decoder, lengths, sparse=attention == "sparse", trains=all_trains)
    final = tokens * (_norm(decoder.hidden_size, trains=all_trains) - (decoder.hidden_size if all_trains else 0) * _FLOAT)
    tables = tokens * decoder.head_dim * _FLOAT
    seen, see_layer = _vision(config.vision, grids, checkpointing=checkpointing) if all_trains and config.vision else (0, 0)
    stream = tokens * decoder.hidden_size * _FLOAT
    return Activations(
        vision=seen,
        projector=_projector(config, grids, trains=trains),
        embeddings=tokens * _INT64 if all_trains else 0,
        decoder=decoder.layers * (stream if checkpointing else layer) + final + tables,
        indexer=(0 if checkpointing else decoder.layers * indexer) + index_tables,
        lm_head=_head(decoder, lengths, trains=all_trains),
        recomputed=max(layer + indexer, see_layer) if checkpointing else 0,
    )


def _norm(width: int, *, rows: int = 1, trains: bool) -> int:
    """One RMSNorm of `rows` rows: its input, a statistic a row, and its output when the product behind it trains."""
    return (width + rows + (width if trains else 0)) * _FLOAT


def _decoder_layer(decoder: DecoderConfig, lengths: list[int], *, sparse: bool, trains: bool) -> int:
    tokens, moe = sum(lengths), decoder.moe
    query, key = decoder.heads * decoder.head_dim, decoder.kv_heads * decoder.head_dim
    chosen = moe.experts_per_token
    # A head's norm feeds the rotation, which keeps nothing: its output is not kept.
    normed = sum(width + rows for width, rows in ((query, decoder.heads), (key, decoder.kv_heads)))
    # q, k, v and the output; then the softmax's statistics, or the output once more as the samples are put together.
    attention = 2 * query + 2 * key
    if sparse:
        attention += query
    else:
        attention += decoder.heads + (query if trains and len(set(lengths)) > 1 else 0)
    router = moe.experts + chosen + (chosen + 1 if moe.renormalise else 0)
    # The gate and up values of each row. The rows themselves and what is made of them are computed again.
    experts = 2 * chosen * moe.expert_size
    per_token = (normed + attention + router + experts) * _FLOAT + 2 * _norm(decoder.hidden_size, trains=trains)
    per_token += 3 * chosen * _INT64
    selected = sum(length * min(decoder.indexer.top_k, length) for length in lengths) * _INT32 if sparse else 0
    return tokens * per_token + selected + moe.experts * (_INT32 + _FLOAT)


def _indexer_layer(decoder: DecoderConfig, lengths: list[int], *, warmup: bool) -> int:
    """Its two norms, and the KL's gradient formed in the forward pass; in warm-up also the input nobody else keeps."""
    indexer = decoder.indexer
    queries = indexer.heads * indexer.head_dim
    normed = queries + indexer.heads + indexer.head_dim + 2
    gradient = queries + indexer.head_dim + indexer.heads
    return sum(lengths) * (normed + gradient + (decoder.hidden_size if warmup else 0)) * _FLOAT


def _head(decoder: DecoderConfig, lengths: list[int], *, trains: bool) -> int:
    """The loss's gradients by the hidden states and, when it trains, by the head; which rows had a target."""
    targets = sum(lengths) - len(lengths)
    gradients = targets * decoder.hidden_size + (decoder.vocab_size * decoder.hidden_size if trains else 0)
    return gradients * _FLOAT + targets * _INT64


def _vision(vision: VisionConfig, grids: list[tuple[int, int]], *, checkpointing: bool) -> tuple[int, int]:
    """(kept, one layer's) bytes of the trained tower."""
    patches = sum(h * w for h, w in grids)
    if not patches:
        return 0, 0
    wide = vision.hidden_size
    runs = sum(1 for n, (h, w) in enumerate(grids) if n == 0 or grids[n - 1][0] * grids[n - 1][1] != h * w)
    attention = 5 * wide + vision.heads + (wide if runs > 1 else 0)
    layer = patches * (attention + 3 * wide + 4 + 2 * vision.intermediate_size) * _FLOAT
    # Four taps of the position table a patch, once for each grid that occurs.
    taps = sum(h * w for h, w in set(grids)) * 4 * (_INT64 + _FLOAT)
    outside = patches * (vision.patch_values + wide + 2 + vision.head_dim) * _FLOAT + taps
    return outside + vision.layers * (patches * wide * _FLOAT if checkpointing else layer), layer


def _projector(config: ModelConfig, grids: list[tuple[int, int]], *, trains: Trained) -> int:
    if config.vision is None:
        return 0
    merged = config.vision.hidden_size * config.projector.merge_size**2
    visual = sum(h * w for h, w in grids) // config.projector.merge_size**2
    # Norm input and statistics, the two products' inputs, the GELU's; then the tokens and their places in the row.
    return visual * ((4 * merged + 2 + config.decoder.hidden_size) * _FLOAT + _INT64)
