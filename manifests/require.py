"""How a specification says what it will not be."""

from __future__ import annotations


def require(holds: bool, message: str) -> None:
    """Nothing when ``holds``.

    Raises:
        ValueError: with ``message``, which names the field and its value.
    """
    if not holds:
        raise ValueError(message)
