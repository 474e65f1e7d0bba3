"""A difference as a page of its own."""

from __future__ import annotations

from pathlib import Path

from manifests.diff.difference import Difference
from manifests.diff.summary import summary
from manifests.report.pages import require_file, write_page


def write_difference(difference: Difference, out: Path) -> None:
    """Writes what `longreel diff` found to ``out``, as one self-contained page.

    Raises:
        UsageError: ``out`` is a folder.
    """
    require_file(out)
    write_page(
        out,
        "difference.html.jinja",
        difference=difference,
        headline=summary(difference),
        a=Path(difference.a).name or difference.a,
        b=Path(difference.b).name or difference.b,
    )
