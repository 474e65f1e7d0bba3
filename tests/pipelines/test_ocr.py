"""Recognition and reading order: columns one by one, tables line by line, tilted pages straight; and what a real scan gives."""

from __future__ import annotations

import ctypes
import io
import math
from collections.abc import Callable
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from PIL import Image, ImageDraw, ImageFont

from manifests.recipe import Recipe
from pipelines.extraction import Outcome, extract
from pipelines.inputs import find_inputs
from pipelines.model_work import Waiting, provider_of
from pipelines.ocr import Recogniser, read_lines

Read = Callable[..., Outcome]
# The beginning of the scanned page, typed off by hand.
FINN = """WELL, I got a good going-over in the morning,
from old Miss Watson, on account of my
clothes; but the widow she didn't scold, but
only cleaned off the grease and clay and
looked so sorry that I thought I would be-
have a while if I could. Then Miss Watson
she took me in the closet and prayed, but
nothing come of it. She told me to pray
every day, and whatever I asked for I would
get it. But it warn't so. I tried it. Once
I got a fish-line, but no hooks. It warn't
any good to me without hooks. I tried for
the hooks three or four times, but somehow
I couldn't make it work."""


def line(x0: float, y0: float, x1: float, y1: float, words: str, score: float = 1.0, degrees: float = 0.0) -> list:
    angle = math.radians(degrees)
    corners: list[float] = []
    for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1)):
        corners += [x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)]
    return [corners, words, score]


def two_columns(degrees: float) -> list[list]:
    lines = [line(100, 0, 1100, 30, "A heading over both columns", degrees=degrees)]
    for number in range(6):
        lines.append(line(100, 80 + 40 * number, 570, 112 + 40 * number, f"left {number}", degrees=degrees))
        lines.append(line(630, 95 + 40 * number, 1095, 127 + 40 * number, f"right {number}", degrees=degrees))
    lines.append(line(100, 400, 1090, 430, "A line under both columns", degrees=degrees))
    return lines


@pytest.mark.parametrize("degrees", [0.0, 2.5, -3.0])
@pytest.mark.parametrize("turned", [False, True])
def test_columns_are_read_one_after_the_other(degrees: float, turned: bool) -> None:
    lines = two_columns(degrees)
    found = read_lines({"lines": lines[::-1] if turned else lines}).text.split()
    left = [f"left {number}" for number in range(6)]
    right = [f"right {number}" for number in range(6)]
    expected = ["A heading over both columns", *left, *right, "A line under both columns"]
    assert found == " ".join(expected).split()


def test_a_table_is_read_line_by_line() -> None:
    lines = [
        line(100 + 300 * column, 40 * row, 160 + 300 * column + 30 * ((row + column) % 4), 40 * row + 30, f"r{row}c{column}")
        for row in range(5)
        for column in range(3)
    ]
    rows = read_lines({"lines": lines}).text.splitlines()
    assert rows == [f"r{row}c0 r{row}c1 r{row}c2" for row in range(5)]


def test_confidence_is_weighted_by_characters_and_empty_lines_do_not_count() -> None:
    found = read_lines({"lines": [line(0, 0, 9, 9, "abc", 0.5), line(0, 20, 9, 29, "a" * 9, 1.0), line(0, 40, 9, 49, "", 0.0)]})
    assert found.confidence == 0.875
    assert read_lines({"lines": []}).text == ""


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


def written(words: str, size: tuple[int, int] = (900, 120)) -> Image.Image:
    import matplotlib

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 36)
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).text((30, 30), words, fill="black", font=font)
    return picture


def test_other_letters_than_ascii_are_read(recogniser: Recogniser) -> None:
    words = "Über die Größe schöner Straßen, 123,50 €"
    assert SequenceMatcher(None, read_lines(recogniser.recognise(written(words))).text, words).ratio() > 0.95


def test_an_empty_picture_has_no_lines(recogniser: Recogniser) -> None:
    assert recogniser.recognise(Image.new("RGB", (400, 300), "white")) == {"lines": [], "turned": 0}


@pytest.mark.parametrize(("degrees", "turned"), [(0, 0), (90, 270), (180, 180), (270, 90)])
def test_a_page_on_its_side_or_head_is_turned(degrees: int, turned: int, recogniser: Recogniser) -> None:
    page = Image.new("RGB", (900, 500), "white")
    lines = ["A page was scanned", "by somebody in a hurry", "who did not look which side was up"]
    for number, words in enumerate(lines):
        page.paste(written(words), (0, 140 * number))
    found = recogniser.recognise(page.rotate(degrees, expand=True))
    assert found["turned"] == turned
    assert read_lines(found).text.split() == " ".join(lines).split()


def test_a_line_does_not_depend_on_its_neighbours(recogniser: Recogniser) -> None:
    alone = recogniser.recognise(written("the first line of two"))["lines"][0]
    both = Image.new("RGB", (900, 320), "white")
    both.paste(written("the first line of two"), (0, 0))
    both.paste(written("and a second, considerably longer line"), (0, 200))
    first = recogniser.recognise(both)["lines"][0]
    assert first[1] == alone[1] == "the first line of two"


def test_a_scan_is_read_and_says_how_well(examples: Path, read: Read) -> None:
    outcome = read("scan.pdf", examples / "documents" / "scan-huckleberry-finn.pdf")
    (page,) = [row for row in outcome.samples if row["task"] == "document.page"]
    words = page["messages"][1]["parts"][0]["text"]
    start = words.index("WELL")
    assert SequenceMatcher(None, words[start : start + len(FINN)], FINN, autojunk=False).ratio() > 0.97
    assert dict(page["quality"])["ocr_confidence"] > 0.95
    assert outcome.work["ocr"]["requests"] == 1
    shown = page["messages"][0]["parts"][0]["visuals"][0]["media_id"]
    # The picture that was recognised is larger than what a sample shows, and is not kept.
    assert outcome.media_ids == [shown]
    assert outcome.annotation is not None
    assert '"characters":0' in outcome.annotation[1]


def mixed(examples: Path) -> bytes:
    """A page with a text layer, a scan, and an empty page."""
    whole = pdfium.PdfDocument.new()
    for name in ("tagged-report.pdf", "scan-huckleberry-finn.pdf"):
        whole.import_pages(pdfium.PdfDocument(examples / "documents" / name), [0])
    whole.new_page(300, 400)
    stream = io.BytesIO()
    whole.save(stream)
    return stream.getvalue()


def test_only_pages_without_text_are_asked_about(examples: Path, tmp_path: Path, recipe: Recipe, read: Read) -> None:
    (tmp_path / "mixed.pdf").write_bytes(mixed(examples))
    (item,) = find_inputs([tmp_path / "mixed.pdf"]).items
    waiting = extract(item, recipe)
    assert isinstance(waiting, Waiting)
    assert len(waiting.requests) == 1
    outcome = read("mixed.pdf", mixed(examples))
    pages = {
        row["messages"][1]["parts"][0]["origin"]["page"]: dict(row["quality"])
        for row in outcome.samples
        if row["task"] == "document.page"
    }
    assert set(pages) == {1, 2}
    assert "ocr_confidence" not in pages[1]
    assert pages[2]["ocr_confidence"] > 0.9
    assert [(row["reason"], row["detail"][:6]) for row in outcome.dropped if row["task"] == "document.page"] == [
        ("no_text", "page 3")
    ]


def test_a_stamp_over_a_scan_is_no_text_layer(examples: Path, read: Read, recipe: Recipe) -> None:
    document = pdfium.PdfDocument(examples / "documents" / "scan-huckleberry-finn.pdf")
    font = pdfium.raw.FPDFText_LoadStandardFont(document, b"Helvetica")
    stamp = pdfium.raw.FPDFPageObj_CreateTextObj(document, font, 12)
    words = "scanned 42".encode("utf-16-le") + b"\0\0"
    pdfium.raw.FPDFText_SetText(stamp, ctypes.cast(words, pdfium.raw.FPDF_WIDESTRING))
    first = document[0]
    pdfium.raw.FPDFPage_InsertObject(first, stamp)
    pdfium.raw.FPDFPage_GenerateContent(first)
    stream = io.BytesIO()
    document.save(stream)
    assert pdfium.PdfDocument(stream.getvalue())[0].get_textpage().get_text_range() == "scanned 42"
    (page,) = [row for row in read("a.pdf", stream.getvalue()).samples if row["task"] == "document.page"]
    assert "WELL, I got a good going-over" in page["messages"][1]["parts"][0]["text"]


def test_badly_read_scans_are_dropped_with_their_confidence(examples: Path, read: Read, recipe: Recipe) -> None:
    scan = examples / "documents" / "scan-huckleberry-finn.pdf"
    for changes, reason in (({"confidence_min": 0.9999}, "low_confidence"), ({"recognise": False}, "no_text")):
        documents = replace(recipe.curate.documents, **changes)
        strict = replace(recipe, curate=replace(recipe.curate, documents=documents))
        outcome = read("scan.pdf", scan, with_recipe=strict)
        assert outcome.status == "filtered"
        assert outcome.dropped[0]["reason"] == reason


def test_the_provider_is_found_by_its_kind(recipe: Recipe) -> None:
    assert isinstance(provider_of("ocr", recipe), Recogniser)
