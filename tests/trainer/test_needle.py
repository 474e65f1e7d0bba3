"""Needles in haystacks: built as said, scored right for readers whose score is known, resumed, and read by a model."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_corpus import TinyCorpus, tiny_recipe
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

import longreel
from manifests.catalog import Catalog
from manifests.errors import UsageError
from manifests.fingerprint import unit_hash
from manifests.rendering import timestamp
from manifests.tokenizer import Tokenizer, load_tokenizer
from manifests.visual import VisualSpec
from model.patches import images_to_patches
from trainer.build import build_model
from trainer.examination import Examination, find_model, only_plan
from trainer.metrics import TrainResult
from trainer.needle import COLOURS, SHAPES, Haystack, NeedleCase, NeedleSpec, build, drawn_over
from trainer.needle_pool import HeldoutVideo, NeedlePool, TextPiece, cut_text, read_pool
from trainer.needle_reading import ModelReader, Reading
from trainer.needle_run import interval, run_needles

VISUAL = VisualSpec(frame_tokens_min=1, frame_tokens_max=4, image_tokens_min=1, image_tokens_max=16)


def frame(media_id: str, height: int, width: int) -> NDArray[np.uint8]:
    """Noise that its name decides."""
    seed = int(unit_hash(media_id) * 2**31)
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return load_tokenizer(str(tokenizer_folder))


@pytest.fixture(scope="module")
def pool(tokenizer: Tokenizer) -> NeedlePool:
    """Forty numbered lines, and two films of 9 and 7 frames."""
    lines = [f"Line {number} of the book says that {'the rain fell and ' * 2}day came.\n" for number in range(40)]
    pieces = [TextPiece(text=line, tokens=len(tokenizer.encode(line))) for line in lines]
    films = [
        HeldoutVideo(source=name, height=56, width=56, frames=tuple((0.5 * k, f"{name}-{k}") for k in range(count)))
        for name, count in (("a", 9), ("b", 7))
    ]
    return NeedlePool(tokenizer=tokenizer, visual=VISUAL, pieces=pieces, videos=films, picture=frame)


SPEC = NeedleSpec(lengths=(600, 400), repeats=2)


def test_a_text_haystack_is_as_long_as_asked_and_hides_one_sentence_at_its_depth(
    pool: NeedlePool, tokenizer: Tokenizer
) -> None:
    for case in NeedleSpec(kinds=("text",), lengths=(400, 900), repeats=2).cases():
        haystack = build(case, SPEC, pool)
        words = tokenizer.decode(haystack.prompt.ids.tolist())
        longest = max(map(len, haystack.tokens))
        assert case.length - 80 < len(haystack.prompt.ids) + longest <= case.length
        assert words.count(haystack.answers[haystack.right]) == 1
        assert sum(words.count(answer) for answer in haystack.answers) == 1
        assert abs(haystack.before - case.depth) <= 0.5 * 76 / (len(words) - 250)
        (place,) = re.findall(r"The access code of the (\w+ \w+) is \d{5}\.", words)
        assert (
            f"What is the access code of the {place}? Answer with the code alone.<|im_end|>\n<|im_start|>assistant\n" in words
        )
        assert [tokenizer.decode(list(tokens)) for tokens in haystack.tokens] == [f"{a}<|im_end|>" for a in haystack.answers]
        assert not haystack.repeated


def test_a_video_haystack_is_real_frames_at_true_times_and_one_drawing(pool: NeedlePool, tokenizer: Tokenizer) -> None:
    films = {film.source: film for film in pool.videos}
    for case in NeedleSpec(kinds=("video",), lengths=(400, 800), depths=(0.0, 0.5, 1.0), repeats=2).cases():
        haystack = build(case, SPEC, pool)
        count = len(haystack.pictures)
        assert len(haystack.prompt.slots) == count
        assert len(haystack.prompt.ids) <= case.length
        drawn = []
        for number, (slot, picture) in enumerate(zip(haystack.prompt.slots, haystack.pictures, strict=True)):
            said = timestamp(slot.visual)
            before = tokenizer.decode(haystack.prompt.ids[: slot.start].tolist())
            assert before.endswith(f"{said}<|vision_start|>")
            if slot.visual.media_id == "planted":
                drawn.append(number)
                assert drawings()[picture.tobytes()] == haystack.answers[haystack.right]
            else:
                source, _, k = slot.visual.media_id.partition("-")
                assert slot.visual.time_s == films[source].frames[int(k)][0]
                assert np.array_equal(picture, frame(slot.visual.media_id, 56, 56))
        assert drawn == [round(case.depth * (count - 1))]
        assert haystack.repeated == (count > 16)


@cache
def drawings() -> dict[bytes, str]:
    """What was drawn, by the pixels of every frame with every drawing."""
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    ids = [f"{source}-{k}" for source, count in (("a", 9), ("b", 7)) for k in range(count)]
    return {drawn_over(frame(media_id, 56, 56), name).tobytes(): name for media_id in ids for name in names}


class Oracle:
    """Reads the prompt and copies: the sentence from its tokens, the shape from its pixels."""

    def __init__(self, pool: NeedlePool) -> None:
        self.pool = pool

    def read(self, haystack: Haystack, attention: str) -> Reading:
        if haystack.pictures:
            (seen,) = [drawings()[each.tobytes()] for each in haystack.pictures if each.tobytes() in drawings()]
        else:
            words = self.pool.tokenizer.decode(haystack.prompt.ids.tolist())
            (asked,) = re.findall(r"What is the access code of the (\w+ \w+)\?", words)
            (seen,) = re.findall(rf"The access code of the {asked} is (\d+)\.", words)
        return Reading(likelihoods=tuple(-float(answer != seen) for answer in haystack.answers), written=f"{seen}")


class Guess:
    """Knows nothing; says something else of every case."""

    def read(self, haystack: Haystack, attention: str) -> Reading:
        values = tuple(-unit_hash(attention, answer, haystack.prompt.ids.tobytes()[-400:]) for answer in haystack.answers)
        return Reading(likelihoods=values, written="I do not know")


class Prefers:
    """Knows nothing, but likes some answers better than others."""

    def read(self, haystack: Haystack, attention: str) -> Reading:
        return Reading(likelihoods=tuple(-unit_hash(answer[:2]) for answer in haystack.answers), written=haystack.answers[0])


class Indifferent:
    """Finds all answers alike."""

    def read(self, haystack: Haystack, attention: str) -> Reading:
        return Reading(likelihoods=(-3.0,) * len(haystack.answers), written="")


def test_a_reader_that_copies_finds_all_and_writes_all(pool: NeedlePool, tmp_path: Path) -> None:
    summary = run_needles(Oracle(pool), pool, SPEC, attentions=("dense", "sparse"), identity="m", out=tmp_path)
    assert [(total["found"], total["written_right"], total["cases"]) for total in summary["totals"]] == [(1.0, 1.0, 20)] * 4
    assert len(summary["cells"]) == 2 * 2 * 2 * 5
    assert {cell["found"] for cell in summary["cells"]} == {1.0}


@pytest.mark.parametrize("reader", [Guess(), Prefers()])
def test_a_reader_that_saw_nothing_is_at_chance(reader: Any, pool: NeedlePool, tmp_path: Path) -> None:
    spec = NeedleSpec(lengths=(300,), depths=(0.0, 0.5, 1.0), repeats=60)
    summary = run_needles(reader, pool, spec, attentions=("dense",), identity="m", out=tmp_path)
    for total in summary["totals"]:
        assert total["cases"] == 180
        assert total["low"] < summary["chance"] < total["high"]
    assert sum(total["written_right"] for total in summary["totals"]) < 0.6


def test_equal_answers_share_the_credit(pool: NeedlePool, tmp_path: Path) -> None:
    summary = run_needles(Indifferent(), pool, SPEC, attentions=("dense",), identity="m", out=tmp_path)
    assert {total["found"] for total in summary["totals"]} == {summary["chance"]} == {1 / 8}


def test_wilsons_interval() -> None:
    assert interval(10, 100) == pytest.approx((0.05523, 0.17437), abs=2e-5)
    assert interval(0, 6)[0] == 0.0


def test_killed_it_goes_on_and_ends_the_same(pool: NeedlePool, tmp_path: Path) -> None:
    class Dies(Guess):
        def __init__(self, after: int) -> None:
            self.left = after

        def read(self, haystack: Haystack, attention: str) -> Reading:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().read(haystack, attention)

    run_needles(Guess(), pool, SPEC, attentions=("dense", "sparse"), identity="m", out=tmp_path / "whole")
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        run_needles(Dies(7), pool, SPEC, attentions=("dense", "sparse"), identity="m", out=broken)
    with (broken / "needle.jsonl").open("a") as stream:
        stream.write('{"case": "text-400')
    rest = Dies(80 - 7)
    run_needles(rest, pool, SPEC, attentions=("dense", "sparse"), identity="m", out=broken)
    assert rest.left == 0
    for name in ("needle.json", "needle.jsonl"):
        assert (broken / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(UsageError, match="answers of another model, corpus or question: give another --out"):
        run_needles(Guess(), pool, SPEC, attentions=("dense",), identity="another", out=broken)


def test_cases_follow_from_the_seed(pool: NeedlePool) -> None:
    case = NeedleCase(kind="text", length=500, depth=0.5, repeat=0)
    one, two = build(case, SPEC, pool), build(case, SPEC, pool)
    other = build(case, NeedleSpec(lengths=(500,), seed=18), pool)
    assert np.array_equal(one.prompt.ids, two.prompt.ids)
    assert one.answers == two.answers
    assert one.answers != other.answers


def test_what_cannot_be_asked_is_said(pool: NeedlePool) -> None:
    with pytest.raises(UsageError, match=r"a text haystack of 100 tokens has no room \(-?\d+ tokens\) beside its question"):
        build(NeedleCase(kind="text", length=100, depth=0.5, repeat=0), SPEC, pool)
    empty = NeedlePool(tokenizer=pool.tokenizer, visual=VISUAL, pieces=[], videos=[], picture=frame)
    for kind, message in (("text", "no held-out documents"), ("video", "no held-out videos")):
        with pytest.raises(UsageError, match=message):
            build(NeedleCase(kind=kind, length=500, depth=0.5, repeat=0), SPEC, empty)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="answers=1 must be 2 to 24"):
        NeedleSpec(lengths=(500,), answers=1)


@pytest.mark.parametrize("attention", ["dense", "sparse"])
def test_a_model_reads_answers_as_if_each_stood_there_alone(attention: Any, pool: NeedlePool, tokenizer_folder: Path) -> None:
    """The shared prompt against whole passes over prompt and answer, and the greedy answer against `generate`."""
    model = build_model(tiny_recipe(tokenizer_folder))
    reader = ModelReader(model, pool.tokenizer, written_tokens=6)
    for kind in ("text", "video"):
        case = NeedleCase(kind=kind, length=400, depth=0.5, repeat=0)  # type: ignore[arg-type]
        haystack = build(case, NeedleSpec(lengths=(400,), answers=3), pool)
        reading = reader.read(haystack, attention)
        pixels, grid = images_to_patches(list(haystack.pictures)) if haystack.pictures else (None, None)
        prompt = torch.from_numpy(haystack.prompt.ids.astype("int64"))
        alone = []
        for tokens in haystack.tokens:
            row = torch.cat((prompt, torch.tensor(tokens)))
            with torch.no_grad():
                logits = model(row, None, None, pixels, grid, attention).logits
            assert logits is not None
            alone.append(-float(cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(tokens), reduction="sum")))
        assert reading.likelihoods == pytest.approx(alone, abs=2e-3)
        stop = tuple(pool.tokenizer.special(token) for token in ("<|im_end|>", "<|endoftext|>"))
        (new,) = model.generate(
            prompt, pixel_values=pixels, image_grid_thw=grid, max_new_tokens=6, stop_ids=stop, attention=attention
        )
        written = [token for token in new.tolist() if token not in stop]
        assert reading.written == pool.tokenizer.decode(written)


def test_a_corpus_gives_its_held_out_side(tokenizer_folder: Path, tmp_path: Path) -> None:
    corpus = TinyCorpus(tmp_path / "corpus", tiny_recipe(tokenizer_folder))
    corpus.add_samples("train", 9)
    corpus.add_samples("heldout", 6)
    for split in ("train", "heldout"):
        frames = [[k, corpus.picture(500 + k + 50 * (split == "heldout"), 60, 90, "jpg")] for k in range(3)]
        payload = json.dumps({"width": 90, "height": 60, "fps_grid": 2.0, "frames": frames})
        corpus.annotations.append(
            {
                "source_id": f"{split}-film", "source": f"{split}.mp4", "kind": "video", "split": split,
                "licence": "CC0-1.0", "duplicate_cluster": split, "payload": payload,
            }
        )  # fmt: skip
    corpus.write()
    read = read_pool(Catalog(corpus.folder), corpus.tokenizer, corpus.recipe.visual, longest=4096)
    documents = [s.messages[0].parts[0].text or "" for s in corpus.samples["heldout"] if s.messages[0].role == "document"]
    assert len(documents) == 2
    assert sorted("".join(piece.text for piece in read.pieces)) == sorted("".join(documents))
    assert all("heldout" not in piece.text or "train" not in piece.text for piece in read.pieces)
    (film,) = read.videos
    assert (film.source, film.height, film.width) == ("heldout.mp4", 28, 56)
    assert [second for second, _ in film.frames] == [0.0, 0.5, 1.0]
    assert read.picture(film.frames[1][1], 28, 56).shape == (28, 56, 3)


def test_text_is_cut_into_short_pieces_that_are_the_text(tokenizer: Tokenizer) -> None:
    text = "One line.\n\nAnother, much longer line " + "with many words in it " * 20 + "\n" + "x" * 200
    pieces = list(cut_text(text, tokenizer))
    assert "".join(pieces) == text
    assert max(len(tokenizer.encode(piece)) for piece in pieces) <= 72


def test_a_run_is_examined(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path) -> None:
    run = whole_run[0]
    assert find_model(run).folder == run / "stage3" / "model"
    assert find_model(run, 1).folder == run / "stage1" / "model"
    assert find_model(run / "stage1" / "model").name == "model"
    with pytest.raises(UsageError, match="has no model of stage 7: it has 0, 1, 2, 3"):
        find_model(run, 7)
    with pytest.raises(UsageError, match="holds no model: name a RUN"):
        find_model(tmp_path)
    examined = Examination(find_model(run), tiny_corpus.folder, only_plan(tiny_corpus.folder))
    heldout = examined.heldout(tmp_path, ("dense", "sparse"))
    assert heldout["sparse"]["loss"] == pytest.approx(whole_run[1].stages[-1]["heldout_after"], rel=1e-6)
    assert heldout["dense"]["loss"] != heldout["sparse"]["loss"]
    spec = NeedleSpec(kinds=("text",), lengths=(250,), depths=(0.0, 1.0), repeats=1, answers=2)
    summary = examined.needles(tmp_path, spec, ("sparse",))
    assert summary["totals"][0]["cases"] == 2
    with pytest.raises(UsageError, match="is longer than the model's"):
        examined.needles(tmp_path, NeedleSpec(lengths=(10**9,)), ("sparse",))


def test_the_front_door_examines_a_run(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path) -> None:
    words = ["evaluate", str(whole_run[0]), str(tiny_corpus.folder), "--out", str(tmp_path), "--answers", "2", "--repeats", "1"]
    words += ["--haystacks", "text", "--lengths", "250"]
    shown = CliRunner().invoke(longreel.app, [*words, "--depths", "0,100"], catch_exceptions=False).output
    rows = [" ".join(row.split()) for row in shown.splitlines()]
    assert "held-out loss, nats a token (2 sequences," in shown
    assert any(row.startswith("context 32k ") and row.endswith("%") for row in rows)
    assert "needles found in text, dense / sparse; chance 50.0%, 1 cases a cell" in rows
    assert any(row.startswith("100% ") and row.count("/") == 1 for row in rows)
    assert sum("no different from chance" in row for row in rows) == 2
    only = CliRunner().invoke(longreel.app, [*words, "--depths", "0,100", "--only", "needle", "--json"], catch_exceptions=False)
    value = json.loads(only.output)
    assert value["needle"] == json.loads((tmp_path / "needle.json").read_text())
    assert "heldout" not in value
    for more, message in (
        (["--depths", "0,200"], r"depths=\(0.0, 2.0\) must lie in \[0, 1\]"),
        (["--lengths", "many"], "--lengths 'many' must be whole numbers"),
        (["--attention", "warm"], "--attention 'warm' must name some of dense, sparse"),
        (["--only", "all"], "--only 'all' must be heldout or needle"),
        (["--depths", "50"], "answers of another model, corpus or question"),
    ):
        with pytest.raises(UsageError, match=message):
            CliRunner().invoke(longreel.app, [*words, "--only", "needle", *more], catch_exceptions=False)


def test_held_out_losses_are_told_apart(whole_run: tuple[Path, TrainResult]) -> None:
    evaluations = json.loads((whole_run[0] / "evaluations.json").read_text())
    for evaluation in evaluations.values():
        for axis in ("task", "modality", "context", "duration"):
            groups = evaluation["losses"][axis].values()
            # The first token of a sample is predicted by nothing, so targets are fewer than learned tokens.
            assert sum(mean * targets for mean, targets in groups) / evaluation["targets"] == pytest.approx(
                evaluation["loss"], rel=1e-5
            )
