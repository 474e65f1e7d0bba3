"""Every filter over what a reader made of an item, in one place: each returns keep or a reason, and reasons are written down.

Scores, text rules, language and the user's hooks first, because they are cheap; then the list of benchmarks; then CLIP, which
waits for a model. What waits is kept with the item's pictures, so the reader is not called again.

A source of which a hook or the list of benchmarks refused anything gives no known truth: questions would be made of it.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import pickle
from typing import TYPE_CHECKING, Any

from PIL import Image

from manifests.benchmarks import benchmark_identity
from manifests.curate_spec import QualitySpec
from manifests.sample import Sample
from pipelines.clip_score import clip_requests, clip_score, judge_clip, model_name, source_embedding
from pipelines.decontamination import Decontamination
from pipelines.hooks import hook_identity, load_hook
from pipelines.items import Quarantined
from pipelines.language import judge_language
from pipelines.model_work import Waiting
from pipelines.pictures import PictureStore
from pipelines.quality import Refusal, judge_scores
from pipelines.text_quality import judge_text

if TYPE_CHECKING:
    from pipelines.extraction import Extracted, Setting

_STATE = "sifted"
UNTOLD = ("hook", "benchmark")


def sifting_identity(spec: QualitySpec) -> dict[str, Any]:
    """What the filters of a recipe depend on, for the fingerprint of an item's result."""
    value = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    del value["semantic_similarity"]  # the verdict's
    return {
        **value,
        "clip_model": model_name(spec.clip_model) if spec.clip_model else "",
        "hooks": [hook_identity(name) for name in spec.hooks],
        "benchmarks": benchmark_identity(spec.benchmarks),
    }


def sifted_before(state: Any) -> Extracted | None:
    """What was sifted when the item began to wait for CLIP; None for the state of a reader."""
    if not isinstance(state, dict) or _STATE not in state:
        return None
    found: Extracted = pickle.loads(base64.b64decode(state[_STATE]))  # written below, on the corpus's own disk
    return found


def sift(extracted: Extracted, setting: Setting) -> Extracted | Waiting:
    """What remains of an item, with its refused samples among ``drops``; or what CLIP has to be asked."""
    spec = setting.recipe.curate.quality
    waited = sifted_before(setting.state) is not None
    if not waited:
        extracted = _judged(extracted, spec)
    if not spec.clip_model:
        return extracted
    source = extracted.signature.kind in ("image", "video")
    requests = clip_requests(extracted.samples, spec, source=source)
    if requests and not waited:
        # Pictures wait beside the state; an empty shell of a store stands for them in it.
        bare = dataclasses.replace(extracted, store=PictureStore.__new__(PictureStore))
        state = base64.b64encode(pickle.dumps(bare, protocol=5)).decode("ascii")
        return Waiting(requests=requests, state={_STATE: state}, store=extracted.store)
    return _scored(extracted, setting, source=source)


def _judged(extracted: Extracted, spec: QualitySpec) -> Extracted:
    clean = Decontamination(spec, extracted.store)
    kept, refused = [], []
    for sample in extracted.samples:
        scores, unwanted = judge_language(sample, spec)
        refusal = (
            judge_scores(sample, spec)
            or judge_text(sample, spec)
            or unwanted
            or _judge_hooks(sample, spec, extracted.store)
            or clean.judge(sample)
        )
        if refusal is None:
            kept.append(dataclasses.replace(sample, quality={**sample.quality, **scores}) if scores else sample)
        else:
            refused.append((sample, refusal))
    return _without(extracted, kept, refused)


def _scored(extracted: Extracted, setting: Setting, *, source: bool) -> Extracted:
    spec, answers = setting.recipe.curate.quality, setting.answers
    kept, refused = [], []
    for sample in extracted.samples:
        score = clip_score(sample, spec, answers)
        refusal = judge_clip(score, spec)
        if refusal is not None:
            refused.append((sample, refusal))
        else:
            scores = {} if score is None else {"clip_score": score}
            kept.append(dataclasses.replace(sample, quality={**sample.quality, **scores}))
    embedding = source_embedding(extracted.samples, spec, answers) if source else b""
    signature = dataclasses.replace(extracted.signature, embedding=embedding)
    return _without(dataclasses.replace(extracted, signature=signature, store=setting.store), kept, refused)


def _without(extracted: Extracted, kept: list[Sample], refused: list[tuple[Sample, Refusal]]) -> Extracted:
    from pipelines.extraction import Drop

    drops = [
        Drop(task=sample.task, stage=refusal.stage, reason=refusal.reason, detail=refusal.detail, sample_id=sample.sample_id)
        for sample, refusal in refused
    ]
    untold = any(refusal.stage in UNTOLD for _, refusal in refused)
    truth = {"annotation": None, "annotated_media": ()} if untold else {}
    return dataclasses.replace(extracted, samples=kept, drops=[*extracted.drops, *drops], **truth)  # type: ignore[arg-type]


def _judge_hooks(sample: Sample, spec: QualitySpec, store: PictureStore) -> Refusal | None:
    def pictures() -> list[Image.Image]:
        ids = dict.fromkeys(visual.media_id for visual in sample.visuals)
        return [Image.open(io.BytesIO(item.data)).convert("RGB") for item in store.pictures(ids)]

    for name in spec.hooks:
        hook = load_hook(name)
        try:
            found = hook(sample, pictures)
        except Exception as error:
            detail = f"{name} raised {type(error).__name__}: {error}"[:300]
            raise Quarantined("check", "hook_failed", detail) from error
        if found is not None:
            return Refusal(stage="hook", reason=found.reason, detail=f"{name}: {found.detail}")
    return None
