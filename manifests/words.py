"""What a word is where texts are compared, and the runs of words that comparisons count."""

from __future__ import annotations

import re

# A letter of a script without spaces is a word here; elsewhere a run of letters and digits is.
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+"
)


def shingles(text: str, count: int) -> list[str]:
    """Every run of ``count`` words of a text, case and punctuation aside."""
    found = WORD.findall(text.lower())
    return [" ".join(found[start : start + count]) for start in range(len(found) - count + 1)]
