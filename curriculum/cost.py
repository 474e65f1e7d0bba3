"""What a packed sequence costs to train on: operations of the decoder's forward pass, from lengths alone.

Decided here: cost is counted in floating-point operations, not in query-key pairs alone, because at 32K a sequence's
projections and experts cost more than its attention, and at 256K the indexer costs more than both. A multiply-add is two
operations; norms and softmax are left out. At a token that sees v tokens of its own sample (itself included) the indexer
scores v pairs and attention reads v pairs (dense) or min(v, top_k) (sparse; arXiv 2512.02556), so a sample of n tokens has,
with T(m) = m (m + 1) / 2,

    scored = T(n)        read = T(n)  or  T(min(n, top_k)) + top_k * max(0, n - top_k)

and attention never crosses from one sample to the next. What a token, a scored and a read pair cost is a property of the
model: `manifests.stage_spec.CostSpec`, which a test holds against `model.costs`. The vision tower is not in here: its work is
spread over the ranks picture by picture (`curriculum.balance.shared_out`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manifests.stage_spec import ModelSpec, StageSpec

Integers = NDArray[np.int64]


def visible_pairs(lengths: ArrayLike) -> Integers:
    """Query-key pairs of causal attention within samples of these many tokens, each by itself."""
    n = np.asarray(lengths, dtype=np.int64)
    return n * (n + 1) // 2


def read_pairs(lengths: ArrayLike, top_k: int) -> Integers:
    """Query-key pairs that sparse attention reads: at most ``top_k`` a query."""
    n = np.asarray(lengths, dtype=np.int64)
    near = np.minimum(n, top_k)
    return near * (near + 1) // 2 + top_k * (n - near)


def attention_cost(lengths: ArrayLike, top_k: int) -> Integers:
    """Query-key pairs scored and attended in sparse mode."""
    return visible_pairs(lengths) + read_pairs(lengths, top_k)


def sample_flops(lengths: ArrayLike, model: ModelSpec, stage: StageSpec) -> NDArray[np.float64]:
    """Operations of the decoder's forward pass over samples of these many tokens, averaged over the stage's phases.

    float64 [n]: exact up to 2^53, and the largest sample costs 6e15.
    """
    n = np.asarray(lengths, dtype=np.int64)
    visible, read = visible_pairs(n).astype(np.float64), read_pairs(n, model.top_k).astype(np.float64)
    cost = model.cost
    operations = n.astype(np.float64) * cost.token
    for phase in stage.phases:
        if phase.attention != "dense":
            operations += phase.share * (visible * cost.scored_pair + n * cost.indexer_token)
        operations += phase.share * (read if phase.attention == "sparse" else visible) * cost.read_pair
    return operations
