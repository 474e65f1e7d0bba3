"""Captions are scored and semantic duplicates found with a real open_clip model; waiting for it loses nothing."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from written_tables import rows

from manifests.curate_spec import QualitySpec
from manifests.errors import UsageError
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from pipelines import curate
from pipelines.clip_score import Embedder, model_name, picture_request, text_request
from pipelines.duplicates import Signature, find_links
from pipelines.extraction import Answered, Outcome, extract, item_recipe
from pipelines.inputs import find_inputs
from pipelines.model_work import Answer, Waiting, provider_of

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights, saved by open_clip itself."""
    import torch
    from open_clip.factory import set_model_preprocess_cfg
    from open_clip.model import CLIP
    from open_clip.push_to_hf_hub import save_config_for_hf
    from open_clip.transform import PreprocessCfg
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(3)
    model = CLIP(**CONFIG)  # type: ignore[arg-type]
    set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=32)))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", model_config=CONFIG)
    return folder


def with_clip(recipe: Recipe, clip: Path, **changes: object) -> Recipe:
    quality = replace(recipe.curate.quality, clip_model=str(clip), **changes)
    return replace(recipe, curate=replace(recipe.curate, quality=quality))


def pictures(examples: Path, folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        shutil.copy(examples / "images" / f"{name}.jpg", folder)
        shutil.copy(examples / "images" / f"{name}.caption.json", folder)
    return folder


def answered(waiting: Waiting, recipe: Recipe) -> Answered:
    provider = provider_of("embed", recipe)
    shown = [list(waiting.store.pictures(request.media_ids)) for request in waiting.requests]
    answers = provider.answer(waiting.requests, shown)
    named = {request.request_id: answer for request, answer in zip(waiting.requests, answers, strict=True)}
    return Answered(turn=1, state=json.loads(json.dumps(waiting.state)), store=waiting.store, answers=named)


def test_an_embedding_is_that_of_the_library_and_does_not_depend_on_its_neighbours(clip: Path, examples: Path) -> None:
    import open_clip
    import torch

    spec = QualitySpec(clip_model=str(clip))
    data = (examples / "images" / "coffee.jpg").read_bytes()
    shown = [MediaItem(media_id="0", extension="jpg", height=1, width=1, data=data)]
    embedder = Embedder(str(clip))
    requests = [picture_request(spec, "0"), text_request(spec, "a cup of coffee"), text_request(spec, "a dog")]
    together = embedder.answer(requests, [shown, [], []])
    alone = [embedder.answer([request], [shown if request.media_ids else []])[0] for request in requests]
    assert together == alone
    model = open_clip.create_model_from_pretrained(f"local-dir:{clip}", return_transform=False).eval()
    with torch.inference_mode():
        words = model.encode_text(open_clip.get_tokenizer(f"local-dir:{clip}")(["a cup of coffee"]), normalize=True)[0].numpy()
    found = np.frombuffer(base64.b64decode(together[1].value), dtype="<f2")
    np.testing.assert_allclose(found, words, atol=1e-3)
    assert together[1].value != together[2].value


def test_a_captioned_picture_waits_and_is_scored(examples: Path, tmp_path: Path, recipe: Recipe, clip: Path) -> None:
    (item,) = find_inputs([pictures(examples, tmp_path / "in", "coffee")]).items
    chosen = with_clip(recipe, clip)
    waiting = extract(item, chosen)
    assert isinstance(waiting, Waiting)
    assert [bool(request.prompt) for request in waiting.requests] == [False, True]
    given = answered(waiting, chosen)
    outcome = extract(item, chosen, given)
    plain = extract(item, recipe)
    assert isinstance(outcome, Outcome)
    assert isinstance(plain, Outcome)
    score = dict(outcome.samples[0]["quality"])["clip_score"]
    assert -1 <= score <= 1
    assert score == round(score, 3)
    assert [row["sample_id"] for row in outcome.samples] == [row["sample_id"] for row in plain.samples]
    assert outcome.media_ids == plain.media_ids
    assert outcome.annotation == plain.annotation
    assert outcome.signature is not None
    assert len(outcome.signature.embedding) == 2 * 32

    strict = with_clip(recipe, clip, clip_score_min=min(1.0, score + 0.01))
    dropped = extract(item, strict, given)
    assert isinstance(dropped, Outcome)
    assert [(row["stage"], row["reason"]) for row in dropped.dropped] == [("clip", "clip_score")]
    assert f"{score:g}" in dropped.dropped[0]["detail"]

    failed = replace(given, answers={name: Answer(kind="embed", error="no memory") for name in given.answers})
    kept = extract(item, strict, failed)
    assert isinstance(kept, Outcome)
    assert "clip_score" not in dict(kept.samples[0]["quality"])


def test_what_needs_no_model_does_not_wait(read: Callable[..., Outcome], recipe: Recipe, clip: Path) -> None:
    words = b"".join(b"Sentence %d says something about number %d.\n" % (n, n * n) for n in range(30))
    assert read("a.txt", words, None, with_clip(recipe, clip)).status == "used"


def test_semantic_duplicates_by_cosine_within_one_kind() -> None:
    rng = np.random.default_rng(4)

    def signature(kind: str, vector: np.ndarray) -> Signature:
        unit = vector / np.linalg.norm(vector)
        return Signature(kind=kind, embedding=unit.astype("<f2").tobytes())  # type: ignore[arg-type]

    base = rng.normal(size=64)
    near = base + 0.1 * rng.normal(size=64)
    other = rng.normal(size=64)
    signatures = [signature("image", base), signature("image", other), signature("image", near), signature("video", base)]

    def links(similarity: float) -> list[tuple[int, int, str]]:
        found = find_links(
            list("abcd"), signatures, near_image_bits=6, near_text_similarity=0.8, semantic_similarity=similarity
        )
        return [(link.left, link.right, link.reason) for link in found]

    assert links(0.95) == [(0, 2, "semantic_duplicate")]
    assert links(1.0) == []


def test_a_corpus_with_clip_is_the_same_twice(examples: Path, tmp_path: Path, recipe: Recipe, clip: Path) -> None:
    folder = pictures(examples, tmp_path / "in", "coffee", "china", "rocket")
    options = ("--direct_running_mode=in_memory", "--direct_num_workers=1")
    # Random weights see little difference between pictures: all of them are one thing to this model.
    results = [
        curate([folder], tmp_path / name, with_clip(recipe, clip, semantic_similarity=0.01), beam_options=options)
        for name in ("one", "two")
    ]
    assert results[0].digest == results[1].digest
    assert results[0].counts["samples"] == 1
    assert {row["reason"] for row in rows(tmp_path / "one", "dropped")} == {"semantic_duplicate"}
    (sample,) = rows(tmp_path / "one", "samples")
    assert "clip_score" in dict(sample["quality"])


def test_a_model_is_known_by_its_bytes_and_a_wrong_folder_is_named(tmp_path: Path, recipe: Recipe, clip: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(clip, copy)
    assert model_name(str(copy)) == model_name(str(clip)) != model_name("laion/some-model")
    assert item_recipe(with_clip(recipe, clip)) == item_recipe(with_clip(recipe, copy)) != item_recipe(recipe)
    with pytest.raises(UsageError, match=r"open_clip_config\.json"):
        model_name(str(tmp_path))
    with pytest.raises(ValueError, match="needs a clip_model"):
        QualitySpec(clip_score_min=0.2)
