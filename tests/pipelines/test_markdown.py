"""Markdown is cut where a reader would cut it: never inside a fence, a table or behind a heading; and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.extraction import Outcome
from pipelines.markdown import blocks_of

LINE = st.sampled_from(
    ["", " ", "```", "~~~~", "```python", "# heading", "## deeper", "text", "    code", "| a | b |", "#hash", "\x0b"]
)


@given(st.lists(LINE, max_size=25), st.booleans())
@settings(max_examples=300, deadline=None)
def test_blocks_together_are_the_text(lines: list[str], ends: bool) -> None:
    words = "\n".join(lines) + ("\n" if ends else "")
    assert "".join(blocks_of(words)) == words


def test_fences_and_headings_hold_together() -> None:
    words = "# Title\n\n## Part\n\nFirst.\n\nSecond.\n\n```sh\na\n\n# no heading\n\nb\n```\n\n| a |\n| - |\n| b |\n\nEnd.\n"
    assert list(blocks_of(words)) == [
        "# Title\n\n## Part\n\nFirst.\n\n",
        "Second.\n\n",
        "```sh\na\n\n# no heading\n\nb\n```\n\n",
        "| a |\n| - |\n| b |\n\n",
        "End.\n",
    ]


def test_no_piece_of_a_manual_ends_with_a_heading_or_inside_a_fence(examples: Path, read: Callable[..., Outcome]) -> None:
    path = examples / "documents" / "click-advanced.md"
    rows = [row for row in read("a.md", path).samples if row["task"] == "document.text"]
    pieces = ["".join(part["text"] for part in row["messages"][0]["parts"]) for row in rows]
    assert len(pieces) > 2
    assert "".join(pieces) == path.read_text()
    for piece in pieces[:-1]:
        assert not piece.rstrip().splitlines()[-1].startswith("#")
        assert piece.count("```") % 2 == 0
