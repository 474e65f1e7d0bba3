"""What the corpus holds: samples and tokens by bucket, task and split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manifests.catalog import Catalog

Row = tuple[Any, ...]
CONTEXTS = ("32k", "64k", "256k")
DURATIONS = ("15s", "15min", "2h", None)
TASKS_SHOWN = 150


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Figures of the samples.

    Attributes:
        tasks: task, samples, train, heldout, text tokens, visual tokens, learned tokens; the `TASKS_SHOWN` with most samples.
        tasks_more: tasks beyond those.
        splits: split, samples, sources, tokens.
        buckets: samples and tokens by (context bucket, duration bucket).
        odd_buckets: samples in a bucket that no recipe names.
        lengths: samples by power of two of their tokens: exponent, samples, tokens.
        samples, tokens: of all tasks.
    """

    tasks: list[Row]
    tasks_more: int
    splits: list[Row]
    buckets: dict[tuple[str, str | None], tuple[int, int]]
    odd_buckets: int
    lengths: list[Row]
    samples: int
    tokens: int


def read_contents(catalog: Catalog) -> Contents:
    """Asks everything."""

    def rows(query: str) -> list[Row]:
        return catalog.connection.execute(query).fetchall()

    tasks = rows(
        "SELECT task, count(*), count(*) FILTER (split = 'train'), count(*) FILTER (split = 'heldout'), "
        "sum(text_tokens)::BIGINT, sum(visual_tokens)::BIGINT, sum(learned_tokens)::BIGINT, sum(total_tokens)::BIGINT "
        "FROM samples GROUP BY task ORDER BY task"
    )
    buckets = rows(
        "SELECT context_bucket, duration_bucket, count(*), sum(total_tokens)::BIGINT FROM samples GROUP BY ALL ORDER BY ALL"
    )
    known = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in buckets if row[0] in CONTEXTS and row[1] in DURATIONS}
    samples = sum(int(row[1]) for row in tasks)
    shown = sorted(sorted(tasks, key=lambda row: (-row[1], row[0]))[:TASKS_SHOWN])
    return Contents(
        tasks=[row[:7] for row in shown],
        tasks_more=len(tasks) - len(shown),
        splits=rows(
            "WITH used AS (SELECT DISTINCT split, unnest(source_ids) AS id FROM samples) "
            "SELECT split, count(*), (SELECT count(*) FROM used WHERE used.split = o.split), sum(total_tokens)::BIGINT "
            "FROM samples AS o GROUP BY split ORDER BY split DESC"
        ),
        buckets=known,
        odd_buckets=samples - sum(count for count, _ in known.values()),
        lengths=rows(
            "SELECT floor(log2(greatest(total_tokens, 1)))::INT AS power, count(*), sum(total_tokens)::BIGINT FROM samples "
            "GROUP BY power ORDER BY power"
        ),
        samples=samples,
        tokens=sum(int(row[7]) for row in tasks),
    )
