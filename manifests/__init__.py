"""The waist of longreel: what a sample, a media reference, a packed sequence and a stage are; reading, writing, querying them.

Imports none of the other packages. `Catalog` is loaded on first use, so that ``import manifests`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manifests.catalog import Catalog
    from manifests.corpus import Corpus

__all__ = ["Catalog", "Corpus"]


def __getattr__(name: str) -> Any:
    if name == "Catalog":
        from manifests.catalog import Catalog

        return Catalog
    if name == "Corpus":
        from manifests.corpus import Corpus

        return Corpus
    raise AttributeError(f"module 'manifests' has no attribute {name!r}")
