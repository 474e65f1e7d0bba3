"""Temporal grounding: four forms of asking a video *when*. Answers are ``[[start, end], ...]``, in seconds of the clip.

- `video.grounding`: a described action -> when it happens. From the scenes of the captions.
- `video.highlights`: the moments worth showing. From ``highlights`` of the captions.
- `video.summary`: the stretches that together tell the video, asked of the whole video only. From ``summary``.
- `video.matching`: two clips -> where in the second the event of the first is. From scenes of one ``event``, of which one lies
  outside the clip; and without any captions by construction: a shot is cut out of the clip, and must be found in it again. Only
  shots that look like nothing else in the clip are asked for, so the answer is the only one.

Matching stays inside one video: two videos meet in no reader, and what two sources share is settled as duplication.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Protocol

from manifests.fingerprint import unit_hash
from manifests.sample import Part, Sample, text
from manifests.visual import VisualSpec
from pipelines.captions import Captions, Interval, Scene
from pipelines.clips import Clip
from pipelines.decoding import Film

GROUNDED_MAX = 4
GROUNDED_SHARE_MAX = 0.7
SEEN = 0.5
MATCHED_S = (2.0, 15.0)
MATCHED_SHARE_MAX = 0.3
MATCHED_FRAMES = 8
MATCHED_TRIES = 16
UNLIKE_BITS = 12
SHOT_ERROR_MAX_S = 0.5
GROUNDING_QUESTION = "When does this happen? {text}\nAnswer with intervals [[start, end]] in seconds."
HIGHLIGHTS_QUESTION = "Which moments of this video are its highlights? Answer with intervals [[start, end], ...] in seconds."
SUMMARY_QUESTION = (
    "Which parts of this video, shown one after another, sum it up? Answer with intervals [[start, end], ...] in seconds."
)
MATCHING_QUESTION = (
    "The first clip was cut out of the second one. At which seconds of the second one? "
    "Answer with intervals [[start, end]] in seconds."
)
EVENT_QUESTION = (
    "The first clip shows an event. When does the same happen in the second clip? "
    "Answer with intervals [[start, end], ...] in seconds."
)


class Ask(Protocol):
    """Makes a sample of a clip: question, answer and the seconds of the source on which the answer rests.

    ``shown`` replaces the clip's frames before the question.
    """

    def __call__(
        self, task: str, capability: str, question: str, answer: str, start_s: float, end_s: float, shown: tuple[Part, ...] = ()
    ) -> Sample: ...


class Show(Protocol):
    """The frames of a clip as a part of a message."""

    def __call__(self, clip: Clip) -> Part: ...


def grounded_samples(clip: Clip, film: Film, captions: Captions, source_id: str, ask: Ask) -> list[Sample]:
    """Actions, highlights and, of the whole video, the summary."""
    samples = []
    for scene in grounded(captions.within(clip.start_s, clip.end_s), captions, clip, source_id):
        answer = intervals([(scene.start, scene.end)], clip)
        question = GROUNDING_QUESTION.format(text=scene.text)
        samples.append(ask("video.grounding", "temporal_grounding", question, answer, scene.start, scene.end))
    bright = seen(captions.highlights, clip)
    if bright and _share(bright, clip) <= GROUNDED_SHARE_MAX:
        answer = intervals(bright, clip)
        samples.append(ask("video.highlights", "highlights", HIGHLIGHTS_QUESTION, answer, bright[0][0], bright[-1][1]))
    told = captions.summary
    if told and clip.start_s == 0.0 and abs(clip.end_s - film.duration_s) < 1e-6 and _share(told, clip) <= GROUNDED_SHARE_MAX:
        answer = intervals(told, clip)
        samples.append(ask("video.summary", "summarisation", SUMMARY_QUESTION, answer, told[0][0], told[-1][1]))
    return samples


def matching_samples(
    clip: Clip, film: Film, captions: Captions, source_id: str, visual: VisualSpec, ask: Ask, show: Show
) -> list[Sample]:
    """At most one event that happens again, and one shot that is found again."""
    samples = []

    def match(query: Interval, found: Sequence[Interval], question: str) -> None:
        parts = (text("First clip:"), show(glimpse(query, film, visual)), text("Second clip:"), show(clip))
        answer = intervals(found, clip)
        samples.append(ask("video.matching", "event_matching", question, answer, found[0][0], found[-1][1], parts))

    again = repeated_event(clip, captions, source_id)
    if again is not None:
        match(*again, EVENT_QUESTION)
    shot = unlike_shot(clip, film, visual, source_id)
    if shot is not None:
        match(shot, [shot], MATCHING_QUESTION)
    return samples


def intervals(found: Sequence[Interval], clip: Clip) -> str:
    """Intervals of the source as an answer about a clip: JSON, tenths of a second from its start."""
    return json.dumps([[round(start - clip.start_s, 1), round(end - clip.start_s, 1)] for start, end in found])


def grounded(scenes: Sequence[Scene], captions: Captions, clip: Clip, source_id: str) -> list[Scene]:
    """The scenes that a clip can be asked for: shown whole, told once, and short enough that the answer is not the clip."""
    told = [scene.text for scene in captions.scenes]
    uncut = {(scene.start, scene.end) for scene in captions.scenes}
    fitting = [
        scene
        for scene in scenes
        if (scene.start, scene.end) in uncut
        and told.count(scene.text) == 1
        and scene.end - scene.start <= GROUNDED_SHARE_MAX * clip.duration_s
    ]
    chosen = sorted(fitting, key=lambda scene: unit_hash("video.grounding", source_id, clip.start_s, clip.end_s, scene.start))
    return sorted(chosen[:GROUNDED_MAX], key=lambda scene: scene.start)


def seen(found: Sequence[Interval], clip: Clip) -> list[Interval]:
    """The intervals of which a clip shows at least half, cut to it."""
    cut = []
    for start, end in found:
        low, high = max(start, clip.start_s), min(end, clip.end_s)
        if high - low >= SEEN * (end - start):
            cut.append((low, high))
    return cut


def repeated_event(clip: Clip, captions: Captions, source_id: str) -> tuple[Interval, list[Interval]] | None:
    """An event of which one occurrence lies outside the clip and others in it: the one, and the others."""
    choices = []
    for event in sorted({scene.event for scene in captions.scenes if scene.event}):
        all_of_it = [(scene.start, scene.end) for scene in captions.scenes if scene.event == event]
        inside = [(start, end) for start, end in all_of_it if clip.start_s <= start and end <= clip.end_s]
        outside = [(start, end) for start, end in all_of_it if end <= clip.start_s or start >= clip.end_s]
        # An occurrence that the clip cuts through makes every answer questionable.
        if inside and outside and len(inside) + len(outside) == len(all_of_it):
            choices += [(query, inside) for query in outside]
    return min(
        choices, key=lambda choice: unit_hash("video.matching", source_id, clip.start_s, clip.end_s, *choice[0]), default=None
    )


def unlike_shot(clip: Clip, film: Film, visual: VisualSpec, source_id: str) -> Interval | None:
    """A shot inside the clip that looks like nothing else in it, and of which the clip shows two frames or more."""
    if film.cut_error_s > SHOT_ERROR_MAX_S:
        return None
    least, most = MATCHED_S
    times = [point / visual.fps for point in clip.plan.points]
    shots = [
        (start, end)
        for start, end in film.shots
        if clip.start_s <= start
        and end <= clip.end_s
        and least <= end - start <= min(most, MATCHED_SHARE_MAX * clip.duration_s)
        and sum(start <= time < end for time in times) >= 2
    ]
    looks = [(time, value) for time, value in film.looks if clip.start_s <= time < clip.end_s]
    chosen = sorted(shots, key=lambda shot: unit_hash("video.matching", source_id, clip.start_s, clip.end_s, shot[0]))
    for start, end in chosen[:MATCHED_TRIES]:
        inside = [value for time, value in looks if start <= time < end]
        outside = [value for time, value in looks if not start <= time < end]
        if inside and all((one ^ other).bit_count() > UNLIKE_BITS for one in inside for other in outside):
            return start, end
    return None


def glimpse(shot: Interval, film: Film, visual: VisualSpec) -> Clip:
    """A short clip shown in at most `MATCHED_FRAMES` small frames."""
    budget = math.ceil(MATCHED_FRAMES * visual.frame_tokens_min / visual.adaptive_factor(shot[1] - shot[0]))
    plan = visual.frames(shot[0], shot[1], film.height, film.width, budget)
    return Clip(form="glimpse", start_s=shot[0], end_s=shot[1], plan=plan)


def _share(found: Sequence[Interval], clip: Clip) -> float:
    return sum(end - start for start, end in found) / clip.duration_s
