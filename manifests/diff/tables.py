"""Table by table: rows on either side, and whether they are the same rows whatever their order and files.

The last word on *same*: what no other comparison names is still found here. Two columns are left out, because they say how a
row was made and not what it is: ``fingerprint`` (code and configuration), and ``messages`` (whose hash is ``sample_id``).
"""

from __future__ import annotations

from dataclasses import dataclass

from manifests import schemas
from manifests.diff.sides import TABLES, Side, Sides

LEFT_OUT = ("fingerprint", "messages")
PLANNED = ("sequences", "segments", "stages")


@dataclass(frozen=True, kw_only=True)
class TableChange:
    """One table."""

    table: str
    a: int
    b: int
    same: bool


def compare_tables(sides: Sides, plans: tuple[str | None, str | None], *, planned_only: bool) -> list[TableChange]:
    """Compares all tables but the log, or the planned ones only; these for one recipe on each side, or all when it is None."""
    found = []
    for table in PLANNED if planned_only else TABLES:
        a, hash_a = _summed(sides, "a", table, plans[0])
        b, hash_b = _summed(sides, "b", table, plans[1])
        found.append(TableChange(table=table, a=a, b=b, same=(a, hash_a) == (b, hash_b)))
    return found


def _summed(sides: Sides, side: Side, table: str, plan: str | None) -> tuple[int, int]:
    names = [name for name in schemas.TABLES[table].names if name not in LEFT_OUT]
    chosen, parameters = "", []
    if table in PLANNED and plan is not None:
        names = [name for name in names if name not in ("recipe", "specification")]  # they say how it was planned
        chosen, parameters = "WHERE recipe = ?", [plan]
    columns = ", ".join(f'"{name}"' for name in names)
    rows = sides.rows(f"SELECT count(*), coalesce(sum(hash({columns})), 0)::HUGEINT FROM {side}.{table} {chosen}", parameters)
    return int(rows[0][0]), int(rows[0][1])
