"""Verified reasoning: what was accepted, what was refused and why, and what an accepted sample costs, by task and teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manifests.catalog import Catalog

Row = tuple[Any, ...]
TASKS_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Figures of synthesis.

    Attributes:
        tasks: task, teacher, verifier with version, accepted, mean score, USD, USD for one accepted, refused (of the task).
        tasks_more: rows beyond `TASKS_SHOWN`.
        reasons: reason, questions refused.
        accepted, refused: in all.
        cost: USD in all: of all requests where the ledger of teachers is kept, else of the accepted samples.
        teachers: task, teacher, questions, accepted, requests, tokens, seconds, USD, USD for one accepted, mean share of right
            responses: what asking models cost, refused answers included; the dearest first.
    """

    tasks: list[Row]
    tasks_more: int
    reasons: list[Row]
    accepted: int
    refused: int
    cost: float
    teachers: list[Row]


def read_synthesis(catalog: Catalog) -> Synthesis | None:
    """Figures of synthesis; None when nothing was synthesised."""

    def rows(query: str) -> list[Row]:
        return catalog.connection.execute(query).fetchall()

    tasks = rows("""
        WITH refused AS (SELECT task, count(*) AS n FROM dropped WHERE stage = 'verify' GROUP BY task),
        accepted AS (
            SELECT task, reasoning.teacher AS teacher, reasoning.verifier || ' ' || reasoning.verifier_version AS verifier,
                   count(*) AS n, avg(reasoning.score) AS score, sum(reasoning.cost_usd) AS usd
            FROM samples WHERE reasoning IS NOT NULL GROUP BY ALL
        )
        SELECT coalesce(a.task, r.task), a.teacher, a.verifier, coalesce(a.n, 0), a.score, coalesce(a.usd, 0),
               a.usd / a.n, coalesce(r.n, 0)
        FROM accepted a FULL JOIN refused r ON a.task = r.task ORDER BY ALL
    """)
    reasons = rows(
        "SELECT reason, count(*) FROM dropped WHERE stage = 'verify' GROUP BY ALL ORDER BY count(*) DESC, reason LIMIT 40"
    )
    teachers = _teachers(catalog)
    if not tasks and not teachers:
        return None
    return Synthesis(
        tasks=tasks[:TASKS_SHOWN],
        tasks_more=max(0, len(tasks) - TASKS_SHOWN),
        reasons=reasons,
        accepted=sum(int(row[3]) for row in tasks),
        refused=rows("SELECT count(*) FROM dropped WHERE stage = 'verify'")[0][0],
        cost=max(float(sum(row[5] for row in tasks)), float(sum(row[7] for row in teachers))),
        teachers=teachers[:TASKS_SHOWN],
    )


def _teachers(catalog: Catalog) -> list[Row]:
    """What asking models cost; teachers that are programs cost nothing and are left out."""
    return catalog.connection.execute("""
        SELECT task, teacher, questions, accepted, requests, prompt_tokens + completion_tokens, seconds, usd, usd_per_accepted,
               pass_rate
        FROM costs WHERE requests > 0 ORDER BY usd DESC, task, teacher
    """).fetchall()
