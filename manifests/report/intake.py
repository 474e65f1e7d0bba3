"""What came in, what went where and why: the tables of the report that describe a corpus before it is planned.

Every figure is one SQL query over the corpus's own tables, so that it can be asked again with `longreel query`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manifests.catalog import Catalog

Row = tuple[Any, ...]
STATUSES = ("used", "filtered", "quarantined")
CONTEXTS = ("32k", "64k", "256k")
DURATIONS = ("15s", "15min", "2h", None)
ROWS_SHOWN = 60
EACH_REASON = 8


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Figures of a corpus; the fields of a row are named in its comment.

    Attributes:
        inputs: files by status.
        by_modality: modality, files, bytes, used, filtered, quarantined, samples.
        licences: licence, files, bytes, samples.
        generated: generator, problems, samples: sources that this project made.
        quarantine: source, stage, reason, detail; `EACH_REASON` for a reason, `ROWS_SHOWN` in all, at most.
        quarantine_reasons: stage, reason, files.
        dropped_reasons: stage, reason, sources, samples.
        dropped: source, task, stage, reason, detail: one example a reason.
        tasks: task, samples, train, heldout, text tokens, visual tokens, learned tokens.
        splits: split, samples, sources, tokens.
        buckets: samples and tokens by (context bucket, duration bucket).
        reasoning: task, teacher, verifier with version, samples, mean score, cost in USD.
        rejected: reason, questions: refused before they became samples.
        media: pictures, bytes, shards.
    """

    inputs: dict[str, int]
    by_modality: list[Row]
    licences: list[Row]
    generated: list[Row]
    quarantine: list[Row]
    quarantine_reasons: list[Row]
    dropped_reasons: list[Row]
    dropped: list[Row]
    tasks: list[Row]
    splits: list[Row]
    buckets: dict[tuple[str, str | None], tuple[int, int]]
    reasoning: list[Row]
    rejected: list[Row]
    media: Row

    @property
    def files(self) -> int:
        """Inputs of the curation."""
        return sum(self.inputs.values())

    @property
    def samples(self) -> int:
        """Samples of the corpus."""
        return sum(int(row[1]) for row in self.tasks)

    @property
    def tokens(self) -> int:
        """Text and visual tokens of all samples."""
        return sum(int(row[4]) + int(row[5]) for row in self.tasks)


def read_intake(catalog: Catalog) -> Intake:
    """Asks everything."""

    def rows(query: str) -> list[Row]:
        return catalog.connection.execute(query).fetchall()

    given = _given(catalog)
    by_status: dict[str, int] = dict(rows(f"SELECT status, count(*) FROM {given} GROUP BY status"))
    counts = ", ".join(f"count(*) FILTER (status = '{status}')" for status in STATUSES)
    buckets = rows(
        "SELECT context_bucket, duration_bucket, count(*), sum(total_tokens)::BIGINT FROM samples GROUP BY ALL ORDER BY ALL"
    )
    return Intake(
        inputs={status: int(by_status.get(status, 0)) for status in STATUSES},
        by_modality=rows(
            f"SELECT modality, count(*), sum(bytes)::BIGINT, {counts}, sum(samples)::BIGINT FROM {given} "
            "GROUP BY modality ORDER BY count(*) DESC, modality"
        ),
        licences=rows(
            f"SELECT licence, count(*), sum(bytes)::BIGINT, sum(samples)::BIGINT FROM {given} "
            "GROUP BY licence ORDER BY count(*) DESC, licence"
        ),
        generated=rows(
            "SELECT coalesce(origin, modality) AS generator, count(*), sum(samples)::BIGINT FROM sources "
            f"ANTI JOIN {given} AS given USING (source_id) GROUP BY ALL ORDER BY ALL"
        ),
        quarantine=rows(
            "SELECT source, stage, reason, detail FROM quarantine "
            f"QUALIFY row_number() OVER (PARTITION BY stage, reason ORDER BY source, detail) <= {EACH_REASON} "
            f"ORDER BY stage, reason, source LIMIT {ROWS_SHOWN}"
        ),
        quarantine_reasons=rows(
            "SELECT stage, reason, count(*) FROM quarantine GROUP BY ALL ORDER BY count(*) DESC, stage, reason"
        ),
        dropped_reasons=rows(
            "SELECT stage, reason, count(*) FILTER (task IS NULL), count(*) FILTER (task IS NOT NULL) "
            "FROM dropped GROUP BY ALL ORDER BY count(*) DESC, stage, reason"
        ),
        dropped=rows(
            "SELECT source, task, stage, reason, detail FROM dropped "
            "QUALIFY row_number() OVER (PARTITION BY stage, reason ORDER BY source, task, detail) = 1 ORDER BY stage, reason "
            f"LIMIT {ROWS_SHOWN}"
        ),
        tasks=rows(
            "SELECT task, count(*), count(*) FILTER (split = 'train'), count(*) FILTER (split = 'heldout'), "
            "sum(text_tokens)::BIGINT, sum(visual_tokens)::BIGINT, sum(learned_tokens)::BIGINT "
            "FROM samples GROUP BY task ORDER BY task"
        ),
        splits=rows(
            "SELECT split, count(*), (SELECT count(DISTINCT id) FROM (SELECT unnest(source_ids) AS id FROM samples AS i "
            "WHERE i.split = o.split)), sum(total_tokens)::BIGINT FROM samples AS o GROUP BY split ORDER BY split DESC"
        ),
        buckets={(context, duration): (int(count), int(tokens)) for context, duration, count, tokens in buckets},
        reasoning=rows(
            "SELECT task, reasoning.teacher, reasoning.verifier || ' ' || reasoning.verifier_version, count(*), "
            "avg(reasoning.score), sum(reasoning.cost_usd) FROM samples WHERE reasoning IS NOT NULL "
            "GROUP BY ALL ORDER BY ALL"
        ),
        rejected=rows(
            "SELECT reason, count(*) FROM dropped WHERE stage = 'verify' GROUP BY ALL ORDER BY count(*) DESC, reason"
        ),
        media=rows("SELECT count(*), coalesce(sum(length), 0)::BIGINT, count(DISTINCT shard) FROM media")[0],
    )


def _given(catalog: Catalog) -> str:
    """The sources that were inputs of the curation, as a table expression."""
    folder = catalog.corpus.table("sources", origin="curate")
    if not any(folder.glob("*.parquet")):
        return "sources"
    location = str(folder / "*.parquet").replace("'", "''")
    return f"read_parquet('{location}', hive_partitioning=false)"
