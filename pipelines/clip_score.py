"""CLIP embeddings: how well a caption fits its picture, and which sources show the same thing. Only with weights of the user's.

``curate.quality.clip_model`` is a folder that open_clip saved (``open_clip_config.json`` and weights) or a hub id
(``owner/name``). Questions go to the provider of kind ``embed`` (`pipelines.model_work`): one for each picture or caption,
answered one by one and not as a batch, so that an answer depends on nothing else that happens to be asked at the time.

A vector has unit length and is kept in half precision. Scores are rounded to 3 digits where they are stored. The score of a
clip is the mean over `FRAMES` of its frames; the embedding of a video, over `FRAMES_OF_FILM` frames of its longest sample.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.curate_spec import QualitySpec
from manifests.errors import UsageError
from manifests.fingerprint import sha256_bytes, value_id
from manifests.recipe import Recipe
from manifests.sample import Sample
from manifests.shards import MediaItem
from pipelines.hooks import words_of
from pipelines.model_work import Answer, Request
from pipelines.quality import Refusal

KIND = "embed"
FRAMES = 3
FRAMES_OF_FILM = 8
SCORED_TASKS = ("image.caption", "video.caption")
CONFIG = "open_clip_config.json"


@lru_cache(maxsize=4)
def model_name(given: str) -> str:
    """What the answers of a model depend on: a hash of a folder's files, or the hub id.

    Raises:
        UsageError: the folder holds no model that open_clip saved.
    """
    folder = Path(given)
    if not folder.exists():
        return f"open_clip/{given}"
    if not (folder / CONFIG).is_file():
        raise UsageError(f"curate.quality.clip_model={given} has no {CONFIG}: name a folder that open_clip saved, or a hub id")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return f"open_clip/{value_id([[path.name, sha256_bytes(path.read_bytes())] for path in files])}"


def picture_request(spec: QualitySpec, media_id: str) -> Request:
    """The question for the embedding of a stored picture."""
    return Request(kind=KIND, model=model_name(spec.clip_model), media_ids=(media_id,))


def text_request(spec: QualitySpec, words: str) -> Request:
    """The question for the embedding of a text; the model itself cuts what it cannot read."""
    return Request(kind=KIND, model=model_name(spec.clip_model), prompt=words)


def _spread(values: Sequence[str], most: int) -> list[str]:
    """At most so many of them, evenly spread."""
    count = min(most, len(values))
    return [values[(2 * place + 1) * len(values) // (2 * count)] for place in range(count)]


def _frames(sample: Sample, most: int) -> list[str]:
    return _spread([visual.media_id for visual in sample.visuals], most)


def _shown(samples: Sequence[Sample]) -> list[str]:
    """The pictures that stand for a source: of the sample that shows most."""
    longest = max(samples, key=lambda sample: len(sample.visuals), default=None)
    return [] if longest is None or not longest.visuals else _frames(longest, FRAMES_OF_FILM)


def clip_requests(samples: Sequence[Sample], spec: QualitySpec, *, source: bool) -> list[Request]:
    """Everything to be embedded for these samples; with ``source`` also what stands for the whole source."""
    requests = []
    for sample in samples:
        if sample.task in SCORED_TASKS and sample.visuals:
            requests += [picture_request(spec, media_id) for media_id in _frames(sample, FRAMES)]
            requests.append(text_request(spec, words_of(sample)))
    if source:
        requests += [picture_request(spec, media_id) for media_id in _shown(samples)]
    return list({request.request_id: request for request in requests}.values())


def vector(request: Request, answers: Mapping[str, Answer]) -> NDArray[np.float32] | None:
    """The unit vector that answers a request; None when the model failed."""
    answer = answers.get(request.request_id)
    if answer is None or answer.value is None:
        return None
    return np.frombuffer(base64.b64decode(answer.value), dtype="<f2").astype(np.float32)


def clip_score(sample: Sample, spec: QualitySpec, answers: Mapping[str, Answer]) -> float | None:
    """Cosine of a caption and its pictures, on average; None for other samples and when the model failed."""
    if sample.task not in SCORED_TASKS or not sample.visuals:
        return None
    words = vector(text_request(spec, words_of(sample)), answers)
    shown = [vector(picture_request(spec, media_id), answers) for media_id in _frames(sample, FRAMES)]
    if words is None or any(found is None for found in shown):
        return None
    return round(float(np.mean([found @ words for found in shown if found is not None])), 3)


def judge_clip(score: float | None, spec: QualitySpec) -> Refusal | None:
    """A sample by its score; without one it is kept."""
    if score is None or spec.clip_score_min is None or score >= spec.clip_score_min:
        return None
    detail = f"clip_score {score:g} is less than curate.quality.clip_score_min={spec.clip_score_min:g}"
    return Refusal(stage="clip", reason="clip_score", detail=detail)


def source_embedding(samples: Sequence[Sample], spec: QualitySpec, answers: Mapping[str, Answer]) -> bytes:
    """The unit vector of a source as `Signature.embedding`; empty when it shows nothing or the model failed."""
    found = [vector(picture_request(spec, media_id), answers) for media_id in _shown(samples)]
    vectors = [value for value in found if value is not None]
    return _packed(np.mean(vectors, axis=0)) if vectors and len(vectors) == len(found) else b""


def _packed(values: NDArray[np.float32]) -> bytes:
    length = float(np.linalg.norm(values))
    return (values / max(length, 1e-12)).astype("<f2").tobytes()


class Embedder:
    """The provider of kind ``embed``; see `pipelines.model_work.Provider`."""

    batch = 16
    concurrency = 1
    cache: Path | None = None

    def __init__(self, given: str) -> None:
        import open_clip
        import torch

        schema = "local-dir:" if Path(given).exists() else "hf-hub:"
        name = model_name(given)
        try:
            self.model, self.prepare = open_clip.create_model_from_pretrained(schema + given)
            self.tokenize = open_clip.get_tokenizer(schema + given)
        except Exception as error:
            raise UsageError(f"curate.quality.clip_model={given} ({name}) cannot be loaded: {error}") from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = self.model.to(self.device).eval()

    def answer(self, requests: Sequence[Request], pictures: Sequence[Sequence[MediaItem]]) -> Sequence[Answer]:
        """A unit vector for each request, in half precision, as base64."""
        return [self._answer(request, shown) for request, shown in zip(requests, pictures, strict=True)]

    def _answer(self, request: Request, shown: Sequence[MediaItem]) -> Answer:
        import torch

        with torch.inference_mode():
            if shown:
                picture = Image.open(io.BytesIO(shown[0].data)).convert("RGB")
                found = self.model.encode_image(self.prepare(picture)[None].to(self.device))
            else:
                found = self.model.encode_text(self.tokenize([request.prompt]).to(self.device))
        packed = _packed(found[0].float().cpu().numpy())
        return Answer(kind=KIND, value=base64.b64encode(packed).decode("ascii"))


def make_provider(recipe: Recipe) -> Embedder:
    """The embedder that the recipe names.

    Raises:
        UsageError: it names none, or one that cannot be loaded.
    """
    if not recipe.curate.quality.clip_model:
        raise UsageError("an embedding was asked for, but curate.quality.clip_model is empty")
    return Embedder(recipe.curate.quality.clip_model)
