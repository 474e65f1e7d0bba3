"""Office files and e-books: structure kept, order kept, and nothing dangerous opened."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from random import Random

import docx
import openpyxl
import pptx
import pytest
from pptx.util import Inches

from manifests.recipe import Recipe
from pipelines.extraction import Outcome

Read = Callable[..., Outcome]
PROSE = "A paragraph that says enough about its subject to be worth a sample, and then a little more than that."
TEXT = Path(__file__).parents[2] / "examples" / "corpus" / "documents" / "developers-reference-l10n.txt"
ODF = "urn:oasis:names:tc:opendocument:xmlns"


def saved(document: object) -> bytes:
    stream = io.BytesIO()
    document.save(stream)  # type: ignore[attr-defined]
    return stream.getvalue()


def zipped(parts: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def changed(data: bytes, parts: dict[str, bytes]) -> bytes:
    """An archive with some parts replaced or added."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return zipped({**{name: archive.read(name) for name in archive.namelist()}, **parts})


def word() -> bytes:
    document = docx.Document()
    document.add_heading("Harvest report", level=1)
    document.add_paragraph(PROSE)
    table = document.add_table(rows=3, cols=2)
    for row, cells in zip(table.rows, (("Fruit", "Kilos"), ("Apple | red", "12"), ("Pear", "7")), strict=True):
        for cell, words in zip(row.cells, cells, strict=True):
            cell.text = words
    document.add_heading("Outlook", level=2)
    document.add_paragraph("more apples", style="List Bullet")
    document.add_paragraph("fewer pears", style="List Bullet")
    return saved(document)


def texts(outcome: Outcome, task: str = "document.text") -> str:
    rows = [row for row in outcome.samples if row["task"] == task]
    return "".join(part["text"] for row in rows for part in row["messages"][0]["parts"])


def test_word_keeps_headings_lists_and_tables_in_order(read: Read) -> None:
    outcome = read("report.docx", word())
    assert texts(outcome) == (
        f"# Harvest report\n\n{PROSE}\n\n"
        "| Fruit | Kilos |\n| --- | --- |\n| Apple \\| red | 12 |\n| Pear | 7 |\n\n"
        "## Outlook\n\n- more apples\n- fewer pears\n"
    )
    (table,) = [row for row in outcome.samples if row["task"] == "document.table"]
    question, answer = table["messages"]
    assert question["parts"][0]["kind"] == "image"
    assert answer["parts"][0]["text"].splitlines()[2] == "| Apple \\| red | 12 |"
    assert dict(table["quality"])["drawn"] == 1.0
    assert outcome.store is not None
    assert {question["parts"][0]["visuals"][0]["media_id"]} == set(outcome.media_ids)


def test_slides_are_pages_read_from_top_to_bottom(read: Read) -> None:
    deck = pptx.Presentation()
    for number in (1, 2):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = f"Slide {number}"
        for top, words in ((5, "said below"), (2, "said above")):
            slide.shapes.add_textbox(Inches(1), Inches(top), Inches(4), Inches(1)).text_frame.text = f"{words} on {number}"
        slide.notes_slide.notes_text_frame.text = f"what the speaker says about slide {number}, at some length"
    outcome = read("deck.pptx", saved(deck))
    parts = [part for row in outcome.samples if row["task"] == "document.text" for part in row["messages"][0]["parts"]]
    assert [part["origin"]["page"] for part in parts] == [1, 2]
    for number, part in enumerate(parts, start=1):
        words = part["text"]
        assert words.startswith(f"# Slide {number}\n\nsaid above on {number}\n\nsaid below on {number}\n\nNotes: what the")


def test_sheets_give_values_not_formulas(read: Read) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Rain"
    for row in (["month", "mm"], ["May", 31.5], ["June", 0.1 + 0.2], ["sum", "=SUM(B2:B3)"]):
        book.active.append(row)
    book.create_sheet("Empty")
    outcome = read("rain.xlsx", saved(book))
    words = texts(outcome)
    assert words.startswith("# Rain\n\n| month | mm |\n| --- | --- |\n| May | 31.5 |\n| June | 0.3 |\n")
    assert "SUM" not in words


def odt(body: str, mime: str = "text") -> bytes:
    spaces = " ".join(
        f'xmlns:{name}="{ODF}:{full}:1.0"'
        for name, full in (("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"))
    )
    content = (
        f'<?xml version="1.0"?><office:document-content {spaces}><office:body>{body}</office:body></office:document-content>'
    )
    return zipped({"mimetype": f"application/vnd.oasis.opendocument.{mime}".encode(), "content.xml": content.encode()})


def test_opendocument_text_and_bounded_repeats(read: Read) -> None:
    body = (
        f'<office:text><text:h text:outline-level="2">Title</text:h><text:p>{PROSE}<text:line-break/>New<text:s text:c="3"/>'
        "line</text:p><text:list><text:list-item><text:p>one</text:p></text:list-item></text:list></office:text>"
    )
    assert texts(read("a.odt", odt(body))) == f"## Title\n\n{PROSE}\nNew   line\n\n- one\n"
    cell = "<table:table-cell><text:p>%s</text:p></table:table-cell>"
    row = f"<table:table-row>{cell % 'a long enough cell of words'}{cell % 'another cell that has words'}</table:table-row>"
    empty = '<table:table-row table:number-rows-repeated="1048576"><table:table-cell/></table:table-row>'
    full = row.replace("<table:table-row>", '<table:table-row table:number-rows-repeated="999999999">')
    body = f'<office:spreadsheet><table:table table:name="S">{row}{row}{empty}</table:table></office:spreadsheet>'
    assert texts(read("a.ods", odt(body, "spreadsheet"))).count("another cell") == 2
    body = f'<office:spreadsheet><table:table table:name="S">{row}{full}</table:table></office:spreadsheet>'
    assert texts(read("a.ods", odt(body, "spreadsheet"))).count("another cell") <= 65


CONTAINER = b"""<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OPS/book.opf"/></rootfiles></container>"""
BOOK = b"""<package xmlns="http://www.idpf.org/2007/opf"><manifest>
<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>
<item id="b" href="text/b%20c.xhtml" media-type="application/xhtml+xml"/>
</manifest><spine><itemref idref="b"/><itemref idref="a"/></spine></package>"""


def chapter(name: str) -> bytes:
    blocks = [" ".join(block.split()) for block in TEXT.read_text().split("\n\n")]
    blocks = [block for block in blocks if len(block) > 300]
    half = len(blocks) // 2
    paragraphs = "".join(f"<p>{escape(block)}</p>" for block in (blocks[:half] if name == "The beginning" else blocks[half:]))
    return f"<!DOCTYPE html><html><head><title>x</title></head><body><h1>{name}</h1>{paragraphs}</body></html>".encode()


def book() -> dict[str, bytes]:
    return {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OPS/book.opf": BOOK,
        "OPS/a.xhtml": chapter("The end"),
        "OPS/text/b c.xhtml": chapter("The beginning"),
    }


def test_chapters_of_a_book_in_the_order_of_its_spine(read: Read) -> None:
    outcome = read("book.epub", zipped(book()))
    parts = [part for row in outcome.samples if row["task"] == "document.text" for part in row["messages"][0]["parts"]]
    pages = [part["origin"]["page"] for part in parts]
    assert pages == sorted(pages)
    assert set(pages) == {1, 2}
    assert parts[0]["text"].startswith("# The beginning\n")
    assert parts[-1]["text"].rstrip()[-40:] in " ".join(TEXT.read_text().split())


def bombed(data: bytes) -> bytes:
    return changed(data, {"word/media/zeros.bin": bytes(300 * 2**20)})


ENTITY = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'


@pytest.mark.parametrize(
    ("name", "make", "stage", "reason", "words"),
    [
        ("a.docx", lambda: bombed(word()), "limit", "too_large", "unpacks to"),
        ("a.docx", lambda: changed(word(), {"word/vbaProject.bin": b"x"}), "probe", "unsafe_content", "vbaProject"),
        ("a.docx", lambda: changed(word(), {"word/document.xml": ENTITY}), "probe", "unsafe_content", "entities"),
        ("a.docx", lambda: changed(word(), {"word/document.xml": b"<w:document>"}), "extract", "undecodable", ""),
        ("a.docx", lambda: word()[:900], "probe", "undecodable", "zip"),
        ("a.pptx", word, "probe", "wrong_type", "it holds docx"),
        ("a.docx", lambda: zipped({"notes.txt": b"x"}), "probe", "wrong_type", "something else"),
        ("a.docx", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), "probe", "encrypted", "password"),
        ("a.docx", lambda: PROSE.encode(), "probe", "wrong_type", "text content"),
        ("a.epub", lambda: zipped({**book(), "META-INF/rights.xml": b"<x/>"}), "probe", "encrypted", "rights"),
        ("a.epub", lambda: zipped({**book(), "OPS/book.opf": ENTITY}), "probe", "unsafe_content", "entities"),
        ("a.epub", lambda: zipped({"mimetype": b"application/epub+zip", "x": b"y"}), "extract", "undecodable", "container.xml"),
        ("a.zip", lambda: zipped({"notes.txt": b"x"}), "probe", "unsupported", ""),
    ],
)  # fmt: skip
def test_what_is_not_opened(name: str, make: Callable[[], bytes], stage: str, reason: str, words: str, read: Read) -> None:
    outcome = read(name, make())
    assert outcome.status == "quarantined"
    assert outcome.quarantine is not None
    assert (outcome.quarantine["stage"], outcome.quarantine["reason"]) == (stage, reason)
    assert words in outcome.quarantine["detail"]


@pytest.mark.parametrize("name", ["a.docx", "a.epub", "a.xlsx", "a.odt"])
def test_damage_is_named_whatever_it_is(name: str, read: Read) -> None:
    book_of_cells = openpyxl.Workbook()
    for number in range(40):
        book_of_cells.active.append([number, f"value {number}"])
    paragraphs = "".join(f"<text:p>{number} {PROSE}</text:p>" for number in range(3))
    whole = {"a.docx": word(), "a.epub": zipped(book()), "a.xlsx": saved(book_of_cells)}
    whole["a.odt"] = odt(f"<office:text>{paragraphs}</office:text>")
    random = Random(name)
    for _ in range(25):
        data = bytearray(whole[name])
        for _ in range(random.choice((1, 1, 60))):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        outcome = read(name, bytes(data[: random.choice((len(data), random.randrange(len(data))))]))
        if outcome.quarantine is not None:
            # "error" is the reason of what no reader expected.
            assert outcome.quarantine["reason"] != "error", outcome.quarantine["detail"]


def test_the_recipe_bounds_the_size(read: Read, recipe: Recipe) -> None:
    documents = replace(recipe.curate.documents, bytes_max=10_000)
    outcome = read("a.docx", word(), with_recipe=replace(recipe, curate=replace(recipe.curate, documents=documents)))
    assert outcome.quarantine is not None
    assert outcome.quarantine["reason"] == "too_large"
    assert "bytes_max=10,000" in outcome.quarantine["detail"]


def test_a_sheet_of_a_million_sparse_cells_ends_soon(read: Read) -> None:
    book = openpyxl.Workbook(write_only=True)
    book.create_sheet("S").append(["a", "b"])
    rows = "".join(f'<row r="{number}"><c r="XFD{number}"><v>1</v></c></row>' for number in range(1, 80))
    sheet = f'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{rows}</sheetData></worksheet>'
    outcome = read("a.xlsx", changed(saved(book), {"xl/worksheets/sheet1.xml": sheet.encode()}))
    assert outcome.quarantine is not None
    assert outcome.quarantine["reason"] == "too_large"
