"""Which rows and columns of a table can be named, and which columns hold numbers; every family about tables asks here."""

from __future__ import annotations

from synth_cot.known import Grid

LONGEST = 60
_BAD = '“”"|'


def wrong(grid: Grid, *names: str) -> tuple[str, str] | None:
    """Reason and detail when rows or columns cannot be named, or None."""
    for name in names:
        if not name or len(name) > LONGEST or any(mark in name for mark in _BAD):
            return "unquotable", f"{name[:80]!r} is empty, long or holds quotes"
    if len(set(map(str.casefold, grid.columns))) < len(grid.columns):
        return "ambiguous", "two columns have one name"
    if len({row[0].casefold() for row in grid.rows}) < len(grid.rows):
        return "ambiguous", "two rows have one name"
    return None


def numbers(grid: Grid, column: str) -> list[int] | None:
    """The whole numbers of a column; None when a cell is none."""
    place = grid.columns.index(column)
    cells = [row[place] for row in grid.rows]
    return [int(cell) for cell in cells] if all(cell.isascii() and cell.isdigit() and len(cell) < 7 for cell in cells) else None
