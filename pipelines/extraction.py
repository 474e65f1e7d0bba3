"""One item to its samples, pictures and known truth: which reader reads it, and what everything costs. Knows nothing of Beam.

Every sample is rendered once, as the trainer will render it: the counts of its row, its buckets and its lineage come from
that one rendering. A sample that no bucket holds is dropped here, with its reason.

A reader is a function of item, recipe and answers: one that needs a model returns `Waiting` and is called again with what was
answered (`pipelines.model_work`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manifests import schemas
from manifests.fingerprint import canonical_json, code_fingerprint, value_id
from manifests.recipe import Recipe
from manifests.rendering import Rendered, render
from manifests.sample import Sample, messages_to_rows
from manifests.tokenizer import Tokenizer, load_tokenizer
from pipelines.duplicates import Signature
from pipelines.items import Filtered, Item, Quarantined
from pipelines.model_work import ROUNDS, Answer, Waiting
from pipelines.pictures import PictureStore
from pipelines.sifting import sift, sifted_before, sifting_identity
from pipelines.sniffing import SNIFFED_BYTES, kind_of
from pipelines.trees import ROLE as TREE

CODE = ("manifests", "pipelines")
_MODALITY_OF_KIND = {
    "video": "video",
    "image": "image",
    "pdf": "document",
    "scans": "document",
    "html": "document",
    "office": "document",
    "epub": "document",
    "text": "text",
    "tree": "text",
    "screens": "gui",
    "interleaved": "image",
    "questions": "text",
    "pasting": "image",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every reader is given: the item, the recipe, the tokenizer; and on a further call what it left and asked for.

    Attributes:
        turn: how often the reader has waited: 0 on the first call.
        state: what it left in `Waiting`; None on the first call.
        store: its pictures; empty on the first call.
        answers: by id of the request, all that it ever asked.
    """

    item: Item
    recipe: Recipe
    tokenizer: Tokenizer
    turn: int = 0
    state: Any = None
    store: PictureStore = field(default_factory=PictureStore)
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The item's own file."""
        return Path(self.item.path)


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A sample that was not made or not kept, and why."""

    task: str
    stage: str
    reason: str
    detail: str
    sample_id: str | None = None


@dataclass(kw_only=True)
class Extracted:
    """What a reader makes of an item.

    Attributes:
        modality: of the source: video, document, image, gui, trace or text.
        annotation: kind and payload of the known truth, for `manifests.schemas.ANNOTATIONS`.
        signature: how it is compared with other sources.
    """

    modality: str
    samples: list[Sample]
    store: PictureStore
    signature: Signature
    annotation: tuple[str, dict[str, Any]] | None = None
    annotated_media: tuple[str, ...] = ()
    drops: list[Drop] = field(default_factory=list)


@dataclass(kw_only=True)
class Outcome:
    """How an item ended, as rows. ``store`` holds the pictures named in ``media_ids``; the annotation is kind and JSON;
    ``work`` is what models did for it, by kind of request."""

    status: str
    modality: str
    samples: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    quarantine: dict[str, Any] | None = None
    annotation: tuple[str, str] | None = None
    signature: Signature | None = None
    media_ids: list[str] = field(default_factory=list)
    store: PictureStore | None = None
    work: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a reader is given on a further call; see `Setting`."""

    turn: int
    state: Any
    store: PictureStore
    answers: Mapping[str, Answer]


def item_recipe(recipe: Recipe) -> dict[str, Any]:
    """The parts of a recipe on which the result of a single item depends."""
    spec = recipe.curate
    return {
        "costs": recipe.cost_fingerprint,
        "tokenizer": load_tokenizer(recipe.tokenizer).fingerprint,
        "video_forms": spec.video_forms,
        "text_tokens_min": spec.text_tokens_min,
        "jpeg_quality": spec.jpeg_quality,
        "stored_tokens_max": spec.stored_tokens_max,
        "pasted_per_screen": spec.pasted_per_screen,
        "item_bytes_max": spec.item_bytes_max,
        "item_time_limit_s": spec.item_time_limit_s,
        "item_memory_max": spec.item_memory_max,
        "captions": None if spec.captions is None else spec.captions.words_depend_on,
        "every_frame_max_s": spec.every_frame_max_s,
        "documents": spec.documents,
        "quality": sifting_identity(spec.quality),
    }


def extract(item: Item, recipe: Recipe, answered: Answered | None = None) -> Outcome | Waiting:
    """Reads one item. Whatever is wrong with it becomes its outcome; nothing escapes but a defect of memory or machine.

    Args:
        answered: set when the item waited and its requests have answers.
    """
    result = _extract(item, recipe, answered)
    if isinstance(result, Outcome) and answered is not None:
        result.work = model_figures(answered.answers)
    return result


def _extract(item: Item, recipe: Recipe, answered: Answered | None) -> Outcome | Waiting:
    modality = "unknown"
    try:
        if item.problem is not None and item.problem.stage == "filter":
            raise Filtered(item.problem.reason, item.problem.detail)
        if item.problem is not None:
            raise Quarantined(item.problem.stage, item.problem.reason, item.problem.detail)
        kind = _kind(item, recipe)
        modality = _MODALITY_OF_KIND.get(kind, kind)
        setting = Setting(item=item, recipe=recipe, tokenizer=load_tokenizer(recipe.tokenizer))
        if answered is not None:
            setting = replace(setting, turn=answered.turn, state=answered.state, store=answered.store, answers=answered.answers)
        extracted = sifted_before(setting.state) or _read(kind, setting)
        if isinstance(extracted, Extracted):
            extracted = sift(extracted, setting)
        if isinstance(extracted, Waiting):
            if setting.turn >= ROUNDS:
                raise Quarantined("extract", "error", f"its reader asked models more than {ROUNDS} times")
            return extracted
        outcome = outcome_of(extracted, item, recipe)
        _prove(outcome)
        return outcome
    except Quarantined as problem:
        return quarantined(item, problem, problem.modality or modality)
    except Filtered as problem:
        row = _dropped_row(item, Drop(task="", stage="filter", reason=problem.reason, detail=problem.detail))
        return Outcome(status="filtered", modality=modality, dropped=[{**row, "task": None}])
    except Exception as error:
        words = f"{type(error).__name__}: {error}".replace(item.path, item.source).splitlines()[0]
        detail = words.encode("utf-8", "backslashreplace").decode("utf-8")[:300]
        return quarantined(item, Quarantined("extract", "error", detail), modality)


def model_figures(answers: Mapping[str, Answer]) -> dict[str, dict[str, int]]:
    """By kind of request: how many there were, how many failed, how many of those may be asked again, and what they cost."""
    figures: dict[str, dict[str, int]] = {}
    for _, answer in sorted(answers.items()):
        figure = figures.setdefault(answer.kind, {"requests": 0, "failed": 0, "again": 0})
        figure["requests"] += 1
        figure["failed"] += answer.error is not None
        figure["again"] += answer.again
        for name, amount in answer.usage.items():
            figure[name] = figure.get(name, 0) + amount
    return figures


def _prove(outcome: Outcome) -> None:
    """Rows that do not fit their table are this item's problem, here; later they would be everybody's."""
    for table, rows in (("samples", outcome.samples), ("lineage", outcome.lineage), ("dropped", outcome.dropped)):
        pa.Table.from_pylist(rows, schema=schemas.TABLES[table])


def quarantined(item: Item, problem: Quarantined, modality: str = "unknown") -> Outcome:
    """The outcome of an item that is not what it should be."""
    row = {
        "source": item.source,
        "source_id": None if item.sha256 is None else item.source_id,
        "stage": problem.stage,
        "reason": problem.reason,
        "detail": problem.detail,
    }
    return Outcome(status="quarantined", modality=problem.modality or modality, quarantine=row)


def _kind(item: Item, recipe: Recipe) -> str:
    if item.bytes > recipe.curate.item_bytes_max:
        detail = f"{item.bytes:,} bytes are more than curate.item_bytes_max={recipe.curate.item_bytes_max:,}"
        raise Quarantined("limit", "too_large", detail)
    if any(file.role.startswith(TREE) for file in item.attached):
        return "tree"
    with Path(item.path).open("rb") as stream:
        head = stream.read(SNIFFED_BYTES)
    kind = kind_of(Path(item.path).name, head)
    return special_kind(kind, item) or kind


def special_kind(kind: str, item: Item) -> str | None:
    """What a picture or a text is when its name, its form or its attached files make it more than that."""
    from pipelines.forms import HEAD_BYTES, json_form
    from pipelines.interleaved_forms import ROLE as SHOWN
    from pipelines.scans import is_scans
    from pipelines.screen_sources import describes_screen

    if kind == "image":
        if is_scans(item):
            return "scans"
        return "gui" if describes_screen(item) else None
    if kind != "text":
        return None
    if Path(item.path).name == "trace.json":
        return "trace"
    with Path(item.path).open("rb") as stream:
        form = json_form(item.path, stream.read(HEAD_BYTES))
    if form is None and any(attached.role.startswith(SHOWN) for attached in item.attached):
        return "interleaved"
    return form


def _read(kind: str, setting: Setting) -> Extracted | Waiting:
    """Calls the reader of a kind; each is imported when it is needed."""
    match kind:
        case "video":
            from pipelines.video import read_video

            return read_video(setting)
        case "image":
            from pipelines.images import read_image

            return read_image(setting)
        case "gui":
            from pipelines.gui import read_screenshot

            return read_screenshot(setting)
        case "trace":
            from pipelines.traces import read_trace

            return read_trace(setting)
        case "screens":
            from pipelines.screen_sets import read_screen_set

            return read_screen_set(setting)
        case "interleaved":
            from pipelines.interleaved import read_interleaved

            return read_interleaved(setting)
        case "questions":
            from pipelines.question_answers import read_questions

            return read_questions(setting)
        case "pasting":
            from pipelines.pasting_folder import read_pasting

            return read_pasting(setting)
        case "scans":
            from pipelines.scans import read_scans

            return read_scans(setting)
        case "pdf":
            from pipelines.pdf import read_pdf

            return read_pdf(setting)
        case "html":
            from pipelines.html import read_html

            return read_html(setting)
        case "office":
            from pipelines.office import read_office

            return read_office(setting)
        case "epub":
            from pipelines.epub import read_epub

            return read_epub(setting)
        case "tree":
            from pipelines.source_tree import read_tree

            return read_tree(setting)
        case _:
            from pipelines.plain_text import read_text

            return read_text(setting)


def outcome_of(extracted: Extracted, item: Item, recipe: Recipe) -> Outcome:
    """Rows of everything that a bucket holds.

    Raises:
        Filtered: there is nothing at all.
    """
    tokenizer = load_tokenizer(recipe.tokenizer)
    fingerprint = value_id({"code": code_fingerprint(*CODE), "recipe": item_recipe(recipe)})
    outcome = Outcome(status="used", modality=extracted.modality, signature=extracted.signature, store=extracted.store)
    drops = list(extracted.drops)
    shown: set[str] = set(extracted.annotated_media)
    seen: set[str] = set()
    for sample in extracted.samples:
        sample_id = sample.sample_id
        if sample_id in seen:
            detail = f"the source already gave {sample_id}: the same frames and words"
            drops.append(
                Drop(task=sample.task, stage="duplicates", reason="exact_duplicate", detail=detail, sample_id=sample_id)
            )
            continue
        seen.add(sample_id)
        rendered = render(sample.messages, tokenizer, recipe.visual)
        context, duration = recipe.buckets.context(rendered.cost.total), recipe.buckets.duration(sample.duration_s)
        if context is None:
            detail = f"{rendered.cost.total:,} tokens are more than the largest bucket, {recipe.buckets.context_256k:,}"
            drops.append(Drop(task=sample.task, stage="bucket", reason="over_context", detail=detail, sample_id=sample_id))
            continue
        if sample.duration_s is not None and duration is None:
            detail = f"{sample.duration_s:.1f} s are more than the largest bucket, {recipe.buckets.duration_2h:g} s"
            drops.append(Drop(task=sample.task, stage="bucket", reason="over_duration", detail=detail, sample_id=sample_id))
            continue
        shown.update(visual.media_id for visual in sample.visuals)
        outcome.samples.append(_sample_row(sample, rendered, context, duration, extracted.modality, fingerprint))
        outcome.lineage += _lineage_rows(sample, rendered)
    outcome.dropped = [_dropped_row(item, drop) for drop in drops]
    if not outcome.samples:
        if not drops:
            raise Filtered("no_sample", "nothing in it can be asked or learned under this recipe")
        return Outcome(status="filtered", modality=extracted.modality, dropped=outcome.dropped)
    if extracted.annotation is not None:
        kind, payload = extracted.annotation
        outcome.annotation = (kind, canonical_json(payload).encode("utf-8", "replace").decode("utf-8"))
    outcome.media_ids = sorted(shown)
    return outcome


def _sample_row(
    sample: Sample, rendered: Rendered, context: str, duration: str | None, modality: str, fingerprint: str
) -> dict[str, Any]:
    """A row of `manifests.schemas.SAMPLES`, but for split and cluster, which are known when all items are."""
    return {
        "sample_id": sample.sample_id,
        "origin": "curate",
        "task": sample.task,
        "capabilities": list(sample.capabilities),
        "modality": "gui" if modality == "trace" else modality,
        "split": "",
        "source_ids": list(sample.source_ids),
        "messages": messages_to_rows(sample.messages),
        "text_tokens": rendered.cost.text,
        "visual_tokens": rendered.cost.visual,
        "total_tokens": rendered.cost.total,
        "learned_tokens": int(np.count_nonzero(rendered.labels != -100)),
        "context_bucket": context,
        "duration_bucket": duration,
        "duration_s": sample.duration_s,
        "quality": [(name, round(float(score), 4)) for name, score in sorted(sample.quality.items())],
        "duplicate_cluster": "",
        "licence": sample.licence,
        "reasoning": None,
        "fingerprint": fingerprint,
    }


def _lineage_rows(sample: Sample, rendered: Rendered) -> list[dict[str, Any]]:
    rows = []
    sample_id = sample.sample_id
    for span in rendered.spans:
        part = sample.messages[span.message].parts[span.part]
        origin = part.origin
        row: dict[str, Any] = {
            "sample_id": sample_id,
            "message": span.message,
            "part": span.part,
            "frame": span.frame,
            "token_start": span.start,
            "token_end": span.end,
            "source_id": None if origin is None else origin.source_id,
            "start_s": None if origin is None else origin.start_s,
            "end_s": None if origin is None else origin.end_s,
            "page": None if origin is None else origin.page,
            "box": None if origin is None or origin.box is None else list(origin.box),
            "media_id": part.visuals[span.frame or 0].media_id if part.visuals else None,
        }
        if span.frame is not None:
            row["start_s"] = row["end_s"] = part.visuals[span.frame].time_s
        rows.append(row)
    return rows


def _dropped_row(item: Item, drop: Drop) -> dict[str, Any]:
    return {
        "source": item.source,
        "source_id": item.source_id,
        "sample_id": drop.sample_id,
        "task": drop.task,
        "stage": drop.stage,
        "reason": drop.reason,
        "detail": drop.detail,
    }
