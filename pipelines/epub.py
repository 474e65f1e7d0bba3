"""E-books (EPUB): the chapters in the order of the book's spine, each read as the HTML it is; a chapter is a page."""

from __future__ import annotations

import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

from lxml import etree

from pipelines.archives import open_archive, read_part
from pipelines.extraction import Extracted, Setting
from pipelines.html import parse_html
from pipelines.items import Quarantined
from pipelines.plain_text import check_size
from pipelines.structured import Structured, read_structured

CHAPTERS_MAX = 5_000
_HTML = ("application/xhtml+xml", "text/html")


def read_epub(setting: Setting) -> Extracted:
    """An e-book.

    Raises:
        Quarantined: it is broken, encrypted, too large or unsafe.
        Filtered: it holds no text, or none worth learning from.
    """
    check_size(setting, setting.recipe.curate.documents.bytes_max, "bytes_max", "document")
    document = Structured()
    with open_archive(setting.path, setting.recipe.curate.documents.bytes_max, doctypes=True) as archive:
        if "META-INF/rights.xml" in archive.namelist():
            raise Quarantined("probe", "encrypted", "it is protected against copying (META-INF/rights.xml)", "document")
        for number, name in enumerate(_chapters(archive), start=1):
            chapter = parse_html(read_part(archive, name), number)
            document.pages += chapter.pages
            document.tables += chapter.tables
    return read_structured(document, setting)


def _chapters(archive: zipfile.ZipFile) -> list[str]:
    """The names of the chapters' files in reading order."""
    container = _xml(archive, "META-INF/container.xml")
    roots = container.xpath("//*[local-name()='rootfile']/@full-path")
    if not roots:
        raise Quarantined("extract", "undecodable", "META-INF/container.xml names no book", "document")
    package = _xml(archive, roots[0])
    folder = posixpath.dirname(roots[0])
    files = {
        item.get("id"): posixpath.normpath(posixpath.join(folder, unquote(item.get("href") or "")))
        for item in package.xpath("//*[local-name()='manifest']/*[local-name()='item']")
        if item.get("media-type") in _HTML
    }
    spine = package.xpath("//*[local-name()='spine']/*[local-name()='itemref']/@idref")
    if len(spine) > CHAPTERS_MAX:
        raise Quarantined("limit", "too_large", f"{len(spine):,} chapters are more than {CHAPTERS_MAX:,}", "document")
    return list(dict.fromkeys(files[idref] for idref in spine if idref in files))


def _xml(archive: zipfile.ZipFile, name: str) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(read_part(archive, name), parser)
    except etree.XMLSyntaxError as error:
        raise Quarantined("extract", "undecodable", f"{name[:100]}: {str(error)[:160]}", "document") from error
