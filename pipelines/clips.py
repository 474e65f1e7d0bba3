"""How a video is cut into clips: one long video feeds several stages, as 15 s segments, 15 min windows and the whole.

A form whose frames and sizes equal those of a shorter form over the same seconds adds nothing and is left out; one that shows
the same seconds at a higher resolution is kept. Segments and windows follow each other from 0; a whole that is longer than
its form allows is cut where a shot ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from manifests.curate_spec import VideoForm
from manifests.visual import FramePlan, VisualSpec

TAIL_MIN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A piece of a video and how it is looked at.

    Attributes:
        form: the form of the recipe that it comes from.
        start_s, end_s: seconds of the source.
        plan: which grid points are read, at which size.
    """

    form: str
    start_s: float
    end_s: float
    plan: FramePlan

    @property
    def duration_s(self) -> float:
        """Seconds of the clip."""
        return round(self.end_s - self.start_s, 6)


def spans(form: VideoForm, duration_s: float, cuts: Sequence[float]) -> list[tuple[float, float]]:
    """Start and end of every clip of a form; a last piece under `TAIL_MIN_S` is left to the longer forms."""
    pieces: list[tuple[float, float]] = []
    start = 0.0
    while duration_s - start > form.max_s + 1e-6:
        end = start + form.max_s
        if form.name == "whole":
            end = max((cut for cut in cuts if start + form.max_s / 2 < cut <= end), default=end)
        pieces.append((start, end))
        start = end
    if not pieces or duration_s - start >= TAIL_MIN_S:
        pieces.append((start, duration_s))
    return pieces


def plan_clips(
    forms: Sequence[VideoForm], duration_s: float, cuts: Sequence[float], height: int, width: int, visual: VisualSpec
) -> list[Clip]:
    """Every clip of a video, form by form, none that shows what a shorter form already does."""
    clips: list[Clip] = []
    seen: set[tuple[float, float, FramePlan]] = set()
    for form in forms:
        for start, end in spans(form, duration_s, cuts):
            plan = visual.frames(start, end, height, width, form.visual_budget)
            if (start, end, plan) not in seen:
                seen.add((start, end, plan))
                clips.append(Clip(form=form.name, start_s=start, end_s=end, plan=plan))
    return clips
