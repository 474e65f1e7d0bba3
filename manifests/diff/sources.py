"""Sources of two corpora: which came, went, changed content, fate, licence or cluster, and which crossed the split.

Sources meet by path; two of one path (found under different inputs) in the order of their ids. A source without a partner
whose bytes the other corpus has under another path was renamed. The split is compared by content: when a source moved between
train and held-out, evaluations with the two corpora cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from manifests.diff.sides import Sides

CHANGES = ("added", "removed", "renamed", "content", "status", "licence", "duplicates")


@dataclass(frozen=True, kw_only=True)
class SourceChange:
    """One source that differs.

    Attributes:
        change: one of `CHANGES`.
        a, b: what differs, on either side: status, licence, cluster, id or path; None where the source is not there.
        why: reason and detail of the side that lost it, when its status is quarantined or filtered.
    """

    source: str
    change: str
    a: str | None
    b: str | None
    why: str | None


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A source that is in both corpora and was held out in one and trained on in the other."""

    source: str
    source_id: str
    a: str
    b: str
    samples: int


@dataclass(frozen=True, kw_only=True)
class SourceChanges:
    """Sources compared; the lists hold examples, the counts all.

    Attributes:
        a, b, same: sources on either side, and those that differ in nothing.
        counts: sources by change; one may be in several.
        examples: some of each change.
        crossings: sources by direction, ``train -> heldout`` and ``heldout -> train``.
        crossed: examples, those that are trained on now first.
        clusters_a, clusters_b: clusters of at least two sources.
    """

    a: int
    b: int
    same: int
    counts: dict[str, int]
    examples: list[SourceChange]
    crossings: dict[str, int]
    crossed: list[Crossing]
    clusters_a: int
    clusters_b: int


_PAIRS = """
CREATE OR REPLACE TEMP TABLE source_pairs AS
WITH a AS (SELECT *, row_number() OVER (PARTITION BY source ORDER BY source_id) AS twin FROM a.sources),
     b AS (SELECT *, row_number() OVER (PARTITION BY source ORDER BY source_id) AS twin FROM b.sources)
SELECT coalesce(a.source, b.source) AS source, a.source_id AS id_a, b.source_id AS id_b,
       a.status AS status_a, b.status AS status_b,
       a.licence AS licence_a, b.licence AS licence_b, a.duplicate_cluster AS cluster_a, b.duplicate_cluster AS cluster_b
FROM a FULL JOIN b ON a.source = b.source AND a.twin = b.twin
"""

_CHANGED = """
CREATE OR REPLACE TEMP TABLE source_changes AS
WITH lone AS (
    SELECT p.*, o.other FROM source_pairs p LEFT JOIN (
        SELECT source_id, 'a' AS side, min(source) AS other FROM a.sources GROUP BY source_id
        UNION ALL SELECT source_id, 'b', min(source) FROM b.sources GROUP BY source_id
    ) o ON o.source_id = coalesce(p.id_a, p.id_b) AND o.side = CASE WHEN p.id_a IS NULL THEN 'a' ELSE 'b' END
    WHERE p.id_a IS NULL OR p.id_b IS NULL
)
SELECT source, 'renamed' AS change, other AS a, source AS b, id_a, id_b FROM lone WHERE id_a IS NULL AND other IS NOT NULL
UNION ALL SELECT source, 'added', NULL, status_b, id_a, id_b FROM lone WHERE id_a IS NULL AND other IS NULL
UNION ALL SELECT source, 'removed', status_a, NULL, id_a, id_b FROM lone WHERE id_b IS NULL AND other IS NULL
UNION ALL SELECT source, 'content', id_a, id_b, id_a, id_b FROM source_pairs WHERE id_a <> id_b
UNION ALL SELECT source, 'status', status_a, status_b, id_a, id_b FROM source_pairs WHERE status_a <> status_b
UNION ALL SELECT source, 'licence', licence_a, licence_b, id_a, id_b FROM source_pairs WHERE licence_a <> licence_b
UNION ALL SELECT source, 'duplicates', cluster_a, cluster_b, id_a, id_b FROM source_pairs
    WHERE id_a = id_b AND cluster_a IS DISTINCT FROM cluster_b
"""

_EXAMPLES = """
WITH shown AS (
    SELECT *, row_number() OVER (PARTITION BY change ORDER BY a IS NULL, b, source, id_a, id_b) AS place
    FROM source_changes QUALIFY place <= ?
), why AS (
    SELECT source, side, min(reason || ': ' || detail) AS why FROM (
        SELECT source, reason, detail, 'a' AS side FROM a.quarantine
        UNION ALL SELECT source, reason, detail, 'b' FROM b.quarantine
        UNION ALL SELECT source, reason, detail, 'a' FROM a.dropped WHERE sample_id IS NULL AND task IS NULL
        UNION ALL SELECT source, reason, detail, 'b' FROM b.dropped WHERE sample_id IS NULL AND task IS NULL
    ) SEMI JOIN shown USING (source) GROUP BY source, side
)
SELECT shown.source, change, a, b, CASE
    WHEN change NOT IN ('status', 'added', 'removed') THEN NULL
    WHEN change = 'removed' OR b = 'used' THEN CASE WHEN a <> 'used' THEN before.why END
    WHEN b <> 'used' THEN after.why END
FROM shown LEFT JOIN why before ON before.source = shown.source AND before.side = 'a'
           LEFT JOIN why after ON after.source = shown.source AND after.side = 'b'
ORDER BY list_position(?, change), place
"""

_CROSSED = """
WITH a AS (SELECT source_id, min(source) AS source, min(split) AS split
           FROM a.sources WHERE split IS NOT NULL GROUP BY source_id),
     b AS (SELECT source_id, min(split) AS split, sum(samples) AS samples
           FROM b.sources WHERE split IS NOT NULL GROUP BY source_id)
SELECT a.source, a.source_id, a.split, b.split, b.samples::BIGINT FROM a JOIN b USING (source_id) WHERE a.split <> b.split
"""

_CLUSTERS = """
SELECT count(*) FROM (SELECT duplicate_cluster FROM {side}.sources WHERE duplicate_cluster IS NOT NULL
                      GROUP BY duplicate_cluster HAVING count(*) > 1)
"""


def compare_sources(sides: Sides, shown: int) -> SourceChanges:
    """Compares the ``sources`` tables; at most ``shown`` examples of each change."""
    sides.rows(_PAIRS)
    sides.rows(_CHANGED)
    only_a, only_b, same = sides.rows(
        "SELECT count(id_a), count(id_b), count(*) FILTER (id_a = id_b AND status_a = status_b AND licence_a = licence_b "
        "AND cluster_a IS NOT DISTINCT FROM cluster_b) FROM source_pairs"
    )[0]
    counted = dict(sides.rows("SELECT change, count(*) FROM source_changes GROUP BY change"))
    sides.rows(
        f"CREATE OR REPLACE TEMP TABLE crossed AS {_CROSSED.replace('b.split, b.samples', 'b.split AS split_b, b.samples')}"
    )
    crossings = dict(sides.rows("SELECT split || ' -> ' || split_b, count(*) FROM crossed GROUP BY ALL ORDER BY ALL"))
    crossed = sides.rows("SELECT * FROM crossed ORDER BY split = 'train', source, source_id LIMIT ?", [shown])
    clusters = [int(sides.rows(_CLUSTERS.format(side=side))[0][0]) for side in ("a", "b")]
    return SourceChanges(
        a=only_a,
        b=only_b,
        same=same,
        counts={change: counted[change] for change in CHANGES if change in counted},
        examples=[
            SourceChange(source=source, change=change, a=a, b=b, why=why)
            for source, change, a, b, why in sides.rows(_EXAMPLES, [shown, list(CHANGES)])
        ],
        crossings=crossings,
        crossed=[Crossing(source=row[0], source_id=row[1], a=row[2], b=row[3], samples=row[4] or 0) for row in crossed],
        clusters_a=clusters[0],
        clusters_b=clusters[1],
    )
