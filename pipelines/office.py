"""Office files: Word, PowerPoint and Excel through python-docx, python-pptx and openpyxl; OpenDocument by its own XML.

Text becomes Markdown in reading order: headings, lists, tables; a slide or a sheet is a page. Of a sheet the values that the
program had computed are read, never formulas. Pictures inside the files are not read. Everything is looked over before
(`pipelines.archives`): macros, entities, passwords and archives that unpack to too much end in quarantine.
"""

from __future__ import annotations

import datetime
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from pipelines.archives import open_archive, read_part
from pipelines.extraction import Extracted, Setting
from pipelines.items import Quarantined
from pipelines.opendocument import parse_opendocument
from pipelines.plain_text import check_size
from pipelines.structured import Structured, read_structured
from pipelines.tables import make_table, to_markdown

CELLS_MAX = 1_000_000
_WANTED = {
    "docx": b"wordprocessingml.document.main+xml",
    "pptx": b"presentationml.presentation.main+xml",
    "xlsx": b"spreadsheetml.sheet.main+xml",
}


def read_office(setting: Setting) -> Extracted:
    """An Office file, by what it holds.

    Raises:
        Quarantined: it is broken, encrypted, too large, unsafe, or not what its name says.
        Filtered: it holds no text, or none worth learning from.
    """
    check_size(setting, setting.recipe.curate.documents.bytes_max, "bytes_max", "document")
    with open_archive(setting.path, setting.recipe.curate.documents.bytes_max) as archive:
        kind = _kind(archive, PurePath(setting.item.path).suffix.lower().lstrip("."))
        if kind == "opendocument":
            return read_structured(parse_opendocument(read_part(archive, "content.xml")), setting)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document = {"docx": _docx, "pptx": _pptx, "xlsx": _xlsx}[kind](setting)
    except Quarantined:
        raise
    except Exception as error:  # the libraries raise KeyError, XMLSyntaxError, ValueError and more, by what is broken
        words = (str(error).replace(setting.item.path, setting.item.source).splitlines() or [""])[0]
        raise Quarantined("extract", "undecodable", f"{type(error).__name__}: {words}"[:200], "document") from error
    return read_structured(document, setting)


def _kind(archive: zipfile.ZipFile, extension: str) -> str:
    names = set(archive.namelist())
    if "[Content_Types].xml" in names:
        types = read_part(archive, "[Content_Types].xml")
        found = next((kind for kind, wanted in _WANTED.items() if wanted in types), None)
    else:
        found = "opendocument" if {"mimetype", "content.xml"} <= names else None
    expected = "opendocument" if extension in ("odt", "ods", "odp") else extension
    if found is None or (expected in (*_WANTED, "opendocument") and found != expected):
        detail = f".{extension} promises an Office file, but it holds {found or 'something else'}"
        raise Quarantined("probe", "wrong_type", detail, "document")
    return found


def _docx(setting: Setting) -> Structured:
    import docx
    from docx.table import Table as WordTable

    document, pieces = Structured(), []
    for block in docx.Document(str(setting.path)).iter_inner_content():
        if isinstance(block, WordTable):
            # A merged cell is listed once for each column it covers; its text stands in the first.
            table = make_table([_cells_once(row) for row in block.rows])
            if table is not None:
                document.tables.append(table)
                pieces.append(to_markdown(table.rows))
            continue
        words = block.text.strip()
        style = (block.style.name or "") if block.style is not None else ""
        if not words:
            continue
        if style == "Title" or style.startswith("Heading"):
            level = style.removeprefix("Heading").strip()
            pieces.append("#" * (int(level) if level in tuple("123456") else 1) + " " + " ".join(words.split()))
        elif style.startswith("List"):
            pieces.append(("1. " if "Number" in style else "- ") + words)
        else:
            pieces.append(words)
    document.pages = [(None, _joined(pieces))]
    return document


def _cells_once(row: Any) -> list[str | None]:
    seen: set[int] = set()
    cells: list[str | None] = []
    for cell in row.cells:
        cells.append(None if id(cell._tc) in seen else cell.text)
        seen.add(id(cell._tc))
    return cells


def _joined(pieces: list[str]) -> str:
    """Blocks apart by an empty line, but items of a list by a line feed."""
    words = ""
    for before, piece in zip(["", *pieces], pieces, strict=False):
        listed = before.startswith(("- ", "1. ")) and piece.startswith(("- ", "1. "))
        words += ("" if not before else "\n" if listed else "\n\n") + piece
    return words


def _pptx(setting: Setting) -> Structured:
    import pptx

    document = Structured()
    for number, slide in enumerate(pptx.Presentation(str(setting.path)).slides, start=1):
        title = slide.shapes.title
        pieces = [f"# {' '.join(title.text_frame.text.split())}"] if title is not None and title.has_text_frame else []
        for shape in _shapes(slide.shapes):
            if title is not None and shape.shape_id == title.shape_id:
                continue
            if getattr(shape, "has_table", False) and shape.has_table:
                table = make_table([[cell.text for cell in row.cells] for row in shape.table.rows], page=number)
                if table is not None:
                    document.tables.append(table)
                    pieces.append(to_markdown(table.rows))
            elif shape.has_text_frame:
                found = [(paragraph.level, paragraph.text.strip()) for paragraph in shape.text_frame.paragraphs]
                found = [(level, words) for level, words in found if words]
                pieces += [f"{'  ' * level}- {words}" if len(found) > 1 else words for level, words in found]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = slide.notes_slide.notes_text_frame.text.strip()
            pieces += [f"Notes: {notes}"] if notes else []
        document.pages.append((number, _joined([piece for piece in pieces if piece.strip("# ")])))
    return document


def _shapes(shapes: Any) -> Iterator[Any]:
    """Shapes as a person reads them: from top to bottom, then left to right; groups in their place."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0, shape.shape_id)):
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _xlsx(setting: Setting) -> Structured:
    import openpyxl

    document = Structured()
    book = openpyxl.load_workbook(setting.path, read_only=True, data_only=True, keep_links=False)
    read = 0
    try:
        for number, sheet in enumerate(book.worksheets, start=1):
            sheet.reset_dimensions()  # what the file claims may be a million empty rows
            rows: list[list[str | None]] = []
            for row in sheet.iter_rows(values_only=True):
                read += len(row) + 1
                if read > CELLS_MAX:
                    raise Quarantined("limit", "too_large", f"it has more than {CELLS_MAX:,} cells", "document")
                if any(cell is not None for cell in row):
                    rows.append([_value(cell) for cell in row])
            table = make_table(rows, page=number)
            title = f"# {' '.join(sheet.title.split())}"
            if table is not None:
                document.tables.append(table)
                document.pages.append((number, f"{title}\n\n{to_markdown(table.rows)}"))
            else:
                words = "\n".join(" ".join(cell for cell in row if cell) for row in rows)
                document.pages.append((number, f"{title}\n\n{words}" if words else ""))
    finally:
        book.close()
    return document


def _value(cell: Any) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return f"{cell:.15g}"
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time(0):
        return cell.date().isoformat()
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell)
