"""Older tables are read as today's, newer ones are refused, and no change of a schema goes unnoticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests import Catalog, files, migration, schemas
from manifests.check import check
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError, UsageError
from manifests.migration import Added, Default, NewTable, Removed, Renamed, origins, read_rows

FROZEN = Path(__file__).parent / "schema_versions"
VERSIONS = sorted(int(path.stem) for path in FROZEN.glob("*.json"))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A corpus exactly as version 1 wrote it."""
    return Path(shutil.copytree(FROZEN / "corpus-1", tmp_path / "corpus"))


@pytest.mark.parametrize("version", VERSIONS)
def test_changes_lead_from_every_released_version_to_todays_schemas(version: int) -> None:
    frozen = json.loads((FROZEN / f"{version}.json").read_text())
    later = [change for change in migration.CHANGES if change.version > version]
    new_tables = {change.table for change in later if isinstance(change, NewTable)}
    assert set(schemas.TABLES) == set(frozen) | new_tables, "a table came or went: add a line to migration.CHANGES"
    for table in set(schemas.TABLES) - new_tables:
        today, read = schemas.TABLES[table], origins(table, version)
        for name, column in read.items():
            if isinstance(column, Default):
                assert column.value is not None or today.field(name).nullable, f"{table}.{name} may not be null"
                continue
            assert column in frozen[table], f"version {version} has no {table}.{column}: add a line to migration.CHANGES"
            assert [str(today.field(name).type), today.field(name).nullable] == frozen[table][column], f"{table}.{name}"
        removed = {change.column for change in later if isinstance(change, Removed) and change.table == table}
        assert set(frozen[table]) - removed == {column for column in read.values() if isinstance(column, str)}, (
            f"{table} lost a column: add a line to migration.CHANGES"
        )


def test_a_corpus_of_version_1_answers_as_todays(old: Path) -> None:
    assert Corpus.open(old).versions() == {"curate": 1}
    catalog = Catalog(old)
    for table, schema in schemas.TABLES.items():
        assert catalog.sql(f"SELECT * FROM {table}").columns == schema.names
    assert catalog.sql("SELECT count(*), count(tokens), max(samples) FROM sources").fetchall() == [(5, 0, 1)]
    assert all(finding.holds for finding in check(old))
    rows = read_rows(old / "sources/origin=curate/part-00000.parquet", "sources", ["source", "tokens", "samples"])
    assert rows.schema.names == ["source", "tokens", "samples"]
    assert rows["tokens"].to_pylist() == [None] * 5
    assert rows["samples"].to_pylist() == catalog.sql("SELECT samples FROM sources").fetchnumpy()["samples"].tolist()


def test_steps_of_two_versions_are_one_table(old: Path) -> None:
    corpus = Corpus(old)
    newer = {"source_id": "f" * 32, "source": "new", "modality": "text", "bytes": 1, "attached": [], "licence": "MIT",
             "status": "used", "samples": 2, "tokens": 70}  # fmt: skip
    corpus.commit("synthesize", "f", {}, corpus.write_table("sources", [newer], origin="synthesize"), [])
    assert corpus.versions() == {"curate": 1, "synthesize": schemas.VERSION}
    rows = Catalog(old).sql("SELECT count(*), count(tokens), sum(tokens), count(*) FILTER (source = 'new') FROM sources")
    assert rows.fetchall() == [(6, 1, 70, 1)]


CHANGES = (
    Added(version=2, table="stages", column="cap", default="it's none"),
    Renamed(version=2, table="stages", old="title", new="label"),
    Removed(version=3, table="stages", column="worth"),
    Added(version=3, table="stages", column="worth", default=2.5),
    Renamed(version=3, table="stages", old="label", new="name"),
)


def test_renames_and_defaults_go_through_several_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def schema(version: int, *columns: str) -> pa.Schema:
        kinds = {"worth": pa.float64() if version == 3 else pa.string()}
        return pa.schema(
            [pa.field(name, kinds.get(name, pa.string())) for name in columns],
            metadata={"longreel.table": "stages", "longreel.version": str(version)},
        )

    written = {
        1: (schema(1, "title", "worth"), {"title": "one", "worth": "much"}),
        2: (schema(2, "worth", "label", "cap"), {"label": "two", "worth": "less", "cap": "c"}),
        3: (schema(3, "name", "cap", "worth"), {"name": "three", "cap": "d", "worth": 7.0}),
    }
    monkeypatch.setattr(migration, "CHANGES", CHANGES)
    monkeypatch.setattr(schemas, "VERSION", 3)
    monkeypatch.setitem(schemas.TABLES, "stages", written[3][0])
    expected = [("one", "it's none", 2.5), ("two", "c", 2.5), ("three", "d", 7.0)]
    selects, rows = [], []
    for version, (columns, row) in written.items():
        path = tmp_path / f"{version}.parquet"
        files.write_rows(path, [row], columns)
        rows += [tuple(each.values()) for each in read_rows(path, "stages").to_pylist()]
        kinds = {"name": "VARCHAR", "cap": "VARCHAR", "worth": "DOUBLE"}
        selects.append(f"SELECT {migration.select_list('stages', version, kinds)} FROM '{path}'")
    import duckdb

    assert rows == expected
    assert duckdb.sql(" UNION ALL BY NAME ".join(selects)).fetchall() == expected


def test_a_newer_corpus_is_refused_in_one_line(old: Path) -> None:
    record = files.read_json(old / "steps/curate.json")
    files.write_json(old / "steps/curate.json", {**record, "tables": schemas.VERSION + 1})
    words = rf"step curate has tables of version {schemas.VERSION + 1}, and this longreel reads up to {schemas.VERSION}: use a"
    with pytest.raises(UsageError, match=words):
        Catalog(old)


def test_a_newer_or_foreign_file_is_refused(tmp_path: Path) -> None:
    rows = pa.table({"source": ["a"]})
    pq.write_table(rows, tmp_path / "foreign.parquet")
    with pytest.raises(CorruptCorpusError, match="is not a table of longreel: it names no version"):
        read_rows(tmp_path / "foreign.parquet", "sources")
    pq.write_table(rows.replace_schema_metadata({"longreel.version": "99"}), tmp_path / "newer.parquet")
    with pytest.raises(UsageError, match="version 99"):
        read_rows(tmp_path / "newer.parquet", "sources")
    pq.write_table(rows.replace_schema_metadata({"longreel.version": "1"}), tmp_path / "short.parquet")
    with pytest.raises(CorruptCorpusError, match="lacks column 'source_id' of sources version 1"):
        read_rows(tmp_path / "short.parquet", "sources")
