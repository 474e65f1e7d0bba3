"""A difference in one line."""

from __future__ import annotations

from manifests.diff.difference import Difference

WORDS = {
    "content": "with other content",
    "status": "with another fate",
    "licence": "relicensed",
    "duplicates": "in another cluster",
}


def summary(difference: Difference) -> str:
    """One line: same, or what differs most."""
    d = difference
    if d.same:
        rows = sum(table.a for table in d.tables)
        return f"same: {rows:,} rows in {len(d.tables)} tables" + (" of both plans" if d.plans_only else "")
    said = [f"{d.crossings:,} sources crossed the split"] if d.crossings else []
    if d.fields:
        said.append(f"{len(d.fields):,} recipe fields")
    if d.sources:
        said += [f"{count:,} sources {WORDS.get(change, change)}" for change, count in d.sources.counts.items()]
    if d.samples:
        said += [f"{n:,} samples {what}" for what, n in (("added", d.samples.added), ("removed", d.samples.removed)) if n]
    for plan in d.plans:
        new, gone = (sum(getattr(row, what) for stage in plan.stages for row in stage.sequences) for what in ("new", "gone"))
        if new or gone:
            said.append(f"{new:,} new and {gone:,} gone sequences")
        elif plan.fields:
            said.append(f"{len(plan.fields):,} fields of the plan")
    return "different: " + (", ".join(said) or "rows of " + ", ".join(table.table for table in d.tables if not table.same))
