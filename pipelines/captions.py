"""What a person says about a video: an overview, and scenes with start and end (``NAME.captions.json``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.items import Attachment, Quarantined
from pipelines.sidecars import clean, number, read_sidecar, text_field

BEYOND_END_S = 0.5
SCENE_SEEN = 0.5


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What happens from ``start`` to ``end`` seconds of the source."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Overview and scenes in order; both may be empty."""

    overview: str = ""
    scenes: tuple[Scene, ...] = ()

    def within(self, start_s: float, end_s: float) -> list[Scene]:
        """The scenes of which the clip shows at least half, or that fill at least half of the clip; cut to the clip."""
        found = []
        for scene in self.scenes:
            shown = min(scene.end, end_s) - max(scene.start, start_s)
            if shown > 0 and shown >= SCENE_SEEN * min(scene.end - scene.start, end_s - start_s):
                found.append(Scene(start=max(scene.start, start_s), end=min(scene.end, end_s), text=scene.text))
        return found


def read_captions(sidecar: Attachment | None, duration_s: float) -> Captions:
    """The captions of a video of this duration; empty ones without a sidecar.

    Raises:
        Quarantined: the file is malformed, or a scene lies outside the video.
    """
    if sidecar is None:
        return Captions()
    value = read_sidecar(sidecar)
    listed = value.get("scenes") or []
    if not isinstance(listed, list):
        raise Quarantined("check", "bad_sidecar", f"{sidecar.source}: scenes is no list", "video")
    scenes = [_scene(entry, place, sidecar, duration_s) for place, entry in enumerate(listed)]
    return Captions(overview=text_field(value, "overview", sidecar), scenes=_in_order(scenes))


def _scene(entry: object, place: int, sidecar: Attachment, duration_s: float) -> Scene:
    words = entry.get("text") if isinstance(entry, dict) else None
    start, end = (number(entry.get(key)) for key in ("start", "end")) if isinstance(entry, dict) else (None, None)
    if not isinstance(words, str) or not clean(words) or start is None or end is None:
        raise Quarantined("check", "bad_sidecar", f"{sidecar.source}: scene {place} needs start, end and text", "video")
    if not 0 <= start < end <= duration_s + BEYOND_END_S or start >= duration_s:
        detail = f"{sidecar.source}: scene {place} is {start:g}-{end:g} s; the video has {duration_s:.3f} s"
        raise Quarantined("check", "captions_outside", detail, "video")
    return Scene(start=start, end=min(end, duration_s), text=clean(words))


def _in_order(scenes: Sequence[Scene]) -> tuple[Scene, ...]:
    return tuple(sorted(scenes, key=lambda scene: (scene.start, scene.end, scene.text)))
