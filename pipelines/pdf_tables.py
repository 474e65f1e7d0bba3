"""Ruled tables of PDF pages, through pdfplumber. Only pages that show rules are looked at: PDFium reads a page far faster.

Tables without rules are not looked for: telling them from columns of text is guesswork, and a wrong table is a wrong truth.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipelines.tables import Table, make_table

PAGES_MAX = 100
"""Pages of one document that are looked at: a bound of time, about a second each at worst."""
OBJECTS_MAX = 3_000
RULE_POINTS, RULE_LENGTH = 3.0, 15.0
FILLED_SHARE = 0.5


def pages_with_rules(document: pdfium.PdfDocument, numbers: Sequence[int]) -> list[int]:
    """Those pages, the first `PAGES_MAX` of them, that show at least two rules each way, or four boxes, and are no drawing."""
    found: list[int] = []
    for number in numbers:
        page = document[number - 1]
        try:
            objects = list(
                itertools.islice(page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_PATH], max_depth=3), OBJECTS_MAX + 1)
            )
            if 4 <= len(objects) <= OBJECTS_MAX and _ruled(objects):
                found.append(number)
        finally:
            page.close()
        if len(found) == PAGES_MAX:
            break
    return found


def _ruled(objects: Sequence[pdfium.PdfObject]) -> bool:
    flat = upright = boxes = 0
    for path in objects:
        with contextlib.suppress(pdfium.PdfiumError):
            left, bottom, right, top = path.get_bounds()
            width, height = right - left, top - bottom
            flat += height <= RULE_POINTS and width >= RULE_LENGTH
            upright += width <= RULE_POINTS and height >= RULE_LENGTH / 2
            boxes += width > RULE_LENGTH and height > RULE_POINTS * 2
    return (flat >= 2 and upright >= 2) or boxes >= 4


def read_tables(path: Path, numbers: Sequence[int], sizes: Mapping[int, tuple[float, float]]) -> tuple[list[Table], list[str]]:
    """The tables of these pages in reading order, boxes in points from the top left; and on which pages reading failed.

    Args:
        path: the PDF.
        numbers: 1-based pages.
        sizes: width and height of each page in points as PDFium shows it; a page that pdfplumber sees otherwise (cropped,
            unusual units) is left out, because its boxes would show something else.
    """
    if not numbers:
        return [], []
    import pdfplumber

    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    tables: list[Table] = []
    problems: list[str] = []
    try:
        with pdfplumber.open(path, pages=list(numbers)) as document:
            for page in document.pages:
                width, height = sizes[page.page_number]
                if abs(page.width - width) > 1 or abs(page.height - height) > 1 or page.bbox[:2] != (0, 0):
                    continue
                try:
                    for found in page.find_tables():
                        left, top, right, bottom = map(float, found.bbox)
                        table = make_table(found.extract(), page=page.page_number, box=(left, top, right, bottom))
                        if table is not None and _filled(table):
                            tables.append(table)
                except Exception as error:  # pdfminer raises what it likes on odd pages; the page's text is not concerned
                    problems.append(f"page {page.page_number}: tables could not be read: {type(error).__name__}")
                page.close()
    except Exception as error:
        problems.append(f"tables could not be read: {type(error).__name__}")
    return tables, problems


def _filled(table: Table) -> bool:
    cells = [cell for row in table.rows for cell in row]
    return sum(map(bool, cells)) / len(cells) >= FILLED_SHARE
