"""What was lost, and what was synthesised: counts on either side, by reason and by task."""

from __future__ import annotations

from dataclasses import dataclass

from manifests.diff.sides import Sides


@dataclass(frozen=True, kw_only=True)
class ReasonChange:
    """Rows of ``quarantine`` or ``dropped`` with one stage and reason."""

    table: str
    stage: str
    reason: str
    a: int
    b: int


@dataclass(frozen=True, kw_only=True)
class ReasoningChange:
    """Verified samples of one task by one teacher, and what they cost."""

    task: str
    teacher: str
    a: int
    b: int
    usd_a: float
    usd_b: float


@dataclass(frozen=True, kw_only=True)
class LicenceChange:
    """Sources and samples under one licence."""

    licence: str
    sources_a: int
    sources_b: int
    samples_a: int
    samples_b: int


def compare_losses(sides: Sides) -> list[ReasonChange]:
    """Every stage and reason of either corpus, the largest changes first."""
    rows = sides.rows("""
        SELECT tab, stage, reason, count(*) FILTER (side = 'a') AS a, count(*) FILTER (side = 'b') AS b FROM (
            SELECT 'quarantine' AS tab, stage, reason, 'a' AS side FROM a.quarantine
            UNION ALL SELECT 'quarantine', stage, reason, 'b' FROM b.quarantine
            UNION ALL SELECT 'dropped', stage, reason, 'a' FROM a.dropped
            UNION ALL SELECT 'dropped', stage, reason, 'b' FROM b.dropped
        ) GROUP BY ALL ORDER BY tab DESC, abs(a - b) DESC, stage, reason
    """)
    return [ReasonChange(table=table, stage=stage, reason=reason, a=a, b=b) for table, stage, reason, a, b in rows]


def compare_reasoning(sides: Sides) -> list[ReasoningChange]:
    """Accepted samples by task and teacher on either side."""
    rows = sides.rows("""
        SELECT task, teacher, count(*) FILTER (side = 'a'), count(*) FILTER (side = 'b'),
               round(coalesce(sum(usd) FILTER (side = 'a'), 0), 6), round(coalesce(sum(usd) FILTER (side = 'b'), 0), 6) FROM (
            SELECT task, reasoning.teacher AS teacher, reasoning.cost_usd AS usd, 'a' AS side FROM a.samples
            WHERE reasoning IS NOT NULL
            UNION ALL SELECT task, reasoning.teacher, reasoning.cost_usd, 'b' FROM b.samples WHERE reasoning IS NOT NULL
        ) GROUP BY ALL ORDER BY ALL
    """)
    names = ("task", "teacher", "a", "b", "usd_a", "usd_b")
    return [ReasoningChange(**dict(zip(names, row, strict=True))) for row in rows]


def compare_licences(sides: Sides) -> list[LicenceChange]:
    """Sources and samples by licence on either side."""
    rows = sides.rows("""
        SELECT licence, sum(n) FILTER (kind = 'a0')::BIGINT, sum(n) FILTER (kind = 'b0')::BIGINT,
               sum(n) FILTER (kind = 'a1')::BIGINT, sum(n) FILTER (kind = 'b1')::BIGINT FROM (
            SELECT licence, 'a0' AS kind, count(*) AS n FROM a.sources GROUP BY licence
            UNION ALL SELECT licence, 'b0', count(*) FROM b.sources GROUP BY licence
            UNION ALL SELECT licence, 'a1', count(*) FROM a.samples GROUP BY licence
            UNION ALL SELECT licence, 'b1', count(*) FROM b.samples GROUP BY licence
        ) GROUP BY licence ORDER BY licence
    """)
    names = ("sources_a", "sources_b", "samples_a", "samples_b")
    return [LicenceChange(licence=row[0], **dict(zip(names, (n or 0 for n in row[1:]), strict=True))) for row in rows]
