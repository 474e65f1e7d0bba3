"""The step ``synthesize``: what a corpus knows, what is drawn and generated become verified reasoning samples beside it.

A plain loop over sources by default: starting Beam workers costs more than the work on the example. `Worker.work` is a function
of one source, so a runner can map it when a corpus needs one.

All rows are held until the end and written sorted, so the bytes depend on nothing but corpus, recipe and code. A killed run
leaves no record, and the next one writes the same files again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.corpus import Corpus
from manifests.fingerprint import code_fingerprint, value_id
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from manifests.tokenizer import load_tokenizer
from synth_cot.gathering import gather
from synth_cot.query_files import query_identity
from synth_cot.reading import read_items, read_stored_sizes
from synth_cot.teachers.programmatic import Programmatic
from synth_cot.work import Item, Outcome, Worker
from synth_cot.writing import STEP, clear, owned_folders, write


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
            "questions": query_identity(recipe.synth.question_files),
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
    clear(corpus)
    items = read_items(corpus, recipe, progress)
    worker = Worker(recipe, Programmatic(), read_stored_sizes(corpus), mark)
    total = gather(_worked(worker, items, progress), recipe.synth)
    counts = total.counts()
    record = corpus.commit(STEP, mark, counts, write(corpus, recipe, total), owned_folders(corpus))
    return SynthResult(counts=counts, unchanged=False, digest=record.digest, seconds=time.monotonic() - begun)


def _worked(worker: Worker, items: Sequence[Item], progress: Progress) -> Iterator[Outcome]:
    for done, item in enumerate(items):
        outcome = worker.work(item)
        progress("synthesize", done, len(items), outcome.source)
        yield outcome
    progress("synthesize", len(items), len(items))
