"""Text from data, made fit to be looked at: what cannot be seen, or turns the text around it, is written out.

Escaping for HTML is the template's work. This comes before it: control characters are no legal HTML, and a bidirectional
override in a file name shows another name than the file has.
"""

from __future__ import annotations

import re

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\ufffe\uffff]"
)


def plain(text: str) -> str:
    """``text`` with every invisible or text-turning character as its escape, e.g. ``\\u202e``. Tabs and line ends stay."""
    return _INVISIBLE.sub(
        lambda match: match.group().encode("unicode_escape", "surrogatepass").decode(), text.replace("\r\n", "\n")
    )


def shortened(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, and how many more there are."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"
