"""When a scene of a clip can be asked about: it is described, no other scene is described alike, and a frame shows it.

Times in prompts and answers count from the start of the clip and have one decimal, as the timestamps the model reads have.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from manifests.visual import VisualSpec
from synth_cot.known import Clip

LETTERS = "ABCDE"


def shown_points(clip: Clip, spec: VisualSpec) -> tuple[int, ...]:
    """The grid points whose frames the sample shows: what the plan wants and the corpus holds."""
    plan = spec.frames(clip.start_s, clip.end_s, clip.height, clip.width, clip.form.visual_budget)
    return tuple(point for point in plan.points if point in clip.frames)


def since(clip: Clip, seconds: float) -> float:
    """Seconds of the source as seconds from the start of the clip, to a tenth; a half is rounded up."""
    exact = Decimal(str(seconds)) - Decimal(str(clip.start_s))
    return float(exact.quantize(Decimal("0.1"), ROUND_HALF_UP))


def span(clip: Clip, start: float, end: float) -> str:
    """An interval of the source as the text ``[12.0, 15.5]`` of the clip."""
    return f"[{since(clip, start):.1f}, {since(clip, end):.1f}]"


def alike(left: str, right: str) -> bool:
    """Whether two descriptions share more than 60% of their words: too much to tell scenes apart by."""
    one, other = set(left.casefold().split()), set(right.casefold().split())
    return len(one & other) > 0.6 * max(1, len(one | other))


def unclear(clip: Clip, index: int) -> tuple[str, str] | None:
    """Reason and detail when a scene cannot be asked about, or None."""
    scene = clip.scenes[index]
    if not scene.text or any(quote in scene.text for quote in "“”"):
        return "unquotable", f"scene {index} has no description, or one with quotation marks"
    if not since(clip, scene.start) < since(clip, scene.end):
        return "too_short", f"scene {index} lasts {scene.end - scene.start:.3f} s"
    if not any(scene.start <= point / clip.fps < scene.end for point in clip.frames):
        return "unseen", f"no stored frame shows scene {index}, {scene.start}-{scene.end} s"
    for other, rival in enumerate(clip.scenes):
        if other != index and alike(rival.text, scene.text):
            return "ambiguous", f"scenes {index} and {other} are described alike"
    return None
