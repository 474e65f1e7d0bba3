"""What was not used, and why: quarantine by stage and reason, drops by reason, with examples to open."""

from __future__ import annotations

from dataclasses import dataclass

from manifests.catalog import Catalog, quoted

EXAMPLES = 4
REASONS_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class Lost:
    """One file or sample that was lost. ``task`` is None where the whole source was."""

    source: str
    task: str | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Everything lost for one reason at one stage.

    Attributes:
        sources, samples: whole sources, and single samples.
        examples: up to `EXAMPLES`, by hash of what was lost.
        sql: the query that lists all of it.
    """

    stage: str
    reason: str
    sources: int
    samples: int
    examples: list[Lost]
    sql: str


@dataclass(frozen=True, kw_only=True)
class Fates:
    """The commonest `REASONS_SHOWN` reasons of each table, how many more there are; clusters of duplicates, their sources."""

    quarantine: list[Reason]
    quarantine_more: int
    dropped: list[Reason]
    dropped_more: int
    clusters: int
    clustered: int


def read_fates(catalog: Catalog) -> Fates:
    """Asks for both tables of losses."""
    quarantine, quarantine_more = _reasons(catalog, "quarantine", "NULL", "true")
    dropped, dropped_more = _reasons(catalog, "dropped", "task", "task IS NULL")
    clusters, clustered = catalog.connection.execute(
        "SELECT count(*), coalesce(sum(n), 0)::BIGINT FROM (SELECT count(*) AS n FROM sources "
        "WHERE duplicate_cluster IS NOT NULL GROUP BY duplicate_cluster HAVING count(*) > 1)"
    ).fetchall()[0]
    return Fates(
        quarantine=quarantine,
        quarantine_more=quarantine_more,
        dropped=dropped,
        dropped_more=dropped_more,
        clusters=clusters,
        clustered=clustered,
    )


def _reasons(catalog: Catalog, table: str, task: str, whole: str) -> tuple[list[Reason], int]:
    rows = catalog.connection.execute(f"""
        SELECT stage, reason, count(*) FILTER ({whole}), count(*) FILTER (NOT ({whole})),
               min(row(md5(concat_ws('/', source, {task}, detail)), source, {task}, detail), {EXAMPLES}), count(*) OVER ()
        FROM {table} GROUP BY stage, reason ORDER BY count(*) DESC, stage, reason LIMIT {REASONS_SHOWN}
    """).fetchall()
    found = [
        Reason(
            stage=stage,
            reason=reason,
            sources=sources,
            samples=samples,
            examples=[Lost(source=example[1], task=example[2], detail=example[3]) for example in map(_values, examples)],
            sql=f"SELECT * FROM {table} WHERE stage = {quoted(stage)} AND reason = {quoted(reason)}",
        )
        for stage, reason, sources, samples, examples, _ in rows
    ]
    return found, max(0, rows[0][5] - len(rows)) if rows else 0


def _values(row: dict[str, str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row.values()) if isinstance(row, dict) else row
