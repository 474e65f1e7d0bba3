"""Texts and pictures in turn: the order is the document's, cost is bounded by the context, and what is missing is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manifests.recipe import Recipe
from pipelines.extraction import Outcome, extract
from pipelines.inputs import find_inputs
from pipelines.interleaved_forms import Piece, json_pieces, markdown_pieces

TEXT = "The first paragraph tells enough words to be kept by any filter, and it ends here.\n\n"


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    root = tmp_path / "in"
    (root / "figures").mkdir(parents=True)
    shutil.copy(examples / "images" / "coffee.jpg", root / "figures" / "a cup.jpg")
    shutil.copy(examples / "gui" / "login-user.png", root / "figures" / "b.png")
    return root


def outcomes(folder: Path, recipe: Recipe) -> dict[str, Outcome]:
    found = {}
    for item in find_inputs([folder]).items:
        outcome = extract(item, recipe)
        assert isinstance(outcome, Outcome)
        found[item.source] = outcome
    return found


def parts(outcome: Outcome, place: int = 0) -> list[str]:
    """Texts, and sizes of pictures."""
    listed = outcome.samples[place]["messages"][0]["parts"]
    return [part["text"] if part["kind"] == "text" else f"{part['origin']['box'][2]:g} px wide" for part in listed]


def test_a_markdown_file_with_pictures_keeps_their_places(folder: Path, recipe: Recipe) -> None:
    words = (
        f'# A page\n\n{TEXT}![A cup](figures/a%20cup.jpg "title")\n\nBetween the two pictures.\n\n'
        "<p><img alt='b' src='figures/b.png' width=10></p>\n\n```\n![no picture](figures/b.png)\n```\n"
        "![remote](https://example.org/x.png) ![gone](figures/gone.png) The end.\n"
    )
    (folder / "page.md").write_text(words)
    found = outcomes(folder, recipe)
    assert list(found) == ["page.md"]
    outcome = found["page.md"]
    assert [row["task"] for row in outcome.samples] == ["image.interleaved"]
    told = parts(outcome)
    pictures = [place for place, part in enumerate(told) if part.endswith("px wide")]
    assert [told[place] for place in pictures] == ["512 px wide", "320 px wide"]
    assert told[pictures[0] - 1].strip() == TEXT.strip()
    assert "Between the two pictures." in "".join(told[pictures[0] : pictures[1]])
    after = "".join(told[pictures[1] :])
    assert "![no picture](figures/b.png)" in after
    assert "The end." in after
    assert "example.org" not in "".join(told)
    (dropped,) = [row for row in outcome.dropped if row["reason"] == "missing_picture"]
    assert "2 of 4 pictures" in dropped["detail"]
    assert outcome.samples[0]["visual_tokens"] > 0
    assert all(part["origin"]["source_id"] for part in outcome.samples[0]["messages"][0]["parts"])


def test_pictures_of_a_document_belong_to_it_unless_they_are_described(folder: Path, examples: Path) -> None:
    (folder / "page.md").write_text(TEXT + "![A](figures/a%20cup.jpg) ![B](figures/b.png)")
    shutil.copy(examples / "gui" / "login-user.gui.json", folder / "figures" / "b.gui.json")
    found = find_inputs([folder])
    assert {item.source: sorted(file.source for file in item.attached) for item in found.items} == {
        "figures/b.png": ["figures/b.gui.json"],
        "page.md": ["figures/a cup.jpg", "figures/b.png"],
    }
    assert len(found.items) + found.attached == sum(path.is_file() for path in folder.rglob("*"))
    (alone,) = find_inputs([folder / "page.md"]).items
    assert [file.source for file in alone.attached] == ["figures/a cup.jpg", "figures/b.png"]


def test_a_document_shows_nothing_from_outside_the_input(folder: Path) -> None:
    shutil.copy(folder / "figures" / "b.png", folder.parent / "secret.png")
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "page.md").write_text(TEXT + f"![x](../secret.png) ![y]({folder.parent}/secret.png) ![z](link.png)")
    by_source = {item.source: item for item in find_inputs([folder]).items}
    assert by_source["page.md"].attached == ()
    assert by_source["link.png"].problem is not None


@pytest.mark.parametrize(
    "value",
    [
        {"texts": [None, TEXT, None, "After it."], "images": ["figures/a cup.jpg", None, "figures/b.png", None]},
        {
            "text_list": [TEXT, "After it."],
            "image_info": [
                {"image_name": "figures/b.png", "matched_text_index": 1, "matched_sim": 0.3},
                {"image_name": "figures/a cup.jpg", "matched_text_index": 0, "matched_sim": 0.3},
            ],
        },
    ],
)
def test_obelics_and_mmc4_say_the_same(value: dict[str, Any], folder: Path, recipe: Recipe) -> None:
    (folder / "docs.jsonl").write_text(
        json.dumps(value) + "\n{broken\n\n" + json.dumps({**value, "texts": [1], "text_list": [1]})
    )
    outcome = outcomes(folder, recipe)["docs.jsonl"]
    assert parts(outcome) == ["512 px wide", TEXT, "320 px wide", "After it.\n\n"]
    assert {part["origin"]["page"] for part in outcome.samples[0]["messages"][0]["parts"]} == {1}
    assert [(row["reason"], row["detail"][:7]) for row in outcome.dropped] == [("bad_line", "line 2:"), ("bad_line", "line 4:")]
    (folder / "docs.jsonl").unlink()
    (folder / "doc.json").write_text(json.dumps(value))
    assert parts(outcomes(folder, recipe)["doc.json"]) == ["512 px wide", TEXT, "320 px wide", "After it.\n\n"]


def test_a_long_document_is_cut_for_each_context(folder: Path, examples: Path, recipe: Recipe) -> None:
    words = (examples / "documents" / "click-options.md").read_text()
    half = words.index("\n## ", len(words) // 2)
    (folder / "long.md").write_text(words[:half] + "\n\n![A](figures/a%20cup.jpg)\n\n" + words[half:])
    outcome = outcomes(folder, recipe)["long.md"]
    edges = {"32k": recipe.buckets.context_32k, "64k": recipe.buckets.context_64k, "256k": recipe.buckets.context_256k}
    assert all(row["total_tokens"] <= edges[row["context_bucket"]] for row in outcome.samples)
    short = [row for row in outcome.samples if row["context_bucket"] == "32k"]
    assert {row["task"] for row in short} == {"image.interleaved", "document.text"}
    assert "document.interleaved" in {row["task"] for row in outcome.samples}
    said = "".join(part["text"] or "" for row in short for part in row["messages"][0]["parts"])
    assert said.split() == words.split()


def test_a_picture_that_cannot_be_opened_leaves_a_gap(folder: Path, recipe: Recipe) -> None:
    (folder / "figures" / "b.png").write_bytes((folder / "figures" / "b.png").read_bytes()[:500])
    (folder / "page.md").write_text(TEXT + "![A](figures/a%20cup.jpg)\n\n![B](figures/b.png)\n\nThe end.")
    outcome = outcomes(folder, recipe)["page.md"]
    assert outcome.status == "used"
    assert sum("px wide" in part for part in parts(outcome)) == 1
    assert "figures/b.png" in outcome.dropped[0]["detail"]


def test_texts_too_short_to_keep_are_told_by_line(folder: Path, recipe: Recipe) -> None:
    strict = replace(recipe, curate=replace(recipe.curate, text_tokens_min=500))
    value = {"texts": [None, TEXT], "images": ["figures/b.png", None]}
    (folder / "docs.jsonl").write_text(json.dumps(value))
    outcome = outcomes(folder, strict)["docs.jsonl"]
    assert (outcome.status, outcome.dropped[0]["reason"], outcome.dropped[0]["detail"][:7]) == (
        "filtered",
        "too_short",
        "line 1:",
    )


def test_pieces_of_markdown() -> None:
    assert markdown_pieces("a ![x](p(1).png) b ![y](<q r.png>)![z](s.png 't')") == [
        Piece(text="a "), Piece(picture="p(1).png"), Piece(text=" b "), Piece(picture="q r.png"), Piece(picture="s.png"),
    ]  # fmt: skip
    assert markdown_pieces("~~~\n![x](p.png)\n```\n![x](p.png)\n~~~\n![x](p.png)")[-1] == Piece(picture="p.png")
    with pytest.raises(ValueError, match="2 texts and 1 images"):
        json_pieces({"texts": ["a", None], "images": [None]})
    with pytest.raises(ValueError, match="matched_text_index below 1"):
        json_pieces({"text_list": ["a"], "image_info": [{"image_name": "x", "matched_text_index": 4}]})
