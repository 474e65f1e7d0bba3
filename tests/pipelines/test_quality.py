"""Every filter keeps or gives a reason: scores, bars, languages, rules of text, hooks; and what waits for CLIP is not lost."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageFilter

from manifests.curate_spec import QualitySpec
from manifests.errors import UsageError
from manifests.recipe import Recipe
from manifests.sample import Message, Part, Sample, Visual, text
from pipelines.extraction import Outcome, item_recipe
from pipelines.hooks import Pictures, Reason, load_hook, personal_data
from pipelines.language import language_of
from pipelines.quality import bars, bars_share, judge_scores
from pipelines.text_quality import judge_text

CAPTION = {".caption.json": b'{"caption": "a cup of coffee on a wooden table, seen from above"}'}
GERMAN = (
    "Die Donau ist der zweitlaengste Fluss in Europa. Sie entspringt im Schwarzwald und fliesst durch zehn Laender, "
    "bevor sie in das Schwarze Meer muendet. An ihren Ufern liegen vier Hauptstaedte.\n"
)


def with_quality(recipe: Recipe, **changes: object) -> Recipe:
    return replace(recipe, curate=replace(recipe.curate, quality=replace(recipe.curate.quality, **changes)))


def document(words: str, task: str = "document.text") -> Sample:
    return Sample(task=task, capabilities=(), messages=(Message(role="document", parts=(text(words),)),), licence="MIT")


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def reasons(outcome: Outcome) -> list[tuple[str, str]]:
    return [(row["stage"], row["reason"]) for row in outcome.dropped]


# --- scores ---


@pytest.mark.parametrize(
    ("score", "value", "reason"),
    [
        ("black_share", 0.95, "black"),
        ("frozen_share", 1.0, None),
        ("letterbox_share", 0.8, "letterbox"),
        ("sharpness", 0.2, "blurred"),
    ],
)
def test_a_threshold_judges_the_score_of_its_name(score: str, value: float, reason: str | None) -> None:
    sample = replace(document("words"), quality={score: value})
    refusal = judge_scores(sample, QualitySpec())
    assert (refusal and refusal.reason) == reason
    if refusal is not None:
        assert f"{value:g}" in refusal.detail
        assert f"curate.quality.{score}_" in refusal.detail
    assert judge_scores(document("words"), QualitySpec(sharpness_min=1e9)) is None


def test_bars_are_dark_even_edges_and_darkness_is_none() -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(60, 200, (120, 160)).astype(np.uint8)
    assert bars_share(bars(picture)) == 0.0
    boxed = picture.copy()
    boxed[:15] = boxed[-15:] = 16
    assert bars(boxed) == (0.125, 0.125, 0.0, 0.0)
    boxed[:, :40] = boxed[:, -40:] = 16
    assert bars(boxed) == (0.125, 0.125, 0.25, 0.25)
    assert bars_share(bars(boxed)) == pytest.approx(1 - 0.75 * 0.5)
    assert bars(np.full((90, 90), 10, np.uint8)) == (0.0, 0.0, 0.0, 0.0)
    night = rng.integers(0, 60, (120, 160)).astype(np.uint8)
    assert bars(night) == (0.0, 0.0, 0.0, 0.0)


def test_a_picture_of_blur_and_one_of_bars_are_dropped_and_the_original_is_not(
    read: Callable[..., Outcome], examples: Path, recipe: Recipe
) -> None:
    picture = Image.open(examples / "images" / "coffee.jpg").convert("RGB")
    wide = Image.new("RGB", (picture.width, picture.height * 6))
    wide.paste(picture, (0, picture.height * 2))
    assert reasons(read("a.png", png(picture), CAPTION)) == []
    assert reasons(read("a.png", png(picture.filter(ImageFilter.GaussianBlur(40))), CAPTION)) == [("quality", "blurred")]
    assert reasons(read("a.png", png(wide), CAPTION)) == [("quality", "letterbox")]


# --- language and text ---


def test_languages_are_scored_and_kept_as_the_recipe_says(read: Callable[..., Outcome], recipe: Recipe) -> None:
    kept = read("a.txt", GERMAN.encode() * 2)
    assert {name for name, _ in kept.samples[0]["quality"]} >= {"language.de"}
    english = with_quality(recipe, languages=("en",))
    dropped = read("a.txt", GERMAN.encode() * 2, None, english)
    assert dropped.status == "filtered"
    assert ("language", "language") in reasons(dropped)
    assert read("a.txt", GERMAN.encode() * 2, None, with_quality(recipe, languages=("de", "en"))).status == "used"
    code = b"#!/usr/bin/env python\n" + b"".join(b"value_%d = compute(%d, %d)\n" % (n, n, n * n) for n in range(60))
    assert read("a.py", code, None, english).status == "used"


def test_what_is_too_short_has_no_language() -> None:
    assert language_of("OK") is None
    assert language_of("今日はとても良い天気ですね。散歩に行きましょう。") == ("ja", 1.0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("Lorem ipsum dolor sit amet, consectetur adipiscing elit.", "filler"),
        ("Please enable JavaScript to view this page.\nThis site uses cookies.", "filler"),
        ("buy now " * 60 + "and never again", "repetition"),
        (" ".join(f"{number} 12.5" for number in range(60)), "no_words"),
        (" ".join(f"word{number} ..." for number in range(60)), "symbols"),
        ("\n".join(f"{number % 5} the same few lines of text" for number in range(40)), "repetition"),
    ],
)
def test_rules_of_text_each_by_its_name(words: str, reason: str) -> None:
    refusal = judge_text(document(words), QualitySpec())
    assert refusal is not None
    assert refusal.reason == reason
    others = tuple(rule for rule in QualitySpec().text_rules if rule != reason)
    left = judge_text(document(words), QualitySpec(text_rules=others))
    assert left is None or left.reason != reason
    assert judge_text(document(words, "code.text"), QualitySpec()) is None


def test_good_text_of_the_examples_is_kept(examples: Path) -> None:
    paths = [*sorted((examples / "documents").glob("*.md")), *sorted((examples / "documents").glob("*.txt"))]
    assert len(paths) > 15
    for path in paths:
        assert judge_text(document(path.read_text("utf-8")), QualitySpec()) is None, path.name


# --- hooks ---


@pytest.mark.parametrize(
    "words",
    [
        "write to jane.doe@uni-mainz.de today",
        "call +49 6131 39-0 1234 now",
        "pay to DE89 3704 0044 0532 0130 00",
        "4111 1111 1111 1111",
    ],
)
def test_personal_data_is_found(words: str) -> None:
    found = personal_data(document(words), list)
    assert found is not None
    assert found.reason == "personal_data"
    assert words.split()[-2] not in found.detail


@pytest.mark.parametrize(
    "words",
    [
        "user@example.org is a placeholder",
        "version 1.2.3-4 of 2024-10-11",
        "DE89 3704 0044 0532 0130 01",
        "4111 1111 1111 1112",
        "3.14159265358979323",
    ],
)
def test_numbers_that_are_no_personal_data(words: str) -> None:
    assert personal_data(document(words), list) is None


@pytest.fixture
def house_rules(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("house_rules")

    def dark(sample: Sample, pictures: Pictures) -> Reason | None:
        shown = pictures()
        return Reason("dark", f"{len(shown)} pictures") if any(np.asarray(one).mean() < 128 for one in shown) else None

    def broken(sample: Sample, pictures: Pictures) -> Reason | None:
        raise RuntimeError("no weights")

    module.dark, module.broken, module.number = dark, broken, 3  # type: ignore[attr-defined]
    for function in (dark, broken):
        function.__module__ = __name__
    monkeypatch.setitem(sys.modules, "house_rules", module)
    load_hook.cache_clear()
    return module


def test_a_hook_sees_pictures_and_its_reason_is_written_down(
    read: Callable[..., Outcome], recipe: Recipe, house_rules: ModuleType
) -> None:
    ruled = with_quality(recipe, hooks=("house_rules:dark",))
    rng = np.random.default_rng(2)
    for least, expected in ((0, [("hook", "dark")]), (140, [])):
        picture = Image.fromarray(rng.integers(least, least + 100, (80, 80, 3)).astype(np.uint8))
        outcome = read("a.png", png(picture), CAPTION, ruled)
        assert reasons(outcome) == expected
        assert (outcome.annotation is None) == bool(expected)


def test_a_hook_that_fails_uses_nothing(read: Callable[..., Outcome], recipe: Recipe, house_rules: ModuleType) -> None:
    outcome = read("a.txt", GERMAN.encode(), None, with_quality(recipe, hooks=("house_rules:broken",)))
    assert outcome.quarantine is not None
    assert outcome.quarantine["reason"] == "hook_failed"
    assert "no weights" in outcome.quarantine["detail"]


def test_hooks_that_are_not_there_are_named(recipe: Recipe, house_rules: ModuleType) -> None:
    for name in ("house_rules:nothing", "no_such_module:f", "house_rules:number"):
        with pytest.raises(UsageError, match=name):
            item_recipe(with_quality(recipe, hooks=(name,)))
    with pytest.raises(ValueError, match="'module:function'"):
        QualitySpec(hooks=("detect",))


def test_personal_data_drops_through_the_recipe(read: Callable[..., Outcome], recipe: Recipe) -> None:
    words = (GERMAN + "Schreiben Sie an max.muster@uni-mainz.de.\n").encode()
    assert reasons(read("a.txt", words)) == []
    hooked = with_quality(recipe, hooks=("pipelines.hooks:personal_data",))
    assert reasons(read("a.txt", words, None, hooked)) == [("hook", "personal_data")]
    assert item_recipe(recipe)["quality"] != item_recipe(hooked)["quality"]


def test_visual_samples_need_no_words() -> None:
    shown = Part(kind="image", visuals=(Visual(media_id="0", height=28, width=28),))
    sample = Sample(task="image.caption", capabilities=(), messages=(Message(role="user", parts=(shown,)),), licence="MIT")
    assert judge_text(sample, QualitySpec()) is None
    assert personal_data(sample, list) is None
