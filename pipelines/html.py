"""HTML through trafilatura: the main text as Markdown with headings, lists, links and tables; menus and footers left out.

Nothing is fetched: links stay text. A page that does not say where its main text stands is taken to be nothing else: without
that, trafilatura 2.3 loses the headings of plain pages, and it leaves out menus and footers all the same. A page of which it
keeps less than a quarter is read more willingly.
"""

from __future__ import annotations

import re
from typing import Any

import trafilatura
from lxml import etree
from lxml import html as lxml_html

from pipelines.extraction import Extracted, Setting
from pipelines.items import Quarantined
from pipelines.plain_text import check_size
from pipelines.structured import Structured, read_structured
from pipelines.tables import Table, make_table

DEPTH_MAX = 400
"""Elements nested deeper are no page that a person wrote; some of trafilatura's walks are recursive."""
SPAN_MAX = 50
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([a-zA-Z0-9_\-]+)", re.IGNORECASE)
_MAIN = "//main | //article | //*[@role='main'] | //*[@itemprop='articleBody']"
_DROPPED = "//script | //style | //noscript | //template | //iframe | //object | //embed | //head"


def read_html(setting: Setting) -> Extracted:
    """An HTML page.

    Raises:
        Quarantined: its bytes are not in the encoding it names, or it is absurdly nested or large.
        Filtered: it holds no text, or none worth learning from.
    """
    check_size(setting, setting.recipe.curate.documents.text_bytes_max, "text_bytes_max", "document")
    return read_structured(parse_html(setting.path.read_bytes()), setting)


def parse_html(data: bytes, number: int | None = None) -> Structured:
    """A page as Markdown and its tables.

    Args:
        data: bytes of an HTML or XHTML file.
        number: of the page within a larger document.

    Raises:
        Quarantined: see `read_html`.
    """
    tree = _tree(decode_html(data))
    if tree is None:
        return Structured(pages=[(number, "")])
    tables = [table for table in (_table(element, number) for element in tree.xpath("//table")) if table is not None]
    _say_where(tree)
    words = _main_text(tree, favour_recall=False)
    whole = sum(len(piece) for piece in tree.itertext(with_tail=True) if isinstance(piece, str) and piece.strip())
    if len(words) < whole // 4:  # most of what is there was taken for its frame
        words = max(words, _main_text(tree, favour_recall=True), key=len)
    return Structured(pages=[(number, words)], tables=tables)


def decode_html(data: bytes) -> str:
    """Bytes to text: by byte order mark, else as UTF-8, else in the encoding that the page names.

    Raises:
        Quarantined: none of them fits.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return _decode(data, encoding)
    named = _CHARSET.search(data[:4096])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if named is None:
            detail = f"byte {error.start} ({data[error.start]:#04x}) is not UTF-8, and no other encoding is named"
            raise Quarantined("extract", "bad_encoding", detail, "document") from error
    return _decode(data, named.group(1).decode("ascii"))


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise Quarantined("extract", "bad_encoding", f"it names {encoding}: {str(error)[:160]}", "document") from error


def _tree(words: str) -> Any:
    words = re.sub(r"^\s*<\?xml[^>]*\?>", "", words.replace("\0", ""))
    try:
        tree = lxml_html.document_fromstring(words, parser=lxml_html.HTMLParser(no_network=True, huge_tree=True))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError, AssertionError):
        return None
    depth = 0
    for event, _ in etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > DEPTH_MAX:
            raise Quarantined("limit", "too_large", f"its elements are nested more than {DEPTH_MAX} deep", "document")
    return tree


def _say_where(tree: Any) -> None:
    """Makes the body the main text of a page that names none."""
    body = tree.find("body")
    if body is not None and not tree.xpath(_MAIN):
        body.tag = "main"
        outer = etree.Element("body")
        tree.replace(body, outer)
        outer.append(body)


def _main_text(tree: Any, *, favour_recall: bool) -> str:
    # A copy, because the extractor takes the tree apart.
    found = trafilatura.extract(
        etree.tostring(tree, encoding="unicode", method="html"),
        output_format="markdown",
        include_comments=False,
        include_formatting=True,
        include_links=True,
        include_tables=True,
        favor_recall=favour_recall,
    )
    if found:
        return found
    if not favour_recall:
        return ""
    for element in tree.xpath(_DROPPED):
        element.drop_tree()
    lines = (" ".join(line.split()) for line in tree.text_content().split("\n"))
    return "\n".join(line for line in lines if line)


def _table(element: Any, number: int | None) -> Table | None:
    """An innermost table as cells; one that spans rows or columns repeats nothing: its text stands in its first cell."""
    if element.xpath(".//table"):
        return None
    rows: list[list[str | None]] = []
    for row in element.xpath(".//tr"):
        cells: list[str | None] = []
        for cell in row.xpath("./td | ./th"):
            cells.append(cell.text_content())
            span = cell.get("colspan", "1")
            cells += [None] * (min(int(span), SPAN_MAX) - 1 if span.isascii() and span.isdigit() and len(span) < 6 else 0)
        rows.append(cells)
    if any(row.get("rowspan", "1") != "1" for row in element.xpath(".//td | .//th")):
        return None  # cells would stand in wrong columns
    return make_table(rows, page=number)
