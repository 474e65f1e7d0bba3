"""What of a previous plan still holds when a corpus has grown: sequences whose samples are all still there and wanted.

Decided here: a sequence is kept whole or not at all, with its samples in their order, so that it keeps its id. It holds when
every one of its samples is in the corpus, on the training side and eligible, when it is within the stage's limits, and when
no ingredient then has more tokens than the stage now wants of it; the sequences of the previous order are kept from the front
until that is reached. What is then missing is chosen and packed as in a new plan (`curriculum.mixture`). Order is not kept:
new sequences change which steps are even.

The price: samples of the previous plan go before samples that are new. A plan made afresh is what a corpus that was curated
in one go would get; only ``--previous`` asks for this.

When curation withdraws a plan because the corpus has changed, its tables are set aside in ``_work/plans`` (`manifests.corpus`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curriculum.candidates import Candidates
from curriculum.mixture import eligible
from curriculum.sequences import Sequences
from manifests.corpus import Corpus, StepRecord
from manifests.errors import CorruptCorpusError, UsageError
from manifests.stage_spec import StageSpec

NOTHING = Sequences(rows=np.empty(0, dtype=np.int64), starts=np.empty(0, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Previous:
    """A plan that stands somewhere.

    Attributes:
        folder: what its tables' paths are relative to.
        record: of the step that made it.
    """

    folder: Path
    record: StepRecord

    @property
    def digest(self) -> str:
        """One hash over its files."""
        return self.record.digest

    def train_segments(self, stage: int) -> pa.Table:
        """Sequence number and sample id of every training segment of a stage, in order.

        Raises:
            CorruptCorpusError: a file of the plan is missing or unreadable.
        """
        marker = f"/stage={stage}/"
        paths = [self.folder / name for name in sorted(self.record.files) if name.startswith("segments/") and marker in name]
        try:
            parts = [pq.ParquetFile(path).read(columns=["split", "position", "sample_id"]) for path in paths]
        except (OSError, pa.ArrowInvalid) as error:
            raise CorruptCorpusError(f"the previous plan in {self.folder} cannot be read: {error}") from error
        if not parts:
            return pa.table({"position": pa.array([], pa.int64()), "sample_id": pa.array([], pa.string())})
        return pa.concat_tables([part.filter(pc.equal(part["split"], "train")).drop_columns("split") for part in parts])


def previous_plan(folder: Path, recipe: str) -> Previous:
    """The plan of a recipe in a corpus: the finished one, else the one that was set aside last.

    Raises:
        UsageError: there is none.
    """
    corpus = Corpus(folder)
    record = corpus.record(f"plan-{recipe}")
    if record is not None:
        return Previous(folder=folder, record=record)
    aside = corpus.set_aside(recipe)
    if aside is None:
        raise UsageError(f"{folder} has no plan of recipe {recipe!r}, neither finished nor set aside: leave --previous out")
    return Previous(folder=aside.folder, record=aside.record)


def kept_sequences(candidates: Candidates, stage: StageSpec, previous: Previous | None) -> Sequences:
    """The training sequences of a stage that still hold, in the previous order."""
    if previous is None:
        return NOTHING
    table = previous.train_segments(stage.number)
    if not len(table):
        return NOTHING
    rows = candidates.rows_of(table["sample_id"])
    position = table["position"].to_numpy()
    starts = np.flatnonzero(np.diff(position, prepend=-1))
    may = eligible(candidates, stage)
    holds = np.where(rows >= 0, may.train[rows], False)
    whole = np.logical_and.reduceat(holds, starts)
    rows = np.where(rows >= 0, rows, 0)
    old = Sequences(rows=rows, starts=starts)
    whole &= old.summed(candidates.total[rows]) <= stage.context
    whole &= old.summed(candidates.visual[rows]) <= stage.visual_budget
    whole &= _at_most_each(old, whole, int(np.ceil(stage.epochs_max)))
    whole &= _within_shares(candidates, stage, old, whole, may.ingredient[rows].astype(np.int64))
    return old.chosen(np.flatnonzero(whole))


def _at_most_each(old: Sequences, whole: np.ndarray, epochs: int) -> np.ndarray:
    """Sequences none of whose samples stands in ``epochs`` earlier ones."""
    repeated = old.epochs >= epochs
    return ~np.logical_or.reduceat(repeated, old.starts) | ~whole


def _within_shares(
    candidates: Candidates, stage: StageSpec, old: Sequences, whole: np.ndarray, ingredient: np.ndarray
) -> np.ndarray:
    """Sequences from the front, as long as no ingredient has more than it now wants."""
    weights = np.array([entry.weight for entry in stage.mixture])
    holds = whole.copy()
    if stage.temperature is not None:  # shares then follow the corpus; what they come to is checked as a whole
        weights = np.ones(1)
        ingredient = np.zeros_like(ingredient)
    wanted = stage.tokens * weights / weights.sum()
    total = candidates.total[old.rows].astype(np.int64)
    for number, limit in enumerate(wanted.tolist()):
        tokens = old.summed(np.where(ingredient == number, total, 0))
        running = np.cumsum(np.where(holds, tokens, 0))
        holds &= (tokens == 0) | (running <= limit)
    return holds
