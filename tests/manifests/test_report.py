"""The report is one safe file: hostile text stays text, nothing is fetched, and its figures are those of SQL."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parsed_page import ALLOWED, HOSTILE, Page, rewrite
from PIL import Image
from small_corpus import picture

from curriculum import plan
from curriculum.recipes import laptop
from manifests.catalog import Catalog
from manifests.corpus import Corpus
from manifests.errors import UsageError
from manifests.report import write_report
from manifests.report.figures import curve, histogram
from manifests.report.plain import plain


def report(corpus: Corpus, out: Path, run: Path | None = None) -> tuple[str, Page]:
    write_report(corpus.folder, out, run=run)
    page = out.read_text(encoding="utf-8")
    return page, Page(page)


@pytest.fixture
def planned(corpus: Corpus) -> Corpus:
    plan(corpus.folder, laptop())
    return corpus


@pytest.fixture
def hostile(planned: Corpus) -> Corpus:
    """A corpus in which every text that came from data is an attack."""

    def source(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        texts = ("source", "licence", "origin", "modality")
        return [{**row, **dict.fromkeys(texts, HOSTILE[index % 9])} for index, row in enumerate(rows)]

    def sample(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for index, row in enumerate(rows):
            row["task"] = HOSTILE[index % 9]
            row["licence"] = HOSTILE[(index + 4) % 9]
            row["messages"][-1]["parts"] = [
                {"kind": "text", "text": text, "visuals": None, "origin": row["messages"][0]["parts"][0]["origin"]}
                for text in HOSTILE
            ]
            row["reasoning"] = {
                "teacher": HOSTILE[0], "verifier": HOSTILE[1], "verifier_version": HOSTILE[2], "truth": HOSTILE[3],
                "score": 1.0, "evidence": HOSTILE[4], "cost_usd": 0.0,
            }  # fmt: skip
        return rows

    rewrite(planned, "sources", source)
    rewrite(planned, "samples", sample)
    lost = [{"source": text, "source_id": None, "stage": text, "reason": text, "detail": text} for text in HOSTILE]
    rewrite(planned, "quarantine", lambda rows: lost)
    dropped = [{**row, "source_id": "x", "sample_id": None, "task": row["source"]} for row in lost]
    rewrite(planned, "dropped", lambda rows: dropped)
    return planned


def test_hostile_text_stays_text(hostile: Corpus, tmp_path: Path) -> None:
    page, parsed = report(hostile, tmp_path / "report.html")
    assert {tag for tag, _ in parsed.tags} <= ALLOWED
    assert all(not name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert page.count("<style>") == page.count("</style>") == 1
    seen = " ".join(parsed.text.split())
    for text in HOSTILE:
        assert " ".join(plain(text).split()) in seen
    assert "49" not in re.findall(r"\{\{ 7 \* 7 \}\}|\b49\b", seen)
    assert "\u202e" not in page
    assert r"invoice\u202efdp.exe" in parsed.text


@pytest.mark.parametrize("which", ["planned", "hostile"])
def test_nothing_is_fetched(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    page, parsed = report(request.getfixturevalue(which), tmp_path / "report.html")
    assert "://" not in page
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
    targets = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert {attributes["href"] for _, attributes in parsed.tags if "href" in attributes} <= {f"#{target}" for target in targets}
    policy = next(attributes for tag, attributes in parsed.tags if tag == "meta" and "http-equiv" in attributes)
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    assert not re.search(r"@import|url\(", style.group(1))
    assert all("style" not in attributes for _, attributes in parsed.tags)
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    expected = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert policy["content"] == expected


def figure(value: Any) -> str:
    return f"{value:,}"


def test_figures_are_those_of_sql(planned: Corpus, tmp_path: Path) -> None:
    _, parsed = report(planned, tmp_path / "report.html")
    catalog = Catalog(planned.folder)
    modalities = catalog.sql(
        "SELECT modality, count(*), count(*) FILTER (status = 'used'), count(*) FILTER (status = 'quarantined') "
        "FROM sources GROUP BY 1"
    ).fetchall()
    shown = {row[0]: (row[1], row[3], row[5]) for row in parsed.tables["Files by modality"][1:-1]}
    assert shown == {name: tuple(map(figure, counts)) for name, *counts in modalities}
    assert parsed.tables["Files by modality"][-1][:2] == ["all", "5"]
    assert "5 inputs =4 used +0 filtered +1 quarantined." in re.sub(r"\s*([+=])\s+", r" \1", parsed.text)
    tasks = catalog.sql(
        "SELECT task, count(*), sum(text_tokens), sum(visual_tokens), sum(learned_tokens) FROM samples GROUP BY 1"
    )
    shown_tasks = [(row[0], row[2], *row[4:]) for row in parsed.tables["Samples by task:trainheld out"][1:]]
    assert shown_tasks == [(row[0], *map(figure, row[1:])) for row in tasks.fetchall()]
    stages = catalog.sql(
        "SELECT stage::VARCHAR, name, context, sequences, heldout_sequences, segments, tokens, visual_tokens, "
        "learned_tokens, fill, steps FROM stages ORDER BY stage"
    ).fetchall()
    stage_rows = next(rows for rows in [parsed.tables[""]] if rows)
    expected = [[*row[:2], *map(figure, row[2:9]), f"{row[9]:.1%}", figure(row[10])] for row in stages]
    assert all(row in stage_rows for row in expected)
    mixtures = parsed.tables["Mixture: tokens placed against wanted"]
    for (shortfall,) in catalog.sql("SELECT shortfall FROM stages").fetchall():
        for entry in json.loads(shortfall)["ingredients"]:
            assert any(
                (entry["task"], figure(entry["wanted"]), figure(entry["placed"])) == (r[0], r[2], r[3]) for r in mixtures
            )


def test_pictures_are_the_stored_ones(planned: Corpus, tmp_path: Path) -> None:
    _, parsed = report(planned, tmp_path / "report.html")
    sources = [attributes["src"] or "" for tag, attributes in parsed.tags if tag == "img"]
    assert len(sources) == 3
    stored = [np.asarray(Image.open(io.BytesIO(picture(seed).data)), dtype=np.int64) for seed in range(2)]
    for source in sources:
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))), dtype=np.int64)
        assert shown.shape == (56, 84, 3)
        assert min(np.abs(shown - pixels).mean() for pixels in stored) < 25 < np.abs(stored[0] - stored[1]).mean()
    assert "photo-0.jpg" in parsed.text


def test_equal_corpora_give_equal_pages(planned: Corpus, tmp_path: Path) -> None:
    pages = []
    for name in ("a.html", "b.html"):
        write_report(planned.folder, tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
    assert len(pages[0]) < 200_000


def test_a_long_question_is_cut_but_its_answer_is_shown(corpus: Corpus, tmp_path: Path) -> None:
    def lengthen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            pages = [{"kind": "text", "text": f"page {number} " * 100, "visuals": None, "origin": None} for number in range(40)]
            row["messages"][0]["parts"] += pages
        return rows

    rewrite(corpus, "samples", lengthen)
    page, parsed = report(corpus, tmp_path / "report.html")
    assert "and 36 more parts" in parsed.text
    assert "picture number" in parsed.text
    assert len(page) < 60_000


def test_a_lost_shard_is_said_and_stops_nothing(corpus: Corpus, tmp_path: Path) -> None:
    (corpus.folder / "media" / "shard-00000.tar").unlink()
    _, parsed = report(corpus, tmp_path / "report.html")
    assert "this picture could not be read: media shard" in parsed.text
    assert "Stages" not in parsed.text


def test_losses_come_from_the_run_and_torn_lines_stop_nothing(planned: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    row = {"stage": 0, "name": "projector alignment", "sequences": 12, "fill": 0.97, "tokens": 3000, "first_loss": 9.0126,
           "last_loss": 8.5, "heldout_before": 9.25, "heldout_after": None, "indexer_recall": 0.625}  # fmt: skip
    (run / "summary.json").write_text(json.dumps({"stages": [row]}))
    lines = [
        json.dumps({"stage": s // 40, "phase": "p", "step": s, "loss": 9 - s / 50, "indexer_loss": None}) for s in range(80)
    ]
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"stage": 1, "loss": NaN}', "[]", '{"stage": 1, "lo']))
    page, parsed = report(planned, tmp_path / "report.html", run)
    expected = ["0", "projector alignment", "12", "3,000", "9.013", "8.500", "9.250", "–", "62.5%"]
    assert parsed.tables["Losses in nats a token"][1] == expected
    assert page.count("<polyline points") == 2
    assert "step 80" in parsed.text
    assert "Loss of the indexer" not in parsed.text


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"stages": 3}'])
def test_an_unfinished_run_is_passed_over(corpus: Corpus, tmp_path: Path, content: str | None) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if content is not None:
        (run / "summary.json").write_text(content)
    _, parsed = report(corpus, tmp_path / "report.html", run)
    assert "Training" not in parsed.text


def test_wrong_paths_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no corpus"):
        write_report(tmp_path / "nowhere", tmp_path / "report.html")
    with pytest.raises(UsageError, match=r"is a folder: name the file to write"):
        write_report(corpus.folder, tmp_path)


def test_curves_stay_within_their_frame() -> None:
    for values in ([1.0], [2.0, 2.0], [0.0, 1e-9], [-3.0, 1e6, 5.0], list(np.linspace(9, 2, 5000))):
        drawn = str(curve([(0, "a", float(value)) for value in values], "loss"))
        numbers = [
            tuple(map(float, pair.split(","))) for line in re.findall(r'points="([^"]*)"', drawn) for pair in line.split()
        ]
        assert all(0 <= x <= 720 and 0 <= y <= 260 for x, y in numbers)
        assert len(numbers) <= 850
    assert str(curve([], "loss")) == ""


def test_a_histogram_draws_every_bin_that_has_something() -> None:
    assert str(histogram([0, 1, 0, 1000], "fill")).count("<rect") == 2
    assert str(histogram([0, 0], "fill")).count("<rect") == 0
