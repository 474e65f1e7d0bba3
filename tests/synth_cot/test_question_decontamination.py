"""Questions that nearly copy a benchmark's are named, whatever was done to them; other questions are not."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from manifests.errors import UsageError
from synth_cot.decontamination import Decontaminator, words

ITEM = (
    "A farmer keeps 1,250 hens in seven barns of equal size. Each barn loses four hens to foxes during the winter, and 35 more "
    "are sold in spring. How many hens are left?"
)
COPIES = {
    "header": "Solve this step by step and answer briefly.\n" + ITEM,
    "case": "\n".join(ITEM.upper().split()),
    "numbers": ITEM.replace("1,250", "1250.0").replace("seven", "7").replace("four", "4"),
    "one word": ITEM.replace("winter", "autumn"),
    "LaTeX": ITEM.replace("1,250", r"\(1250\)").replace("35", r"\mathbf{35}"),
    "part": ITEM.split(". ", 1)[1],
}
OTHERS = {
    "other numbers": ITEM.replace("1,250", "980").replace("35", "61").replace("seven", "nine"),
    "same subject": "A farmer with 1,250 hens wants barns that hold 35 each. What is the smallest number of barns to build?",
    "other": "Which of the two trains that leave the station at noon reaches the coast first if the slower one stops twice?",
}


def drawing(seed: int) -> Image.Image:
    """Overlapping shapes over a gradient."""
    draw = random.Random(seed)
    picture = Image.linear_gradient("L").resize((320, 240)).convert("RGB")
    pen = ImageDraw.Draw(picture)
    for _ in range(14):
        x, y = draw.randrange(300), draw.randrange(220)
        colour = (draw.randrange(256), draw.randrange(256), draw.randrange(256))
        pen.ellipse((x, y, x + draw.randrange(20, 120), y + draw.randrange(20, 90)), fill=colour)
    return picture


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Decontaminator:
    folder = tmp_path_factory.mktemp("lists")
    rows = [{"question": ITEM, "answer": "1187"}, {"question": "How many people are in the room?"}, {"question": "2 + 2?"}]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    drawing(1).save(folder / "frame.png")
    return Decontaminator(folder)


@pytest.mark.parametrize("change", COPIES)
def test_a_near_copy_names_its_item(judge: Decontaminator, change: str) -> None:
    reason = judge.verdict(COPIES[change])
    assert reason is not None
    assert "items.jsonl:1" in reason


@pytest.mark.parametrize("name", OTHERS)
def test_another_question_is_no_copy(judge: Decontaminator, name: str) -> None:
    assert judge.verdict(OTHERS[name]) is None


def test_a_short_item_must_be_there_whole_and_says_nothing_about_other_pictures(judge: Decontaminator) -> None:
    assert "items.jsonl:2" in str(judge.verdict("Look closely. HOW MANY people are in the room?!"))
    assert judge.verdict("How many people are in the boat?") is None
    assert judge.verdict("How many people are in the room?", [drawing(2)]) is None
    assert judge.verdict("2 + 2?") is None


def test_a_near_copy_of_a_frame_names_it_encoded_or_decoded(judge: Decontaminator) -> None:
    frame = drawing(1)
    stream = io.BytesIO()
    frame.crop((10, 6, 318, 236)).resize((200, 150)).save(stream, "JPEG", quality=50)
    for shown in (frame, stream.getvalue()):
        assert "frame.png" in str(judge.verdict("What is shown?", [drawing(3), shown]))
    assert judge.verdict("What is shown?", [drawing(3), drawing(4)]) is None


def test_other_problems_of_a_listed_template_are_no_copies(tmp_path: Path) -> None:
    def problem(seed: int) -> str:
        draw = random.Random(seed)
        row = ", ".join(str(draw.randrange(1000)) for _ in range(8))
        return f"Sort these numbers in ascending order and give them as a list. Put nothing else in your answer: {row}"

    (tmp_path / "sorting.jsonl").write_text("\n".join(json.dumps(problem(seed)) for seed in range(10)))
    judge = Decontaminator(tmp_path)
    assert all(judge.verdict(problem(seed)) for seed in range(10))
    assert not any(judge.verdict(problem(seed)) for seed in range(100, 150))


def test_without_a_list_nothing_is_a_copy_and_a_wrong_list_says_so(tmp_path: Path) -> None:
    assert Decontaminator(()).verdict(ITEM, [drawing(1)]) is None
    with pytest.raises(UsageError, match="does not exist"):
        Decontaminator(tmp_path / "nowhere")


def test_words_forget_how_a_number_is_written() -> None:
    assert words("Seven of 1,000.50 (Ⅻ)") == words("7 OF 1000.5: xii")
