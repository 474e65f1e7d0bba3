"""A difference says what changed, all of it, and nothing else; the front door answers with diff's exit codes."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from parsed_page import ALLOWED, HOSTILE, Page, rewrite
from rich.console import Console

import longreel
from curriculum import plan
from curriculum.overrides import apply
from curriculum.recipes import keye_vl_2, laptop
from manifests.corpus import Corpus
from manifests.diff import Difference, compare
from manifests.diff.fields import changed_fields, flattened
from manifests.diff.terminal import rendered
from manifests.errors import CorruptCorpusError, UsageError
from manifests.fingerprint import canonical_json
from manifests.report import write_difference
from manifests.report.plain import plain

Rows = list[dict[str, Any]]


@pytest.fixture
def other(corpus: Corpus, tmp_path: Path) -> Corpus:
    """A copy of the corpus, to be changed."""
    shutil.copytree(corpus.folder, tmp_path / "other")
    return Corpus(tmp_path / "other")


def text(difference: Difference, width: int = 80) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    for piece in rendered(difference):
        console.print(piece)
    return stream.getvalue()


def named(rows: Rows, source: str, **values: Any) -> Rows:
    """The rows, with other values in that of ``source``."""
    return [{**row, **values} if row["source"] == source else row for row in rows]


def set_recipe(corpus: Corpus, change: str) -> None:
    value = corpus.identity()
    value["recipe"] = json.loads(canonical_json(apply(laptop(), [change])))
    (corpus.folder / "corpus.json").write_text(json.dumps(value))


def test_a_copy_is_the_same_even_when_other_code_made_it(corpus: Corpus, other: Corpus) -> None:
    rewrite(other, "samples", lambda rows: [{**row, "fingerprint": "of other code"} for row in reversed(rows)])
    record = json.loads(other.record_path("curate").read_text())
    other.record_path("curate").write_text(json.dumps({**record, "fingerprint": "of other code"}))
    difference = compare(corpus.folder, other.folder)
    assert difference.same
    assert "same: " in text(difference)
    assert "made by other code" in text(difference)


SOURCE_CHANGES: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "added": (lambda rows: [*rows, {**rows[0], "source": "new.jpg", "source_id": "f" * 32}], "new.jpg"),
    "removed": (lambda rows: [row for row in rows if row["source"] != "photo-1.jpg"], "photo-1.jpg"),
    "renamed": (
        lambda rows: [{**row, "source": "moved.jpg"} if row["source"] == "photo-1.jpg" else row for row in rows],
        "moved.jpg",
    ),
    "content": (lambda rows: named(rows, "photo-2.jpg", source_id="e" * 32), "photo-2.jpg"),
    "licence": (lambda rows: named(rows, "photo-2.jpg", licence="MIT"), "photo-2.jpg"),
    "duplicates": (lambda rows: named(rows, "photo-3.jpg", duplicate_cluster="d" * 32), "photo-3.jpg"),
}


@pytest.mark.parametrize("change", SOURCE_CHANGES)
def test_every_change_of_a_source_has_its_name(corpus: Corpus, other: Corpus, change: str) -> None:
    edit, source = SOURCE_CHANGES[change]
    rewrite(other, "sources", edit)
    difference = compare(corpus.folder, other.folder)
    assert difference.sources is not None
    expected = {"renamed": 1, "removed": 1} if change == "renamed" else {change: 1}
    assert difference.sources.counts.get(change) == 1
    assert sum(difference.sources.counts.values()) <= sum(expected.values())
    assert source in {row.source for row in difference.sources.examples}
    assert source in text(difference)
    assert not difference.same


def test_a_source_that_was_lost_says_why(corpus: Corpus, other: Corpus) -> None:
    rewrite(other, "sources", lambda rows: named(rows, "photo-0.jpg", status="quarantined"))
    lost = {"source": "photo-0.jpg", "source_id": None, "stage": "decode", "reason": "truncated", "detail": "ends early"}
    rewrite(other, "quarantine", lambda rows: [*rows, lost])
    difference = compare(corpus.folder, other.folder)
    assert difference.sources is not None
    (row,) = difference.sources.examples
    assert (row.change, row.a, row.b, row.why) == ("status", "used", "quarantined", "truncated: ends early")
    (loss,) = [loss for loss in difference.losses if loss.a != loss.b]
    assert (loss.table, loss.stage, loss.reason, loss.a, loss.b) == ("quarantine", "decode", "truncated", 0, 1)
    back = compare(other.folder, corpus.folder).sources
    assert back is not None
    assert [(row.a, row.b, row.why) for row in back.examples] == [("quarantined", "used", "truncated: ends early")]


def test_a_source_that_crossed_the_split_comes_first(corpus: Corpus, other: Corpus, tmp_path: Path) -> None:
    for side, splits in ((corpus, ("heldout", "train", "train")), (other, ("train", "heldout", "train"))):
        for index, split in enumerate(splits):
            name = f"photo-{index}.jpg"
            rewrite(side, "sources", lambda rows, name=name, split=split: named(rows, name, split=split))  # type: ignore[misc]
    rewrite(other, "samples", lambda rows: [{**rows[0], "split": "heldout"}, *rows[1:]])
    difference = compare(corpus.folder, other.folder)
    assert difference.crossings == 2
    assert difference.sources is not None
    assert difference.samples is not None
    assert difference.sources.crossings == {"heldout -> train": 1, "train -> heldout": 1}
    assert [(row.source, row.a, row.b) for row in difference.sources.crossed] == [
        ("photo-0.jpg", "heldout", "train"),
        ("photo-1.jpg", "train", "heldout"),
    ]
    assert difference.samples.crossings == {"train -> heldout": 1}
    first = next(line for line in text(difference).splitlines() if "differ" not in line and line.startswith(("!!", "  ")))
    assert first.startswith("!! 2 sources crossed the split: ")
    write_difference(difference, tmp_path / "page.html")
    assert 'role="alert"' in (tmp_path / "page.html").read_text()


def test_samples_are_compared_by_id(corpus: Corpus, other: Corpus) -> None:
    def change(rows: Rows) -> Rows:
        longer = {**rows[1], "context_bucket": "64k", "total_tokens": rows[1]["total_tokens"] + 5, "licence": "MIT"}
        new = {**rows[2], "sample_id": "9" * 32, "task": "image.count"}
        return [longer, *rows[2:], new]

    rewrite(other, "samples", change)
    found = compare(corpus.folder, other.folder).samples
    assert found is not None
    assert (found.a, found.b, found.same, found.added, found.removed) == (4, 4, 3, 1, 1)
    assert (found.rebucketed, found.recounted, found.relicensed) == (1, 1, 1)
    assert {row.task: (row.a, row.b, row.added, row.removed) for row in found.tasks} == {
        "image.caption": (4, 3, 0, 1),
        "image.count": (0, 1, 1, 0),
    }
    buckets = {row.context: (row.a, row.b, row.added, row.removed) for row in found.buckets}
    assert buckets == {"32k": (4, 3, 1, 2), "64k": (0, 1, 1, 0)}
    for side, tokens in ((corpus, found.tokens_a), (other, found.tokens_b)):
        assert tokens == sum(
            pq.read_table(path)["total_tokens"].to_numpy().sum() for path in side.folder.glob("samples/**/*.parquet")
        )


@pytest.mark.parametrize("table", ["lineage", "media", "dropped", "quarantine"])
def test_no_changed_row_goes_unseen(corpus: Corpus, other: Corpus, table: str) -> None:
    def change(rows: Rows) -> Rows:
        changed = {"lineage": {"page": 7}, "media": {"extension": "png"}, "quarantine": {"detail": "other words"}}
        lost = {"source": "photo-0.jpg", "source_id": "x", "sample_id": "y", "task": "t", "stage": "filter", "reason": "r"}
        return [{**rows[0], **changed[table]}, *rows[1:]] if rows else [{**lost, "detail": "d"}]

    rewrite(other, table, change)
    difference = compare(corpus.folder, other.folder)
    assert [row.table for row in difference.tables if not row.same] == [table]
    assert not difference.same
    assert table in text(difference)


def test_fields_have_the_names_that_set_takes() -> None:
    changes = ["stage3.context=16384", "stage1.mixture.video.weight=0.5", "stage2.phases.sparse.learning_rate=3e-5",
               "curate.jpeg_quality=80", "visual.fps=2.0", 'curate.quality.languages=["en"]', "train.zero_stage=2"]  # fmt: skip
    changed = apply(laptop(), changes)
    old, new = (json.loads(canonical_json(recipe)) for recipe in (laptop(), changed))
    found = changed_fields(old, new)
    assert sorted(change.split("=")[0] for change in changes) == [row.field for row in found]
    assert apply(laptop(), [f"{row.field}={row.b}" for row in found]) == changed
    assert changed_fields(old, old) == []
    assert len(flattened(json.loads(canonical_json(keye_vl_2())))) > 100


def sequence_ids(corpus: Corpus, recipe: str) -> set[tuple[int, str, str]]:
    paths = corpus.folder.glob(f"sequences/recipe={recipe}/**/*.parquet")
    return {(row["stage"], row["split"], row["sequence_id"]) for path in paths for row in pq.read_table(path).to_pylist()}


def test_two_plans_of_one_corpus(corpus: Corpus, tmp_path: Path) -> None:
    wide = dataclasses.replace(
        apply(laptop(), ["stage1.context=2048", "stage1.visual_budget=2048", "stage1.tokens=9000"]), name="wide"
    )
    plan(corpus.folder, laptop())
    plan(corpus.folder, wide)
    difference = compare(corpus.folder, corpus.folder, plans=("laptop", "wide"))
    assert difference.plans_only
    assert not difference.same
    assert difference.sources is None
    assert difference.samples is None
    (planned,) = difference.plans
    fields = {row.field: (row.a, row.b) for row in planned.fields}
    assert fields["stage1.context"] == ("1024", "2048")
    assert fields["name"] == ('"laptop"', '"wide"')
    ids = {recipe: sequence_ids(corpus, recipe) for recipe in ("laptop", "wide")}
    for what, expected in (
        ("same", ids["laptop"] & ids["wide"]),
        ("new", ids["wide"] - ids["laptop"]),
        ("gone", ids["laptop"] - ids["wide"]),
    ):
        assert sum(getattr(row, what) for stage in planned.stages for row in stage.sequences) == len(expected)
    stage = planned.stages[1]
    assert stage.a is not None
    assert stage.b is not None
    assert (stage.a.context, stage.b.context) == (1024, 2048)
    assert "Plan laptop -> wide: fields" in text(difference)
    assert compare(corpus.folder, corpus.folder, plans=("laptop", "laptop")).same
    write_difference(difference, tmp_path / "page.html")
    Page((tmp_path / "page.html").read_text())


def test_what_cannot_be_compared_is_named(corpus: Corpus, other: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no corpus"):
        compare(corpus.folder, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="has no plan of recipe 'wide'; it has none"):
        compare(corpus.folder, other.folder, plans=("wide", "wide"))
    next(other.folder.glob("samples/**/*.parquet")).write_bytes(b"PAR1 torn")
    with pytest.raises(CorruptCorpusError, match=r"cannot be read: .*longreel check"):
        compare(corpus.folder, other.folder)


def test_hostile_text_stays_text(corpus: Corpus, other: Corpus, tmp_path: Path) -> None:
    def sources(rows: Rows) -> Rows:
        return [{**rows[0], "source": words, "source_id": f"{index:032}", "licence": words, "split": "train", "status": words,
                 "duplicate_cluster": words} for index, words in enumerate(HOSTILE)]  # fmt: skip

    def samples(rows: Rows) -> Rows:
        return [{**rows[0], "sample_id": f"{index:032}", "task": words, "licence": words, "context_bucket": words,
                 "duration_bucket": words, "split": words} for index, words in enumerate(HOSTILE)]  # fmt: skip

    lost = [{"source": words, "source_id": words, "stage": words, "reason": words, "detail": words} for words in HOSTILE]
    rewrite(other, "sources", sources)
    rewrite(other, "samples", samples)
    rewrite(other, "quarantine", lambda rows: lost)
    rewrite(other, "dropped", lambda rows: [{**row, "sample_id": None, "task": None} for row in lost])
    rewrite(corpus, "sources", lambda rows: [{**row, "split": "heldout"} for row in sources(rows)])
    set_recipe(other, "tokenizer=</code><script>\x1b[31mred\u202e")
    difference = compare(corpus.folder, other.folder, shown=100)
    shown = text(difference, width=400)
    assert not any((ord(character) < 32 and character != "\n") or 0x7F <= ord(character) < 0xA0 for character in shown)
    assert not set(shown) & set("\u202e\u2066\u061c\u200b\U000e0041\u2028")
    assert "[red]markup[/red]" in shown
    write_difference(difference, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    parsed = Page(page)
    assert {tag for tag, _ in parsed.tags} <= ALLOWED
    assert all(not name.startswith(("on", "style")) for _, attributes in parsed.tags for name in attributes)
    assert not any(text in page for text in ("://", "\u202e", "\x1b"))
    seen = " ".join(parsed.text.split())
    for words in HOSTILE:
        assert " ".join(plain(words).split()) in seen


def test_exit_codes_are_those_of_diff(
    corpus: Corpus, other: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["longreel", "diff", *words])
        with pytest.raises(SystemExit) as ended:
            longreel.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    a, b = str(corpus.folder), str(other.folder)
    assert run(a, b)[0] == 0
    rewrite(other, "sources", SOURCE_CHANGES["added"][0])
    code, said, _ = run(a, b, "--html", str(tmp_path / "page.html"))
    assert code == 1
    assert max(map(len, said.splitlines())) <= 80
    assert (tmp_path / "page.html").is_file()
    value = json.loads(run(a, b, "--json")[1])
    assert value["same"] is False
    assert value["sources"]["counts"] == {"added": 1}
    for wrong in ([a], [a, str(tmp_path)], [a, b, "--plan", "laptop"], [a, b, "--html", str(tmp_path)]):
        code, _, error = run(*wrong)
        assert code == 2
        assert error.startswith("longreel: ")
    next(other.folder.glob("samples/**/*.parquet")).write_bytes(b"PAR1 torn")
    assert run(a, b)[0] == 2
