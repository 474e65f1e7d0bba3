"""A planned stage as rows of ``sequences``, ``segments`` and ``stages``.

Decided here: a file of ``segments`` is made and written before the next one, so that a stage of ten million segments never
stands in memory as strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curriculum.candidates import Candidates
from curriculum.cost import attention_cost, sample_flops
from curriculum.sequences import Sequences
from manifests import schemas
from manifests.corpus import Corpus
from manifests.fingerprint import canonical_json
from manifests.recipe import Recipe
from manifests.stage_spec import StageSpec

TABLES = ("sequences", "segments", "stages")
ROWS_PER_FILE = 1_000_000


def write_stage(
    corpus: Corpus,
    recipe: Recipe,
    stage: StageSpec,
    candidates: Candidates,
    train: Sequences,
    heldout: Sequences,
    figures: dict[str, Any],
    fingerprint: str,
) -> list[Path]:
    """Writes the three tables of a stage; returns the paths."""
    splits = [
        ("heldout", heldout, heldout.ids(candidates, stage.number)),
        ("train", train, train.ids(candidates, stage.number)),
    ]  # fmt: skip
    where: dict[str, Any] = {"recipe": recipe.name, "stage": stage.number}
    sequences = [_sequences(recipe, stage, split, candidates, packed, ids) for split, packed, ids in splits]
    paths = corpus.write_table("sequences", pa.concat_tables(sequences), rows_per_file=ROWS_PER_FILE, **where)
    pieces = (
        piece for split, packed, ids in splits for piece in _segments(recipe, stage, split, candidates, packed, ids)
    )  # fmt: skip
    paths += corpus.write_parts("segments", pieces, **where)
    row = {field.name: figures.get(field.name) for field in schemas.STAGES} | {
        "recipe": recipe.name,
        "visual_budget": stage.visual_budget,
        "shortfall": canonical_json(figures["shortfall"]),
        "unevenness": canonical_json(figures["unevenness"]),
        "top_sources": canonical_json(figures["top_sources"]),
        "specification": canonical_json(recipe),
        "fingerprint": fingerprint,
    }
    return paths + corpus.write_table("stages", [row], **where)


def _columns(schema: pa.Schema, length: int, same: dict[str, Any], values: dict[str, Any]) -> pa.Table:
    arrays = [
        pa.array(values[field.name], type=field.type) if field.name in values
        else pa.repeat(pa.scalar(same[field.name], type=field.type), length)
        for field in schema
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=schema)


def _sequences(
    recipe: Recipe, stage: StageSpec, split: str, candidates: Candidates, packed: Sequences, ids: list[str]
) -> pa.Table:
    """Rows of ``sequences`` of one split, in their order."""
    rows = packed.rows
    total = candidates.total[rows]
    flops = sample_flops(total, recipe.model, stage)
    return _columns(
        schemas.SEQUENCES,
        len(packed),
        {"recipe": recipe.name, "stage": stage.number, "split": split, "capacity": stage.context},
        {
            "position": np.arange(len(packed)),
            "sequence_id": ids,
            "segments": packed.counts,
            "tokens": packed.summed(total),
            "visual_tokens": packed.summed(candidates.visual[rows]),
            "learned_tokens": packed.summed(candidates.learned[rows]),
            "attention_cost": packed.summed(attention_cost(total, recipe.model.top_k)),
            "flops": np.add.reduceat(flops, packed.starts) if len(packed) else flops,
        },
    )


def _segments(
    recipe: Recipe, stage: StageSpec, split: str, candidates: Candidates, packed: Sequences, ids: list[str]
) -> Iterator[pa.Table]:
    """Rows of ``segments`` of one split, in their order, in pieces of whole sequences."""
    names = pa.array(ids, type=pa.string())
    epochs = packed.epochs.astype(np.int32)
    total = candidates.total[packed.rows].astype(np.int64)
    ends = np.cumsum(total)
    counts = packed.counts
    first = 0
    while first < len(packed):
        limit = packed.starts[first] + ROWS_PER_FILE
        last = max(first + 1, int(np.searchsorted(packed.starts, limit, side="right")) - 1)
        if packed.starts[-1] + counts[-1] <= limit:
            last = len(packed)
        here = slice(int(packed.starts[first]), int(packed.starts[last - 1] + counts[last - 1]))
        each, starts = counts[first:last], packed.starts[first:last]
        before = np.repeat((ends - total)[starts], each)
        number = np.repeat(np.arange(first, last), each)
        yield _columns(
            schemas.SEGMENTS,
            here.stop - here.start,
            {"recipe": recipe.name, "stage": stage.number, "split": split},
            {
                "position": number,
                "segment": np.arange(here.start, here.stop) - np.repeat(starts, each),
                "sequence_id": names.take(pa.array(number)),
                "sample_id": candidates.ids(packed.rows[here]),
                "epoch": epochs[here],
                "token_start": (ends - total)[here] - before,
                "token_end": ends[here] - before,
                "visual_tokens": candidates.visual[packed.rows[here]],
            },
        )
        first = last
