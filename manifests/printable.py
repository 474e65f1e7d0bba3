"""Text that came from data, as a terminal may show it: what would move the cursor, colour, or turn the line around is spelled.

File names, captions and messages of decoders hold whatever somebody put there; an escape sequence among them could rewrite what
the person at the terminal reads, or what they paste.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}


def printable(text: str) -> str:
    r"""The text with control characters, line separators, changes of direction and lone surrogates spelled, as ``\n``."""
    return _UNSAFE.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def printable_json(text: str) -> str:
    r"""JSON text with the same characters as ``\uXXXX``: still the same value. Line breaks between its lines stay."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)
