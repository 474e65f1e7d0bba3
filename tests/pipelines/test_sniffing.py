"""What a file is: told by its bytes, believed only when its name tells the same story, and told quickly."""

from __future__ import annotations

import time

import pytest

from pipelines.items import Quarantined
from pipelines.sniffing import kind_of, sniff

HTML = b"<!-- saved -->\n<!DOCTYPE html><html><body>x</body></html>"
EPUB = b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/epub+zip" + b"PK\x03\x04"
WORD = b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml" + bytes(100)


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a", HTML, "html"),
        ("a.htm", b"<p>a piece of a page", "html"),
        ("a.md", HTML, "text"),
        ("a", EPUB, "epub"),
        ("a", WORD, "office"),
        ("a.docx", b"PK\x03\x04" + bytes(26) + b"customXml/item1.xml", "office"),
        ("a.odt", b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.text", "office"),
    ],
)
def test_documents_are_told_apart(name: str, head: bytes, kind: str) -> None:
    assert kind_of(name, head) == kind


@pytest.mark.parametrize(
    ("name", "head"), [("a.pdf", HTML), ("a.html", WORD), ("a.docx", EPUB), ("a.epub", WORD), ("a.png", EPUB)]
)
def test_another_kind_than_the_name_says_is_refused(name: str, head: bytes) -> None:
    with pytest.raises(Quarantined) as caught:
        kind_of(name, head)
    assert caught.value.reason == "wrong_type"


def test_a_head_full_of_comments_is_told_at_once() -> None:
    started = time.monotonic()
    assert sniff(b"<!---->" * 585) == "text"
    assert time.monotonic() - started < 1
