"""What a forward pass returns.

Decided here: losses stay apart and carry gradient; the caller says how they add up (`ModelOutput.combine`), because
their weights belong to a stage and not to the model. Statistics are detached. Of a row that ranks share each has a part of the
losses, load and entropy, which add up to the row's; recall and `token_count` are the whole row's.

Shapes: T tokens, V vocabulary, N layers, E experts, K selected keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class RouterStatistics:
    """`load`: [N, E] int64, choices of each expert. `entropy`: [N] float32, mean entropy of the router in nats."""

    load: Tensor
    entropy: Tensor


@dataclass
class RecallStatistics:
    """Dense attention mass (mean over heads) on the indexers' sets.

    `per_layer` [N], `mean`: over the `queries` that see more than k tokens (1 where there are none).
    `per_layer_all` [N], `mean_all`: over all queries.
    `attainable_per_layer` [N], `attainable`: what the best sets of k keys would cover, over the same queries as `mean`.
    """

    per_layer: Tensor
    mean: float
    per_layer_all: Tensor
    mean_all: float
    attainable_per_layer: Tensor
    attainable: float
    queries: int

    @classmethod
    def of(cls, covered_NT: Tensor, attainable_NT: Tensor, choosing_T: Tensor) -> RecallStatistics:
        """From each query's covered and coverable mass [N, T] and whether it had to choose [T] bool."""
        queries, layers = int(choosing_T.sum()), len(covered_NT)
        per_layer = covered_NT[:, choosing_T].mean(1) if queries else torch.ones(layers)
        attainable = attainable_NT[:, choosing_T].mean(1) if queries else torch.ones(layers)
        per_layer_all = covered_NT.mean(1)
        return cls(
            per_layer=per_layer,
            mean=float(per_layer.mean()),
            per_layer_all=per_layer_all,
            mean_all=float(per_layer_all.mean()),
            attainable_per_layer=attainable,
            attainable=float(attainable.mean()),
            queries=queries,
        )


@dataclass
class ModelOutput:
    """Losses, statistics and, when asked for, logits.

    `logits`: [T, V] or [B, L, V], or None. `loss`: mean next-token loss; `token_losses_sum` over `token_count` tokens.
    `sample_losses` [S] float64, `sample_targets` [S] int64: the same by sample of the packed row, detached.
    `indexer_loss`: KL summed over groups, mean over tokens and layers; `indexer_loss_per_layer` [N], detached.
    `load_balancing_loss`: 1 when balanced. `selected`: layer -> sample -> [T, K] int32 sets, when kept.
    """

    router: RouterStatistics
    load_balancing_loss: Tensor
    logits: Tensor | None = None
    loss: Tensor | None = None
    token_losses_sum: Tensor | None = None
    token_count: int = 0
    sample_losses: Tensor | None = None
    sample_targets: Tensor | None = None
    indexer_loss: Tensor | None = None
    indexer_loss_per_layer: Tensor | None = None
    recall: RecallStatistics | None = None
    selected: list[list[Tensor]] | None = None

    def combine(self, *, lambda_indexer: float = 1.0, lambda_balance: float = 0.0) -> Tensor:
        """The loss to call backward on: next-token + lambda_indexer * KL + lambda_balance * balancing, of those present
        that carry a gradient (in warm-up only the KL does).

        Raises:
            ValueError: nothing to train on (no labels in dense mode, or no gradient anywhere).
        """
        weighted = ((self.loss, 1.0), (self.indexer_loss, lambda_indexer), (self.load_balancing_loss, lambda_balance))
        terms = [loss * weight for loss, weight in weighted if loss is not None and weight and loss.requires_grad]
        if not terms:
            raise ValueError("no loss carries a gradient: give labels, or use attention='warmup' or 'sparse', outside no_grad")
        return torch.stack(terms).sum()
