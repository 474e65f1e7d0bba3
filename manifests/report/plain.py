"""Text from data, made fit to be looked at: what cannot be seen, or turns the text around it, is written out.

Escaping for HTML is the template's work. This comes before it: control characters are no legal HTML and are commands to a
terminal, and a bidirectional override in a file name shows another name than the file has.
"""

from __future__ import annotations

import re

from manifests.printable import printable

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\ufffe\uffff\U000e0000-\U000e0fff]"
)


def plain(text: str) -> str:
    """``text`` with every invisible or text-turning character as its escape, e.g. ``\\u202e``. Tabs and line ends stay."""
    return _INVISIBLE.sub(
        lambda match: match.group().encode("unicode_escape", "surrogatepass").decode(), text.replace("\r\n", "\n")
    )


def one_line(text: str, most: int = 0) -> str:
    """As `plain`, tabs and line ends as escapes too, for a terminal; cut to ``most`` characters when that is above 0."""
    line = printable(plain(text))
    return line if not most or len(line) <= most else line[: most - 1] + "…"


def shortened(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, and how many more there are."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"
