"""The step `curate`: raw files to a corpus. What is asked, what is already done, and when the result is valid.

The order is what makes it safe to kill anywhere: the old record goes first, finished items are kept in ``_work``, every file
appears whole, and the new record, which alone makes the corpus valid, is written last. A run over unchanged inputs, recipe
and code finds its own record and returns without loading Beam. Finished items stay when the step is valid, unless
``curate.keep_items`` is off: a curation of more files then reads only those, and decides on all of them anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.corpus import FORMAT, Corpus, StepRecord
from manifests.errors import LongreelError, LossLimitError, UsageError
from manifests.files import read_json, remove_leftovers
from manifests.fingerprint import canonical_json, value_id
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from pipelines.finished import item_key, read_finished, setting_id
from pipelines.inputs import Inputs, find_inputs
from pipelines.isolation import Readers
from pipelines.items import Item
from pipelines.listing import listed_item, listing_path, write_listing
from pipelines.reading import Reading
from pipelines.remote import bring
from pipelines.running import cores, readers_at_once, run_pipeline
from pipelines.waiting import forget_failures

STEP = "curate"
WORK_FOLDERS = ("items", "pending", "answers", "asking", "slots", "places")
WORK_FILES = ("curated.json", "ledger", "listing.jsonl")
TABLES = ("samples", "media", "sources", "lineage", "quarantine", "dropped", "annotations")


@dataclass(frozen=True, kw_only=True)
class CurateResult:
    """What curation did.

    Attributes:
        counts: inputs, attached, used, filtered, quarantined, samples, tasks, context_buckets, splits, media, media_bytes,
            shards, bytes (of all files), input_bytes, reused (items that an earlier run had finished, whole or interrupted),
            and kept_bytes (of the finished items that are kept for a further curation).
        unchanged: whether the corpus was already current.
        digest: one hash over all files of the step.
        seconds: wall time.
    """

    counts: dict[str, Any]
    unchanged: bool
    digest: str
    seconds: float


def curate(
    inputs: Sequence[Path],
    out: Path,
    recipe: Recipe,
    *,
    beam_options: Sequence[str] = (),
    progress: Progress = silent,
) -> CurateResult:
    """Curates files and folders into a corpus; the same inputs and recipe give the same bytes.

    Args:
        inputs: files or folders of raw data, here or behind an address of Beam's file systems; their order does not matter.
        out: the corpus folder; made when it is not there.
        recipe: what is made of the inputs.
        beam_options: passed to Beam; by default all cores of this machine work.
        progress: told how many inputs are read.

    Raises:
        UsageError: an input does not exist, cannot be read or holds no file; ``out`` is something else than a corpus.
        LongreelError: nothing was kept, another curation is writing there, or the pipeline failed.
        LossLimitError: everything is written, but more inputs were quarantined than ``recipe.curate.loss_limit`` allows.
    """
    started = time.monotonic()
    out = Path(out).resolve()
    _check_out(inputs, out)
    corpus = Corpus(out)
    readers = Readers(recipe)
    try:
        return _curated(inputs, corpus, recipe, readers, beam_options, progress, started)
    finally:
        readers.close()


def _curated(
    inputs: Sequence[Path],
    corpus: Corpus,
    recipe: Recipe,
    readers: Readers,
    beam_options: Sequence[str],
    progress: Progress,
    started: float,
) -> CurateResult:
    mirrors = corpus.work / "inputs"
    ahead = 0
    if not (corpus.folder / "steps").exists() and not (corpus.work / "items").exists():
        # They load what they need, and each reads its first item, while this process looks at the inputs and loads Beam.
        ahead = readers_at_once(beam_options)
        readers.start(ahead)
    local = [bring(path, mirrors, beam_options, lambda done, total: progress("fetch inputs", done, total)) for path in inputs]
    found = find_inputs(
        local,
        lambda done, total: progress("hash inputs", done, total),
        trees=recipe.curate.documents.source_trees,
        scans=recipe.curate.documents.recognise,
    )
    setting = setting_id(recipe)
    fingerprint = _fingerprint(found, recipe, setting)
    with _alone(corpus):
        record, reused = corpus.record(STEP) if corpus.is_current(STEP, fingerprint) else None, 0
        if record is not None and _unanswered(record):
            record = None
        unchanged = record is not None
        keys = [item_key(item, setting) for item in found.items]
        wanted, attached = set(keys), found.attached
        if record is None:
            places = _dealt(write_listing(listing_path(corpus.work), zip(keys, found.items, strict=True)), found.items)
            del found, keys  # they lie in the listing now, and would stay in memory as long as the pipeline runs
            first = [listed_item(place, str(corpus.folder)) for place in places[:ahead]]
            record, reused = _curate(
                corpus, wanted, places, first, attached, recipe, readers, fingerprint, beam_options, progress
            )
        elif not _identified(corpus, recipe):
            corpus.write_identity(recipe)
        wanted = wanted if recipe.curate.keep_items else set()
        if not wanted:
            shutil.rmtree(mirrors, ignore_errors=True)
        kept_bytes = _clear_work(corpus, wanted, unanswered=_unanswered(record))
    result = CurateResult(
        counts={**record.counts, "reused": reused, "kept_bytes": kept_bytes},
        unchanged=unchanged,
        digest=record.digest,
        seconds=time.monotonic() - started,
    )
    _check_loss(corpus, record, recipe)
    return result


def _check_out(inputs: Sequence[Path], out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: --out names a folder")
    if out.is_dir() and not any((out / name).exists() for name in ("corpus.json", "_work")) and any(out.iterdir()):
        raise UsageError(f"{out} holds something else than a corpus: name an empty or a new folder")
    for given in inputs:
        path = Path(given).resolve()
        if path.is_dir() and (out == path or out.is_relative_to(path) or path.is_relative_to(out)):
            raise UsageError(f"the corpus {out} and the input {given} must not lie in each other")


def _fingerprint(found: Inputs, recipe: Recipe, setting: str) -> str:
    spec = recipe.curate
    return value_id(
        {
            "setting": setting,
            "items": [item.identity() for item in found.items],
            "attached": found.attached,
            "near_text_similarity": spec.near_text_similarity,
            "near_image_bits": spec.near_image_bits,
            "semantic_similarity": spec.quality.semantic_similarity,
            "heldout_share": spec.heldout_share,
            "excluded_licences": spec.excluded_licences,
            "shard_bytes": spec.shard_bytes,
            "rows_per_file": spec.rows_per_file,
        }
    )


def _identified(corpus: Corpus, recipe: Recipe) -> bool:
    """Whether ``corpus.json`` names this recipe; fields of later steps may have changed since."""
    with contextlib.suppress(LongreelError):
        identity = corpus.identity()
        return identity["format"] == FORMAT and canonical_json(identity["recipe"]) == canonical_json(recipe)
    return False


@contextlib.contextmanager
def _alone(corpus: Corpus) -> Iterator[None]:
    """Holds the corpus for one writer; the lock goes with the process, however it ends."""
    corpus.work.mkdir(parents=True, exist_ok=True)
    with (corpus.work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LongreelError(f"another process is curating into {corpus.folder}: wait for it, or stop it") from None
        yield


def _dealt(places: Sequence[int], items: Sequence[Item]) -> list[int]:
    """Places of the listing in an order that gives workers, who are dealt items in turn, about equal bytes to read."""
    workers = cores()
    largest = sorted(range(len(items)), key=lambda at: (-items[at].bytes, at))
    rounds = [largest[start : start + workers] for start in range(0, len(largest), workers)]
    return [places[at] for number, dealt in enumerate(rounds) for at in (reversed(dealt) if number % 2 else dealt)]


def _curate(
    corpus: Corpus,
    wanted: set[str],
    places: Sequence[int],
    first: Sequence[tuple[str, Item]],
    attached: int,
    recipe: Recipe,
    readers: Readers,
    fingerprint: str,
    beam_options: Sequence[str],
    progress: Progress,
) -> tuple[StepRecord, int]:
    from pipelines.endpoint import api_key

    if recipe.curate.captions is not None:
        api_key(recipe.curate.captions)
    corpus.begin(STEP)
    corpus.write_identity(recipe)
    remove_leftovers(corpus.folder)
    forget_failures(corpus.work)
    finished = _Finished(corpus.work / "items", wanted)
    reused = finished.count()
    report = corpus.work / "curated.json"
    report.unlink(missing_ok=True)

    def tell() -> None:
        done = finished.count()
        if done == len(wanted):
            readers.close()  # they hold memory that writing may need
        progress("read inputs", done, len(wanted), "writing" if done == len(wanted) else "")

    tell()
    readers.read_ahead(Reading(item=item, work=str(corpus.work), key=key) for key, item in first)
    run_pipeline(places, corpus.folder, recipe, beam_options, tell)
    value = read_json(report)
    counts: dict[str, Any] = {**value["counts"], "attached": attached}
    if not counts["samples"]:
        raise LongreelError(_nothing(corpus, counts))
    written = [corpus.folder / file["path"] for file in value["written"]]
    written += _empty_tables(
        corpus, {path.relative_to(corpus.folder).parts[0] for path in written if path.suffix == ".parquet"}
    )
    counts["shards"] = sum(path.suffix == ".tar" for path in written)
    counts["bytes"] = sum(path.stat().st_size for path in written)
    owned = [corpus.table(table, origin=STEP) for table in TABLES] + [corpus.folder / "media"]
    return corpus.commit(STEP, fingerprint, counts, written, owned), reused


class _Finished:
    """How many of the wanted items are finished; a folder is only listed again when something appeared in it."""

    def __init__(self, folder: Path, wanted: set[str]) -> None:
        self.folder, self.wanted = folder, wanted
        self.known: dict[str, tuple[int, int]] = {}

    def count(self) -> int:
        """How many there are now."""
        for folder in os.scandir(self.folder) if self.folder.is_dir() else ():
            changed = os.stat(folder.path).st_mtime_ns
            if self.known.get(folder.name, (0, 0))[0] != changed:
                self.known[folder.name] = (changed, sum(entry.name in self.wanted for entry in os.scandir(folder.path)))
        return sum(there for _, there in self.known.values())


def _empty_tables(corpus: Corpus, filled: set[str]) -> list[Path]:
    """A table without rows still gets its columns."""
    empty = [table for table in TABLES if table not in filled and table != "samples"]
    return [path for table in empty for path in corpus.write_table(table, [], origin=STEP)]


def _nothing(corpus: Corpus, counts: dict[str, Any]) -> str:
    """Why there is no sample, in one line."""
    import pyarrow.parquet as pq

    reasons: Counter[str] = Counter()
    for table in ("quarantine", "dropped"):
        folder = corpus.table(table, origin=STEP)
        for path in sorted(folder.glob("*.parquet")):
            reasons.update(pq.read_table(path, columns=["reason"])["reason"].to_pylist())
    said = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(5))
    return (
        f"no sample came out of {counts['inputs']} inputs ({counts['filtered']} filtered, {counts['quarantined']} quarantined: "
        f"{said}): check the inputs"
    )


def _unanswered(record: StepRecord) -> bool:
    """Whether a model did not answer for a reason that may be gone now: then a corpus that is current is curated again."""
    return any(figures["again"] for figures in record.counts.get("model_work", {}).values())


def _clear_work(corpus: Corpus, wanted: set[str], *, unanswered: bool) -> int:
    """Leaves only the finished items that are wanted; returns their bytes. The lock stays: somebody may be waiting for it.

    Args:
        unanswered: whether models owe answers: those they gave are kept, and the items that lack one are not.
    """
    for name in WORK_FOLDERS:
        if not (name == "items" and wanted) and not (name == "answers" and unanswered):
            shutil.rmtree(corpus.work / name, ignore_errors=True)
    for name in WORK_FILES:
        (corpus.work / name).unlink(missing_ok=True)
    kept_bytes = 0
    for path in (corpus.work / "items").glob("??/*"):
        if path.name not in wanted or (unanswered and any(done.get("again") for done in read_finished(path).work.values())):
            path.unlink()
        else:
            kept_bytes += path.stat().st_size
    return kept_bytes


def _check_loss(corpus: Corpus, record: StepRecord, recipe: Recipe) -> None:
    inputs, lost, limit = record.counts["inputs"], record.counts["quarantined"], recipe.curate.loss_limit
    if lost > limit * inputs:
        raise LossLimitError(
            f"{lost} of {inputs} inputs are quarantined ({lost / inputs:.1%}), more than curate.loss_limit={limit:.1%}; "
            f'the corpus is written: see `longreel query {corpus.folder} "SELECT * FROM quarantine"`'
        )
