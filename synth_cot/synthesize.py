"""The step ``synthesize``: what a corpus knows, what is drawn and generated become verified reasoning samples beside it.

A plain loop over sources by default: starting Beam workers costs more than the work on the example. Given a runner, the same
functions are mapped by a pipeline (`synth_cot.graph`), which the caller runs: this package knows no runner.

All rows are held until the end and written sorted, so the bytes depend on nothing but corpus, recipe, code and what models
answered. A killed run leaves no record, and the next one writes the same files again; it asks nothing that was answered.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.benchmarks import benchmark_identity
from manifests.corpus import Corpus
from manifests.fingerprint import code_fingerprint, value_id
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from manifests.tokenizer import load_tokenizer
from synth_cot.asking.ledger import Ledger
from synth_cot.gathering import gather
from synth_cot.query_files import query_identity
from synth_cot.reading import read_items
from synth_cot.rounds import Setting, work_here
from synth_cot.work import Item, Outcome
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
            "benchmarks": benchmark_identity((*recipe.curate.quality.benchmarks, *recipe.synth.benchmarks)),
            "costs": recipe.cost_fingerprint,
            "tokenizer": load_tokenizer(recipe.tokenizer).fingerprint,
            "video_forms": recipe.curate.video_forms,
            "heldout_share": recipe.curate.heldout_share,
            "rows_per_file": recipe.curate.rows_per_file,
            "code": code_fingerprint("manifests", "synth_cot"),
        }
    )


Beam = Callable[[Callable[[Any], object]], None]
"""Runs a pipeline: called with a function that builds it on its root, it returns when the pipeline has ended."""


def synthesize(corpus_folder: Path, recipe: Recipe, *, beam: Beam | None = None, progress: Progress = silent) -> SynthResult:
    """Adds verified reasoning samples to a curated corpus.

    Returns at once when they are there and nothing they depend on has changed.

    Args:
        beam: runs the work as a pipeline; without it, this process does it all. The bytes are the same.
        progress: told how many sources are worked on.

    Raises:
        UsageError: the folder holds no curated corpus, or the recipe counts tokens otherwise than it was counted.
        CorruptCorpusError: the corpus's own records cannot be read.
    """
    begun = time.monotonic()
    corpus = Corpus.open(corpus_folder)
    corpus.require_costs_of(recipe)
    mark = fingerprint(corpus, recipe)
    record = corpus.record(STEP)
    # When a model did not answer for a reason that may be gone now, a step that is current is done again.
    if record is not None and not record.counts.get("unanswered") and corpus.is_current(STEP, mark):
        return SynthResult(counts=record.counts, unchanged=True, digest=record.digest, seconds=time.monotonic() - begun)
    corpus.begin(STEP)
    clear(corpus)
    items = read_items(corpus, recipe, progress)
    setting = Setting(corpus=corpus.folder, recipe=recipe, fingerprint=mark)
    Ledger(setting.ledger).forget_failures()
    outcomes = work_here(setting, items, progress) if beam is None else _worked_by(beam, setting, items)
    total = gather(outcomes, recipe.synth)
    counts = total.counts()
    record = corpus.commit(STEP, mark, counts, write(corpus, recipe, total), owned_folders(corpus))
    if recipe.synth.ledger is None:  # the corpus is held by this process alone, and so are its locks and drawn pictures
        for folder in (setting.pictures, setting.ledger / "asking", setting.ledger / "slots", setting.outcomes):
            shutil.rmtree(folder, ignore_errors=True)
    return SynthResult(counts=counts, unchanged=False, digest=record.digest, seconds=time.monotonic() - begun)


def _worked_by(beam: Beam, setting: Setting, items: Sequence[Item]) -> Iterator[Outcome]:
    """The outcomes of all items, made by a pipeline."""
    import apache_beam

    from synth_cot.graph import Synthesis, read_outcomes

    shutil.rmtree(setting.outcomes, ignore_errors=True)
    numbered = list(enumerate(items))
    beam(lambda root: root | "items" >> apache_beam.Create(numbered) | "synthesize" >> Synthesis(setting, setting.outcomes))
    return read_outcomes(setting.outcomes, len(items))
