"""What nearly copies evaluation data is dropped and the item named; what only quotes it is not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from manifests.benchmarks import Benchmark, BenchmarkItem, benchmark_identity, read_benchmark
from manifests.errors import UsageError
from manifests.recipe import Recipe
from pipelines.extraction import Outcome, item_recipe

PLACES = ("a red barn", "the old mill", "a stone bridge", "the quiet harbour", "a narrow street", "the northern gate")
QUESTION = "Which of the two trains that leave the station at noon reaches the coast first if the slower one stops twice?"


def story(seed: int) -> str:
    return " ".join(
        f"On day {number * seed % 97} we reached {PLACES[number * seed % 6]} and counted {number * 7 + seed} birds there."
        for number in range(1, 40)
    )


def with_benchmarks(recipe: Recipe, *paths: Path) -> Recipe:
    quality = replace(recipe.curate.quality, benchmarks=tuple(map(str, paths)))
    return replace(recipe, curate=replace(recipe.curate, quality=quality))


@pytest.fixture
def suite(tmp_path: Path, examples: Path) -> Path:
    folder = tmp_path / "suite"
    folder.mkdir()
    rows = [{"id": 1, "question": QUESTION, "choices": ["the fast", "the slow"]}, {"question": "2 + 2?"}]
    (folder / "questions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "story.txt").write_text(story(3))
    Image.open(examples / "images" / "china.jpg").save(folder / "china.png")
    return folder


def test_near_copies_of_text_are_dropped_with_the_item(read: Callable[..., Outcome], recipe: Recipe, suite: Path) -> None:
    listed = with_benchmarks(recipe, suite)
    words = story(3).split()
    edited = " ".join(word for place, word in enumerate(words) if place % 40)
    for content, name in (
        (edited, "story.txt"),
        (f"{story(11)} {QUESTION.upper()} The fast, the slow. {story(13)}", "questions.jsonl:1"),
    ):
        outcome = read("a.txt", content.encode(), None, listed)
        assert outcome.status == "filtered"
        assert {(row["stage"], row["reason"]) for row in outcome.dropped} == {("benchmark", "benchmark")}
        assert name in outcome.dropped[0]["detail"]
        assert read("a.txt", content.encode()).status == "used"
    assert read("a.txt", story(11).encode(), None, listed).status == "used"


def test_a_quotation_is_no_copy() -> None:
    items = [BenchmarkItem(name="story", text=story(3))]
    quoted = f"{story(11)} {' '.join(story(3).split()[:40])} {story(17)}"
    benchmark = Benchmark(items)
    assert benchmark.text_copied(quoted) is None
    assert benchmark.text_copied(story(3)) is not None
    assert benchmark.text_copied("2 + 2?") is None


def test_near_copies_of_pictures_are_dropped_with_their_truth(
    read: Callable[..., Outcome], recipe: Recipe, suite: Path, examples: Path
) -> None:
    picture = Image.open(examples / "images" / "china.jpg")
    width, height = picture.size
    stream = io.BytesIO()
    picture.crop((width // 30, 0, width, height - height // 30)).resize((width // 2, height // 2)).save(
        stream, "JPEG", quality=50
    )
    caption = {".caption.json": b'{"caption": "a Chinese temple with a yellow roof"}'}
    outcome = read("a.jpg", stream.getvalue(), caption, with_benchmarks(recipe, suite))
    assert [row["reason"] for row in outcome.dropped] == ["benchmark"]
    assert "china.png" in outcome.dropped[0]["detail"]
    assert outcome.annotation is None
    assert outcome.media_ids == []
    assert read("a.jpg", examples / "images" / "coffee.jpg", caption, with_benchmarks(recipe, suite)).status == "used"


def test_the_content_of_the_list_is_what_a_result_depends_on(recipe: Recipe, suite: Path, tmp_path: Path) -> None:
    before = item_recipe(with_benchmarks(recipe, suite))
    assert before != item_recipe(recipe)
    moved = tmp_path / "elsewhere" / "suite"
    moved.parent.mkdir()
    suite.rename(moved)
    assert item_recipe(with_benchmarks(recipe, moved)) == before
    (moved / "story.txt").write_text(story(4))
    assert item_recipe(with_benchmarks(recipe, moved)) != before


def test_what_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no-such\.txt, which does not exist"):
        benchmark_identity([str(tmp_path / "no-such.txt")])
    for name, data in (("clip.mp4", b"?"), ("broken.jsonl", b"{"), ("broken.png", b"?"), ("latin.txt", b"\xff\xfe")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=name):
            list(read_benchmark([str(tmp_path / name)]))
        (tmp_path / name).unlink()
