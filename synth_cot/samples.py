"""From a verified answer to the rows of a sample: messages with pictures, token costs, buckets, lineage.

A screen is read at the size the recipe gives an image of its stored pixels; a clip at the frames and size of its video form's
plan, its frames labelled from the start of the clip; a paper as the text of its pages, each with its number. Pictures are
those curation stored: nothing is written to the shards here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from manifests.recipe import Recipe
from manifests.rendering import IGNORED, Rendered, render
from manifests.sample import Message, Origin, Part, Reasoning, Sample, Visual, messages_to_rows, text
from manifests.tokenizer import load_tokenizer
from synth_cot.known import Clip, Grid, Pair, Paper, Picture, Problem, Query, Screen, Source, Subject
from synth_cot.question import Question
from synth_cot.questions.moments import shown_points
from synth_cot.tasks import capabilities, modality

StoredSizes = dict[str, tuple[int, int]]
"""Height and width in pixels of every stored picture."""


class Unshowable(Exception):  # noqa: N818 - it is a verdict on a subject, not a defect
    """A subject cannot be shown to the model, and why."""

    def __init__(self, *, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def shown(subject: Subject, source: Source, question: Question, recipe: Recipe, stored: StoredSizes) -> tuple[Part, ...]:
    """The parts that the model sees before the question; none for a problem.

    Raises:
        Unshowable: a picture is not stored, or the clip fits no video form.
    """
    if isinstance(subject, Screen):
        whole = (0.0, 0.0, float(subject.width), float(subject.height))
        return (_image(subject.media_id, Origin(source_id=source.source_id, box=whole), recipe, stored),)
    if isinstance(subject, Picture | Pair):
        pictures = (subject,) if isinstance(subject, Picture) else (subject.before, subject.after)
        return tuple(
            _image(
                one.media_id,
                Origin(source_id=source.source_id, box=(0.0, 0.0, float(one.width), float(one.height))),
                recipe,
                stored,
            )
            for one in pictures
        )
    if isinstance(subject, Grid):
        origin = Origin(source_id=source.source_id, page=subject.page, box=subject.area)
        return (_image(subject.media_id, origin, recipe, stored),)
    if isinstance(subject, Query):
        return tuple(_image(one, Origin(source_id=source.source_id), recipe, stored) for one in subject.media_ids)
    if isinstance(subject, Clip):
        return (_video(subject, source, recipe, stored),)
    if isinstance(subject, Paper):
        return tuple(
            text(f"[Page {page.number}]\n{page.text}\n\n", Origin(source_id=source.source_id, page=page.number))
            for page in subject.pages
            if str(page.number) in question.ask.ids
        )
    return ()


def _image(media_id: str, origin: Origin, recipe: Recipe, stored: StoredSizes) -> Part:
    if media_id not in stored:
        raise Unshowable(reason="no_picture", detail=f"picture {media_id} is not in the media table")
    height, width = recipe.visual.image_size(*stored[media_id])
    return Part(kind="image", visuals=(Visual(media_id=media_id, height=height, width=width),), origin=origin)


def _video(clip: Clip, source: Source, recipe: Recipe, stored: StoredSizes) -> Part:
    if clip.fps != recipe.visual.fps:
        raise Unshowable(reason="other_grid", detail=f"frames lie on {clip.fps} fps, the recipe wants {recipe.visual.fps}")
    plan = recipe.visual.frames(clip.start_s, clip.end_s, clip.height, clip.width, clip.form.visual_budget)
    points = [point for point in shown_points(clip, recipe.visual) if clip.frames[point] in stored]
    if len(points) < 2:
        raise Unshowable(reason="no_frames", detail=f"{len(points)} of the {len(plan.points)} planned frames are stored")
    visuals = tuple(
        Visual(
            media_id=clip.frames[point],
            height=plan.height,
            width=plan.width,
            time_s=round(point / clip.fps, 6),
            label_s=round(point / clip.fps - clip.start_s, 3),
        )
        for point in points
    )
    return Part(
        kind="video", visuals=visuals, origin=Origin(source_id=source.source_id, start_s=clip.start_s, end_s=clip.end_s)
    )


def unseen(subject: Subject, question: Question, parts: tuple[Part, ...]) -> str | None:
    """What part of a question's evidence none of the shown frames shows, or None."""
    if not isinstance(subject, Clip):
        return None
    times = [visual.time_s or 0.0 for part in parts for visual in part.visuals]
    for start, end in question.evidence.intervals:
        if not any(start <= time < end for time in times):
            return f"no frame that the sample shows lies in {start}-{end} s"
    if subject.presences and len(times) < len(subject.frames):
        return f"{len(times)} of the {len(subject.frames)} frames are shown: when a thing comes or goes cannot be seen"
    return None


def make(
    question: Question,
    subject: Subject,
    source: Source,
    parts: tuple[Part, ...],
    reply: str,
    reasoning: Reasoning,
    quality: dict[str, float],
) -> Sample:
    """The sample of a verified answer."""
    mine = source.source_id
    boxes, intervals, pages = question.evidence.boxes, question.evidence.intervals, question.evidence.pages
    # A span has one place: the hull of the boxes or intervals. Each of them stands in the evidence of the sample.
    box = (
        (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
        if boxes
        else None
    )
    origin = Origin(
        source_id=mine,
        start_s=min((start for start, _ in intervals), default=None),
        end_s=max((end for _, end in intervals), default=None),
        page=pages[0] if pages else None,
        box=box,
    )
    # A problem's text comes from its source; a question about a picture is this project's own words.
    asked = text(question.prompt, Origin(source_id=mine) if isinstance(subject, Problem | Query) else None)
    return Sample(
        task=question.ask.task,
        capabilities=capabilities(question.ask.task, subject),
        messages=(Message(role="user", parts=(*parts, asked)), Message(role="assistant", parts=(text(reply, origin),))),
        licence=source.licence,
        duration_s=round(subject.end_s - subject.start_s, 6) if isinstance(subject, Clip) else None,
        quality=quality,
        reasoning=reasoning,
    )


def rendered(sample: Sample, recipe: Recipe) -> Rendered:
    """A sample as the tokens the trainer makes."""
    return render(sample.messages, load_tokenizer(recipe.tokenizer), recipe.visual)


def sample_row(
    sample: Sample, tokens: Rendered, source: Source, subject: Subject, bucket: str, recipe: Recipe, fingerprint: str
) -> dict[str, Any]:
    """The row of `manifests.schemas.SAMPLES`; ``bucket`` is its context bucket."""
    assert sample.reasoning is not None
    return {
        "sample_id": sample.sample_id,
        "origin": "synthesize",
        "task": sample.task,
        "capabilities": list(sample.capabilities),
        "modality": modality(subject),
        "split": source.split,
        "source_ids": list(sample.source_ids),
        "messages": messages_to_rows(sample.messages),
        "text_tokens": tokens.cost.text,
        "visual_tokens": tokens.cost.visual,
        "total_tokens": tokens.cost.total,
        "learned_tokens": int(np.count_nonzero(tokens.labels != IGNORED)),
        "context_bucket": bucket,
        "duration_bucket": recipe.buckets.duration(sample.duration_s),
        "duration_s": sample.duration_s,
        "quality": sorted((name, round(value, 4)) for name, value in sample.quality.items()),
        "duplicate_cluster": source.duplicate_cluster,
        "licence": sample.licence,
        "reasoning": vars(sample.reasoning),
        "fingerprint": fingerprint,
    }


def lineage_rows(sample: Sample, tokens: Rendered) -> list[dict[str, Any]]:
    """One row of `manifests.schemas.LINEAGE` for each part and each frame."""
    rows, sample_id = [], sample.sample_id
    for span in tokens.spans:
        part = sample.messages[span.message].parts[span.part]
        visual = part.visuals[span.frame or 0] if part.visuals else None
        origin = part.origin
        # A frame shows one moment; the part it belongs to spans the clip.
        moment = visual.time_s if visual is not None and span.frame is not None else None
        rows.append(
            {
                "sample_id": sample_id,
                "message": span.message,
                "part": span.part,
                "frame": span.frame,
                "token_start": span.start,
                "token_end": span.end,
                "source_id": None if origin is None else origin.source_id,
                "start_s": moment if moment is not None else origin.start_s if origin else None,
                "end_s": moment if moment is not None else origin.end_s if origin else None,
                "page": None if origin is None else origin.page,
                "box": None if origin is None or origin.box is None else list(origin.box),
                "media_id": None if visual is None else visual.media_id,
            }
        )
    return rows
