"""What a person says about a video (``NAME.captions.json``): an overview, scenes, and what of it stands out.

    {"overview": "...",
     "scenes": [{"start": 0.0, "end": 4.2, "text": "...", "event": "goal"}, ...],
     "highlights": [{"start": 12.0, "end": 15.5}, ...],
     "summary": [{"start": 0.0, "end": 3.0}, ...]}

Every field may be missing; times are seconds from the first picture. Scenes with the same ``event`` show the same thing
happening again. ``highlights`` are the moments worth showing, ``summary`` the stretches that together tell the whole video.
Intervals of one list must not overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.items import Attachment, Quarantined
from pipelines.sidecars import clean, number, read_sidecar, text_field

BEYOND_END_S = 0.5
SCENE_SEEN = 0.5

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What happens from ``start`` to ``end`` seconds of the source; ``event`` names what may happen again."""

    start: float
    end: float
    text: str
    event: str = ""


@dataclass(frozen=True, kw_only=True)
class Captions:
    """What is said, in order of time; everything may be empty."""

    overview: str = ""
    scenes: tuple[Scene, ...] = ()
    highlights: tuple[Interval, ...] = ()
    summary: tuple[Interval, ...] = ()

    def within(self, start_s: float, end_s: float) -> list[Scene]:
        """The scenes of which the clip shows at least half, or that fill at least half of the clip; cut to the clip."""
        found = []
        for scene in self.scenes:
            shown = min(scene.end, end_s) - max(scene.start, start_s)
            if shown > 0 and shown >= SCENE_SEEN * min(scene.end - scene.start, end_s - start_s):
                start, end = max(scene.start, start_s), min(scene.end, end_s)
                found.append(Scene(start=start, end=end, text=scene.text, event=scene.event))
        return found


def read_captions(sidecar: Attachment | None, duration_s: float) -> Captions:
    """The captions of a video of this duration; empty ones without a sidecar.

    Raises:
        Quarantined: the file is malformed, or a scene or interval lies outside the video.
    """
    if sidecar is None:
        return Captions()
    value = read_sidecar(sidecar)
    scenes = []
    for place, entry in enumerate(_listed(value, "scenes", sidecar)):
        start, end = _interval(entry, f"scene {place}", sidecar, duration_s, needs="start, end and text")
        words = entry.get("text") if isinstance(entry, dict) else None
        if not isinstance(words, str) or not clean(words):
            raise Quarantined("check", "bad_sidecar", f"{sidecar.source}: scene {place} needs start, end and text", "video")
        scenes.append(Scene(start=start, end=end, text=clean(words), event=text_field(entry, "event", sidecar)))
    return Captions(
        overview=text_field(value, "overview", sidecar),
        scenes=tuple(sorted(scenes, key=lambda scene: (scene.start, scene.end, scene.text))),
        highlights=_intervals(value, "highlights", sidecar, duration_s),
        summary=_intervals(value, "summary", sidecar, duration_s),
    )


def _listed(value: dict[str, Any], name: str, sidecar: Attachment) -> list[Any]:
    listed = value.get(name) or []
    if not isinstance(listed, list):
        raise Quarantined("check", "bad_sidecar", f"{sidecar.source}: {name} is no list", "video")
    return listed


def _intervals(value: dict[str, Any], name: str, sidecar: Attachment, duration_s: float) -> tuple[Interval, ...]:
    found = sorted(
        _interval(entry, f"{name}[{place}]", sidecar, duration_s, needs="start and end")
        for place, entry in enumerate(_listed(value, name, sidecar))
    )
    _apart(found, name, sidecar)
    return tuple(found)


def _interval(entry: Any, what: str, sidecar: Attachment, duration_s: float, *, needs: str) -> Interval:
    start, end = (number(entry.get(key)) for key in ("start", "end")) if isinstance(entry, dict) else (None, None)
    if start is None or end is None:
        raise Quarantined("check", "bad_sidecar", f"{sidecar.source}: {what} needs {needs}", "video")
    if not 0 <= start < end <= duration_s + BEYOND_END_S or start >= duration_s:
        detail = f"{sidecar.source}: {what} is {start:g}-{end:g} s; the video has {duration_s:.3f} s"
        raise Quarantined("check", "captions_outside", detail, "video")
    return start, min(end, duration_s)


def _apart(found: Sequence[Interval], name: str, sidecar: Attachment) -> None:
    for one, other in itertools.pairwise(found):
        if other[0] < one[1]:
            detail = f"{sidecar.source}: {name} {one[0]:g}-{one[1]:g} s and {other[0]:g}-{other[1]:g} s overlap"
            raise Quarantined("check", "bad_sidecar", detail, "video")
