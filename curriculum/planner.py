"""A corpus and a recipe to four stage manifests: what every optimiser step of training will read, in order.

For each stage: choose samples by the mixture, pack so that no sequence holds a sample twice, pack the
held-out samples apart, order the training sequences so that steps cost the same, and write three tables. The result depends
on samples and recipe alone. Nothing is written before every stage is known to have something to train on.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curriculum.balance import attention_cost, balanced_order, unevenness
from curriculum.candidates import Candidates, read_candidates
from curriculum.mixture import Selection, select
from curriculum.packing import place
from manifests import schemas
from manifests.corpus import Corpus
from manifests.errors import LongreelError, UsageError
from manifests.fingerprint import canonical_json, code_fingerprint, sha256_bytes, value_id
from manifests.progress import Progress, silent
from manifests.recipe import Recipe, StageSpec

TABLES = ("sequences", "segments", "stages")


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """What planning left.

    Attributes:
        counts: ``stages``: for each its number, name, context, sequences, heldout_sequences, segments, tokens, visual_tokens,
            learned_tokens, fill, steps, shortfall (see `curriculum.mixture`) and unevenness of the steps, planned and shuffled.
        unchanged: the plan was there already.
        digest: one hash over its files.
        seconds: wall time.
    """

    counts: dict[str, Any]
    unchanged: bool
    digest: str
    seconds: float


def plan(corpus_folder: Path, recipe: Recipe, *, progress: Progress = silent) -> PlanResult:
    """Plans all stages of a recipe; does nothing when this plan is there already.

    Raises:
        UsageError: the folder holds no corpus, the corpus counts tokens otherwise, or the recipe's name cannot name a folder.
        LongreelError: a stage finds nothing to train on.
    """
    started = time.monotonic()
    corpus = Corpus.open(corpus_folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", recipe.name):
        raise UsageError(f"recipe name {recipe.name!r} cannot name a folder: use letters, digits, '.', '_' and '-'")
    corpus.require_costs_of(recipe)
    step, fingerprint = f"plan-{recipe.name}", _fingerprint(corpus, recipe)
    if corpus.is_current(step, fingerprint):
        record = corpus.record(step)
        assert record is not None
        return PlanResult(counts=record.counts, unchanged=True, digest=record.digest, seconds=time.monotonic() - started)
    parts = 2 * len(recipe.stages)
    progress("plan", 0, parts, "reading samples")
    candidates = read_candidates(corpus)
    selections = []
    for stage in recipe.stages:
        progress("plan", stage.number, parts, f"stage {stage.number}: mixture")
        selections.append(select(candidates, stage))
        _require_something(candidates, stage, selections[-1])
    corpus.begin(step)
    written: list[Path] = []
    stages = []
    for stage, selection in zip(recipe.stages, selections, strict=True):
        progress("plan", len(recipe.stages) + stage.number, parts, f"stage {stage.number}: packing")
        counts, paths = _write_stage(corpus, recipe, stage, candidates, selection, fingerprint)
        stages.append(counts)
        written += paths
    owned = [corpus.table(name, recipe=recipe.name) for name in TABLES]
    record = corpus.commit(step, fingerprint, {"recipe": recipe.name, "stages": stages}, written, owned)
    progress("plan", parts, parts)
    return PlanResult(counts=record.counts, unchanged=False, digest=record.digest, seconds=time.monotonic() - started)


def _fingerprint(corpus: Corpus, recipe: Recipe) -> str:
    records = {name: corpus.record(name) for name in ("curate", "synthesize")}
    digests = {name: record.digest if record is not None else None for name, record in records.items()}
    return value_id({"corpus": digests, "recipe": recipe, "code": code_fingerprint("manifests", "curriculum")})


def _require_something(candidates: Candidates, stage: StageSpec, selection: Selection) -> None:
    if selection.rounds:
        return
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in selection.report["left_out"].items() if count)
    eligible = sum(entry["samples"] for entry in selection.report["ingredients"])
    why = (
        f"{eligible:,} samples are eligible, but stage{stage.number}.tokens={stage.tokens} leaves room for none"
        if eligible
        else f"of {np.count_nonzero(~candidates.heldout):,} training samples, {left_out or 'none'}"
    )
    tasks = ", ".join(candidates.tasks[:12]) or "none"
    wanted = ", ".join(entry.task for entry in stage.mixture)
    raise LongreelError(
        f"stage {stage.number} ({stage.name}) has nothing to train on: {why}. "
        f"Its mixture names {wanted}; the corpus has {tasks}"
    )


@dataclass(frozen=True, kw_only=True)
class _Packed:
    """Sequences of one split in their order: the rows of `Candidates` in them, and where in ``rows`` each sequence starts."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Samples of each sequence."""
        return np.diff(np.append(self.starts, len(self.rows)))

    @property
    def epochs(self) -> NDArray[np.int64]:
        """How often the row of each segment stood in an earlier one."""
        order = np.argsort(self.rows, kind="stable")
        first = np.flatnonzero(np.diff(self.rows[order], prepend=-1))
        since = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        epochs = np.empty(len(order), dtype=np.int64)
        epochs[order] = since
        return epochs

    def reordered(self, order: NDArray[np.int64]) -> _Packed:
        """The same sequences in another order."""
        counts = self.counts[order]
        starts = np.cumsum(counts) - counts
        index = np.repeat(self.starts[order] - starts, counts) + np.arange(len(self.rows))
        return _Packed(rows=self.rows[index], starts=starts)


def _packed(candidates: Candidates, stage: StageSpec, rounds: tuple[NDArray[np.int64], ...]) -> _Packed:
    """Packs round after round; the emptiest sequence of a round stays open for the samples of the next that are not in it."""
    sequences: list[NDArray[np.int64]] = []
    for rows in rounds:
        emptiest = min(sequences, key=lambda held: int(candidates.total[held].sum()), default=None)
        if emptiest is None:
            sequences += _into(candidates, stage, rows, [])
            continue
        sequences = [held for held in sequences if held is not emptiest]
        again = np.isin(rows, emptiest)
        opened, *new = _into(candidates, stage, rows[~again], [emptiest])
        sequences += [opened, *_into(candidates, stage, rows[again], new)]
    counts = np.array([len(held) for held in sequences], dtype=np.int64)
    rows = np.concatenate([np.empty(0, dtype=np.int64), *sequences])
    return _Packed(rows=rows, starts=np.cumsum(counts) - counts)


def _into(
    candidates: Candidates, stage: StageSpec, rows: NDArray[np.int64], opened: list[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """The open sequences with what of ``rows`` went into them, then the new ones."""
    room = [stage.context - int(candidates.total[held].sum()) for held in opened]
    visual_room = [stage.visual_budget - int(candidates.visual[held].sum()) for held in opened]
    numbers = place(candidates.total[rows], candidates.visual[rows], stage.context, stage.visual_budget, room, visual_room)
    count = max(len(opened), int(numbers.max(initial=-1)) + 1)
    order = np.argsort(numbers, kind="stable")
    added = np.split(rows[order], np.searchsorted(numbers[order], np.arange(1, count))) if count else []
    return [np.concatenate([held, more]) for held, more in zip(opened, added, strict=False)] + added[len(opened) :]


def _write_stage(
    corpus: Corpus, recipe: Recipe, stage: StageSpec, candidates: Candidates, selection: Selection, fingerprint: str
) -> tuple[dict[str, Any], list[Path]]:
    train = _packed(candidates, stage, selection.rounds)
    costs = _sequence_costs(candidates, train, recipe.model.top_k)
    seed = (stage.seed, stage.number)
    by_chance = np.argsort(candidates.keys(train.rows[train.starts], *seed, "random order"), kind="stable")
    order = balanced_order(costs, stage.sequences_per_step, *seed)
    train = train.reordered(order)
    heldout = _packed(candidates, stage, (selection.heldout,))
    tables = [_tables(recipe, stage, split, candidates, packed) for split, packed in (("heldout", heldout), ("train", train))]
    tokens = int(candidates.total[train.rows].sum())
    counts = {
        "stage": stage.number,
        "name": stage.name,
        "context": stage.context,
        "sequences": len(train.starts),
        "heldout_sequences": len(heldout.starts),
        "segments": len(train.rows),
        "tokens": tokens,
        "visual_tokens": int(candidates.visual[train.rows].sum()),
        "learned_tokens": int(candidates.learned[train.rows].sum()),
        "fill": round(tokens / (len(train.starts) * stage.context), 6),
        "steps": math.ceil(len(train.starts) / stage.sequences_per_step),
        "shortfall": selection.report,
        "unevenness": {
            "planned": round(unevenness(costs[order], stage.sequences_per_step), 4),
            "shuffled": round(unevenness(costs[by_chance], stage.sequences_per_step), 4),
        },
    }
    row = {field.name: counts.get(field.name) for field in schemas.STAGES} | {
        "recipe": recipe.name,
        "visual_budget": stage.visual_budget,
        "shortfall": canonical_json(selection.report),
        "specification": canonical_json(recipe),
        "fingerprint": fingerprint,
    }
    sequences, segments = (pa.concat_tables([table[which] for table in tables]) for which in (0, 1))
    paths = corpus.write_table("sequences", sequences, recipe=recipe.name, stage=stage.number)
    paths += corpus.write_table("segments", segments, recipe=recipe.name, stage=stage.number)
    return counts, paths + corpus.write_table("stages", [row], recipe=recipe.name, stage=stage.number)


def _sequence_costs(candidates: Candidates, packed: _Packed, top_k: int) -> NDArray[np.int64]:
    return (
        np.add.reduceat(attention_cost(candidates.total[packed.rows], top_k), packed.starts)
        if len(packed.rows)
        else packed.starts
    )


def _tables(recipe: Recipe, stage: StageSpec, split: str, candidates: Candidates, packed: _Packed) -> tuple[pa.Table, pa.Table]:
    """Rows of ``sequences`` and ``segments`` of one split, in their order."""
    rows, starts, counts = packed.rows, packed.starts, packed.counts
    number = np.repeat(np.arange(len(starts)), counts)
    total = candidates.total[rows]
    ends = np.cumsum(total)
    before = np.repeat((ends - total)[starts], counts)
    ids = _sequence_ids(stage, candidates, packed)

    def summed(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.add.reduceat(values, starts) if len(starts) else starts

    def columns(schema: pa.Schema, length: int, **values: Any) -> pa.Table:
        same = {"recipe": recipe.name, "stage": stage.number, "split": split, "capacity": stage.context}
        arrays = [
            pa.array(values[field.name], type=field.type) if field.name in values
            else pa.repeat(pa.scalar(same[field.name], type=field.type), length)
            for field in schema
        ]  # fmt: skip
        return pa.Table.from_arrays(arrays, schema=schema)

    sequences = columns(
        schemas.SEQUENCES,
        len(starts),
        position=np.arange(len(starts)),
        sequence_id=ids,
        segments=counts,
        tokens=summed(total),
        visual_tokens=summed(candidates.visual[rows]),
        learned_tokens=summed(candidates.learned[rows]),
        attention_cost=_sequence_costs(candidates, packed, recipe.model.top_k),
    )
    segments = columns(
        schemas.SEGMENTS,
        len(rows),
        position=number,
        segment=np.arange(len(rows)) - np.repeat(starts, counts),
        sequence_id=pa.array(ids, type=pa.string()).take(pa.array(number)),
        sample_id=pa.array(candidates.ids[rows].astype(str), type=pa.string()),
        epoch=packed.epochs,
        token_start=ends - total - before,
        token_end=ends - before,
        visual_tokens=candidates.visual[rows],
    )
    return sequences, segments


def _sequence_ids(stage: StageSpec, candidates: Candidates, packed: _Packed) -> list[str]:
    """Hash of the stage and of (sample, epoch) in order, so that a sequence that comes again does not come with the same id."""
    samples = candidates.ids[packed.rows].tolist()
    epochs = packed.epochs.tolist()
    ends = np.append(packed.starts[1:], len(samples)).tolist()
    ids = []
    for start, end in zip(packed.starts.tolist(), ends, strict=True) if len(packed.starts) else ():
        text = b"".join(
            b"%s@%d," % (sample, epoch) for sample, epoch in zip(samples[start:end], epochs[start:end], strict=True)
        )
        ids.append(sha256_bytes(b"stage%d:" % stage.number + text)[:32])
    return ids
