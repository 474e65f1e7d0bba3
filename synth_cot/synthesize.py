"""The step ``synthesize``: what a curated corpus knows, and generated problems, become verified reasoning samples beside it.

A plain loop over sources in sorted order, not a Beam pipeline. Measured on two cores with the example corpus's screens and
captions (1,900 samples): the whole step takes 2.8 s, 1.1 s of it loading `reasoning_gym`; an empty DirectRunner pipeline with
two processes takes 1.7 s, and each of its workers would load the generators again. `work.Worker.work` is a pure function of
one source, so a runner can map it when a corpus needs one.

All rows are held until the end and written sorted, so the bytes depend on nothing but corpus, recipe and code. Nothing is
cached between runs: a killed run leaves no record, and the next one writes the same files again.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.catalog import Catalog
from manifests.corpus import Corpus
from manifests.fingerprint import code_fingerprint, value_id
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from manifests.tokenizer import load_tokenizer
from synth_cot.known import Known, from_annotation
from synth_cot.question import Ask, Rejection
from synth_cot.stem.generators import GENERATORS, problems, source_row
from synth_cot.teachers.programmatic import Programmatic
from synth_cot.work import Outcome, Worker, dropped_row

STEP = "synthesize"
_TABLES = ("samples", "sources", "lineage", "dropped")


@dataclass(frozen=True, kw_only=True)
class SynthResult:
    """What the step did.

    Attributes:
        counts: ``asked`` = ``accepted`` + the sum of ``rejected`` (by reason); ``by_task`` and ``tokens`` are of the accepted.
        unchanged: nothing had to be done.
        digest: of the step's files.
        seconds: wall time.
    """

    counts: dict[str, Any]
    unchanged: bool
    digest: str
    seconds: float


def fingerprint(corpus: Corpus, recipe: Recipe) -> str:
    """What the step's files depend on: the curated files, the parts of the recipe that are read here, and the code."""
    curated = corpus.record("curate")
    return value_id(
        {
            "curated": None if curated is None else curated.digest,
            "synth": recipe.synth,
            "costs": recipe.cost_fingerprint,
            "tokenizer": load_tokenizer(recipe.tokenizer).fingerprint,
            "video_forms": recipe.curate.video_forms,
            "heldout_share": recipe.curate.heldout_share,
            "rows_per_file": recipe.curate.rows_per_file,
            "code": code_fingerprint("manifests", "synth_cot"),
        }
    )


def synthesize(corpus_folder: Path, recipe: Recipe, *, progress: Progress = silent) -> SynthResult:
    """Adds verified reasoning samples to a curated corpus.

    Returns at once when they are there and nothing they depend on has changed.

    Raises:
        UsageError: the folder holds no curated corpus, or the recipe counts tokens otherwise than it was counted.
        CorruptCorpusError: the corpus's own records cannot be read.
    """
    begun = time.monotonic()
    corpus = Corpus.open(corpus_folder)
    corpus.require_costs_of(recipe)
    mark = fingerprint(corpus, recipe)
    record = corpus.record(STEP)
    if record is not None and corpus.is_current(STEP, mark):
        return SynthResult(counts=record.counts, unchanged=True, digest=record.digest, seconds=time.monotonic() - begun)
    corpus.begin(STEP)
    owned = [corpus.table(table, origin=STEP) for table in _TABLES]
    for folder in owned:  # what a killed run left is never read, nor taken for this run's
        shutil.rmtree(folder, ignore_errors=True)
    known = read_known(corpus_folder, recipe, progress)
    worker = Worker(recipe, Programmatic(), read_stored_sizes(corpus_folder), mark)
    total, sources = Outcome(), []
    seen: dict[str, str] = {}
    owners: dict[str, str] = {}
    for done, one in enumerate(known):
        progress("synthesize", done, len(known), one.source.source)
        if one.source.source_id in seen:
            total.asked += 1
            total.dropped.append(_repeated(one, seen[one.source.source_id]))
            continue
        outcome = _without_copies(worker.work(one), one, owners)
        total.asked += outcome.asked
        total.samples += outcome.samples
        total.lineage += outcome.lineage
        total.dropped += outcome.dropped
        if not one.payload:
            seen[one.source.source_id] = one.source.source
            sources.append(source_row(one, len(outcome.samples), sum(row["total_tokens"] for row in outcome.samples)))
    progress("synthesize", len(known), len(known))
    counts = _counts(total)
    written = _write(corpus, recipe, total, sources)
    record = corpus.commit(STEP, mark, counts, written, owned)
    return SynthResult(counts=counts, unchanged=False, digest=record.digest, seconds=time.monotonic() - begun)


def read_known(corpus_folder: Path, recipe: Recipe, progress: Progress = silent) -> list[Known]:
    """Every annotated source in the order of identifiers, then every problem in the order of generators."""
    catalog = Catalog(corpus_folder)
    rows = catalog.sql("SELECT * FROM annotations ORDER BY source_id, kind").to_arrow_table().to_pylist()
    texts = _page_texts(catalog) if any(row["kind"] == "document" for row in rows) else {}
    forms = recipe.curate.video_forms
    known = [from_annotation(row, forms, texts.get(row["source_id"], {})) for row in rows]
    for done, generator in enumerate(sorted(GENERATORS)):
        progress("problems", done, len(GENERATORS), generator)
        known += problems(generator, recipe.synth.seed, recipe.synth.stem_problems, recipe.curate.heldout_share)
    return known


def read_stored_sizes(corpus_folder: Path) -> dict[str, tuple[int, int]]:
    """Height and width in pixels of every stored picture, by media_id."""
    rows = Catalog(corpus_folder).sql("SELECT media_id, height, width FROM media").fetchall()
    return {media_id: (height, width) for media_id, height, width in rows}


def _page_texts(catalog: Catalog) -> dict[str, dict[int, str]]:
    """The text of every page by source: the longest that any curated sample holds for it."""
    query = """
        WITH turns AS (
            SELECT sample_id, unnest(messages) AS turn, generate_subscripts(messages, 1) AS m FROM samples
            WHERE origin = 'curate' AND modality = 'document'
        ), parts AS (
            SELECT sample_id, m, unnest(turn.parts) AS part, generate_subscripts(turn.parts, 1) AS p FROM turns
        ), pages AS (
            SELECT part.origin.source_id AS source_id, part.origin.page AS page,
                   string_agg(part.text, '' ORDER BY m, p) AS words
            FROM parts WHERE part.kind = 'text' AND part.origin.page IS NOT NULL
            GROUP BY sample_id, part.origin.source_id, part.origin.page
        )
        SELECT source_id, page, words FROM pages ORDER BY source_id, page, length(words), words
    """
    texts: dict[str, dict[int, str]] = {}
    for source_id, page, text in catalog.sql(query).fetchall():
        texts.setdefault(source_id, {})[page] = text
    return texts


def _repeated(known: Known, first: str) -> dict[str, Any]:
    task = f"stem.{known.source.source.split('/')[1]}"
    return dropped_row(known, Rejection(ask=Ask(task=task), reason="duplicate_problem", detail=f"the same problem as {first}"))


def _without_copies(outcome: Outcome, known: Known, owners: dict[str, str]) -> Outcome:
    """Two sources may show one picture and so give one sample: it stays with the first, in the order of identifiers."""
    copies = {row["sample_id"]: row["task"] for row in outcome.samples if row["sample_id"] in owners}
    dropped = [
        dropped_row(
            known,
            Rejection(ask=Ask(task=task), reason="duplicate_sample", detail=f"{owners[sample_id]} gives the same sample"),
            sample_id,
        )
        for sample_id, task in copies.items()
    ]
    kept = [row for row in outcome.samples if row["sample_id"] not in copies]
    owners.update((row["sample_id"], known.source.source) for row in kept)
    return Outcome(
        samples=kept,
        lineage=[row for row in outcome.lineage if row["sample_id"] not in copies],
        dropped=outcome.dropped + dropped,
        asked=outcome.asked,
    )


def _counts(total: Outcome) -> dict[str, Any]:
    return {
        "asked": total.asked,
        "accepted": len(total.samples),
        "rejected": dict(sorted(Counter(row["reason"] for row in total.dropped).items())),
        "by_task": dict(sorted(Counter(row["task"] for row in total.samples).items())),
        "tokens": sum(row["total_tokens"] for row in total.samples),
    }


def _write(corpus: Corpus, recipe: Recipe, total: Outcome, sources: list[dict[str, Any]]) -> list[Path]:
    limit = recipe.curate.rows_per_file
    partitions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(total.samples, key=lambda row: row["sample_id"]):
        partitions.setdefault((row["context_bucket"], row["duration_bucket"] or ""), []).append(row)
    written = []
    for (context, duration), rows in sorted(partitions.items()):
        written += corpus.write_table(
            "samples", rows, rows_per_file=limit, origin=STEP, context_bucket=context, duration_bucket=duration or None
        )
    lineage = sorted(
        total.lineage, key=lambda row: (row["sample_id"], row["token_start"], row["token_end"], row["message"], row["part"])
    )
    dropped = sorted(
        total.dropped, key=lambda row: (row["source_id"], row["task"], row["reason"], row["detail"], row["source"])
    )
    sources = sorted(sources, key=lambda row: row["source_id"])
    written += corpus.write_table("lineage", lineage, origin=STEP)
    written += corpus.write_table("dropped", dropped, origin=STEP)
    written += corpus.write_table("sources", sources, origin=STEP)
    return written
