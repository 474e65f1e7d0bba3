"""What differs between two corpora, or between two plans of one or two corpora: set operations in DuckDB.

`compare` is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manifests.diff.difference import Difference, compare

__all__ = ["Difference", "compare"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from manifests.diff import difference as module

        return getattr(module, name)
    raise AttributeError(f"module 'manifests.diff' has no attribute {name!r}")
