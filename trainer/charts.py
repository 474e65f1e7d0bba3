"""Curves as text: a sparkline of one line, and a chart of dots with axes. Characters only: colour is the terminal's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_LEVELS = "▁▂▃▄▅▆▇█"
# Bits of a braille character, U+2800 + bits: 2 columns of 4 dots, [column][row from the top].
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def bins(values: Sequence[float], count: int) -> list[float]:
    """Means of at most ``count`` equal runs of neighbours."""
    size = len(values)
    count = min(count, size)
    edges = [index * size // count for index in range(count + 1)] if count else []
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def sparkline(values: Sequence[float], width: int) -> str:
    """At most ``width`` characters; the lowest value is a low bar, the highest a full one. What is no number is left out."""
    points = bins([value for value in values if math.isfinite(value)], width)
    if not points:
        return ""
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    return "".join(_LEVELS[round((value - low) / span * (len(_LEVELS) - 1))] for value in points)


def chart(
    lines: Sequence[Sequence[tuple[float, float]]], *, width: int, height: int, x_label: str = "", marks: Sequence[float] = ()
) -> list[list[tuple[str, int | None]]]:
    """Lines over common axes.

    Args:
        lines: points (x, y) of each line, by rising x. width, height: in characters, axes included.
        x_label: what x is, e.g. ``tokens``.
        marks: places of x to mark on the axis, e.g. where stages begin.

    Returns:
        the rows from the top, each as pieces (text, number of the line it belongs to, None for axes). A cell that several lines
        meet in belongs to the last.
    """
    drawn = [[(x, y) for x, y in line if math.isfinite(y)] for line in lines]
    points = [point for line in drawn for point in line]
    if not points:
        return [[("no points", None)]]
    low, high = min(y for _, y in points), max(y for _, y in points)
    if high == low:
        low, high = low - 0.5, high + 0.5
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    labels = [f"{high:.4g}", f"{(high + low) / 2:.4g}", f"{low:.4g}"]
    gutter = max(map(len, labels)) + 1
    columns, rows = max(width - gutter - 1, 8), max(height - 2, 3)
    bits = [[0] * columns for _ in range(rows)]
    owner: list[list[int | None]] = [[None] * columns for _ in range(rows)]
    for number, line in enumerate(drawn):
        before: int | None = None
        for at, y in _columns(line, left, right, columns):
            dot = round((high - y) / (high - low) * (rows * 4 - 1))
            near = dot if before is None else before + (dot > before) - (dot < before)
            for each in range(min(near, dot), max(near, dot) + 1):
                bits[each // 4][at // 2] |= _DOTS[at % 2][each % 4]
                owner[each // 4][at // 2] = number
            before = dot
    text: list[list[tuple[str, int | None]]] = []
    said = {0: labels[0], rows // 2: labels[1], rows - 1: labels[2]}
    for row in range(rows):
        pieces: list[tuple[str, int | None]] = [
            (f"{said.get(row, ''):>{gutter - 1}} ┤" if row in said else " " * gutter + "│", None)
        ]
        pieces += [(chr(0x2800 + bits[row][at]) if bits[row][at] else " ", owner[row][at]) for at in range(columns)]
        text.append(pieces)
    axis = ["─"] * columns
    for mark in marks:
        if right > left and left <= mark <= right:
            axis[min(int((mark - left) / (right - left) * columns), columns - 1)] = "┴"
    text.append([(" " * gutter + "└" + "".join(axis), None)])
    ends = f"{left:,.0f}", f"{right:,.0f} {x_label}".rstrip()
    text.append([(" " * (gutter + 1) + ends[0] + ends[1].rjust(max(columns - len(ends[0]), len(ends[1]) + 1)), None)])
    return text


def _columns(line: Sequence[tuple[float, float]], left: float, right: float, columns: int) -> list[tuple[int, float]]:
    """Columns of dots, two a character: the mean of the points of each character, and straight lines between them."""
    sums: dict[int, list[float]] = {}
    for x, y in line:
        at = 0 if right == left else min(int((x - left) / (right - left) * columns), columns - 1)
        sums.setdefault(at, []).append(y)
    known = [(2 * at, sum(ys) / len(ys)) for at, ys in sorted(sums.items())]
    filled = known[:1]
    for (a, y), (b, z) in pairwise(known):
        filled += [(at, y + (z - y) * (at - a) / (b - a)) for at in range(a + 1, b + 1)]
    return filled
