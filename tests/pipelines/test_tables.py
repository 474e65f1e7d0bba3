"""Tables: Markdown that reads back to the same cells, pictures that show what it says, boxes where the page has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pypdfium2 as pdfium
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.extraction import Outcome
from pipelines.ocr import Recogniser, read_lines
from pipelines.pdf_tables import pages_with_grids, read_tables
from pipelines.tables import draw, make_table, to_markdown

CELL = st.text(alphabet="ab |\\-\n ü9", max_size=8)


@given(st.lists(st.lists(CELL, min_size=1, max_size=4), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_markdown_reads_back_to_the_same_cells(rows: list[list[str | None]]) -> None:
    table = make_table(rows)
    if table is None:
        return
    lines = to_markdown(table.rows).split("\n")
    back = []
    for line in lines[:1] + lines[2:]:
        cells, escaped = [""], False
        for character in line[2:-2]:
            if escaped or character not in "\\|":
                cells[-1] += character
                escaped = False
            elif character == "\\":
                escaped = True
            else:
                cells.append("")
        back.append(tuple(cell.strip() for cell in cells))
    assert tuple(back) == table.rows
    written = [" ".join((cell or "").split()) for row in rows for cell in row]
    assert sorted(filter(None, written)) == sorted(cell for row in table.rows for cell in row if cell)


def test_less_than_two_by_two_is_no_table() -> None:
    assert make_table([["a", "b"]]) is None
    assert make_table([["a", None], ["b", ""], ["c", "  "]]) is None
    assert make_table([["a", None, "b"], [], ["c"]]) is not None


def test_a_drawn_table_shows_its_words() -> None:
    rows = (("Fruit", "Harvest in kilos"), ("Apples from the garden", "1200"), ("Pears", "70"))
    picture = draw(rows)
    assert picture is not None
    words = read_lines(Recogniser().recognise(picture)).text
    assert words.splitlines() == ["Fruit Harvest in kilos", "Apples from the garden 1200", "Pears 70"]


def test_what_the_font_lacks_is_not_drawn() -> None:
    assert draw((("漢字", "a"), ("b", "c"))) is None
    assert draw(tuple(("a", "b") for _ in range(500))) is None


def test_a_table_of_a_page_has_a_picture_and_a_place(examples: Path, read: Callable[..., Outcome]) -> None:
    path = examples / "documents" / "tagged-report.pdf"
    outcome = read("a.pdf", path)
    tables = [row for row in outcome.samples if row["task"] == "document.table"]
    assert "| Column 1 | Column 2 |\n| --- | --- |\n| Cell 1 | Cell 2 |\n| Cell 3 | Cell 4 |" in {
        row["messages"][1]["parts"][0]["text"] for row in tables
    }
    for row in tables:
        origin = row["messages"][0]["parts"][0]["origin"]
        document = pdfium.PdfDocument(path)
        width, height = document.get_page_size(origin["page"] - 1)
        left, top, right, bottom = origin["box"]
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        words = document[origin["page"] - 1].get_textpage().get_text_bounded(left, height - bottom, right, height - top)
        cells = row["messages"][1]["parts"][0]["text"].replace("|", " ").replace("-", " ").split()
        assert sorted(cells) == sorted(words.replace("-", " ").split())


def test_only_grids_are_searched_and_words_keep_their_spaces(examples: Path) -> None:
    path = examples / "documents" / "debmake-manual-en.pdf"
    document = pdfium.PdfDocument(path)
    ruled = pages_with_grids(document, range(1, len(document) + 1))
    # Most pages show framed listings; those are no tables.
    assert {49, 68, 69} <= set(ruled)
    assert len(ruled) < len(document) / 4
    tables, problems = read_tables(document, path, [49])
    assert not problems
    (table,) = tables
    # "binarypackage" is how this file's own text layer has it.
    assert table.rows[0] == ("binarypackage", "type", "Architecture:", "Multi-Arch:", "Package content")
    assert table.rows[1] == ("libfoo1", "lib*", "any", "same", "the shared library, co-installable")
