"""Which texts are worth learning from: long enough, printable, not one phrase over and over. Keep, or drop with a reason."""

from __future__ import annotations

import zlib
from collections import Counter

from pipelines.items import Filtered

CONTROL_SHARE_MAX = 0.02
COMPRESSED_SHARE_MIN = 0.06
REPEATED_SHARE_MAX = 0.6
REPEATED_LINE_MIN = 12


def quality(words: str) -> dict[str, float]:
    """Scores of a text: share of characters that do not print, share of it in repeated lines, compressed size over size."""
    if not words:
        return {"unprintable_share": 0.0, "repeated_share": 0.0, "compressed_share": 1.0}
    bad = sum(
        (not character.isprintable() and character not in "\n\t\r\f\u200b\u00ad") or character == "\ufffd"
        for character in words
    )
    lines = [line.strip() for line in words.splitlines()]
    lines = [line for line in lines if len(line) >= REPEATED_LINE_MIN]
    total = sum(len(line) for line in lines)
    repeated = sum(len(line) * (count - 1) for line, count in Counter(lines).items())
    data = words.encode("utf-8", "replace")
    return {
        "unprintable_share": round(bad / len(words), 4),
        "repeated_share": round(repeated / total, 4) if total else 0.0,
        "compressed_share": round(len(zlib.compress(data, 6)) / len(data), 4),
    }


def keep(words: str, tokens: int, tokens_min: int) -> dict[str, float]:
    """The scores of a text that is kept.

    Raises:
        Filtered: it is too short, does not print, or repeats itself.
    """
    if tokens < tokens_min:
        raise Filtered("too_short", f"{tokens} tokens are fewer than curate.text_tokens_min={tokens_min}")
    scores = quality(words)
    if scores["unprintable_share"] > CONTROL_SHARE_MAX:
        share = scores["unprintable_share"]
        raise Filtered("non_printable", f"{share:.1%} of its characters do not print; {CONTROL_SHARE_MAX:.0%} are allowed")
    if len(words) > 2_000 and scores["compressed_share"] < COMPRESSED_SHARE_MIN:
        detail = f"it compresses to {scores['compressed_share']:.1%} of its size; {COMPRESSED_SHARE_MIN:.0%} are the least"
        raise Filtered("repetition", detail)
    if len(words) > 2_000 and scores["repeated_share"] > REPEATED_SHARE_MAX:
        detail = f"{scores['repeated_share']:.1%} of it are lines that it already had; {REPEATED_SHARE_MAX:.0%} are allowed"
        raise Filtered("repetition", detail)
    return scores
