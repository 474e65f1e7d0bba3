"""Self-contained HTML pages: a corpus (what came in, what went where and why, stages, samples), and what differs between two.

`write_report` and `write_difference` are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manifests.report.build import write_report
    from manifests.report.differing import write_difference

__all__ = ["write_difference", "write_report"]


def __getattr__(name: str) -> Any:
    if name == "write_report":
        from manifests.report.build import write_report

        return write_report
    if name == "write_difference":
        from manifests.report.differing import write_difference

        return write_difference
    raise AttributeError(f"module 'manifests.report' has no attribute {name!r}")
