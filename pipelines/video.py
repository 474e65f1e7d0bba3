"""Videos to samples: captions, dense captions, grounding, shot times, segments with words, for every form of the recipe.

Times in questions and answers are seconds of the clip, as the labels before its frames; lineage keeps seconds of the source.
A video without captions still teaches when its shots change or words are spoken in it; with none of these, it is filtered.
"""

from __future__ import annotations

import json
from typing import Any

from manifests.fingerprint import unit_hash
from manifests.sample import Message, Origin, Part, Sample, Visual, text
from pipelines.captioner import Told, captions_from_answers, told_by_model
from pipelines.captions import Captions, Scene, read_captions
from pipelines.clips import Clip, plan_clips
from pipelines.decoding import Film, decode
from pipelines.duplicates import Signature
from pipelines.extraction import Drop, Extracted, Setting
from pipelines.films import key_looks, pack_looks
from pipelines.grounding import SHOT_ERROR_MAX_S, grounded_samples, matching_samples
from pipelines.items import Filtered
from pipelines.model_work import Waiting
from pipelines.segments import captions_of, document, runs, subtitles_of
from pipelines.subtitles import Track, read_beside, transcript

CAPTION_QUESTIONS = ("Describe this video.", "What happens in this video?", "Summarise what this video shows.")
DENSE_QUESTION = "Describe this video scene by scene, each with its start and end in seconds{overview}."
SHOTS_QUESTION = "At which seconds does a new shot begin? Answer with a list of seconds."


def read_video(setting: Setting) -> Extracted | Waiting:
    """A video with its ``.captions.json`` and subtitles.

    Raises:
        Quarantined: it cannot be decoded to its end, or its captions do not fit it.
        Filtered: it has neither captions, nor subtitles, nor a cut.
    """
    item, recipe = setting.item, setting.recipe
    store = setting.store
    film = Film.from_json(setting.state["film"]) if setting.turn else _decoded(setting)
    known = captions = read_captions(item.attachment(".captions.json"), film.duration_s)
    told: Told | None = None
    if item.attachment(".captions.json") is None and recipe.curate.captions is not None:
        asked = captions_from_answers(setting, film)
        if not isinstance(asked, Told):
            return Waiting(requests=asked, state={"film": film.to_json()}, store=store)
        told, captions = asked, asked.captions
    beside, problems = read_beside(item.attached, film.probe.start_s)
    # A file beside a video was put there by somebody who cared; of several tracks one is used, all are noted.
    tracks = [track for track in (*beside, *film.tracks) if track.lines]
    view = View(setting, film, captions, tracks[0] if tracks else None)
    clips = plan_clips(recipe.curate.video_forms, film.duration_s, film.cuts, film.height, film.width, recipe.visual)
    samples = [sample for clip in clips for sample in view.clip_samples(clip)]
    samples += view.documents([clip for clip in clips if clip.form == recipe.curate.video_forms[0].name])
    if told is not None:
        samples = told_by_model(samples)
    if not samples:
        detail = "no .captions.json and no subtitles stand beside the video or in it, and it has no cut to ask about"
        raise Filtered("no_caption", "; ".join([detail, *problems]))
    windows, small = key_looks(film.looks, film.shown_at, store)
    return Extracted(
        modality="video",
        samples=samples,
        store=store,
        signature=Signature(
            kind="video",
            looks=pack_looks(film.looks),
            windows=windows,
            small=small,
            size=film.width * film.height * film.duration_s,
            described=bool(known.scenes or known.overview),
        ),
        # What a model says of a video is not known of it.
        annotation=("video", annotation(film, known, tracks)),
        annotated_media=tuple(sorted({shown.media_id for shown in film.frames})),
        drops=[
            *(Drop(task="video.subtitled", stage="check", reason="bad_subtitles", detail=words) for words in problems),
            *(told.drops if told is not None else ()),
        ],
    )


def _decoded(setting: Setting) -> Film:
    spec = setting.recipe.curate
    return decode(
        setting.path,
        setting.recipe.visual,
        spec.stored_tokens_max,
        spec.jpeg_quality,
        setting.store,
        spec.every_frame_max_s,
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


class View:
    """A film with everything that is known of it, as samples."""

    def __init__(self, setting: Setting, film: Film, captions: Captions, track: Track | None) -> None:
        self.setting, self.film, self.captions, self.track = setting, film, captions, track
        self.source_id = setting.item.source_id

    def show(self, clip: Clip, zero_s: float | None = None) -> Part:
        """The frames of a clip."""
        return video_part(clip, self.film, self.source_id, zero_s)

    def clip_samples(self, clip: Clip) -> list[Sample]:
        """Every question that can be asked of one clip, with its answer."""
        film, captions = self.film, self.captions
        frames = self.show(clip)

        def ask(
            task: str, capability: str, question: str, answer: str, start_s: float, end_s: float, shown: tuple[Part, ...] = ()
        ) -> Sample:
            origin = Origin(source_id=self.source_id, start_s=start_s, end_s=end_s)
            return Sample(
                task=task,
                capabilities=(capability,),
                messages=(
                    Message(role="user", parts=(*(shown or (frames,)), text(question))),
                    Message(role="assistant", parts=(text(answer, origin),)),
                ),
                licence=self.setting.item.licence,
                duration_s=clip.duration_s,
                quality=film.quality,
            )

        samples = []
        scenes = captions.within(clip.start_s, clip.end_s)
        whole = clip.start_s == 0.0 and abs(clip.end_s - film.duration_s) < 1e-6
        overview = captions.overview if whole else ""
        caption = overview or " ".join(scene.text for scene in scenes)
        lines = self.track.within(clip.start_s, clip.end_s) if self.track is not None else []
        if caption:
            place = int(unit_hash("video.caption", self.source_id, clip.start_s, clip.end_s) * len(CAPTION_QUESTIONS))
            question = CAPTION_QUESTIONS[place]
            samples.append(ask("video.caption", "captioning", question, caption, clip.start_s, clip.end_s))
            if lines:
                origin = Origin(source_id=self.source_id, start_s=clip.start_s, end_s=clip.end_s)
                said = text(f"Subtitles:\n{transcript(lines, clip.start_s)}\n", origin)
                parts = (frames, said)
                samples.append(ask("video.subtitled_caption", "captioning", question, caption, clip.start_s, clip.end_s, parts))
        if len(scenes) > 1:
            question = DENSE_QUESTION.format(overview=", then as a whole" if overview else "")
            told = [f"{scene.start - clip.start_s:.1f}-{scene.end - clip.start_s:.1f} s: {scene.text}" for scene in scenes]
            answer = "\n".join(told + ([f"As a whole: {overview}"] if overview else []))
            samples.append(ask("video.dense", "dense_captioning", question, answer, clip.start_s, clip.end_s))
        samples += grounded_samples(clip, film, captions, self.source_id, ask)
        if clip.form != self.setting.recipe.curate.video_forms[0].name:
            samples += matching_samples(clip, film, captions, self.source_id, self.setting.recipe.visual, ask, self.show)
        cuts = [round(cut - clip.start_s, 1) for cut in film.cuts if clip.start_s < cut < clip.end_s]
        if cuts and film.cut_error_s <= SHOT_ERROR_MAX_S:
            samples.append(ask("video.shots", "shot_boundaries", SHOTS_QUESTION, json.dumps(cuts), clip.start_s, clip.end_s))
        return samples

    def documents(self, segments: list[Clip]) -> list[Sample]:
        """The video as consecutive segments with words; of captions, one segment alone is already `video.caption`."""
        recipe, tokenizer, item = self.setting.recipe, self.setting.tokenizer, self.setting.item
        words = captions_of(self.captions)
        samples = [
            document("video.interleaved", ("captioning", "interleaved"), run, words, self.show, item, self.film.quality)
            for run in runs(segments, words, recipe, tokenizer)
            if len(run) > 1
        ]
        if self.track is None:
            return samples
        track, words = self.track, subtitles_of(self.track, self.captions)
        return samples + [
            document("video.subtitled", ("interleaved", "subtitles"), run, words, self.show, item, self.film.quality)
            for run in runs(segments, words, recipe, tokenizer)
            if track.within(run[0].start_s, run[-1].end_s)
        ]


def annotation(film: Film, captions: Captions, tracks: list[Track]) -> dict[str, Any]:
    """What is known for certain, for `manifests.schemas.ANNOTATIONS`; shots only when they are known to `SHOT_ERROR_MAX_S`."""
    shots = film.shots if film.cut_error_s <= SHOT_ERROR_MAX_S else []
    used = tracks[0].lines if tracks else ()
    return {
        "duration_s": film.duration_s,
        "width": film.width,
        "height": film.height,
        "fps_grid": film.fps,
        "frames": [[point, shown.media_id] for point, shown in enumerate(film.frames)],
        "shots": [[round(start, 3), round(end, 3)] for start, end in shots],
        "cut_error_s": film.cut_error_s,
        "scenes": [_scene(scene) for scene in captions.scenes],
        "overview": captions.overview,
        "highlights": [list(interval) for interval in captions.highlights],
        "summary": [list(interval) for interval in captions.summary],
        "audio": film.audio,
        "subtitles": [{"start": line.start, "end": line.end, "text": line.text} for line in used],
        "subtitle_tracks": [{"where": t.where, "language": t.language, "lines": len(t.lines)} for t in tracks],
        "probe": film.probe.to_json(),
    }


def _scene(scene: Scene) -> dict[str, Any]:
    return {"start": scene.start, "end": scene.end, "text": scene.text, **({"event": scene.event} if scene.event else {})}
