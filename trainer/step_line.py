"""One step as ``metrics.jsonl`` keeps it.

Decided here: a line is whole in itself, in plain numbers, so that any tool reads it; figures that older lines lack are absent
there, and a reader must not need them. A loss that is no number is null: NaN is no JSON.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from trainer.engine import StepFigures


@dataclass(frozen=True, kw_only=True)
class StepLine:
    """What a step did, over all ranks; times and memory are the leading rank's.

    Attributes:
        step: counted from 1 in its stage.
        loss: mean next-token loss, in nats.
        indexer_loss: KL summed over groups, mean over tokens and layers; None where attention is dense.
        indexer_kl: the same by layer.
        indexer_recall: share of dense attention mass on the indexer's choice, where it was measured; otherwise None.
        lr: learning rate of the step.
        seconds: of the whole step; data_wait_s, forward_s, backward_s and optimiser_s are parts of it.
        data_wait_mean_s: the wait, mean over ranks.
        flops: model operations of all ranks; mfu: their share of the ranks' peak in that time.
        memory_bytes: the most memory so far (of the GPU, or resident).
        sequences: first position in the stage's order of packed sequences, and one past the last: with the plan's ``segments``
            they name the step's samples.
        losses: axis (task, modality, context, duration) -> group -> [mean loss, targets].
        samples: fingerprint of the samples that were trained on, in order (`trainer.sample_order`).
        skipped: why the step did not change the weights; None when it did.
        expert_load, experts_unused, router_entropy: by layer, see `trainer.tally.StepSight`.
    """

    stage: int
    phase: str
    step: int
    loss: float
    indexer_loss: float | None
    balance_loss: float
    grad_norm: float
    lr: float
    tokens: int
    visual_tokens: int
    seconds: float
    data_wait_s: float
    forward_s: float
    backward_s: float
    optimiser_s: float
    data_wait_mean_s: float
    tokens_per_s: float
    flops: float
    mfu: float | None
    memory_bytes: int
    sequences: tuple[int, int]
    losses: dict[str, dict[str, tuple[float, int]]]
    indexer_kl: list[float]
    indexer_recall: float | None
    expert_load: list[float]
    experts_unused: list[int]
    router_entropy: list[float]
    samples: str
    skipped: str | None

    def text(self) -> str:
        """One line of JSON."""
        return json.dumps(_finite(asdict(self)))


def step_line(
    figures: StepFigures,
    *,
    stage: int,
    phase: str,
    step: int,
    sequences: range,
    learning_rate: float,
    seconds: float,
    data_wait_s: float,
    peak_flops: float | None,
    memory_bytes: int,
    recall: float | None = None,
) -> StepLine:
    """The line of a step.

    Args:
        sequences: positions in the stage's order.
        seconds: of the whole step, the wait for data included.
        peak_flops: operations a second that all ranks could do; None when nobody knows.
    """
    sight = figures.sight
    took = max(seconds, 1e-9)
    return StepLine(
        stage=stage,
        phase=phase,
        step=step,
        loss=figures.loss,
        indexer_loss=figures.indexer_loss,
        balance_loss=figures.balance_loss,
        grad_norm=figures.grad_norm,
        lr=learning_rate,
        tokens=figures.tokens,
        visual_tokens=figures.visual_tokens,
        seconds=round(seconds, 4),
        data_wait_s=round(data_wait_s, 4),
        forward_s=round(figures.forward_s, 4),
        backward_s=round(figures.backward_s, 4),
        optimiser_s=round(figures.optimiser_s, 4),
        data_wait_mean_s=round(sight.data_wait_s, 4),
        tokens_per_s=round(figures.tokens / took, 1),
        flops=sight.flops,
        mfu=None if not peak_flops else round(sight.flops / took / peak_flops, 5),
        memory_bytes=memory_bytes,
        sequences=(sequences.start, sequences.stop),
        losses=sight.losses,
        indexer_kl=sight.indexer_kl,
        indexer_recall=recall,
        expert_load=sight.expert_load,
        experts_unused=sight.experts_unused,
        router_entropy=sight.router_entropy,
        samples=figures.samples,
        skipped=figures.skipped,
    )


def _finite(value: Any) -> Any:
    """The same value with null for what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
