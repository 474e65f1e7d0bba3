"""Beam curation: raw videos, documents, pictures, screenshots and recordings to a corpus. Imports only `manifests`.

`curate` is loaded on first use, so that ``import pipelines`` starts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.curation import CurateResult, curate

__all__ = ["CurateResult", "curate"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from pipelines import curation

        return getattr(curation, name)
    raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
