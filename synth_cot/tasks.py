"""What is known of a task besides its questions: what it teaches, and of which modality its samples are."""

from __future__ import annotations

from synth_cot.known import Clip, Grid, Pair, Paper, Picture, Problem, Query, Screen, Subject
from synth_cot.stem.generators import GENERATORS

CAPABILITIES = {
    "reason.document.mentions": ("document", "retrieval"),
    "reason.document.order": ("document", "ordering", "retrieval"),
    "reason.document.page": ("document", "retrieval"),
    "reason.film.count": ("counting", "reasoning", "video"),
    "reason.film.intervals": ("reasoning", "temporal_grounding", "video"),
    "reason.film.longest": ("arithmetic", "reasoning", "temporal", "video"),
    "reason.film.meet": ("reasoning", "temporal", "video"),
    "reason.film.order": ("ordering", "reasoning", "temporal", "video"),
    "reason.film.sequence": ("ordering", "reasoning", "temporal", "video"),
    "reason.film.together": ("reasoning", "temporal_grounding", "video"),
    "reason.film.visible": ("counting", "reasoning", "temporal", "video"),
    "reason.gui.compare": ("gui", "reasoning", "spatial"),
    "reason.gui.count": ("counting", "gui", "reasoning"),
    "reason.gui.locate": ("grounding", "gui"),
    "reason.gui.order": ("gui", "ordering", "spatial"),
    "reason.gui.read": ("gui", "ocr"),
    "reason.image.count": ("counting", "image", "reasoning"),
    "reason.image.difference": ("arithmetic", "counting", "image", "reasoning"),
    "reason.image.locate": ("grounding", "image"),
    "reason.image.relation": ("image", "reasoning", "spatial"),
    "reason.pair.count": ("comparison", "counting", "image", "reasoning"),
    "reason.pair.kind": ("comparison", "image", "reasoning"),
    "reason.pair.locate": ("comparison", "grounding", "image", "reasoning"),
    "reason.table.cell": ("ocr", "table"),
    "reason.table.most": ("ocr", "reasoning", "table"),
    "reason.table.sum": ("arithmetic", "ocr", "reasoning", "table"),
    "reason.video.at": ("reasoning", "temporal", "video"),
    "reason.video.count": ("counting", "reasoning", "video"),
    "reason.video.duration": ("reasoning", "temporal", "video"),
    "reason.video.interval": ("reasoning", "temporal_grounding", "video"),
    "reason.video.next": ("ordering", "reasoning", "temporal", "video"),
    "reason.video.order": ("ordering", "reasoning", "video"),
}


def capabilities(task: str, subject: Subject) -> tuple[str, ...]:
    """What a sample of a task teaches, sorted."""
    if isinstance(subject, Problem):
        return tuple(sorted(("reasoning", "stem", GENERATORS[subject.generator].capability)))
    return CAPABILITIES.get(task, ("question_answering", "reasoning"))


def modality(subject: Subject) -> str:
    """The modality of a sample about a subject."""
    if isinstance(subject, Grid):
        return "image" if subject.drawn else "document"
    if isinstance(subject, Query):
        return "image" if subject.media_ids else "text"
    return {Screen: "gui", Clip: "video", Paper: "document", Problem: "text", Picture: "image", Pair: "image"}[type(subject)]
