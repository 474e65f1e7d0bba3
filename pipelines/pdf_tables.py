"""Ruled tables of PDF pages: pdfplumber finds the cells, PDFium says what stands in them.

Only pages that show a grid of rules are searched, because pdfplumber takes a hundred times as long as PDFium for a page (0.1 s,
measured on a manual of 143 pages). Its own words are not used: it loses the spaces of tightly set text. Tables without rules
are not looked for: telling them from columns of text is guesswork, and a wrong table is a wrong truth.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipelines.sidecars import clean
from pipelines.tables import Table, make_table

PAGES_MAX = 100
"""Pages of one document that are searched: a bound of time."""
OBJECTS_MAX = 3_000
"""A page with more paths is a drawing."""
RULE_POINTS, RULE_LENGTH = 3.0, 15.0
RULES_MIN = 3
FILLED_SHARE = 0.5
INSET = 1.0
"""Points by which a cell is taken smaller: raised signs of the next row reach over the rule."""


def pages_with_grids(document: pdfium.PdfDocument, numbers: Sequence[int]) -> list[int]:
    """Those pages, the first `PAGES_MAX` of them, that show a grid: three rules each way, or boxes side by side in rows."""
    found: list[int] = []
    for number in numbers:
        page = document[number - 1]
        try:
            objects = list(
                itertools.islice(page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_PATH], max_depth=3), OBJECTS_MAX + 1)
            )
            if 1 <= len(objects) <= OBJECTS_MAX and _grid(objects):
                found.append(number)
        finally:
            page.close()
        if len(found) == PAGES_MAX:
            break
    return found


def _grid(objects: Sequence[pdfium.PdfObject]) -> bool:
    flat = upright = 0
    boxes: set[tuple[int, int, int, int]] = set()
    for path in objects:
        with contextlib.suppress(pdfium.PdfiumError):
            left, bottom, right, top = path.get_bounds()
            width, height = right - left, top - bottom
            flat += height <= RULE_POINTS and width >= RULE_LENGTH
            upright += width <= RULE_POINTS and height >= RULE_LENGTH / 2
            if width > RULE_LENGTH and height > 2 * RULE_POINTS:
                boxes.add((round(left / 2), round(top / 2), round(right / 2), round(bottom / 2)))
    if flat >= RULES_MIN and upright >= RULES_MIN:
        return True
    # Four cells of two rows and two columns; a listing's frame and its lines of background are one column.
    beside = [
        (one, other) for one, other in itertools.pairwise(sorted(boxes, key=lambda box: (box[1], box[0]))) if one[1] == other[1]
    ]
    return len({one[1] for one, other in beside if one[2] <= other[0] + 1}) >= 2


def read_tables(document: pdfium.PdfDocument, path: Path, numbers: Sequence[int]) -> tuple[list[Table], list[str]]:
    """The tables of these pages in reading order, boxes in points from the top left; and on which pages reading failed.

    A page that pdfplumber sees in another size than PDFium (cropped, unusual units) is left out, because its boxes would show
    something else.

    Args:
        document: the PDF.
        path: where it lies.
        numbers: 1-based pages.
    """
    if not numbers:
        return [], []
    import pdfplumber

    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    tables: list[Table] = []
    problems: list[str] = []
    try:
        with pdfplumber.open(path, pages=list(numbers)) as opened:
            for page in opened.pages:
                width, height = document.get_page_size(page.page_number - 1)
                if abs(page.width - width) > 1 or abs(page.height - height) > 1 or page.bbox[:2] != (0, 0):
                    continue
                try:
                    tables += _tables_of(document, page)
                except Exception as error:  # pdfminer raises what it likes on odd pages; the page's text is not concerned
                    problems.append(f"page {page.page_number}: tables could not be read: {type(error).__name__}")
                page.close()
    except Exception as error:
        problems.append(f"tables could not be read: {type(error).__name__}")
    return tables, problems


def _tables_of(document: pdfium.PdfDocument, page: Any) -> list[Table]:
    tables = []
    shown = document[page.page_number - 1]
    words = shown.get_textpage()
    try:
        for found in page.find_tables():
            rows: list[list[str | None]] = [
                [None if cell is None else _words(words, cell, float(page.height)) for cell in row.cells] for row in found.rows
            ]
            left, top, right, bottom = map(float, found.bbox)
            table = make_table(rows, page=page.page_number, box=(left, top, right, bottom))
            if table is not None and _filled(table):
                tables.append(table)
    finally:
        words.close()
        shown.close()
    return tables


def _words(layer: pdfium.PdfTextPage, cell: Sequence[float], height: float) -> str:
    left, top, right, bottom = cell[0] + INSET, cell[1] + INSET, cell[2] - INSET, cell[3] - INSET
    if left >= right or top >= bottom:
        return ""
    found = layer.get_text_bounded(left=left, bottom=height - bottom, right=right, top=height - top)
    # PDFium marks a hyphen at a line's end as U+FFFE or U+0002: in a cell the word goes on.
    return clean(found.replace("\ufffe\r\n", "").replace("\x02\r\n", "").replace("\ufffe", "-").replace("\x02", "-"))


def _filled(table: Table) -> bool:
    cells = [cell for row in table.rows for cell in row]
    return sum(map(bool, cells)) / len(cells) >= FILLED_SHARE
