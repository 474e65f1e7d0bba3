"""Damaged page pictures: the same for the same seed, other for another, readable still, with the text as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pypdfium2 as pdfium
from PIL import Image

from manifests.curate_spec import DocumentSpec
from manifests.recipe import Recipe
from pipelines.augmentation import damage, damaged
from pipelines.extraction import Outcome
from pipelines.ocr import Recogniser, read_lines


def letters(words: str) -> str:
    """Without the rows of signs that the page has, of which nobody counts how many."""
    return "".join(character for character in words if character.isalnum())


def page(examples: Path) -> Image.Image:
    document = pdfium.PdfDocument(examples / "documents" / "debmake-manual-en.pdf")
    return document[20].render(scale=2).to_pil().convert("RGB")


def test_damage_is_a_function_of_its_seed(examples: Path) -> None:
    picture = page(examples)
    one, again, other = damage(picture, "1"), damage(picture, "1"), damage(picture, "2")
    assert one.size == picture.size
    assert one.tobytes() == again.tobytes()
    assert np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean() > 2
    assert np.abs(np.asarray(one, dtype=float) - np.asarray(picture, dtype=float)).mean() > 5


def test_the_text_can_still_be_read(examples: Path) -> None:
    picture = page(examples).crop((0, 400, 1190, 1100))
    recogniser = Recogniser()
    truth = letters(read_lines(recogniser.recognise(picture)).text)
    words = letters(read_lines(recogniser.recognise(damage(picture, "a"))).text)
    assert len(truth) > 300
    assert SequenceMatcher(None, words, truth, autojunk=False).ratio() > 0.9


def test_the_share_decides_how_many_and_depends_on_the_place() -> None:
    picture = Image.new("RGB", (20, 20), "white")
    spec = DocumentSpec(augmented_share=0.3)
    chosen = [number for number in range(300) if damaged(picture, spec, "source", number) is not None]
    assert 60 < len(chosen) < 120
    assert chosen != [number for number in range(300) if damaged(picture, spec, "other source", number) is not None]
    assert damaged(picture, DocumentSpec(), "source", 1) is None


def test_a_damaged_page_keeps_its_text(examples: Path, read: Callable[..., Outcome], recipe: Recipe) -> None:
    path = examples / "documents" / "tagged-report.pdf"
    plain = read("a.pdf", path)
    documents = replace(recipe.curate.documents, augmented_share=1.0)
    outcome = read("a.pdf", path, with_recipe=replace(recipe, curate=replace(recipe.curate, documents=documents)))
    for task in ("document.page", "document.table"):
        rows = [row for row in outcome.samples if row["task"] == task]
        worse = [row for row in rows if dict(row["quality"]).get("augmented") == 1.0]
        assert len(rows) == 2 * len(worse) == 2 * sum(row["task"] == task for row in plain.samples)
        answers = [row["messages"][1]["parts"][0]["text"] for row in worse]
        assert answers == [row["messages"][1]["parts"][0]["text"] for row in rows if row not in worse]
