"""One self-contained HTML page about a corpus: what came in, what went where and why, stages, samples, losses.

`write_report` is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manifests.report.build import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    if name == "write_report":
        from manifests.report.build import write_report

        return write_report
    raise AttributeError(f"module 'manifests.report' has no attribute {name!r}")
