"""Where each claim of a sample can be checked: the stored picture (by hash), the moment or box, and what decoded it.

One entry for each piece of evidence. Of a video: the interval in seconds of the source, the frames shown inside it, the rate of
the grid and the decoder. Of a picture: its hash and the box in its pixels. Of a document: the page.
"""

from __future__ import annotations

from typing import Any

from manifests.sample import Part
from synth_cot.known import Clip, Known, Subject
from synth_cot.question import Question


def claims(question: Question, subject: Subject, known: Known, parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """The provenance of everything that the truth stands on, in the order of the evidence."""
    visuals = [visual for part in parts for visual in part.visuals]
    if isinstance(subject, Clip):
        return [
            {
                "start_s": start,
                "end_s": end,
                "media": [v.media_id for v in visuals if v.time_s is not None and start <= v.time_s < end],
                "fps": subject.fps,
                "decoder": decoder(known.payload),
            }
            for start, end in question.evidence.intervals
        ]
    if question.evidence.boxes:
        return [{"media": [v.media_id for v in visuals], "box": list(box)} for box in question.evidence.boxes]
    return [{"media": [v.media_id for v in visuals], "page": page} for page in question.evidence.pages] or [
        {"media": [v.media_id]} for v in visuals
    ]


def decoder(payload: dict[str, Any]) -> str:
    """What made frames of a source: its codec and container as curation found them, or the maker of a drawn film."""
    probe = payload.get("probe")
    if probe is None:
        return str(payload.get("maker", "unknown"))
    return f"{probe['codec']} in {probe['container']}, {probe['decoded']} frame decoded"
