"""A page as a parser sees it, hostile texts, and a way to rewrite a table: shared by the tests of pages."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.corpus import Corpus

VOID = {"meta", "img", "br", "line", "rect", "circle", "polyline"}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "nav", "article", "h1", "h2", "h3", "p",
    "a", "b", "i", "dl", "dt", "dd", "div", "span", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "figure",
    "figcaption", "img", "svg", "rect", "line", "text", "polyline", "circle", "details", "summary", "code", "pre", "ul",
    "li", "h4",
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>.mp4",
    "\"><img src=x onerror=alert(1)>.png",
    "' onmouseover='alert(1)",
    "</td></table></style><style>*{display:none}</style>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "https://example.org/fetch?me=1 javascript:alert(1)",
    "invoice\u202efdp.exe",
    "&lt;b&gt; &amp; \x01\x7f",
    "--><!-- ]]> <![CDATA[",
    "\x1b[2J\x1b]8;;evil\x07click\x1b]8;;\x07\x9b31m",
    "a\u061c\u2066b\u200bc\U000e0041",
    "\r\ntwo\nlines\tand a tab",
    "url(javascript:alert(1)) expression(alert(1)) }</style>",
    "[red]markup[/red] [link=x]y[/link] %s {0}",
]  # fmt: skip


class Page(HTMLParser):
    """A page as tags, attributes, visible text and tables by caption; fails where a tag is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self.caption = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.caption = ""
        if tag == "tr":
            self.tables.setdefault(self.caption, []).append([])
        if tag in ("td", "th"):
            self.tables[self.caption][-1].append("")
        if tag not in VOID or (tag in ("rect", "line", "circle", "polyline")):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "caption" in self.open:
            self.caption += data.strip()
        elif self.open and self.open[-1] in ("td", "th", "code", "b") and any(tag in ("td", "th") for tag in self.open):
            self.tables[self.caption][-1][-1] += data.strip()


def rewrite(corpus: Corpus, table: str, change: Any) -> None:
    for path in sorted((corpus.folder / table).rglob("*.parquet")):
        old = pq.read_table(path)
        pq.write_table(pa.Table.from_pylist(change(old.to_pylist()), schema=old.schema), path)
