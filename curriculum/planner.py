"""A corpus and a recipe to four stage manifests: what every optimiser step of training will read, in order.

For each stage: keep what still holds of a previous plan if there is one, choose the rest by the mixture, pack so that no
sequence holds a sample twice, pack the held-out samples apart, order the training sequences so that ranks and steps cost the
same, and write three tables. The result depends on samples, recipe and previous plan alone, not on threads. Every choice of
every stage is made, and every demand of the recipe checked, before anything is written.

Measured on 2 cores: `benchmarks/plan_scale.py`.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curriculum import tables
from curriculum.balance import balanced_order, evenness
from curriculum.bounds import lower_bound_of_two
from curriculum.candidates import Candidates, hex_ids, read_candidates
from curriculum.cost import read_pairs, sample_flops, visible_pairs
from curriculum.demands import require_met, require_nothing_too_long
from curriculum.mixture import Selection, select
from curriculum.replanning import kept_sequences, previous_plan
from curriculum.sequences import Rows, Sequences, pack_rounds
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.fingerprint import code_fingerprint, value_id
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from manifests.stage_spec import StageSpec

TOP_SOURCES = 100


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """What planning left.

    Attributes:
        counts: ``stages``: the figures of each (`_figures`); ``previous``: digest of the plan that this one keeps from, or
        null. unchanged: the plan was there already. digest: one hash over its files; empty when nothing was written. seconds:
        wall time.
    """

    counts: dict[str, Any]
    unchanged: bool
    digest: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One stage, planned: sequences of both splits in their order, and its figures."""

    spec: StageSpec
    train: Sequences
    heldout: Sequences
    figures: dict[str, Any]


def plan(
    corpus_folder: Path,
    recipe: Recipe,
    *,
    previous: Path | None = None,
    dry_run: bool = False,
    progress: Progress = silent,
) -> PlanResult:
    """Plans all stages of a recipe; does nothing when this plan is there already.

    Args:
        previous: a corpus whose plan of the same name is kept from, as far as it still holds; may be ``corpus_folder`` itself.
        dry_run: counts what would be written, and writes nothing.

    Raises:
        UsageError: the folder holds no corpus, the corpus counts tokens otherwise, the recipe's name cannot name a folder, no
            stage can hold some sample, or there is no previous plan.
        LongreelError: a stage finds nothing to train on, or misses more of an ingredient than the recipe allows.
    """
    started = time.monotonic()
    corpus = Corpus.open(corpus_folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", recipe.name):
        raise UsageError(f"recipe name {recipe.name!r} cannot name a folder: use letters, digits, '.', '_' and '-'")
    corpus.require_costs_of(recipe)
    step = f"plan-{recipe.name}"
    record = corpus.record(step)
    if record is not None and not dry_run:
        before = record.counts.get("previous")
        # Planned from its own earlier plan, a corpus is done; from another's, only while that is the one it was planned from.
        own = previous is not None and Path(previous).resolve() == corpus.folder.resolve()
        asked = None if previous is None else before if own else previous_plan(Path(previous), recipe.name).digest
        if asked == before and corpus.is_current(step, _fingerprint(corpus, recipe, before)):
            return PlanResult(counts=record.counts, unchanged=True, digest=record.digest, seconds=time.monotonic() - started)
    old = None if previous is None else previous_plan(Path(previous), recipe.name)
    parts = 2 * len(recipe.stages)
    progress("plan", 0, parts, "reading samples")
    candidates = read_candidates(corpus)
    require_nothing_too_long(candidates, recipe)
    chosen: list[tuple[Sequences, Selection]] = []
    for stage in recipe.stages:
        progress("plan", stage.number, parts, f"stage {stage.number}: mixture")
        kept = kept_sequences(candidates, stage, old)
        chosen.append((kept, select(candidates, stage, kept.rows)))
        require_met(candidates, stage, chosen[-1][1], kept.rows)
    fingerprint = _fingerprint(corpus, recipe, old.digest if old else None)
    if not dry_run:
        corpus.begin(step)
    written: list[Path] = []
    figures = []
    for stage in recipe.stages:
        progress("plan", len(recipe.stages) + stage.number, parts, f"stage {stage.number}: packing")
        kept, selection = chosen[stage.number]
        planned = _planned(candidates, recipe, stage, kept, selection)
        chosen[stage.number] = (kept, Selection(rounds=(), heldout=selection.heldout[:0], report=selection.report))
        figures.append(planned.figures)
        if not dry_run:
            progress("plan", len(recipe.stages) + stage.number, parts, f"stage {stage.number}: writing")
            written += tables.write_stage(
                corpus, recipe, stage, candidates, planned.train, planned.heldout, planned.figures, fingerprint
            )
    counts = {"recipe": recipe.name, "previous": old.digest if old else None, "stages": figures}
    progress("plan", parts, parts)
    if dry_run:
        return PlanResult(counts=counts, unchanged=False, digest="", seconds=time.monotonic() - started)
    owned = [corpus.table(name, recipe=recipe.name) for name in tables.TABLES]
    committed = corpus.commit(step, fingerprint, counts, written, owned)
    return PlanResult(
        counts=committed.counts, unchanged=False, digest=committed.digest, seconds=time.monotonic() - started
    )  # fmt: skip


def _fingerprint(corpus: Corpus, recipe: Recipe, previous: str | None) -> str:
    records = {name: corpus.record(name) for name in ("curate", "synthesize")}
    digests = {name: record.digest if record is not None else None for name, record in records.items()}
    code = code_fingerprint("manifests", "curriculum")
    return value_id({"corpus": digests, "recipe": recipe, "code": code, "previous": previous})


def _planned(candidates: Candidates, recipe: Recipe, stage: StageSpec, kept: Sequences, selection: Selection) -> _Stage:
    train = kept.joined(pack_rounds(candidates, stage, selection.rounds))
    lengths = candidates.total[train.rows]
    costs = np.add.reduceat(sample_flops(lengths, recipe.model, stage), train.starts) if len(train) else np.empty(0)
    seed = (stage.seed, stage.number)
    order = balanced_order(costs, stage.sequences_per_step, *seed, ranks=stage.ranks)
    by_chance = np.argsort(candidates.keys(train.rows[train.starts], *seed, "random order"), kind="stable")
    even, shuffled = (evenness(costs[each], stage.sequences_per_step, stage.ranks) for each in (order, by_chance))
    heldout = pack_rounds(candidates, stage, (selection.heldout,))
    tokens = int(lengths.sum(dtype=np.int64))
    figures = {
        "stage": stage.number,
        "name": stage.name,
        "context": stage.context,
        "sequences": len(train),
        "heldout_sequences": len(heldout),
        "segments": len(train.rows),
        "tokens": tokens,
        "visual_tokens": int(candidates.visual[train.rows].sum(dtype=np.int64)),
        "learned_tokens": int(candidates.learned[train.rows].sum(dtype=np.int64)),
        "fill": round(tokens / (max(len(train), 1) * stage.context), 6),
        "steps": math.ceil(len(train) / stage.sequences_per_step),
        "shortfall": selection.report,
        "kept_sequences": len(kept),
        "bound": lower_bound_of_two(lengths, candidates.visual[train.rows], stage.context, stage.visual_budget),
        "longest": int(lengths.max(initial=0)),
        "visible_pairs": int(visible_pairs(lengths).sum()),
        "read_pairs": int(read_pairs(lengths, recipe.model.top_k).sum()),
        "flops": float(costs.sum()),
        "distinct_samples": int(np.count_nonzero(np.bincount(train.rows, minlength=1))),
        **_by_source(candidates, train.rows, lengths),
        "unevenness": {
            "planned": round(even.steps, 4),
            "shuffled": round(shuffled.steps, 4),
            "ranks": stage.ranks,
            "planned_ranks": round(even.ranks, 4),
            "shuffled_ranks": round(shuffled.ranks, 4),
            "planned_passes": round(even.passes, 4),
            "shuffled_passes": round(shuffled.passes, 4),
        },
    }
    return _Stage(spec=stage, train=train.chosen(order), heldout=heldout, figures=figures)


def _by_source(candidates: Candidates, rows: Rows, lengths: NDArray[np.int32]) -> dict[str, Any]:
    """How many sources the placed tokens come from, and the `TOP_SOURCES` that give the most."""
    source = candidates.source[rows]
    tokens = np.bincount(source[source >= 0], weights=lengths[source >= 0], minlength=len(candidates.sources)).astype(np.int64)
    top = np.argsort(-tokens, kind="stable")[:TOP_SOURCES]
    top = top[tokens[top] > 0]
    names = hex_ids(candidates.sources[top]).to_pylist()
    return {
        "distinct_sources": int(np.count_nonzero(tokens)),
        "top_sources": [{"source_id": name, "tokens": int(tokens[at])} for name, at in zip(names, top.tolist(), strict=True)],
    }
