"""What one forward pass leaves in memory for its backward, in bytes per part: exact counts, in float32 and in bf16.

Decided here: counted is what autograd keeps beyond parameters and inputs it shares with another kept tensor (a view
and its base count once): the operands of products, the inputs of norms and their row statistics, the router's indices,
the gradients that losses form in the forward pass. Parameters' gradients and optimiser state are not. `working` is not
counted but bounded: what the largest single operation needs while it runs, on the paths in plain torch.
The three trainings a recipe knows: everything, the projector alone (the decoder is then only passed through), the
indexers alone in warm-up (the stream keeps nothing). In bf16 row statistics, the router, the rotation's tables, sparse
attention and the KL's gradient stay float32. A row that N ranks share leaves each T / N tokens, but gathered keys of all.

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
# `model.losses.CHUNK_ELEMENTS`, whose module loads torch; a test holds them together.
LOSS_CHUNK = 2**23


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes kept from forward to backward by each part; `recomputed`: what backward holds on top while it runs the
    largest checkpointed layer again; `working`: what the largest operation needs on top of that."""

    vision: int
    projector: int
    embeddings: int
    decoder: int
    indexer: int
    lm_head: int
    recomputed: int = 0
    working: int = 0

    @property
    def kept(self) -> int:
        """At the end of the forward pass."""
        return self.vision + self.projector + self.embeddings + self.decoder + self.indexer + self.lm_head

    @property
    def peak(self) -> int:
        """The most that is alive at once."""
        return self.kept + self.recomputed + self.working


def activations(
    config: ModelConfig,
    lengths: Iterable[int],
    grids: Iterable[tuple[int, int]] = (),
    *,
    attention: AttentionMode = "dense",
    trains: Trained = "everything",
    checkpointing: bool = False,
    width: int = _FLOAT,
    ranks: int = 1,
) -> Activations:
    """Counts one training pass over a packed row whose every token but the samples' first ones is a target.

    Args:
        lengths: tokens of each sample, visual ones included. grids: (h, w) in patches of each image or frame.
        trains: as a phase of a recipe says it. "everything" in dense attention leaves the indexers out.
        width: bytes of an activation, 4 in float32 and 2 in bf16.
        ranks: that share the row (`model.sequence_shard`); counted is one of them: exactly where the row is one sample
            and divides, an upper bound otherwise. Pictures are counted as shared evenly.

    Raises:
        ValueError: a training that has no such attention: the projector learns in dense mode, the indexers alone in warm-up.
    """
    if (trains == "projector" and attention != "dense") or (trains == "indexer") != (attention == "warmup"):
        raise ValueError(
            f"trains={trains!r} does not go with attention={attention!r}: the projector alone trains in dense mode, "
            "the indexers alone in warm-up"
        )
    row, grids = _Row(tuple(lengths), width, ranks), list(grids)
    decoder = config.decoder
    all_trains = trains == "everything"
    index_tables = row.tokens * decoder.indexer.head_dim * _FLOAT if attention != "dense" else 0
    indexer = _indexer_layer(decoder, row, warmup=attention == "warmup") if attention != "dense" else 0
    working = _working(decoder, row, attention)
    order = row.whole * _INT64 if ranks > 1 else 0  # where each token of the row lies among the gathered ones
    if trains == "indexer":
        return Activations(
            vision=0, projector=0, embeddings=0, decoder=0, lm_head=0, indexer=decoder.layers * indexer + index_tables + order,
            working=working,
        )  # fmt: skip
    layer = _decoder_layer(decoder, row, sparse=attention == "sparse", trains=all_trains)
    stream = row.tokens * decoder.hidden_size * width
    outside = stream + row.tokens * _FLOAT + row.tokens * decoder.head_dim * _FLOAT  # the last norm, the rotation's tables
    outside += order + (row.tokens * _INT64 if ranks > 1 else 0)
    seen, see_layer = _vision(config.vision, grids, row, checkpointing) if all_trains and config.vision else (0, 0)
    return Activations(
        vision=seen,
        projector=_projector(config, grids, row),
        embeddings=row.tokens * _INT64 if all_trains else 0,
        decoder=decoder.layers * (stream if checkpointing else layer) + outside,
        indexer=(0 if checkpointing else decoder.layers * indexer) + index_tables,
        lm_head=_head(decoder, row, trains=all_trains),
        recomputed=max(layer + indexer, see_layer) if checkpointing else 0,
        working=working,
    )


@dataclass(frozen=True)
class _Row:
    """A packed row of samples of these lengths, `ranks` sharing it; `width`: bytes of an activation."""

    lengths: tuple[int, ...]
    width: int
    ranks: int

    @property
    def whole(self) -> int:
        """Tokens of the row."""
        return sum(self.lengths)

    @property
    def tokens(self) -> int:
        """Tokens of the rank with the most."""
        return -(-self.whole // self.ranks)

    @property
    def targets(self) -> int:
        """Of them, those that carry loss."""
        return self.tokens - (len(self.lengths) if self.ranks == 1 else 0)

    @property
    def keys(self) -> int:
        """Keys that this rank's two slices see, one sample being the row: the whole row and half a share."""
        return self.whole if self.ranks == 1 else self.whole + -(-self.whole // (2 * self.ranks))


def _norm(width: int, row: _Row, *, trains: bool) -> int:
    """One RMSNorm of a token: its input, a statistic, and its output when the product behind it trains."""
    return width * row.width * (2 if trains else 1) + _FLOAT


def _decoder_layer(decoder: DecoderConfig, row: _Row, *, sparse: bool, trains: bool) -> int:
    tokens, moe = row.tokens, decoder.moe
    query, key = decoder.heads * decoder.head_dim, decoder.kv_heads * decoder.head_dim
    chosen = moe.experts_per_token
    # A head's norm feeds the rotation, which keeps nothing: its output is not kept.
    normed = (query + key) * row.width + (decoder.heads + decoder.kv_heads) * _FLOAT
    # Sparse: q, k, v and the output, wide; the output once more as the samples are put together.
    # Dense: q, k, v, the output and the softmax's statistics; the output once more where samples are put together.
    wide = _FLOAT if sparse else row.width
    attention = 2 * query * wide
    if sparse:
        attention += query * row.width
    else:
        attention += decoder.heads * _FLOAT
        attention += query * row.width if trains and (len(set(row.lengths)) > 1 or row.ranks > 1) else 0
    seen = 2 * key * wide * (row.keys if sparse else row.whole)
    router = (moe.experts + chosen + (1 if moe.renormalise else 0)) * _FLOAT
    # The gate and up values of each row, and its weight. The rows themselves and what is made of them are computed again.
    experts = (2 * chosen * moe.expert_size + (chosen if moe.renormalise else 0)) * row.width
    per_token = normed + attention + router + experts + 2 * _norm(decoder.hidden_size, row, trains=trains)
    per_token += 3 * chosen * _INT64
    top_k = decoder.indexer.top_k
    selected = sum(length * min(top_k, length) for length in row.lengths) * _INT32 // row.ranks if sparse else 0
    return tokens * per_token + seen + selected + moe.experts * (_INT32 + _FLOAT)


def _indexer_layer(decoder: DecoderConfig, row: _Row, *, warmup: bool) -> int:
    """Its two norms, and the KL's gradient formed in the forward pass; in warm-up also the input nobody else keeps."""
    indexer = decoder.indexer
    queries = indexer.heads * indexer.head_dim
    normed = queries * row.width + (indexer.heads + indexer.head_dim + 2) * _FLOAT
    gradient = (queries + indexer.heads) * _FLOAT
    per_token = normed + gradient + (decoder.hidden_size * row.width if warmup else 0)
    widened = 2 * indexer.head_dim * _FLOAT if row.width < _FLOAT else 0  # the key norm's weight and bias
    return row.tokens * per_token + row.keys * indexer.head_dim * _FLOAT + widened


def _working(decoder: DecoderConfig, row: _Row, attention: AttentionMode) -> int:
    """The larger of the experts' backward, a chunk of queries against all keys, and a chunk of the loss."""
    size, moe, indexer = decoder.hidden_size, decoder.moe, decoder.indexer
    rows = row.tokens * moe.experts_per_token
    # The gradients by the inner values and by gate and up, the values made again, and the rows; some of the stream's size.
    experts = (rows * (5 * moe.expert_size + size) + 4 * row.tokens * size) * row.width
    # Logits and probabilities of all heads, the indexer's products twice, a group's targets; one layer's q, k, v and output.
    pairs = indexer.query_chunk * max(row.lengths)
    read = {"dense": 0, "sparse": indexer.heads + 3, "warmup": 2 * (decoder.heads + indexer.heads) + 3 * decoder.kv_heads}
    vectors = 3 * decoder.heads * decoder.head_dim * row.tokens + 4 * decoder.kv_heads * decoder.head_dim * row.keys
    attending = (pairs * read[attention] + vectors + 2 * row.tokens * size) * _FLOAT
    # Two chunks of logits; the gradient by the head is summed in float32.
    loss = 2 * min(LOSS_CHUNK, row.tokens * decoder.vocab_size) * _FLOAT
    loss += decoder.vocab_size * size * _FLOAT if row.width < _FLOAT else 0
    return max(experts if attention != "warmup" else 0, attending, loss)


def _head(decoder: DecoderConfig, row: _Row, *, trains: bool) -> int:
    """The loss's gradients by the hidden states and, when it trains, by the head; which rows had a target."""
    gradients = row.targets * decoder.hidden_size + (decoder.vocab_size * decoder.hidden_size if trains else 0)
    return gradients * row.width + row.targets * _INT64


def _vision(vision: VisionConfig, grids: list[tuple[int, int]], row: _Row, checkpointing: bool) -> tuple[int, int]:
    """(kept, one layer's) bytes of the trained tower."""
    patches = -(-sum(h * w for h, w in grids) // row.ranks)
    if not patches:
        return 0, 0
    wide = vision.hidden_size
    runs = sum(1 for n, (h, w) in enumerate(grids) if n == 0 or grids[n - 1][0] * grids[n - 1][1] != h * w)
    attention = (5 * wide + (wide if runs > 1 else 0)) * row.width + vision.heads * _FLOAT
    layer = patches * (attention + (3 * wide + 4 + 2 * vision.intermediate_size) * row.width)
    # Four taps of the position table a patch, once for each grid that occurs.
    taps = sum(h * w for h, w in set(grids)) * 4 * (_INT64 + row.width)
    outside = patches * ((vision.patch_values + wide + 2) * row.width + vision.head_dim * _FLOAT) + taps
    return outside + vision.layers * (patches * wide * row.width if checkpointing else layer), layer


def _projector(config: ModelConfig, grids: list[tuple[int, int]], row: _Row) -> int:
    if config.vision is None:
        return 0
    merged = config.vision.hidden_size * config.projector.merge_size**2
    visual = -(-sum(h * w for h, w in grids) // config.projector.merge_size**2 // row.ranks)
    # Norm input and statistics, the two products' inputs, the GELU's; then the tokens and their places in the row.
    return visual * ((4 * merged + 2 + config.decoder.hidden_size) * row.width + _INT64)
