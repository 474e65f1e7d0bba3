"""Proves the promises of a corpus from its bytes: sums, hashes, media, token counts, splits, packing, lineage.

Each check recounts from the files; none trusts a figure that another step wrote down. A finding names the shard, sample and
source it is about.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from manifests.catalog import Catalog
from manifests.fingerprint import canonical_json, sha256_bytes, sha256_file
from manifests.migration import read_batches
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from manifests.recipe_json import recipe_from_json
from manifests.rendering import render
from manifests.sample import messages_from_rows
from manifests.shards import BLOCK, MediaItem, header
from manifests.tokenizer import load_tokenizer

PROBLEMS_KEPT = 20


@dataclass(kw_only=True)
class Finding:
    """One promise: what was counted, and every way in which it does not hold (the first 20 in words)."""

    promise: str
    counted: str = ""
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing contradicts the promise."""
        return self.problem_count == 0

    def problem(self, text: str) -> None:
        """Records one contradiction."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(text)


def check(folder: Path, *, progress: Progress = silent) -> list[Finding]:
    """Runs every check on a corpus.

    Raises:
        UsageError: the folder holds no corpus.
        CorruptCorpusError: ``corpus.json`` or a step record cannot be read.
    """
    catalog = Catalog(folder, damaged=True)
    recipe = recipe_from_json(canonical_json(catalog.corpus.identity()["recipe"]))
    checks: list[tuple[str, Callable[[Catalog, Recipe, Finding], None]]] = [
        ("every file is the file that was written", _files),
        ("inputs = used + filtered + quarantined, each with a reason", _sums),
        ("every media reference is readable and true", _media),
        ("a sample costs what it says", _costs),
        ("train and held-out share no source and no duplicate cluster", _splits),
        ("lineage covers every sample", _lineage),
        ("packed sequences hold what they say and fit their stage", _packing),
    ]
    findings = []
    for done, (promise, function) in enumerate(checks):
        progress("check", done, len(checks), promise)
        finding = Finding(promise=promise)
        try:
            function(catalog, recipe, finding)
        except (OSError, ValueError, KeyError, duckdb.Error) as error:
            finding.problem(f"could not be checked: {type(error).__name__}: {str(error).splitlines()[0]}")
        findings.append(finding)
    progress("check", len(checks), len(checks))
    return findings


def _rows(catalog: Catalog, query: str) -> list[tuple[Any, ...]]:
    return catalog.connection.execute(query).fetchall()


def _files(catalog: Catalog, recipe: Recipe, finding: Finding) -> None:
    folder, listed = catalog.corpus.folder, {"corpus.json"}
    for step in catalog.corpus.steps():
        record = catalog.corpus.record(step)
        assert record is not None
        listed.add(f"steps/{step}.json")
        for name, checksum in record.files.items():
            listed.add(name)
            path = folder / name
            if not path.is_file():
                finding.problem(f"{name}, written by {step}, is missing")
            elif sha256_file(path) != checksum:
                finding.problem(f"{name}, written by {step}, has other bytes")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in listed and not name.startswith(("runs/", "_work/")):
            finding.problem(f"{name} belongs to no step")
    finding.counted = f"{len(listed):,} files"


def _sums(catalog: Catalog, recipe: Recipe, finding: Finding) -> None:
    record = catalog.corpus.record("curate")
    counts = record.counts if record is not None else {}
    sources = _rows(catalog, "SELECT source_id, source, status FROM sources ORDER BY source, source_id")
    curated = _rows(catalog, "SELECT count(*) FROM read_parquet(" + _curated_sources(catalog) + ", hive_partitioning=false)")[
        0
    ][0]
    by_status = Counter(status for _, _, status in sources)
    if counts.get("inputs") != curated:
        finding.problem(f"curation counted {counts.get('inputs')} inputs, the sources table has {curated}")
    quarantined = {row[0] for row in _rows(catalog, "SELECT source FROM quarantine")}
    unexplained = {row[0] for row in _rows(catalog, "SELECT source_id FROM dropped")}
    used = {row[0] for row in _rows(catalog, "SELECT DISTINCT unnest(source_ids) FROM samples")}
    known = {source_id for source_id, _, _ in sources}
    for source_id, source, status in sources:
        if status == "quarantined" and source not in quarantined:
            finding.problem(f"{source} is quarantined without a reason")
        elif status == "filtered" and source_id not in unexplained:
            finding.problem(f"{source} is filtered without a reason")
        elif status == "used" and source_id not in used:
            finding.problem(f"{source} counts as used, but no sample draws on it")
        elif status not in ("used", "filtered", "quarantined"):
            finding.problem(f"{source} has status {status!r}")
    for source_id in sorted(used - known):
        finding.problem(f"samples draw on source {source_id}, which is not in the sources table")
    parts = " + ".join(f"{by_status[status]} {status}" for status in ("used", "filtered", "quarantined"))
    finding.counted = f"{len(sources):,} sources = {parts}"


def _curated_sources(catalog: Catalog) -> str:
    return "'" + str(catalog.corpus.table("sources", origin="curate") / "*.parquet").replace("'", "''") + "'"


def _owners(catalog: Catalog, media_ids: list[str]) -> dict[str, str]:
    """For each picture, the samples and sources that show it, in words."""
    query = """
        SELECT l.media_id, l.sample_id, coalesce(s.source, l.source_id)
        FROM lineage l LEFT JOIN sources s USING (source_id) WHERE list_contains(?, l.media_id) ORDER BY ALL
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for media_id, sample_id, source in catalog.connection.execute(query, [media_ids]).fetchall():
        owners[media_id].append(f"sample {sample_id} from {source}")
    words = {}
    for media_id in media_ids:
        found = list(dict.fromkeys(owners[media_id]))
        words[media_id] = (found[0] if found else "no sample") + (f" and {len(found) - 1} more" if len(found) > 1 else "")
    return words


def _media(catalog: Catalog, recipe: Recipe, finding: Finding) -> None:
    query = 'SELECT shard, media_id, "offset", length, sha256, extension, height, width FROM media ORDER BY shard, "offset"'
    by_shard: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for shard, *place in _rows(catalog, query):
        by_shard[shard].append(tuple(place))
    broken: list[tuple[str, str, str]] = []
    total = 0
    for shard, places in by_shard.items():
        total += len(places)
        path = catalog.corpus.folder / shard
        if not path.is_file():
            broken += [(shard, place[0], "the shard is missing") for place in places]
            continue
        broken += [(shard, media_id, problem) for media_id, problem in _broken_members(path.read_bytes(), places)]
    words = _owners(catalog, [media_id for _, media_id, _ in broken[:PROBLEMS_KEPT]])
    for shard, media_id, problem in broken:
        finding.problem(f"{shard}: picture {media_id}: {problem}; {words.get(media_id, '')}")
    missing = _rows(
        catalog,
        "SELECT sample_id, media_id FROM lineage ANTI JOIN media USING (media_id) WHERE media_id IS NOT NULL ORDER BY ALL",
    )
    for sample_id, media_id in missing:
        finding.problem(f"sample {sample_id} shows picture {media_id}, which no shard holds")
    finding.counted = f"{total:,} pictures in {len(by_shard):,} shards"


def _broken_members(data: bytes, places: list[tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
    """Compares a shard with the bytes its media rows call for: headers, pictures, descriptions, padding, end."""
    end = 0
    last = ""
    for media_id, offset, length, checksum, extension, height, width in places:
        picture = data[offset : offset + length]
        item = MediaItem(media_id=media_id, extension=extension, height=height, width=width, data=picture)
        description = item.description()
        before = header(f"{media_id}.{extension}", length)
        after = bytes(-length % BLOCK) + header(f"{media_id}.json", len(description)) + description
        after += bytes(-len(description) % BLOCK)
        if sha256_bytes(picture) != checksum:
            yield media_id, f"its {length:,} bytes at offset {offset:,} are not what was written"
        elif data[end:offset] != before or data[offset + length : offset + length + len(after)] != after:
            yield media_id, "the tar header, description or padding around it is not what was written"
        end, last = offset + length + len(after), media_id
    if data[end:] != bytes(2 * BLOCK):
        yield last, "the end of the archive after it is not what was written"


def _costs(catalog: Catalog, recipe: Recipe, finding: Finding) -> None:
    tokenizer = load_tokenizer(recipe.tokenizer)
    columns = ["sample_id", "messages", "text_tokens", "visual_tokens", "total_tokens", "learned_tokens", "context_bucket"]
    columns += ["duration_bucket", "duration_s"]
    samples = tokens = 0
    for path in sorted(path for paths in catalog.corpus.files_of("samples").values() for path in paths if path.is_file()):
        for batch in read_batches(path, "samples", columns, batch_size=1024):
            for row in batch.to_pylist():
                rendered = render(messages_from_rows(row["messages"]), tokenizer, recipe.visual)
                cost, learned = rendered.cost, int(np.count_nonzero(rendered.labels != -100))
                said = (row["text_tokens"], row["visual_tokens"], row["total_tokens"], row["learned_tokens"])
                if said != (cost.text, cost.visual, cost.total, learned):
                    finding.problem(
                        f"sample {row['sample_id']} says text, visual, total, learned = {said}; it renders to "
                        f"{(cost.text, cost.visual, cost.total, learned)}"
                    )
                buckets = (recipe.buckets.context(cost.total), recipe.buckets.duration(row["duration_s"]))
                if buckets != (row["context_bucket"], row["duration_bucket"]):
                    finding.problem(
                        f"sample {row['sample_id']} stands in bucket {row['context_bucket']}, {row['duration_bucket']}"
                    )
                samples, tokens = samples + 1, tokens + cost.total
    finding.counted = f"{tokens:,} tokens in {samples:,} samples"


def _splits(catalog: Catalog, recipe: Recipe, finding: Finding) -> None:
    by_source = """
        SELECT source_id, string_agg(DISTINCT split, ' and ') FROM (SELECT unnest(source_ids) AS source_id, split FROM samples)
        GROUP BY source_id HAVING count(DISTINCT split) > 1 ORDER BY ALL
    """
    by_cluster = "SELECT duplicate_cluster FROM samples GROUP BY ALL HAVING count(DISTINCT split) > 1 ORDER BY ALL"
    for source_id, _ in _rows(catalog, by_source):
        finding.problem(f"source {source_id} has samples in both splits")
    for (cluster,) in _rows(catalog, by_cluster):
        finding.problem(f"duplicate cluster {cluster} has samples in both splits")
    counts = dict(_rows(catalog, "SELECT split, count(*) FROM samples GROUP BY split"))
    for split in set(counts) - {"train", "heldout"}:
        finding.problem(f"{counts[split]} samples have split {split!r}")
    finding.counted = f"{counts.get('train', 0):,} train, {counts.get('heldout', 0):,} held out"


def _lineage(catalog: Catalog, recipe: Recipe, finding: Finding) -> None:
    lost = _rows(catalog, "SELECT sample_id FROM samples ANTI JOIN lineage USING (sample_id) ORDER BY ALL")
    for (sample_id,) in lost:
        finding.problem(f"sample {sample_id} has no lineage")
    wrong = """
        SELECT l.sample_id, l.token_start, l.token_end, s.total_tokens FROM lineage l LEFT JOIN samples s USING (sample_id)
        WHERE s.sample_id IS NULL OR l.token_start < 0 OR l.token_start > l.token_end OR l.token_end > s.total_tokens
        ORDER BY ALL
    """
    for sample_id, start, end, total in _rows(catalog, wrong):
        finding.problem(f"lineage of sample {sample_id} names tokens {start} to {end} of {total}")
    unknown = (
        "SELECT DISTINCT source_id FROM lineage ANTI JOIN sources USING (source_id) WHERE source_id IS NOT NULL ORDER BY ALL"
    )
    for (source_id,) in _rows(catalog, unknown):
        finding.problem(f"lineage names source {source_id}, which is not in the sources table")
    spans = _rows(catalog, "SELECT count(*) FROM lineage")[0][0]
    finding.counted = f"{spans:,} spans"


def _packing(catalog: Catalog, recipe: Recipe, finding: Finding) -> None:
    wrong = """
        WITH recount AS (
            SELECT g.recipe, g.stage, g.split, g.position, g.sequence_id, count(*) AS segments, sum(s.total_tokens) AS tokens,
                   sum(s.visual_tokens) AS visual, sum(s.learned_tokens) AS learned, max(g.token_end) AS last,
                   bool_and(s.split = g.split) AS one_split, bool_and(g.token_end - g.token_start = s.total_tokens) AS whole
            FROM segments g LEFT JOIN samples s USING (sample_id) GROUP BY ALL
        )
        SELECT q.recipe, q.stage, q.sequence_id, q.tokens, r.tokens, q.capacity, t.visual_budget, q.visual_tokens
        FROM sequences q LEFT JOIN recount r USING (recipe, stage, split, position, sequence_id)
        LEFT JOIN stages t USING (recipe, stage)
        WHERE r.tokens IS DISTINCT FROM q.tokens OR r.visual IS DISTINCT FROM q.visual_tokens OR r.segments <> q.segments
           OR r.learned IS DISTINCT FROM q.learned_tokens OR r.last <> q.tokens OR NOT r.one_split OR NOT r.whole
           OR q.tokens > q.capacity OR q.capacity <> t.context OR q.visual_tokens > t.visual_budget
        ORDER BY ALL
    """
    for name, stage, sequence_id, said, counted, capacity, budget, visual in _rows(catalog, wrong):
        finding.problem(
            f"{name} stage {stage} sequence {sequence_id} says {said} tokens ({visual} visual) and holds {counted}; "
            f"capacity {capacity}, visual budget {budget}"
        )
    sequences, tokens = _rows(catalog, "SELECT count(*), coalesce(sum(tokens), 0) FROM sequences")[0]
    finding.counted = f"{sequences:,} sequences, {tokens:,} tokens" if sequences else "nothing planned yet"
