"""Which part of a packed sequence the indexer's recall is measured on while training goes on.

Decided here: one sample: the longest of those that have at most `TIMES` times as many tokens as the indexer chooses, or the
shortest where all are longer. Measuring is quadratic in length: a whole sequence of 8,176 tokens took as long as its training
step in the demo. After each stage the held-out sequences are measured whole.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from model.config import ModelConfig
from trainer.collate import PackedBatch

TIMES = 32


def measured_sample(batch: PackedBatch, config: ModelConfig) -> PackedBatch:
    """The sample of a packed sequence to measure on, as a sequence of its own."""
    sizes = [end - start for start, end in pairwise(batch.cu_seqlens.tolist())]
    most = TIMES * config.decoder.indexer.top_k
    short = [number for number, size in enumerate(sizes) if size <= most]
    chosen = max(short, key=sizes.__getitem__) if short else min(range(len(sizes)), key=sizes.__getitem__)
    return one_sample(batch, chosen, config)


def one_sample(batch: PackedBatch, number: int, config: ModelConfig) -> PackedBatch:
    """A sample of a packed sequence with its pictures, as a sequence of its own."""
    start, end = batch.cu_seqlens[number : number + 2].tolist()
    visual_T = batch.input_ids == config.image_token_id
    skipped, mine = int(visual_T[:start].sum()), int(visual_T[start:end].sum())
    pixels = grid = share = None
    if mine and batch.image_grid_thw is not None and batch.pixel_values is not None:
        patches_N = batch.image_grid_thw.prod(1)
        each = config.projector.merge_size**2
        ends_N = (patches_N // each).cumsum(0)
        of_N = (ends_N > skipped) & (ends_N <= skipped + mine)
        grid, share = batch.image_grid_thw[of_N], batch.share
        if share is None:
            pixels = batch.pixel_values[skipped * each : (skipped + mine) * each]
        else:
            numbers = of_N.nonzero().squeeze(1).tolist()
            here = [number for number in range(len(share.owners)) if share.has(number)]
            parts = dict(zip(here, batch.pixel_values.split(patches_N[here].tolist()), strict=True))
            pixels = torch.cat([batch.pixel_values[:0], *(parts[number] for number in numbers if share.has(number))])
            share = replace(share, owners=tuple(share.owners[number] for number in numbers))
    return replace(
        batch,
        input_ids=batch.input_ids[start:end],
        labels=batch.labels[start:end],
        cu_seqlens=batch.cu_seqlens[number : number + 2] - start,
        pixel_values=pixels,
        image_grid_thw=grid,
        targets=int((batch.labels[start + 1 : end] >= 0).sum()),
        visual_tokens=mine,
        facts=batch.facts[number : number + 1],
        share=share,
    )
