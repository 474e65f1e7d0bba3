"""What a terminal shows: text of the data stays text, rows fit the width, the documentation is the schemas'."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from manifests import schema_docs, schemas
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.printable import printable, printable_json
from manifests.queries import QUESTIONS
from manifests.terminal import cell, questions_shown, rows_shown, table_shown, tables_shown

HOSTILE = [
    "\x1b[2J\x1b[31mred", "a\nb\tc\r\0", "\x9b5A\x9d0;title\x07", "\u202egnp.exe", "[bold]not markup[/bold]",
    "'; DROP TABLE x; --", "\x1b]8;;http://evil\x1b\\link", "line\u2028break", "\x7f\x08\x08\x08",
]  # fmt: skip


def shown(renderable: object, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(renderable, highlight=False)
    return stream.getvalue()


def test_nothing_of_the_data_reaches_the_terminal_as_a_command() -> None:
    rows = [(text, [text], {"key": text}, index) for index, text in enumerate(HOSTILE)]
    for width in (40, 80, 1000):
        text = shown(rows_shown(["plain", "list\x1b[0m", "nested", "n"], rows, Console(width=width)), width)
        assert not [char for char in text if char != "\n" and printable(char) != char]
        assert "[bold]not markup[/bold]" in text.replace("\n", "") or width == 40
        assert r"\x1b[2J\x1b[31mred" in text or width == 40


@pytest.mark.parametrize("text", [*HOSTILE, "ünïcödé 表 👩‍👩‍👧", "\ud800"])
def test_spelled_text_is_one_line_and_json_keeps_the_value(text: str) -> None:
    assert len(printable(text).splitlines()) <= 1
    assert printable(printable(text)) == printable(text)
    dumped = printable_json(json.dumps({"a": text}, ensure_ascii=False, indent=2))
    assert json.loads(dumped) == {"a": text}
    assert all(printable(line) == line for line in dumped.split("\n"))


def test_plain_text_is_left_alone() -> None:
    assert printable("ünïcödé 表 👩‍👩‍👧 'x' \\n") == "ünïcödé 表 👩‍👩‍👧 'x' \\n"
    assert cell(None).plain == ""
    assert cell(1234567.0).plain == "1234567"
    assert cell(0.1 + 0.2).plain == "0.3"
    assert cell(["a", "b"]).plain == "a, b"


def test_wide_rows_stand_one_below_the_other() -> None:
    table = shown(rows_shown(["name", "count"], [("a", 1), ("bcd", 22)], Console(width=80)))
    assert [line.rstrip() for line in table.splitlines()] == ["name  count", "a         1", "bcd      22"]
    narrow = shown(rows_shown(["long_name_of_it", "other_long_name"], [("a", 1)], Console(width=12)), 12)
    assert narrow.splitlines()[-1].split() == ["a", "1"]
    record = shown(rows_shown(["name", "other"], [("a" * 50, "b" * 50), ("c", None)], Console(width=80)))
    words = [["row", "1"], ["name", "a" * 50], ["other", "b" * 50], ["row", "2"], ["name", "c"]]
    assert [line.split() for line in record.splitlines()] == words


def test_documentation_fits_80_columns_and_is_complete(corpus: Corpus) -> None:
    assert all(len(line) <= 80 for line in shown(tables_shown(corpus)).splitlines())
    assert f"curate {schemas.VERSION}; this longreel writes {schemas.VERSION}" in shown(tables_shown(corpus), 200)
    listed = shown(questions_shown())
    assert all(len(line) <= 80 for line in listed.splitlines())
    assert all(name in listed for name in QUESTIONS)
    for table, schema in schemas.TABLES.items():
        text = shown(table_shown(table))
        assert all(len(line) <= 80 for line in text.splitlines())
        assert all(name in text for name in schema.names)
        assert all(column.meaning for column in schema_docs.describe(table)), table
    with pytest.raises(UsageError, match="there is no table 'nope': samples, media"):
        table_shown("nope")


def test_docs_tables_is_what_the_schemas_say() -> None:
    path = Path(schema_docs.__file__).parent.parent / "docs" / "tables.md"
    assert path.read_text(encoding="utf-8") == schema_docs.markdown(), "run: python -m manifests.schema_docs > docs/tables.md"
    assert set(schemas.ABOUT) == set(schemas.TABLES)
