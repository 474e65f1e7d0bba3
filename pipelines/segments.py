"""A video as consecutive segments, each followed by words about it or from it, as documents that fill the smallest context.

`video.interleaved`: after each segment its caption. `video.subtitled`: after each segment the subtitles that fall into it, each
line after its seconds on the labels' clock, then its caption where there is one. A run is broken where a segment has no words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from manifests.recipe import Recipe
from manifests.sample import Message, Origin, Part, Sample, text
from manifests.tokenizer import Tokenizer
from pipelines.captions import Captions
from pipelines.clips import Clip
from pipelines.items import Item
from pipelines.subtitles import Track, transcript

FRAME_TEXT_TOKENS = 14  # a timestamp and the two vision markers, at most

Words = Callable[[Clip, float], str]
"""The words after a segment, for labels that count from the given second; empty when there are none."""


def captions_of(captions: Captions) -> Words:
    """What a person says of a segment."""
    return lambda clip, zero_s: " ".join(scene.text for scene in captions.within(clip.start_s, clip.end_s))


def subtitles_of(track: Track, captions: Captions) -> Words:
    """What is said in a segment, then what a person says of it."""
    caption = captions_of(captions)

    def words(clip: Clip, zero_s: float) -> str:
        said = transcript(track.within(clip.start_s, clip.end_s), zero_s)
        return "\n".join(filter(None, [f"Subtitles:\n{said}" if said else "", caption(clip, zero_s)]))

    return words


def runs(segments: Sequence[Clip], words: Words, recipe: Recipe, tokenizer: Tokenizer) -> list[list[Clip]]:
    """Consecutive segments with words, as many in a run as the smallest context holds."""
    found: list[list[Clip]] = [[]]
    costs = [0]
    for clip in segments:
        after = words(clip, 0.0)
        if not after:
            found.append([])
            costs.append(0)
            continue
        pictures = recipe.visual.tokens(clip.plan.height, clip.plan.width)
        cost = len(clip.plan.points) * (pictures + FRAME_TEXT_TOKENS) + len(tokenizer.encode(after + "\n"))
        if costs[-1] + cost > recipe.buckets.context_32k - 1:
            found.append([])
            costs.append(0)
        found[-1].append(clip)
        costs[-1] += cost
    return [run for run in found if run]


def document(
    task: str,
    capabilities: tuple[str, ...],
    run: Sequence[Clip],
    words: Words,
    show: Callable[[Clip, float], Part],
    item: Item,
    quality: dict[str, float],
) -> Sample:
    """A run of segments as one document; labels count from its first second."""
    zero, end = run[0].start_s, run[-1].end_s
    parts: list[Part] = []
    for clip in run:
        origin = Origin(source_id=item.source_id, start_s=clip.start_s, end_s=clip.end_s)
        parts += [show(clip, zero), text(words(clip, zero) + "\n", origin)]
    return Sample(
        task=task,
        capabilities=capabilities,
        messages=(Message(role="document", parts=tuple(parts)),),
        licence=item.licence,
        duration_s=round(end - zero, 6),
        quality=quality,
    )
