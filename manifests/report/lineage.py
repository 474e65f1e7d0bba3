"""Lineage both ways, shown on examples: from a packed token span to its source, and from a source to its sequences.

The queries stand beside the answers, so that anyone can ask them of another span or source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manifests.catalog import Catalog, quoted
from manifests.report.previews import listed, place_in_source

SPANS = 3
SEQUENCES_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A span of a packed sequence: recipe, stage, split, position and tokens; where it came from; the query."""

    recipe: str
    stage: int
    split: str
    position: int
    start: int
    end: int
    sample_id: str
    source: str
    place: str
    sql: str


@dataclass(frozen=True, kw_only=True)
class Backward:
    """A source and the sequences that hold something of it.

    Attributes:
        uses: recipe, stage, split, sequences, placed samples, tokens of it.
        first: recipe, stage, split and position of up to `SEQUENCES_SHOWN` sequences.
    """

    source: str
    source_id: str
    uses: list[tuple[Any, ...]]
    first: list[tuple[Any, ...]]
    sql: str


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Examples of both directions."""

    forward: list[Forward]
    backward: list[Backward]


def read_lineage(catalog: Catalog, sample_ids: list[str]) -> Lineage:
    """Spans of the given samples where they are packed: one with seconds, one with a page, one with a box, if there are such.

    The sources of those spans are the examples of the way back.
    """
    if not sample_ids:
        return Lineage(forward=[], backward=[])
    chosen = listed(sample_ids)
    rows = catalog.connection.execute(
        f"""
        WITH placed AS (SELECT * FROM segments WHERE sample_id IN {chosen}
                        QUALIFY row_number() OVER (PARTITION BY sample_id ORDER BY stage DESC, recipe, position) = 1),
        spans AS (SELECT *, CASE WHEN start_s IS NOT NULL THEN 0 WHEN page IS NOT NULL THEN 1 WHEN box IS NOT NULL THEN 2
                                 ELSE 3 END AS kind FROM lineage WHERE sample_id IN {chosen} AND source_id IS NOT NULL)
        SELECT p.recipe, p.stage, p.split, p.position, p.token_start + s.token_start, p.token_start + s.token_end, s.sample_id,
               s.source_id, s.start_s, s.end_s, s.page, s.box
        FROM spans s JOIN placed p USING (sample_id)
        QUALIFY row_number() OVER (PARTITION BY kind ORDER BY md5(s.sample_id || s.token_start), s.sample_id, s.token_start) = 1
        ORDER BY kind LIMIT {SPANS}
        """
    ).fetchall()
    sources = list(dict.fromkeys(row[7] for row in rows))
    names = dict(
        catalog.connection.execute(
            f"SELECT source_id, min(source) FROM sources WHERE source_id IN {listed(sources or [''])} GROUP BY source_id"
        ).fetchall()
    )
    forward = [
        Forward(
            recipe=recipe, stage=stage, split=split, position=position, start=start, end=end, sample_id=sample_id,
            source=names.get(source_id, source_id), place="; ".join(place_in_source(*place)) or "all of it",
            sql=_forward_sql(recipe, stage, split, position, start, end),
        )
        for recipe, stage, split, position, start, end, sample_id, source_id, *place in rows
    ]  # fmt: skip
    backward = _backward(catalog, {source_id: names.get(source_id, source_id) for source_id in sources})
    return Lineage(forward=forward, backward=backward)


def _forward_sql(recipe: str, stage: int, split: str, position: int, start: int, end: int) -> str:
    return (
        "SELECT s.source, l.start_s, l.end_s, l.page, l.box, g.sample_id\n"
        "FROM segments g JOIN lineage l USING (sample_id) JOIN sources s USING (source_id)\n"
        f"WHERE g.recipe = {quoted(recipe)} AND g.stage = {stage} AND g.split = {quoted(split)} AND g.position = {position}\n"
        f"  AND g.token_start + l.token_start < {end} AND g.token_start + l.token_end > {start}"
    )


def _backward_sql(source_ids: list[str]) -> str:
    which = f"= {quoted(source_ids[0])}" if len(source_ids) == 1 else f"IN {listed(source_ids)}"
    return (
        "SELECT g.recipe, g.stage, g.split, g.position, g.sample_id, g.epoch,\n"
        "       g.token_start + l.token_start AS token_start, g.token_start + l.token_end AS token_end, l.source_id\n"
        "FROM lineage l JOIN segments g USING (sample_id)\n"
        f"WHERE l.source_id {which} ORDER BY ALL"
    )


def _backward(catalog: Catalog, sources: dict[str, str]) -> list[Backward]:
    """All sources in one pass over the segments; the query shown is that of one."""
    if not sources:
        return []
    catalog.connection.execute(f"CREATE OR REPLACE TEMP TABLE uses AS {_backward_sql(list(sources))}")
    found = []
    for source_id, source in sources.items():
        uses = catalog.connection.execute(
            "SELECT recipe, stage, split, count(DISTINCT position), count(DISTINCT (position, sample_id)), "
            "sum(token_end - token_start)::BIGINT FROM uses WHERE source_id = ? GROUP BY ALL ORDER BY ALL LIMIT 40",
            [source_id],
        ).fetchall()
        first = catalog.connection.execute(
            "SELECT DISTINCT recipe, stage, split, position FROM uses WHERE source_id = ? ORDER BY ALL LIMIT ?",
            [source_id, SEQUENCES_SHOWN],
        ).fetchall()
        sql = _backward_sql([source_id])
        found.append(Backward(source=source, source_id=source_id, uses=uses, first=first, sql=sql))
    return found
