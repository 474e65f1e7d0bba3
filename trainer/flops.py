"""Model operations of a training step, for model FLOP utilisation: the model's own counts (`model.costs`) of what was fed.

With F a part's forward pass, by what a phase trains

    everything   3 F of vision, projector and decoder; where attention is sparse, F of the indexers, and 2 F of their
                 projections and of the pairs that were read: backward goes through these alone
    projector    F of vision, 3 F of the projector, 2 F of the decoder   (its gradient passes through, its weights have none)
    indexer      F of vision, projector and decoder, 3 F of the indexers

Decided here: what activation checkpointing computes again is not counted, nor what only padding or a blank picture costs: the
figure says how much of the machine went into the model.
"""

from __future__ import annotations

import itertools

from manifests.stage_spec import PhaseSpec
from model.config import ModelConfig
from model.costs import forward_flops, visible_pairs
from trainer.collate import PackedBatch


def step_flops(config: ModelConfig, phase: PhaseSpec, batch: PackedBatch) -> float:
    """Operations of forward and backward over one packed sequence."""
    cu = batch.cu_seqlens.tolist()
    lengths = [end - start for start, end in itertools.pairwise(cu)]
    grids = [] if batch.image_grid_thw is None else [(h, w) for _, h, w in batch.image_grid_thw.tolist()]
    one = forward_flops(config, lengths, grids, attention=phase.attention)
    decoder = one.decoder_linear + one.attention + one.lm_head
    if phase.trains == "projector":
        return float(one.vision + 3 * one.projector + 2 * decoder + one.indexer)
    if phase.trains == "indexer":
        return float(one.vision + one.projector + decoder + 3 * one.indexer)
    return float(3 * (one.vision + one.projector + decoder) + one.indexer + 2 * _taught(config, phase, lengths))


def _taught(config: ModelConfig, phase: PhaseSpec, lengths: list[int]) -> int:
    """Forward operations of the part of the indexers that a sparse pass goes back through."""
    if phase.attention == "dense":
        return 0
    decoder, indexer = config.decoder, config.decoder.indexer
    projections = sum(lengths) * decoder.hidden_size * (indexer.heads * (indexer.head_dim + 1) + indexer.head_dim)
    pairs = sum(visible_pairs(length, indexer.top_k) for length in lengths)
    return 2 * decoder.layers * (projections + pairs * indexer.heads * (indexer.head_dim + 1))
