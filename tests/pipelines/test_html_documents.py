"""HTML: the main text with its structure, without the frame around it; fragments, encodings and traps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipelines.extraction import Outcome

Read = Callable[..., Outcome]
PROSE = "This paragraph holds the words for which a person would open the page, and it is long enough to be taken for text."
PAGE = f"""<!DOCTYPE html><html><head><title>Bees</title><script>var tracked = 1;</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>
<article><h1>Keeping bees</h1><p>{PROSE} See <a href="https://example.org/hive">the hive</a>.</p>
<h2>Through the year</h2><p>{PROSE}</p><ul><li>feed in autumn</li><li>wait in winter</li></ul>
<table><tr><th>Month</th><th>Work</th></tr><tr><td>May</td><td>swarms</td></tr><tr><td>July</td><td>honey</td></tr></table>
<p>{PROSE[::-1]}</p></article>
<footer>Copyright and cookies</footer></body></html>"""


def words_of(outcome: Outcome) -> str:
    rows = [row for row in outcome.samples if row["task"] == "document.text"]
    return "".join(part["text"] for row in rows for part in row["messages"][0]["parts"])


def test_the_main_text_keeps_its_structure(read: Read) -> None:
    outcome = read("bees.html", PAGE.encode())
    words = words_of(outcome)
    assert "# Keeping bees" in words
    assert "## Through the year" in words
    assert "- feed in autumn\n- wait in winter" in words
    assert "[the hive](https://example.org/hive)" in words
    assert "tracked" not in words
    assert "About us" not in words
    assert "cookies" not in words
    lines = [line.replace(" ", "") for line in words.splitlines()]
    assert lines[lines.index("|Month|Work|") + 2] == "|May|swarms|"
    (table,) = [row for row in outcome.samples if row["task"] == "document.table"]
    assert table["messages"][1]["parts"][0]["text"] == "| Month | Work |\n| --- | --- |\n| May | swarms |\n| July | honey |"


def test_html_is_known_by_its_bytes_and_fragments_by_their_name(read: Read) -> None:
    assert {row["modality"] for row in read("page", PAGE.encode()).samples} == {"document"}
    assert PROSE in words_of(read("piece.html", f"<h1>Bees</h1><p>{PROSE}</p><p>{PROSE[::-1]}</p>".encode()))
    # A name that says text is believed: source code of a page is text too.
    assert "<nav>" in read("page.txt", PAGE.encode()).samples[0]["messages"][0]["parts"][0]["text"]


def test_named_encodings_are_read_and_unnamed_ones_refused(read: Read) -> None:
    page = f'<html><head><meta charset="iso-8859-1"></head><body><p>Grüße. {PROSE}</p><p>{PROSE[::-1]}</p></body></html>'
    assert "Grüße" in words_of(read("a.html", page.encode("latin-1")))
    outcome = read("a.html", page.replace('<meta charset="iso-8859-1">', "").encode("latin-1"))
    assert outcome.quarantine is not None
    assert outcome.quarantine["reason"] == "bad_encoding"


@pytest.mark.parametrize(
    ("page", "status", "reason"),
    [
        ("<html><body></body></html>", "filtered", "no_text"),
        ("<html><body><p>Hello.</p></body></html>", "filtered", "too_short"),
        ("<html><body>" + "<div>" * 5_000 + PROSE + "</body></html>", "quarantined", "too_large"),
    ],
)
def test_pages_that_give_nothing(page: str, status: str, reason: str, read: Read) -> None:
    outcome = read("a.html", page.encode())
    assert outcome.status == status
    assert (outcome.quarantine or outcome.dropped[0])["reason"] == reason


def test_a_table_with_merged_rows_is_text_but_no_sample(read: Read) -> None:
    page = PAGE.replace("<td>May</td>", '<td rowspan="2">May</td>')
    outcome = read("a.html", page.encode())
    assert "swarms" in words_of(outcome)
    assert not [row for row in outcome.samples if row["task"] == "document.table"]
