"""What becomes of every item once all are known: kept or filtered, in which split, and which samples are someone else's.

It is decided in the ledger (`pipelines.ledger`), over items in the order of their sources, so the answer does not depend on who
read them or when. Its figures (rows of each table, bytes of media) are also what decides into how many files the corpus is
written. What stays in memory are numbers, a few hundred bytes an item for hashes that are compared, and the links found.
"""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manifests.errors import LongreelError
from manifests.fingerprint import unit_hash
from manifests.recipe import Recipe
from pipelines.duplicates import Link, components, find_links
from pipelines.ledger import Signatures, Summary, writing_ledger

# A constant, not a recipe's field: a source that one recipe holds out, another must not train on. The number is the first under
# which the example corpus, small as it is, holds out a few sources of every modality and about a tenth of its tokens.
SPLIT_SEED = "heldout-36"
Partition = tuple[str, str | None, str | None]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How large everything gets; the fate of every item is in the ledger.

    Attributes:
        rows: rows per table, context bucket and duration bucket.
        shards: numbers of the media shards that hold a picture.
        counts: figures for people and for the step's record.
    """

    rows: dict[Partition, int]
    shards: tuple[int, ...]
    counts: dict[str, Any]


def decide(
    summaries: Iterable[Summary],
    recipe: Recipe,
    path: Path,
    put_together: Callable[[sqlite3.Connection], None] = lambda ledger: None,
) -> Verdict:
    """Decides on all items together and leaves the ledger at ``path``.

    Args:
        put_together: called when the fate of every item is known, to enter samples of several sources.

    Raises:
        LongreelError: the sum of used, filtered and quarantined inputs is not the number of inputs (a defect).
    """
    with writing_ledger(path, summaries) as ledger:
        _exclude_licences(ledger, recipe.curate.excluded_licences)
        _settle_duplicates(ledger, recipe)
        _settle_samples(ledger)
        _settle_media(ledger)
        put_together(ledger)
        rows, counts = _rows(ledger), _figures(ledger)
        shards = _deal_shards(ledger, max(1, round(counts["media_bytes"] / recipe.curate.shard_bytes)))
    return Verdict(rows=rows, shards=shards, counts=counts)


def _filter(ledger: sqlite3.Connection, item: int, stage: str, reason: str, detail: str) -> None:
    ledger.execute("UPDATE items SET status = 'filtered' WHERE item = ?", (item,))
    ledger.execute("INSERT INTO dropped VALUES (?, NULL, NULL, ?, ?, ?)", (item, stage, reason, detail))


def _exclude_licences(ledger: sqlite3.Connection, excluded: Sequence[str]) -> None:
    unwanted = {licence.lower() for licence in excluded}
    for (licence,) in ledger.execute("SELECT DISTINCT licence FROM items ORDER BY licence").fetchall():
        named = [licence, *re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", licence)]
        hit = next((name for name in named if name.strip().lower() in unwanted), None)
        if hit is not None:
            detail = f"{licence} names {hit.strip()}, which is excluded"
            used = "status = 'used' AND licence = ?"
            ledger.execute(
                "INSERT INTO dropped SELECT item, NULL, NULL, 'licence', 'excluded_licence', ?"
                f" FROM items WHERE {used} ORDER BY source",
                (detail, licence),
            )
            ledger.execute(f"UPDATE items SET status = 'filtered' WHERE {used}", (licence,))


def _settle_duplicates(ledger: sqlite3.Connection, recipe: Recipe) -> None:
    """Keeps one source of each set of duplicates and gives every cluster one side of the split."""
    found = ledger.execute("SELECT item FROM items WHERE status = 'used' ORDER BY source")
    items = array("q", (item for (item,) in found))
    checksums = ledger.execute("SELECT coalesce(sha256, source_id) FROM items WHERE status = 'used' ORDER BY source")
    links = find_links(
        (checksum for (checksum,) in checksums),
        Signatures(ledger, items),
        near_image_bits=recipe.curate.near_image_bits,
        near_text_similarity=recipe.curate.near_text_similarity,
        semantic_similarity=recipe.curate.quality.semantic_similarity,
    )
    duplicates: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        for place in (link.left, link.right) if link.duplicate else ():
            duplicates[place].append(link)
    for places in _groups(components(len(items), ((link.left, link.right) for link in links if link.duplicate))):
        if len(places) == 1:
            continue
        known = [_known(ledger, items[place]) for place in places]
        best = min(range(len(places)), key=lambda rank: known[rank])
        for place in places:
            if place != places[best]:
                link = _evidence(duplicates[place], places[best])
                through = "" if places[best] in (link.left, link.right) else " through others of its cluster"
                detail = f"{known[best][-1]} is kept{through}: {link.detail}"
                _filter(ledger, items[place], "duplicates", link.reason, detail)
    ledger.executemany(
        "UPDATE items SET cluster = ?, split = ? WHERE item = ?",
        _sides(ledger, items, components(len(items), ((link.left, link.right) for link in links)), recipe.curate.heldout_share),
    )


def _groups(roots: Sequence[int]) -> Iterator[list[int]]:
    """The places that have one root, in order, group by group."""
    keys = np.asarray(roots, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order], prepend=-1, append=-1))
    for start, end in itertools.pairwise(edges.tolist()):
        yield order[start:end].tolist()


def _known(ledger: sqlite3.Connection, item: int) -> tuple[Any, ...]:
    """By what the best of several copies is chosen: the smallest is kept. Its source is last."""
    described, licence, size, size_bytes, source_id, source = ledger.execute(
        "SELECT described, licence, size, bytes, source_id, source FROM items WHERE item = ?", (item,)
    ).fetchone()
    # An inventory vouches for a file: a damaged copy that still opens must not replace it.
    return (not described, licence == "unknown", -size, -size_bytes, source_id, source)


def _sides(
    ledger: sqlite3.Connection, items: Sequence[int], roots: Sequence[int], heldout_share: float
) -> Iterator[tuple[str, str, int]]:
    """Cluster, side of the split and number of every item."""
    for places in _groups(roots):
        cluster = min(
            ledger.execute("SELECT source_id FROM items WHERE item = ?", (items[place],)).fetchone()[0] for place in places
        )
        side = "heldout" if unit_hash(SPLIT_SEED, cluster) < heldout_share else "train"
        for place in places:
            yield cluster, side, items[place]


def _evidence(links: Sequence[Link], best: int) -> Link:
    """The link that says why a source is a duplicate: to the kept one, or else to another of its cluster."""
    return next((link for link in links if best in (link.left, link.right)), links[0])


def _settle_samples(ledger: sqlite3.Connection) -> None:
    """A sample that two sources give belongs to the one with the smallest source_id."""
    ledger.executescript("""
        CREATE TEMP TABLE others AS
        SELECT * FROM (
            SELECT samples.rowid AS sample, item, sample_id, task, source, source_id,
                row_number() OVER givers AS rank, first_value(source) OVER givers AS first
            FROM samples JOIN items USING (item) WHERE status = 'used'
            WINDOW givers AS (PARTITION BY sample_id ORDER BY source_id, source)
        ) WHERE rank > 1;
        UPDATE samples SET lost = 1 WHERE rowid IN (SELECT sample FROM others);
        INSERT INTO dropped
        SELECT item, sample_id, task, 'duplicates', 'exact_duplicate', first || ' gives the same sample'
        FROM others ORDER BY source_id, source, sample;
        DROP TABLE others;
        UPDATE items SET (samples, tokens) =
            (SELECT count(*), coalesce(sum(s.tokens), 0) FROM samples s WHERE s.item = items.item AND NOT lost)
        WHERE status = 'used';
        UPDATE items SET status = 'filtered' WHERE status = 'used' AND samples = 0;
    """)


def _settle_media(ledger: sqlite3.Connection) -> None:
    """A picture that two sources show is stored by the one with the smallest source_id."""
    ledger.executescript("""
        UPDATE media SET lost = 1 WHERE rowid IN (
            SELECT picture FROM (
                SELECT media.rowid AS picture, row_number() OVER (PARTITION BY media_id ORDER BY source_id, source) AS rank
                FROM media JOIN items USING (item) WHERE status = 'used'
            ) WHERE rank > 1
        );
    """)


def _deal_shards(ledger: sqlite3.Connection, shards: int) -> tuple[int, ...]:
    """Which of so many shards holds the pictures of which source; returns those that hold any."""
    sources = ledger.execute("SELECT DISTINCT source_id FROM items WHERE status = 'used'")
    ledger.executescript("CREATE TEMP TABLE dealt (source_id TEXT PRIMARY KEY, shard INTEGER)")
    ledger.executemany(
        "INSERT INTO dealt VALUES (?, ?)",
        ((source_id, int(unit_hash("shard", source_id) * shards)) for (source_id,) in sources),
    )
    ledger.executescript("""
        UPDATE items SET shard = (SELECT shard FROM dealt WHERE dealt.source_id = items.source_id) WHERE status = 'used';
        CREATE INDEX items_shard ON items (shard);
        DROP TABLE dealt;
    """)
    held = ledger.execute(
        "SELECT DISTINCT shard FROM items JOIN media USING (item) WHERE status = 'used' AND NOT lost ORDER BY 1"
    )
    return tuple(shard for (shard,) in held)


def _rows(ledger: sqlite3.Connection) -> dict[Partition, int]:
    rows: dict[Partition, int] = {}
    for context, duration, count in ledger.execute("SELECT context, duration, count(*) FROM kept GROUP BY 1, 2 ORDER BY 1, 2"):
        rows["samples", context, duration] = count
    for table, asked in (
        ("lineage", "SELECT coalesce(sum(lineage), 0) FROM kept"),
        ("media", "SELECT count(*) FROM media JOIN items USING (item) WHERE status = 'used' AND NOT lost"),
        ("sources", "SELECT count(*) FROM items"),
        ("quarantine", "SELECT count(*) FROM items WHERE status = 'quarantined'"),
        ("dropped", "SELECT (SELECT coalesce(sum(drops), 0) FROM items) + (SELECT count(*) FROM dropped)"),
        # Most sources have known truth, not all: its table may turn out smaller, never larger.
        ("annotations", "SELECT count(*) FROM items WHERE status = 'used'"),
    ):
        ((rows[table, None, None],),) = ledger.execute(asked)
    return rows


def _figures(ledger: sqlite3.Connection) -> dict[str, Any]:
    statuses = Counter(dict(ledger.execute("SELECT status, count(*) FROM items GROUP BY 1").fetchall()))
    ((inputs, input_bytes),) = ledger.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM items")
    ((pictures, media_bytes),) = ledger.execute(
        "SELECT count(*), coalesce(sum(media.bytes), 0) FROM media JOIN items USING (item) WHERE status = 'used' AND NOT lost"
    )
    ((samples,),) = ledger.execute("SELECT count(*) FROM kept")
    counts: dict[str, Any] = {
        "inputs": inputs,
        "used": statuses["used"],
        "filtered": statuses["filtered"],
        "quarantined": statuses["quarantined"],
        "samples": samples,
        "tasks": dict(ledger.execute("SELECT task, count(*) FROM kept GROUP BY 1 ORDER BY 1").fetchall()),
        "context_buckets": dict(ledger.execute("SELECT context, count(*) FROM kept GROUP BY 1 ORDER BY 1").fetchall()),
        "splits": dict(ledger.execute("SELECT split, count(*) FROM kept GROUP BY 1 ORDER BY 1").fetchall()),
        "input_bytes": input_bytes,
        "media": pictures,
        "media_bytes": media_bytes,
    }
    if work := _model_work(ledger):
        counts["model_work"] = work
    if counts["inputs"] != counts["used"] + counts["filtered"] + counts["quarantined"]:
        raise LongreelError(f"inputs do not add up: {dict(statuses)} of {inputs}; this is a defect, please report it")
    return counts


def _model_work(ledger: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """What models did for all items, by kind of request; equal requests of two items are counted for both."""
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for (work,) in ledger.execute("SELECT work FROM items WHERE work != '{}'"):
        for kind, figures in json.loads(work).items():
            total[kind].update(figures)
    return {kind: dict(sorted(figures.items())) for kind, figures in sorted(total.items())}
