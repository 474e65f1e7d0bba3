"""Videos to samples: captions, dense captions, grounding, shot times and interleaved segments, for every form of the recipe.

Times in questions and answers are seconds of the clip, as the labels before its frames; lineage keeps seconds of the source.
A video without captions still teaches when its shots change; with neither, it is filtered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from manifests.fingerprint import unit_hash
from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.captions import Captions, Scene, read_captions
from pipelines.clips import Clip, plan_clips
from pipelines.decoding import Film, decode
from pipelines.duplicates import Signature
from pipelines.extraction import Extracted, Setting
from pipelines.items import Filtered
from pipelines.pictures import PictureStore

FRAME_TEXT_TOKENS = 14  # a timestamp and the two vision markers, at most
GROUNDED_MAX = 4
GROUNDED_SHARE_MAX = 0.7
CAPTION_QUESTIONS = ("Describe this video.", "What happens in this video?", "Summarise what this video shows.")
DENSE_QUESTION = "Describe this video scene by scene, each with its start and end in seconds{overview}."
GROUNDING_QUESTION = "When does this happen? {text}\nAnswer with intervals [[start, end]] in seconds."
SHOTS_QUESTION = "At which seconds does a new shot begin? Answer with a list of seconds."


def read_video(setting: Setting) -> Extracted:
    """A video and its ``.captions.json``.

    Raises:
        Quarantined: it cannot be decoded to its end, or its captions do not fit it.
        Filtered: it has neither captions nor a cut.
    """
    item, recipe = setting.item, setting.recipe
    store = PictureStore()
    film = decode(setting.path, recipe.visual, recipe.curate.stored_tokens_max, recipe.curate.jpeg_quality, store)
    captions = read_captions(item.attachment(".captions.json"), film.duration_s)
    clips = plan_clips(recipe.curate.video_forms, film.duration_s, film.cuts, film.height, film.width, recipe.visual)
    samples = [sample for clip in clips for sample in clip_samples(clip, film, captions, setting)]
    segments = [clip for clip in clips if clip.form == recipe.curate.video_forms[0].name]
    samples += interleaved(segments, film, captions, setting)
    if not samples:
        raise Filtered("no_caption", "no .captions.json stands beside the video, and it has no cut to ask about")
    return Extracted(
        modality="video",
        samples=samples,
        store=store,
        signature=Signature(
            kind="video",
            looks=tuple(film.looks),
            size=film.width * film.height * film.duration_s,
            described=bool(captions.scenes or captions.overview),
        ),
        annotation=("video", _annotation(film, captions, recipe.visual.fps)),
        annotated_media=tuple(sorted({shown.media_id for shown in film.frames})),
    )


def video_part(clip: Clip, film: Film, source_id: str, zero_s: float | None = None) -> Part:
    """The frames of a clip; labels count from ``zero_s``, or from the clip's start, in seconds."""
    zero = clip.start_s if zero_s is None else zero_s
    visuals = []
    for point in clip.plan.points:
        shown = film.frames[min(point, len(film.frames) - 1)]
        label = max(0.0, round(point / film.fps - zero, 3))
        visuals.append(
            Visual(
                media_id=shown.media_id,
                height=clip.plan.height,
                width=clip.plan.width,
                time_s=shown.time_s,
                label_s=label,
            )
        )
    origin = Origin(source_id=source_id, start_s=clip.start_s, end_s=clip.end_s)
    return Part(kind="video", visuals=tuple(visuals), origin=origin)


def interleaved(segments: Sequence[Clip], film: Film, captions: Captions, setting: Setting) -> list[Sample]:
    """The video as consecutive segments, each followed by its caption, as documents that fill the smallest context.

    A run of captioned segments is broken where a segment has no caption; one segment alone is already `video.caption`.
    """
    item, recipe = setting.item, setting.recipe
    runs: list[list[tuple[Clip, str]]] = [[]]
    costs = [0]
    for clip in segments:
        caption = " ".join(scene.text for scene in captions.within(clip.start_s, clip.end_s))
        if not caption:
            runs.append([])
            costs.append(0)
            continue
        pictures = recipe.visual.tokens(clip.plan.height, clip.plan.width)
        cost = len(clip.plan.points) * (pictures + FRAME_TEXT_TOKENS) + len(setting.tokenizer.encode(caption + "\n"))
        if costs[-1] + cost > recipe.buckets.context_32k - 1:
            runs.append([])
            costs.append(0)
        runs[-1].append((clip, caption))
        costs[-1] += cost
    samples = []
    for run in runs:
        if len(run) < 2:
            continue
        zero, end = run[0][0].start_s, run[-1][0].end_s
        parts: list[Part] = []
        for clip, caption in run:
            parts.append(video_part(clip, film, item.source_id, zero))
            parts.append(text(caption + "\n", Origin(source_id=item.source_id, start_s=clip.start_s, end_s=clip.end_s)))
        samples.append(
            Sample(
                task="video.interleaved",
                capabilities=("captioning", "interleaved"),
                messages=(Message(role="document", parts=tuple(parts)),),
                licence=item.licence,
                duration_s=round(end - zero, 6),
                quality=film.quality,
            )
        )
    return samples


def clip_samples(clip: Clip, film: Film, captions: Captions, setting: Setting) -> list[Sample]:
    """Every question that can be asked of one clip, with its answer."""
    source_id = setting.item.source_id
    shown = video_part(clip, film, source_id)
    whole = clip.start_s == 0.0 and abs(clip.end_s - film.duration_s) < 1e-6

    def ask(task: str, capability: str, question: str, answer: str, start_s: float, end_s: float) -> Sample:
        origin = Origin(source_id=source_id, start_s=start_s, end_s=end_s)
        return Sample(
            task=task,
            capabilities=(capability,),
            messages=(
                Message(role="user", parts=(shown, text(question))),
                Message(role="assistant", parts=(text(answer, origin),)),
            ),
            licence=setting.item.licence,
            duration_s=clip.duration_s,
            quality=film.quality,
        )

    samples = []
    scenes = captions.within(clip.start_s, clip.end_s)
    overview = captions.overview if whole else ""
    caption = overview or " ".join(scene.text for scene in scenes)
    if caption:
        place = int(unit_hash("video.caption", source_id, clip.start_s, clip.end_s) * len(CAPTION_QUESTIONS))
        samples.append(ask("video.caption", "captioning", CAPTION_QUESTIONS[place], caption, clip.start_s, clip.end_s))
    if len(scenes) > 1:
        question = DENSE_QUESTION.format(overview=", then as a whole" if overview else "")
        lines = [f"{scene.start - clip.start_s:.1f}-{scene.end - clip.start_s:.1f} s: {scene.text}" for scene in scenes]
        answer = "\n".join(lines + ([f"As a whole: {overview}"] if overview else []))
        samples.append(ask("video.dense", "dense_captioning", question, answer, clip.start_s, clip.end_s))
    for scene in grounded(scenes, captions, clip, source_id):
        answer = json.dumps([[round(scene.start - clip.start_s, 1), round(scene.end - clip.start_s, 1)]])
        question = GROUNDING_QUESTION.format(text=scene.text)
        samples.append(ask("video.grounding", "temporal_grounding", question, answer, scene.start, scene.end))
    cuts = [round(cut - clip.start_s, 1) for cut in film.cuts if clip.start_s < cut < clip.end_s]
    if cuts:
        samples.append(ask("video.shots", "shot_boundaries", SHOTS_QUESTION, json.dumps(cuts), clip.start_s, clip.end_s))
    return samples


def grounded(scenes: list[Scene], captions: Captions, clip: Clip, source_id: str) -> list[Scene]:
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


def _annotation(film: Film, captions: Captions, fps: float) -> dict[str, Any]:
    return {
        "duration_s": film.duration_s,
        "width": film.width,
        "height": film.height,
        "fps_grid": fps,
        "frames": [[point, shown.media_id] for point, shown in enumerate(film.frames)],
        "shots": [[round(start, 3), round(end, 3)] for start, end in film.shots],
        "scenes": [{"start": scene.start, "end": scene.end, "text": scene.text} for scene in captions.scenes],
        "overview": captions.overview,
        "audio": film.audio,
    }
