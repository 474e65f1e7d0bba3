"""Drawn films: things that come and go on a grid of frames, so that every moment of the truth is a frame that can be seen.

A span begins with the first frame that shows its thing and ends with the first that no longer does; it lasts at least
`SPAN_MIN` frames and a thing stays away for as many between two spans.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from manifests.shards import MediaItem
from synth_cot.known import Thing
from synth_cot.made.dice import Dice
from synth_cot.made.drawing import COLOURS, SHAPES, draw, rendering
from synth_cot.made.scenes import COLUMNS, HEIGHT, LARGE, ROWS, WIDTH, place

SPAN_MIN = 2
FRAMES = (12, 24)


def events(fps: float, *name: object) -> tuple[dict[str, Any], list[MediaItem]]:
    """The payload of kind ``events`` and the frames of its film, on a grid of ``fps`` frames a second."""
    dice = Dice("events", *name)
    count = dice.between(*FRAMES)
    cells = dice.some(range(COLUMNS * ROWS), dice.between(3, 4))
    names = dice.some([(colour, shape) for colour in sorted(COLOURS) for shape in SHAPES], len(cells))
    how = rendering(dice)
    cast = [
        (Thing(id=f"t{number}", shape=shape, colour=colour, box=place(dice, cell, LARGE)), _spans(dice, count))
        for number, (cell, (colour, shape)) in enumerate(zip(cells, names, strict=True), start=1)
    ]
    frames, items = [], {}
    for point in range(count):
        seen = [thing for thing, spans in cast if any(start <= point < end for start, end in spans)]
        item = draw(seen, WIDTH, HEIGHT, how)
        frames.append([point, item.media_id])
        items[item.media_id] = item
    duration = round(count / fps, 6)
    payload = {
        "duration_s": duration, "width": WIDTH, "height": HEIGHT, "fps_grid": fps, "frames": frames, "shots": [[0.0, duration]],
        "scenes": [], "rendering": asdict(how),
        "presences": [
            {
                "id": thing.id, "name": thing.name, "box": list(thing.box),
                "spans": [[round(start / fps, 6), round(end / fps, 6)] for start, end in spans],
            }
            for thing, spans in cast
        ],
    }  # fmt: skip
    return payload, list(items.values())


def _spans(dice: Dice, count: int) -> list[tuple[int, int]]:
    """One to three spans of frames, apart from one another."""
    spans, at = [], dice.between(0, 4)
    for _ in range(dice.between(1, 3)):
        if at + SPAN_MIN > count:
            break
        end = min(count, at + dice.between(SPAN_MIN, max(SPAN_MIN, count // 3)))
        spans.append((at, end))
        at = end + dice.between(SPAN_MIN, 5)
    return spans
