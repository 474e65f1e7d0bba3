"""What came in, and the proof that nothing of it was lost: files by status, modality and licence.

Every figure is one SQL query over the corpus's own tables, so that it can be asked again with `longreel query`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manifests.catalog import Catalog, no_pattern, quoted

Row = tuple[Any, ...]
STATUSES = ("used", "filtered", "quarantined")
LICENCES_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Two ways of counting one thing."""

    what: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        return self.left == self.right


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Figures of what came in; the fields of a row are named in its comment.

    Attributes:
        inputs: files by status.
        other: files of any other status: there should be none.
        by_modality: modality, files, bytes, used, filtered, quarantined, samples.
        licences: licence, files, bytes, samples; the commonest `LICENCES_SHOWN`.
        licences_more: licences beyond those.
        generated: generator, problems, samples: sources that this project made.
        proofs: sums that have to hold.
        media: pictures, bytes, shards.
    """

    inputs: dict[str, int]
    other: int
    by_modality: list[Row]
    licences: list[Row]
    licences_more: int
    generated: list[Row]
    proofs: list[Proof]
    media: Row

    @property
    def files(self) -> int:
        """Inputs of the curation."""
        return sum(self.inputs.values()) + self.other

    @property
    def unknown(self) -> int:
        """Files whose licence is not known."""
        return sum(int(row[1]) for row in self.licences if row[0] == "unknown")


def read_intake(catalog: Catalog) -> Intake:
    """Asks everything."""

    def rows(query: str) -> list[Row]:
        return catalog.connection.execute(query).fetchall()

    given = _given(catalog)
    by_status: dict[str, int] = dict(rows(f"SELECT status, count(*) FROM {given} GROUP BY status"))
    inputs = {status: int(by_status.get(status, 0)) for status in STATUSES}
    counts = ", ".join(f"count(*) FILTER (status = '{status}')" for status in STATUSES)
    licences = rows(
        f"SELECT licence, count(*), sum(bytes)::BIGINT, sum(samples)::BIGINT, count(*) OVER () FROM {given} "
        f"GROUP BY licence ORDER BY count(*) DESC, licence LIMIT {LICENCES_SHOWN}"
    )
    return Intake(
        inputs=inputs,
        other=sum(by_status.values()) - sum(inputs.values()),
        by_modality=rows(
            f"SELECT modality, count(*), sum(bytes)::BIGINT, {counts}, sum(samples)::BIGINT FROM {given} "
            "GROUP BY modality ORDER BY count(*) DESC, modality"
        ),
        licences=licences,
        licences_more=max(0, (licences[0][4] if licences else 0) - len(licences)),
        generated=rows(
            "SELECT coalesce(came_from, modality) AS generator, count(*), sum(samples)::BIGINT FROM sources "
            f"ANTI JOIN {given} AS given USING (source_id) GROUP BY ALL ORDER BY count(*) DESC, generator LIMIT 20"
        ),
        proofs=_proofs(catalog, given, inputs, sum(by_status.values())),
        media=rows("SELECT count(*), coalesce(sum(length), 0)::BIGINT, count(DISTINCT shard) FROM media")[0],
    )


def _proofs(catalog: Catalog, given: str, inputs: dict[str, int], files: int) -> list[Proof]:
    def one(query: str) -> int:
        return int(catalog.connection.execute(query).fetchall()[0][0])

    record = catalog.corpus.record("curate")
    counted = record.counts.get("inputs") if record else None
    proofs = [Proof(what="used + filtered + quarantined = rows of sources", left=sum(inputs.values()), right=files)]
    if isinstance(counted, int):
        proofs.append(Proof(what="rows of sources = inputs that curation was given", left=files, right=counted))
    lost = one("SELECT count(*) FROM quarantine")
    proofs.append(Proof(what="quarantined sources = rows of quarantine", left=inputs["quarantined"], right=lost))
    unexplained = one(f"SELECT count(*) FROM {given} AS g ANTI JOIN dropped USING (source) WHERE g.status = 'filtered'")
    proofs.append(
        Proof(
            what="filtered sources = those with a row in dropped",
            left=inputs["filtered"],
            right=inputs["filtered"] - unexplained,
        )
    )
    idle = one(f"SELECT count(*) FROM {given} WHERE status <> 'used' AND samples > 0")
    proofs.append(Proof(what="samples of sources that were not used = none", left=idle, right=0))
    return proofs


def _given(catalog: Catalog) -> str:
    """The sources that were inputs of the curation, as a table expression."""
    record = catalog.corpus.record("curate")
    names = [name for name in record.files if name.startswith("sources/") and name.endswith(".parquet")] if record else []
    everything = sum(name.startswith("sources/") for each in catalog.corpus.records() for name in each.files)
    if not names or len(names) == everything:
        return "sources"
    files = ", ".join(quoted(no_pattern(str(catalog.corpus.folder / name))) for name in names)
    return f"(SELECT * FROM sources SEMI JOIN read_parquet([{files}], hive_partitioning=false) USING (source_id, source))"
