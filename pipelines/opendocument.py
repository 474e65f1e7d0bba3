"""OpenDocument (.odt, .ods, .odp): the text of ``content.xml`` as Markdown; a slide or a sheet is a page.

Read from the XML itself: a sheet may say that an empty row is repeated a million times, which general readers unfold. Here
repeats are bounded, and empty ones vanish.
"""

from __future__ import annotations

from typing import Any

from lxml import etree

from pipelines.items import Quarantined
from pipelines.structured import Structured
from pipelines.tables import make_table, to_markdown

REPEATS_MAX = 64
CELLS_MAX = 1_000_000
_NS = "{urn:oasis:names:tc:opendocument:xmlns:%s:1.0}"
_TEXT, _TABLE, _DRAW, _OFFICE = (_NS % name for name in ("text", "table", "drawing", "office"))
_H, _P, _LIST, _ITEM = (f"{_TEXT}{name}" for name in ("h", "p", "list", "list-item"))
_IGNORED = {f"{_OFFICE}annotation", f"{_TEXT}tracked-changes", f"{_TEXT}note-citation", f"{_OFFICE}forms"}


def parse_opendocument(data: bytes) -> Structured:
    """The text and tables of a ``content.xml``.

    Raises:
        Quarantined: it is no OpenDocument XML, or has too many cells.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise Quarantined("extract", "undecodable", f"content.xml: {str(error)[:160]}", "document") from error
    body = root.find(f"{_OFFICE}body")
    if body is None or not len(body):
        raise Quarantined("extract", "undecodable", "content.xml has no body", "document")
    return _Reader().read(body[0])


class _Reader:
    def __init__(self) -> None:
        self.document = Structured()
        self.cells = 0

    def read(self, body: Any) -> Structured:
        kind = etree.QName(body).localname
        if kind in ("spreadsheet", "presentation"):
            wanted = f"{_TABLE}table" if kind == "spreadsheet" else f"{_DRAW}page"
            for number, part in enumerate(body.iterchildren(wanted), start=1):
                pieces: list[str] = []
                if kind == "spreadsheet":
                    title = part.get(f"{_TABLE}name") or ""
                    self.table(part, number, pieces)
                    pieces = [f"# {title}", *pieces] if title and pieces else pieces
                else:
                    self.blocks(part, number, pieces)
                self.document.pages.append((number, "\n\n".join(pieces)))
        else:
            whole: list[str] = []
            self.blocks(body, None, whole)
            self.document.pages.append((None, "\n\n".join(whole)))
        return self.document

    def blocks(self, parent: Any, page: int | None, pieces: list[str]) -> None:
        for child in parent.iterchildren(etree.Element):
            if child.tag in _IGNORED:
                continue
            if child.tag == _H:
                level = child.get(f"{_TEXT}outline-level") or "1"
                pieces.append("#" * (int(level) if level in tuple("123456") else 6) + " " + " ".join(_words(child).split()))
            elif child.tag == _P:
                pieces.append(_words(child).strip())
                self.blocks(child, page, pieces)  # frames are anchored in paragraphs
            elif child.tag == _LIST:
                pieces.append("\n".join(self.items(child, page, 0)))
            elif child.tag == f"{_TABLE}table":
                self.table(child, page, pieces)
            else:
                self.blocks(child, page, pieces)
        pieces[:] = [piece for piece in pieces if piece.strip("# ")]

    def items(self, listed: Any, page: int | None, depth: int) -> list[str]:
        lines: list[str] = []
        for item in listed.iterchildren(_ITEM):
            for child in item.iterchildren(etree.Element):
                if child.tag == _LIST:
                    lines += self.items(child, page, depth + 1) if depth < 20 else []
                elif _words(child).strip():
                    lines.append("  " * depth + "- " + " ".join(_words(child).split()))
        return lines

    def table(self, element: Any, page: int | None, pieces: list[str]) -> None:
        rows: list[list[str | None]] = []
        for row in element.iter(f"{_TABLE}table-row"):
            cells: list[str | None] = []
            for cell in row.iterchildren(f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
                words = "\n".join(_words(part) for part in cell.iterchildren(_H, _P))
                cells += [words] * _repeats(cell.get(f"{_TABLE}number-columns-repeated"))
            if any(cells):
                rows += [cells] * _repeats(row.get(f"{_TABLE}number-rows-repeated"))
            self.cells += len(cells) + 1
            if self.cells > CELLS_MAX:
                raise Quarantined("limit", "too_large", f"it has more than {CELLS_MAX:,} cells", "document")
        table = make_table(rows, page=page)
        if table is not None:
            self.document.tables.append(table)
            pieces.append(to_markdown(table.rows))
        else:
            pieces += [" ".join(cell for cell in row if cell) for row in rows]


def _repeats(value: str | None) -> int:
    """How often a row or cell stands there."""
    if value is None or not value.isascii() or not value.isdigit():
        return 1
    return min(int(value[:9]), REPEATS_MAX)


def _words(element: Any) -> str:
    """The text of a paragraph; spaces, tabs and line breaks are elements there."""
    pieces = [element.text or ""]
    for child in element.iterchildren():
        if isinstance(child.tag, str) and child.tag not in _IGNORED and not child.tag.startswith(_DRAW):
            name = child.tag
            if name == f"{_TEXT}s":
                pieces.append(" " * min(_repeats(child.get(f"{_TEXT}c")), REPEATS_MAX))
            elif name == f"{_TEXT}tab":
                pieces.append("\t")
            elif name == f"{_TEXT}line-break":
                pieces.append("\n")
            elif name == f"{_TEXT}note":
                pieces.append("")
            else:
                pieces.append(_words(child))
        pieces.append(child.tail or "")
    return "".join(pieces)
