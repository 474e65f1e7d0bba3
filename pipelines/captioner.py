"""Captions by a model, for what nobody has described: what is asked of pictures and videos, and what is made of the answers.

A video is asked scene by scene: a shot is a scene, very short shots join their neighbour, long ones are cut into equal pieces.
Its overview is asked last, of the scenes' captions and of frames from all over it, because a few frames alone tell little of
two hours. A request that failed costs its scene; a source of which no request came back is quarantined, not filtered: it was
not found wanting, it was not looked at.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from manifests.curate_spec import CaptionSpec
from manifests.sample import Sample
from pipelines.captions import Captions, Scene
from pipelines.decoding import Film
from pipelines.extraction import Drop, Setting
from pipelines.items import Quarantined
from pipelines.model_work import Answer, Request
from pipelines.sidecars import clean

KIND = "caption"
QUALITY = "caption_by_model"
"""The score of samples whose words a model wrote: 1.0; other samples do not have it."""

SCENE_MIN_S = 2.0
OVERVIEW_CHARACTERS = 24_000
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The questions of one version; ``{scenes}`` stands for the captions of the scenes."""

    picture: str
    scene: str
    overview: str


PROMPTS: dict[int, Prompts] = {
    1: Prompts(
        picture=(
            "Describe this picture in two to five sentences: what is shown, where things stand, and any text that can be read. "
            "Say only what can be seen. Answer with the description alone."
        ),
        scene=(
            "These are frames of one scene of a video, in order, each after its time. Describe in one to four sentences what "
            "happens: who or what is shown, what changes, and any text that can be read. Say only what can be seen, and do not "
            "mention frames or times. Answer with the description alone."
        ),
        overview=(
            "These are frames of a video, in order, each after its time, and these are descriptions of its scenes:\n{scenes}\n"
            "Describe the whole video in two to six sentences: its subject, its course and how it ends. Say only what the "
            "frames and the descriptions support. Answer with the description alone."
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a model told of a video, and what it did not tell."""

    captions: Captions
    drops: tuple[Drop, ...]


def picture_request(spec: CaptionSpec, media_id: str) -> Request:
    """What is asked of a picture."""
    return _request(spec, prompts_of(spec).picture, (media_id,), {})


def picture_caption(setting: Setting, request: Request) -> str:
    """The caption in the answer to `picture_request`.

    Raises:
        Quarantined: there is no answer.
    """
    words, problem = _words(setting.answers[request.request_id])
    if problem is not None:
        raise Quarantined("model", "model_failed", problem, "image")
    return words


def captions_from_answers(setting: Setting, film: Film) -> Told | list[Request]:
    """What a model tells of a video; or what has to be asked first.

    Raises:
        Quarantined: no request about a scene has an answer.
    """
    spec = setting.recipe.curate.captions
    assert spec is not None
    spans = scene_spans(film.shots, spec.scene_max_s)
    asked = [_scene_request(spec, film, start, end) for start, end in spans]
    if not all(request.request_id in setting.answers for request in asked):
        return asked
    scenes: list[Scene] = []
    drops: list[Drop] = []
    for (start, end), request in zip(spans, asked, strict=True):
        words, problem = _words(setting.answers[request.request_id])
        if problem is None:
            scenes.append(Scene(start=start, end=end, text=words))
        else:
            drops.append(_drop(f"the scene at {start:.1f}-{end:.1f} s: {problem}"))
    if not scenes:
        raise Quarantined("model", "model_failed", drops[0].detail, "video")
    if len(spans) == 1:
        return Told(captions=Captions(overview=scenes[0].text, scenes=tuple(scenes)), drops=())
    request = _overview_request(spec, film, scenes)
    if request.request_id not in setting.answers:
        return [request]
    overview, problem = _words(setting.answers[request.request_id])
    if problem is not None:
        drops.append(_drop(f"the overview: {problem}"))
    return Told(captions=Captions(overview=overview, scenes=tuple(scenes)), drops=tuple(drops))


def told_by_model(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, those whose words a model wrote marked so in their quality; where shots begin is seen, not told."""
    return [
        sample if sample.task == "video.shots" else replace(sample, quality={**sample.quality, QUALITY: 1.0})
        for sample in samples
    ]


def scene_spans(shots: Sequence[tuple[float, float]], scene_max_s: float) -> list[tuple[float, float]]:
    """Start and end of every scene, in seconds: shots, none shorter than `SCENE_MIN_S` unless the video is, none longer than
    ``scene_max_s``."""
    joined: list[list[float]] = []
    for start, end in shots:
        if joined and (end - start < SCENE_MIN_S or joined[-1][1] - joined[-1][0] < SCENE_MIN_S):
            joined[-1][1] = end
        else:
            joined.append([start, end])
    spans = []
    for start, end in joined:
        pieces = max(1, -int(-(end - start) // scene_max_s))
        inner = [round(start + (end - start) * piece / pieces, 3) for piece in range(1, pieces)]
        spans += list(itertools.pairwise([start, *inner, end]))
    return spans


def prompts_of(spec: CaptionSpec) -> Prompts:
    """The questions of the recipe's version.

    Raises:
        Quarantined: there is no such version.
    """
    if spec.prompts not in PROMPTS:
        raise Quarantined("model", "model_failed", f"captions.prompts={spec.prompts}: there are {sorted(PROMPTS)}")
    return PROMPTS[spec.prompts]


def frames_between(film: Film, start: float, end: float, count: int) -> list[tuple[float, str]]:
    """At most ``count`` different pictures shown from ``start`` to ``end``, evenly spread, with their seconds on the grid."""
    first = min(int(-(-start * film.fps // 1)), len(film.frames) - 1)
    last = max(first, min(int(-(-end * film.fps // 1)) - 1, len(film.frames) - 1))
    step = max(1.0, (last - first + 1) / count)
    points = [first + int(step * (place + 0.5)) for place in range(count)]
    found: dict[str, float] = {}
    for point in points:
        if point <= last:
            found.setdefault(film.frames[point].media_id, round(point / film.fps, 3))
    if not found:
        found[film.frames[first].media_id] = round(first / film.fps, 3)
    return [(seconds, media_id) for media_id, seconds in found.items()]


def _scene_request(spec: CaptionSpec, film: Film, start: float, end: float) -> Request:
    shown = frames_between(film, start, end, spec.frames_max)
    times = [round(max(0.0, seconds - start), 1) for seconds, _ in shown]
    return _request(spec, prompts_of(spec).scene, tuple(media_id for _, media_id in shown), {"times": times})


def _overview_request(spec: CaptionSpec, film: Film, scenes: Sequence[Scene]) -> Request:
    lines = [f"{scene.start:.1f}-{scene.end:.1f} s: {' '.join(scene.text.split())}" for scene in scenes]
    total = sum(len(line) + 1 for line in lines)
    if total > OVERVIEW_CHARACTERS:
        kept = max(1, len(lines) * OVERVIEW_CHARACTERS // total)
        lines = [lines[place * len(lines) // kept][: 2 * OVERVIEW_CHARACTERS // kept] for place in range(kept)]
    shown = frames_between(film, 0.0, film.duration_s, spec.frames_max)
    times = [round(seconds, 1) for seconds, _ in shown]
    prompt = prompts_of(spec).overview.replace("{scenes}", "\n".join(lines))
    return _request(spec, prompt, tuple(media_id for _, media_id in shown), {"times": times})


def _request(spec: CaptionSpec, prompt: str, media_ids: tuple[str, ...], parameters: dict[str, list[float]]) -> Request:
    limits = {"max_tokens": spec.max_tokens, "pixels_max": spec.pixels_max}
    return Request(kind=KIND, model=spec.model, media_ids=media_ids, prompt=prompt, parameters={**limits, **parameters})


def _words(answer: Answer) -> tuple[str, str | None]:
    """The caption of an answer, or why there is none. What a model thinks aloud is not part of a caption."""
    if answer.error is not None:
        return "", answer.error
    words = clean(_THOUGHT.sub("", str(answer.value)))
    return (words, None) if words else ("", "the answer has no words")


def _drop(detail: str) -> Drop:
    return Drop(task="video.caption", stage="model", reason="model_failed", detail=detail)
