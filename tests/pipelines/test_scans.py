"""Scans as pictures: which files are pages of one document, what is read from them, and what a broken page costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import answered
from PIL import Image, ImageDraw, ImageFont

from manifests.recipe import Recipe
from pipelines.extraction import Outcome
from pipelines.inputs import find_inputs
from pipelines.scan_series import find_series

Read = Callable[..., Outcome]
PAGES = (
    "The harbour lay quiet in the morning light and three small boats went out to sea before the bell of the old church "
    "had rung seven times over the grey roofs",
    "Nobody in the village knew why the lantern on the hill had burned all night, or who had carried so much oil up the "
    "steep path in the rain of last week",
)


def page(words: str) -> Image.Image:
    """A page of print."""
    picture = Image.new("RGB", (900, 420), "white")
    font = ImageFont.load_default(size=34)
    lines = [" ".join(words.split()[start : start + 8]) for start in range(0, len(words.split()), 8)]
    ImageDraw.Draw(picture).text((30, 30), "\n".join(lines), fill="black", font=font, spacing=24)
    return picture


def words_of(outcome: Outcome) -> list[str]:
    """What is learned of each page, in the order of the pages."""
    rows = [row for row in outcome.samples if row["task"] == "document.page"]
    ordered = sorted(rows, key=lambda row: row["messages"][0]["parts"][0]["origin"]["page"])
    return ["".join(row["messages"][1]["parts"][0]["text"].split()).lower() for row in ordered]


def plain(words: str) -> str:
    return "".join(words.split()).lower()


@pytest.mark.parametrize(
    ("names", "series"),
    [
        (["deed-page-1.png", "deed-page-2.png", "deed-page-10.png"], []),
        (
            ["deed-page-9.png", "deed-page-10.png", "deed-page-8.png"],
            [["deed-page-8.png", "deed-page-9.png", "deed-page-10.png"]],
        ),
        (["a/scan_01.jpg", "b/scan_02.jpg", "b/scan_03.jpg"], [["b/scan_02.jpg", "b/scan_03.jpg"]]),
        (["p1.tif", "p2.tif", "p2.png", "p3.png"], [["p1.tif", "p2.tif"], ["p2.png", "p3.png"]]),
        (["page1.png", "page01.png", "page2.png"], []),
        (["IMG_0001.jpg", "IMG_0002.jpg", "map1.png", "map2.png", "step-1.png", "step-2.png"], []),
        (["page1.png"], []),
    ],
)
def test_pages_are_told_by_their_names(names: list[str], series: list[list[str]]) -> None:
    assert sorted(find_series(names, lambda _: "MIT")) == sorted(series)


def test_pages_of_different_licence_are_no_document() -> None:
    assert not list(find_series(["page1.png", "page2.png"], lambda path: path))


def test_a_tiff_of_several_pages_and_a_folder_of_pages_are_one_document_each(
    tmp_path: Path, recipe: Recipe, read: Read
) -> None:
    first, second = map(page, PAGES)
    first.save(tmp_path / "book.tiff", save_all=True, append_images=[second], compression="tiff_lzw")
    outcome = read("book.tiff", tmp_path / "book.tiff")
    assert (outcome.status, outcome.modality) == ("used", "document")
    assert words_of(outcome) == [plain(words) for words in PAGES]
    whole = next(row for row in outcome.samples if row["task"] == "document.text")
    assert "seventimes" in plain(str(whole["messages"]))
    assert "steeppath" in plain(str(whole["messages"]))
    assert all(0.8 < dict(row["quality"])["ocr_confidence"] <= 1 for row in outcome.samples)

    folder = tmp_path / "in"
    folder.mkdir()
    for number, picture in enumerate((first, second), start=1):
        picture.save(folder / f"page-{number}.png")
    (folder / "page-3.png").write_bytes((folder / "page-2.png").read_bytes()[:900])
    first.save(folder / "alone.png")
    found = find_inputs([folder])
    assert [(item.source, len(item.attached)) for item in found.items] == [("alone.png", 0), ("page-1.png", 2)]
    assert found.attached == 2
    same = answered(found.items[1], recipe)
    assert words_of(same) == words_of(outcome)
    (drop,) = same.dropped
    assert (drop["task"], drop["reason"]) == ("document.page", "undecodable")
    assert drop["detail"].startswith("page 3 cannot be decoded")


def test_with_a_caption_it_stays_a_picture_and_unread_it_is_filtered(tmp_path: Path, read: Read) -> None:
    Image.new("RGB", (40, 40), "white").save(
        tmp_path / "blank.tif", save_all=True, append_images=[Image.new("RGB", (40, 40), "white")]
    )
    assert read("blank.tif", tmp_path / "blank.tif").dropped[0]["reason"] == "no_text"
    page(PAGES[0]).save(tmp_path / "told.tif", save_all=True, append_images=[page(PAGES[1])])
    told = read("told.tif", tmp_path / "told.tif", {".caption.json": b'{"caption": "A page with lines of black print."}'})
    assert [row["task"] for row in told.samples] == ["image.caption"]
