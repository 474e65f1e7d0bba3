"""Figures as inline SVG, drawn here rather than by a plotting library: a few kilobytes each, in the page's own colours,
light or dark.

Coordinates are those of the view box; the page scales the whole. Only numbers and escaped text enter the markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

POINTS_MAX = 600
MEAN_OF = 20
"""Steps of the running mean that is drawn over a curve, or a quarter of the curve where that is less."""


def bar(parts: Sequence[tuple[str, float]], whole: float, label: str = "", *, tall: bool = False) -> Markup:
    """One horizontal bar: parts (class name, amount) of ``whole``, in order. No ``label``: it repeats a figure beside it."""
    begin, drawn = 0.0, []
    for kind, amount in parts:
        width = 100 * amount / whole if whole else 0.0
        drawn.append(f'<rect class="{escape(kind)}" x="{begin:.2f}" y="0" width="{width:.2f}" height="10"></rect>')
        begin += width
    said = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    kind = "bar tall" if tall else "bar"
    return Markup(f'<svg class="{kind}" viewBox="0 0 100 10" preserveAspectRatio="none" {said}>{"".join(drawn)}</svg>')


def histogram(counts: Sequence[int], label: str) -> Markup:
    """Bars of ``counts`` over equal parts of 0 to 100%."""
    width, height, base = 320, 96, 78
    top = max([*counts, 1])
    step = width / max(len(counts), 1)
    bars = [
        f'<rect x="{index * step + 1:.1f}" y="{base - bar:.1f}" width="{step - 2:.1f}" height="{bar:.1f}">'
        f"<title>{count:,} sequences, {index * 100 // len(counts)} to {(index + 1) * 100 // len(counts)}% full</title></rect>"
        for index, count in enumerate(counts)
        if (bar := max(1.5, (base - 14) * count / top) if count else 0)
    ]
    marks = "".join(
        f'<text x="{x}" y="94" text-anchor="{anchor}">{text}</text>'
        for x, anchor, text in ((0, "start", "0%"), (width / 2, "middle", "50%"), (width, "end", "100%"))
    )
    highest = max(range(len(counts)), key=lambda index: counts[index]) if counts else 0
    x = min(max(highest * step + step / 2, 24), width - 24)
    peak = f'<text x="{x:.1f}" y="10" text-anchor="middle">{top:,}</text>' if any(counts) else ""
    return Markup(
        f'<svg class="figure" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(bars)}'
        f'<line x1="0" y1="{base}" x2="{width}" y2="{base}"></line>{marks}{peak}</svg>'
    )


def columns(bars: Sequence[tuple[str, int, str]], label: str) -> Markup:
    """Upright bars: (name below, height, words for a reader who points at it), in order."""
    width, height, base = 640, 130, 106
    top = max([amount for _, amount, _ in bars] or [0]) or 1
    step = width / max(len(bars), 1)
    parts = []
    for index, (name, amount, words) in enumerate(bars):
        tall = max(1.5, (base - 16) * amount / top) if amount else 0.0
        middle = (index + 0.5) * step
        parts.append(
            f'<rect x="{index * step + 2:.1f}" y="{base - tall:.1f}" width="{step - 4:.1f}" height="{tall:.1f}">'
            f"<title>{escape(words)}</title></rect>"
        )
        if step >= 26 or index % 2 == 0:
            parts.append(f'<text x="{middle:.1f}" y="{base + 16}" text-anchor="middle">{escape(name)}</text>')
    return Markup(
        f'<svg class="figure" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}'
        f'<line x1="0" y1="{base}" x2="{width}" y2="{base}"></line></svg>'
    )


def two_lines(first: Sequence[float], second: Sequence[float], label: str) -> Markup:
    """Two lines over the same axis of steps, around 1: the first in the page's first colour, the second in its second."""
    if not first and not second:
        return Markup("")
    width, height, left, right, top, base = 320, 120, 34, 316, 8, 102
    ticks = _ticks(min([*first, *second, 1.0]), max([*first, *second, 1.01]))[:8]
    low, high = min([ticks[0], *first, *second]), max([ticks[-1], *first, *second])

    def y(value: float) -> float:
        return base - (base - top) * (value - low) / ((high - low) or 1)

    parts = [
        f'<line class="grid" x1="{left}" y1="{y(tick):.1f}" x2="{right}" y2="{y(tick):.1f}"></line>'
        f'<text x="{left - 4}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    ]
    for values, kind in ((second, "second"), (first, "first")):
        if len(values) == 1:
            parts.append(f'<circle class="{kind}" cx="{(left + right) / 2:.1f}" cy="{y(values[0]):.1f}" r="2.5"></circle>')
        elif values:
            gap = (right - left) / (len(values) - 1)
            points = " ".join(f"{left + index * gap:.1f},{y(value):.1f}" for index, value in enumerate(values))
            parts.append(f'<polyline class="{kind}" points="{points}"></polyline>')
    parts.append(
        f'<text x="{left}" y="{base + 14}">first step</text><text x="{right}" y="{base + 14}" text-anchor="end">last</text>'
    )
    return Markup(
        f'<svg class="figure" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def spark(values: Sequence[float]) -> Markup:
    """A small line without axes, beside figures that say what it shows: at most 60 points, each the mean of equal runs."""
    count = min(len(values), 60)
    edges = [index * len(values) // count for index in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    if len(means) < 2:
        return Markup("")
    low, span = min(means), (max(means) - min(means)) or 1.0
    points = " ".join(
        f"{index * 120 / (len(means) - 1):.1f},{20 - 18 * (mean - low) / span:.1f}" for index, mean in enumerate(means)
    )
    return Markup(
        f'<svg class="figure spark" viewBox="0 0 120 22" preserveAspectRatio="none" aria-hidden="true">'
        f'<polyline points="{points}"></polyline></svg>'
    )


def overlay(marks: Sequence[Any]) -> Markup:
    """Boxes over a picture, in thousandths of its width and height."""
    drawn = "".join(
        f'<rect class="{mark.kind}" x="{mark.x:g}" y="{mark.y:g}" width="{mark.width:g}" height="{mark.height:g}"></rect>'
        for mark in marks
    )
    return Markup(f'<svg class="marks" viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>')


def curve(points: Sequence[tuple[int, str, float]], label: str) -> Markup:
    """A line over all optimiser steps, parted by stage; more than `POINTS_MAX` steps are averaged in equal runs."""
    if not points:
        return Markup("")
    width, height, left, right, top, base = 720, 260, 46, 712, 26, 226
    values = [value for _, _, value in points]
    ticks = _ticks(min(values), max(values))
    low, high = min(ticks[0], min(values)), max(ticks[-1], max(values))
    count = len(points)

    def x(index: float) -> float:
        return left + (right - left) * (index + 0.5) / count

    def y(value: float) -> float:
        return base - (base - top) * (value - low) / ((high - low) or 1)

    parts = []
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{left}" y1="{y(tick):.1f}" x2="{right}" y2="{y(tick):.1f}"></line>')
        parts.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for number, (begin, end) in enumerate(_runs([stage for stage, _, _ in points])):
        edge = left + (right - left) * begin / count
        span = (right - left) * (end - begin) / count
        parts.append(
            f'<rect class="band{number % 2}" x="{edge:.1f}" y="{top}" width="{span:.1f}" height="{base - top}"></rect>'
        )
        if span >= 14:
            name = f"stage {points[begin][0]}" if span >= 58 else str(points[begin][0])
            parts.append(f'<text x="{edge + span / 2:.1f}" y="{top - 8}" text-anchor="middle">{name}</text>')
    for begin, end in _runs([(stage, phase) for stage, phase, _ in points]):
        run = max(1, -(-count // POINTS_MAX))
        groups = [values[at : min(at + run, end)] for at in range(begin, end, run)]
        window = min(MEAN_OF, (end - begin) // 4)
        if window >= 3:
            places = range(begin, end, max(1, count // 200))
            means = [values[max(begin, at - window + 1) : at + 1] for at in places]
            smooth = " ".join(f"{x(at):.1f},{y(sum(mean) / len(mean)):.1f}" for at, mean in zip(places, means, strict=True))
            parts.append(f'<polyline points="{smooth}"></polyline>')
        line = " ".join(
            f"{x(min(begin + index * run + (len(group) - 1) / 2, end - 1)):.1f},{y(sum(group) / len(group)):.1f}"
            for index, group in enumerate(groups)
        )
        if len(groups) == 1:
            cx, cy = line.split(",")
            parts.append(f'<circle cx="{cx}" cy="{cy}" r="2"></circle>')
        else:
            raw = ' class="raw"' if window >= 3 else ""
            parts.append(f'<polyline{raw} points="{line}"></polyline>')
    parts.append(f'<text x="{left}" y="{base + 20}">step 1</text>')
    parts.append(f'<text x="{right}" y="{base + 20}" text-anchor="end">step {count:,}</text>')
    return Markup(
        f'<svg class="figure wide" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _runs(keys: Sequence[object]) -> list[tuple[int, int]]:
    """Begin and end of every run of equal neighbours."""
    edges = [index for index in range(len(keys)) if index == 0 or keys[index] != keys[index - 1]]
    return list(zip(edges, [*edges[1:], len(keys)], strict=True))


def _ticks(low: float, high: float) -> list[float]:
    """About five round values that lie around ``low`` to ``high``."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]
