"""Held-out loss and indexer recall, on one common set for the whole run.

Decided here: every evaluation of a run reads the same sequences: held-out ones of stage 3, evenly spaced over their order,
because stage 3 packs every kind of sample at the longest context; so the losses of a run form one curve. Attention is what the
model has learnt to work with by then: dense until a phase trained sparse attention, sparse from there on. The loss is the mean
over targets, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from manifests.progress import Progress
from manifests.stage_spec import Attention, PhaseSpec, StageSpec
from model.output import ModelOutput
from model.vlm import VisionLanguageModel
from trainer.collate import PackedBatch
from trainer.loader import StageSequences
from trainer.ranks import Ranks
from trainer.sample_facts import LossByKind, SampleKind

# Measuring dense attention mass is quadratic in length; a few sequences hold thousands of queries.
RECALL_SEQUENCES = 2


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of one model.

    Attributes:
        loss: mean next-token loss in nats; None without held-out sequences.
        recall: dense attention mass on the indexers' top-k, over queries that see more than k tokens; None when not measured.
        attention: the mode the loss was measured in.
        sequences, targets: what the loss is a mean over.
        losses: the same by task, modality, context and duration bucket: axis -> group -> (mean loss, targets).
    """

    loss: float | None
    recall: float | None
    attention: Attention
    sequences: int
    targets: int
    losses: dict[str, dict[str, tuple[float, int]]] = field(default_factory=dict)


def evenly_spaced(count: int, at_most: int) -> list[int]:
    """At most so many of ``range(count)``, spread over it."""
    kept = min(count, at_most)
    return [index * count // kept for index in range(kept)]


def evaluation_attention(trained: Sequence[PhaseSpec]) -> Attention:
    """``sparse`` once a phase has trained it, ``dense`` before."""
    return "sparse" if any(phase.attention == "sparse" for phase in trained) else "dense"


def phases_until(stages: Sequence[StageSpec], number: int) -> list[PhaseSpec]:
    """The phases of the stages up to and including one."""
    return [phase for stage in stages if stage.number <= number for phase in stage.phases]


@torch.no_grad()
def evaluate(
    model: VisionLanguageModel,
    heldout: StageSequences,
    *,
    at_most: int,
    attention: Attention,
    with_recall: bool,
    ranks: Ranks,
    progress: Progress,
    label: str,
    kinds: Sequence[SampleKind] = (),
) -> Evaluation:
    """Measures a model on the common held-out set; sequences are spread over the ranks.

    Args:
        kinds: of samples that losses are told apart by, the same on every rank.
    """
    positions = evenly_spaced(len(heldout), at_most)
    if not positions:
        return Evaluation(loss=None, recall=None, attention=attention, sequences=0, targets=0)
    recall_at = set(evenly_spaced(len(positions), RECALL_SEQUENCES)) if with_recall else set()
    sums, by_kind = [0.0, 0.0, 0.0, 0.0], LossByKind(kinds)
    mine = list(enumerate(positions))[ranks.rank :: ranks.world]
    for done, (index, position) in enumerate(mine):
        if ranks.leads:
            progress(label, done, len(mine), f"{attention} attention")
        batch = heldout.batch(position).to(ranks.device)
        measures = index in recall_at
        output = _forward(model, batch, attention, measures and attention == "dense")
        assert output.token_losses_sum is not None
        sums[0] += float(output.token_losses_sum)
        sums[1] += batch.targets
        if batch.facts and output.sample_losses is not None and output.sample_targets is not None:
            by_kind.add(batch.facts, output.sample_losses.tolist(), output.sample_targets.tolist())
        if measures:
            recall = output.recall or _forward(model, batch, "dense", True).recall
            assert recall is not None
            sums[2] += recall.mean * recall.queries
            sums[3] += recall.queries
    losses, targets, covered, queries, *groups = ranks.total([*sums, *by_kind.values()])
    if ranks.leads:
        progress(label, len(mine), len(mine), f"{attention} attention")
    return Evaluation(
        loss=losses / targets if targets else None,
        recall=covered / queries if queries else None,
        attention=attention,
        sequences=len(positions),
        targets=int(targets),
        losses=by_kind.along(groups),
    )


def _forward(model: VisionLanguageModel, batch: PackedBatch, attention: Attention, measure_recall: bool) -> ModelOutput:
    return model(
        batch.input_ids,
        cu_seqlens=batch.cu_seqlens,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        attention=attention,
        labels=batch.labels,
        need_logits=False,
        measure_recall=measure_recall,
    )
