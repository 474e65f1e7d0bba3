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
import pyarrow.parquet as pq
import pytest
from parsed_page import ALLOWED, HOSTILE, Page, rewrite
from PIL import Image
from small_corpus import build_corpus, picture

from curriculum import plan
from curriculum.recipes import laptop
from manifests.catalog import Catalog
from manifests.corpus import Corpus
from manifests.errors import CorruptCorpusError, UsageError
from manifests.report import write_report
from manifests.report.figures import curve, histogram
from manifests.report.lineage import read_lineage
from manifests.report.marks import Evidence, answer_marks, evidence_marks, read_evidence
from manifests.report.plain import plain
from manifests.report.planned import read_stages
from manifests.report.previews import chosen_samples
from manifests.report.synthesis import read_synthesis


def report(corpus: Corpus, out: Path, run: Path | None = None) -> tuple[str, Page]:
    write_report(corpus.folder, out, run=run)
    page = out.read_text(encoding="utf-8")
    return page, Page(page)


@pytest.fixture
def planned(corpus: Corpus) -> Corpus:
    plan(corpus.folder, laptop())
    return corpus


@pytest.fixture
def hostile(planned: Corpus, tmp_path: Path) -> Corpus:
    """A corpus in which every text that came from data is an attack, in every column of every table that the page reads."""

    def turned(index: int) -> str:
        return HOSTILE[index % len(HOSTILE)]

    def source(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        texts = ("source", "licence", "came_from", "modality", "duplicate_cluster", "split")
        return [{**row, **{name: turned(index + at) for at, name in enumerate(texts)}} for index, row in enumerate(rows)]

    def sample(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        texts = ("task", "licence", "modality", "context_bucket", "duration_bucket", "duplicate_cluster", "fingerprint")
        for index, row in enumerate(rows):
            row |= {name: turned(3 * index + at) for at, name in enumerate(texts)}
            row["split"] = turned(index) if index else "train"
            row["capabilities"] = list(HOSTILE)
            row["messages"][-1]["parts"] = [
                {"kind": "text", "text": text, "visuals": None, "origin": row["messages"][0]["parts"][0]["origin"]}
                for text in HOSTILE
            ]
            row["reasoning"] = {
                "teacher": HOSTILE[0], "verifier": HOSTILE[1], "verifier_version": HOSTILE[2], "truth": HOSTILE[3],
                "score": 1.0, "cost_usd": 0.0,
                "evidence": json.dumps({"boxes": [[0, 0, 9, HOSTILE[1]], ["1", 2, 3, 4]], "intervals": [[HOSTILE[0], 1]],
                                        "pages": [HOSTILE[1]], HOSTILE[0]: HOSTILE[3]}),
            }  # fmt: skip
        return rows

    def stage(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            report = json.loads(row["shortfall"])
            report["ingredients"] = [{**entry, "task": turned(at)} for at, entry in enumerate(report["ingredients"] * 9)]
            report["left_out"] = dict.fromkeys(HOSTILE, 7)
            row |= {
                "recipe": HOSTILE[1],
                "name": turned(row["stage"]),
                "shortfall": json.dumps(report),
                "fingerprint": HOSTILE[0],
            }
        return rows

    def packed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "recipe": HOSTILE[1]} for row in rows]

    rewrite(planned, "sources", source)
    rewrite(planned, "samples", sample)
    rewrite(planned, "stages", stage)
    rewrite(planned, "sequences", packed)
    rewrite(planned, "segments", packed)
    lost = [{"source": text, "source_id": None, "stage": text, "reason": text, "detail": text} for text in HOSTILE]
    rewrite(planned, "quarantine", lambda rows: lost)
    dropped = [{**row, "source_id": "x", "sample_id": None, "task": row["source"]} for row in lost]
    dropped += [{**row, "source_id": "x", "sample_id": "y", "task": row["source"], "stage": "verify"} for row in lost]
    rewrite(planned, "dropped", lambda rows: dropped)
    (planned.folder / "runs").mkdir()
    for index, text in enumerate(HOSTILE):
        run = {"step": text, "recipe": text, "started": text, "seconds": 1.0, "fingerprint": text, "outcome": text}
        (planned.folder / "runs" / f"{index}.json").write_text(json.dumps({**run, "counts": json.dumps({text: text})}))
    run_folder = tmp_path / "hostile-run"
    run_folder.mkdir()
    steps = [
        json.dumps(
            {"stage": 0, "phase": text, "step": at, "loss": 9 - at / 9, "name": text, "losses": {"task": {text: [3, 4]}}}
        )
        for at, text in enumerate(HOSTILE)
    ]
    (run_folder / "metrics.jsonl").write_text("\n".join(steps))
    keys = (
        "stage",
        "name",
        "sequences",
        "tokens",
        "first_loss",
        "last_loss",
        "heldout_before",
        "heldout_after",
        "indexer_recall",
    )
    (run_folder / "summary.json").write_text(json.dumps({"stages": [dict.fromkeys(keys, text) for text in HOSTILE]}))
    return planned


def test_hostile_text_stays_text(hostile: Corpus, tmp_path: Path) -> None:
    write_report(
        hostile.folder, tmp_path / "report.html", run=tmp_path / "hostile-run", against=build_corpus(tmp_path / "older").folder
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parsed = Page(page)
    for section in (
        "losses",
        "synthesis",
        "mixture",
        "packing",
        "balance",
        "training",
        "changes",
        "lineage",
        "previews",
        "log",
    ):
        assert f'<section id="{section}">' in page
    assert {tag for tag, _ in parsed.tags} <= ALLOWED
    assert all(not name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    classes = [attributes["class"] or "" for _, attributes in parsed.tags if "class" in attributes]
    assert all(re.fullmatch(r"[a-z0-9]*( [a-z0-9]+)*", name) for name in classes)
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
        "learned_tokens, fill, steps, flops FROM stages ORDER BY stage"
    ).fetchall()
    stage_rows = next(rows for rows in [parsed.tables[""]] if rows)
    expected = [[*row[:2], *map(figure, row[2:9]), f"{row[9]:.1%}", figure(row[10]), f"{row[11]:.3g}"] for row in stages]
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


def test_a_sum_that_does_not_hold_is_the_first_thing_to_see(corpus: Corpus, tmp_path: Path) -> None:
    _, parsed = report(corpus, tmp_path / "report.html")
    assert "FAILS" not in parsed.text
    rewrite(corpus, "quarantine", lambda rows: [])
    rewrite(corpus, "sources", lambda rows: rows[1:])
    _, parsed = report(corpus, tmp_path / "report.html")
    assert parsed.text.count("FAILS") == 2
    look = parsed.text[parsed.text.rindex("What to look at") :]
    assert look.index("a sum does not hold: quarantined sources = rows of quarantine: 1 is not 0") < look.index("What came in")
    assert "rows of sources = inputs that curation was given: 4 is not 5" in parsed.text


def test_every_reason_can_be_opened(corpus: Corpus, tmp_path: Path) -> None:
    lost = [
        {
            "source": f"film-{number:02}.mp4",
            "source_id": None,
            "stage": f"s{number % 2}",
            "reason": f"r'{number % 3}",
            "detail": "",
        }
        for number in range(60)
    ]
    rewrite(corpus, "quarantine", lambda rows: lost)
    _, parsed = report(corpus, tmp_path / "report.html")
    catalog = Catalog(corpus.folder)
    queries = re.findall(r"SELECT \* FROM quarantine WHERE stage = '[^']*' AND reason = 'r''\d'", parsed.text)
    assert len(set(queries)) == 6
    assert [len(catalog.sql(query).fetchall()) for query in queries] == [10] * 6
    shown = [row["source"] for row in lost if row["source"] in parsed.text]
    assert 6 <= len(shown) <= 24
    assert shown != [row["source"] for row in lost[: len(shown)]]


def test_steps_and_packing_are_those_of_the_rows(planned: Corpus) -> None:
    stages = read_stages(Catalog(planned.folder))["laptop"]
    for stage in stages:
        rows = [
            row
            for path in sorted(planned.folder.glob(f"sequences/recipe=laptop/stage={stage.figures['stage']}/*.parquet"))
            for row in pq.read_table(path).to_pylist()
            if row["split"] == "train"
        ]
        rows.sort(key=lambda row: row["position"])
        per = stage.balance.per_step
        costs = [row["flops"] for row in rows]
        loads = [sum(costs[at : at + per]) for at in range(0, len(costs) - per + 1, per)]
        if loads:
            assert stage.balance.planned == pytest.approx(max(loads) / (sum(loads) / len(loads)))
            assert len(stage.balance.curve) == len(loads)
        assert sum(stage.packing.fill) == len(rows) == stage.figures["sequences"]
        assert stage.packing.fill_min == pytest.approx(min(row["tokens"] / row["capacity"] for row in rows))
        assert stage.packing.bound <= len(rows)
        assert stage.packing.most_samples == max(row["segments"] for row in rows)


def test_queries_of_lineage_give_what_the_page_says(planned: Corpus, tmp_path: Path) -> None:
    catalog = Catalog(planned.folder)
    ids = [row[0] for row in catalog.sql("SELECT sample_id FROM samples").fetchall()]
    lineage = read_lineage(catalog, ids)
    assert lineage.forward
    assert lineage.backward
    for row in lineage.forward:
        assert row.source in {found[0] for found in catalog.sql(row.sql).fetchall()}
    for source in lineage.backward:
        found = catalog.sql(source.sql).fetchall()
        assert {tuple(row) for row in source.first} <= {row[:4] for row in found}
        assert sum(row[3] for row in source.uses) == len({row[:4] for row in found})
        assert sum(row[5] for row in source.uses) == sum(row[7] - row[6] for row in found)
        assert any(row[4] in ids for row in found)
    page, _ = report(planned, tmp_path / "report.html")
    assert lineage.forward[0].sql.splitlines()[0] in page


def test_previews_are_spread_over_kinds_of_tasks(corpus: Corpus) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        tasks = ["stem.sum"] * 30 + [f"image.{n}" for n in range(5)] + ["reason.gui.read", "reason.video.at", "video.dense"]
        return [{**rows[0], "task": task, "sample_id": f"{n:031}{n * 7 % 10}"} for n, task in enumerate(tasks)]

    rewrite(corpus, "samples", change)
    catalog = Catalog(corpus.folder)
    task_of = dict(catalog.sql("SELECT sample_id, task FROM samples").fetchall())
    five = [task_of[sample_id] for sample_id in chosen_samples(catalog, 5)]
    assert {task.split(".")[0] for task in five} == {"stem", "image", "reason", "video"}
    assert "reason.gui.read" in five
    assert "reason.video.at" in five
    many = chosen_samples(catalog, 20)
    assert sum(task_of[sample_id] == "stem.sum" for sample_id in many) == 3
    assert [n for n in many if task_of[n] == "stem.sum"] != sorted(n for n, task in task_of.items() if task == "stem.sum")[:3]
    rewrite(corpus, "samples", lambda rows: rows[::-1])
    assert chosen_samples(Catalog(corpus.folder), 20) == many


def test_what_an_answer_points_at_is_drawn() -> None:
    boxes = answer_marks("<think>[0, 0, 1, 1]</think><answer>[[100, 200, 300.5, 400], [900, 900, 2000, 950]]</answer>")
    assert [(mark.x, mark.y, mark.width, mark.height) for mark in boxes] == [(100, 200, 200.5, 200), (900, 900, 100, 50)]
    (point,) = answer_marks('{"action": "click", "point": [500, 0]}')
    assert (point.kind, point.x + point.width / 2, point.y) == ("point", 500, 0)
    assert answer_marks("[5, 5, 4, 9] [1, 2, 3] [1, 2, 3, 4, 5] [99999, 1, 2, 3]") == []
    evidence = read_evidence('{"boxes": [[58, 164, 258, 194]], "intervals": [[1, 2.5], [3, 2]], "pages": [4]}')
    (mark,) = evidence_marks(evidence, (0, 0, 320, 420))
    assert (mark.kind, mark.x, mark.width) == ("evidence", 181.2, 625.0)
    assert evidence.intervals == ((1.0, 2.5),)
    assert evidence_marks(evidence, None) == []
    for torn in (
        None,
        "",
        "[]",
        '{"boxes": 3}',
        '{"boxes": [[1, 2, 3, NaN]], "pages": [true, "x"]}',
        '{"boxes": [[1e400, 0, 2, 2]]}',
    ):
        assert read_evidence(torn) == Evidence()


def test_boxes_lie_over_the_picture_they_are_of(corpus: Corpus, tmp_path: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            row["task"] = "reason.gui.locate"
            row["messages"][0]["parts"][0]["origin"]["box"] = [0.0, 0.0, 84.0, 56.0]
            row["messages"][-1]["parts"][0]["text"] = "<answer>[[250, 500, 750, 1000]]</answer>"
            row["reasoning"] = {"teacher": "t", "verifier": "boxes", "verifier_version": "1", "truth": "", "score": 1.0,
                                "evidence": '{"boxes": [[21, 28, 63, 56]]}', "cost_usd": 0.0}  # fmt: skip
        return rows

    rewrite(corpus, "samples", change)
    page, parsed = report(corpus, tmp_path / "report.html")
    drawn = {attributes["class"]: attributes for tag, attributes in parsed.tags if tag == "rect" and "class" in attributes}
    for kind in ("answer", "evidence"):
        assert [drawn[kind][side] for side in ("x", "y", "width", "height")] == ["250", "500", "500", "500"]
    assert "2 boxes drawn" in page


def test_what_teachers_cost_is_told(corpus: Corpus) -> None:
    catalog = Catalog(corpus.folder)
    assert read_synthesis(catalog) is None
    catalog.connection.execute("""
        CREATE OR REPLACE VIEW costs AS SELECT * FROM (VALUES
            ('reason.a', 'cheap', 10, 5, 12, 600, 400, 2.5, 0.02, 0.004, 0.5),
            ('reason.b', 'dear', 10, 0, 10, 9, 1, 1.0, 3.0, NULL, NULL)
        ) t(task, teacher, questions, accepted, requests, prompt_tokens, completion_tokens, seconds, usd, usd_per_accepted,
            pass_rate)
    """)
    found = read_synthesis(catalog)
    assert found is not None
    assert [row[:2] for row in found.teachers] == [("reason.b", "dear"), ("reason.a", "cheap")]
    assert found.teachers[1][5] == 1000
    assert found.cost == pytest.approx(3.02)


def test_what_changed_since_is_told(corpus: Corpus, tmp_path: Path) -> None:
    older = build_corpus(tmp_path / "older")
    rewrite(older, "sources", lambda rows: [{**row, "split": "heldout"} for row in rows if row["source"] != "photo-3.jpg"])
    rewrite(corpus, "sources", lambda rows: [{**row, "split": "train"} for row in rows])
    write_report(corpus.folder, tmp_path / "report.html", against=older.folder)
    parsed = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "What changed since" in parsed.text
    assert "4 sources moved heldout -> train since the other corpus" in parsed.text
    assert "photo-3.jpg" in parsed.text


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


def test_losses_by_kind_of_sample_are_told(planned: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    lines = [
        {
            "stage": 0,
            "step": s,
            "loss": 5.0,
            "losses": {"task": {"a": [10 - s, 2], "b": [1.0, 1]}, "context": {"32k": [4.0, 3]}},
        }
        for s in range(10)
    ]
    odd: list[dict[str, object]] = [
        {"stage": 0, "step": 10, "loss": 5.0, "losses": {"task": {"a": [None, 2], "b": "x"}, "modality": 3}},
        {"stage": 0, "step": 11, "loss": 5.0, "losses": []},
        {"stage": 0, "step": 12, "loss": 5.0, "skipped": "spike", "losses": {"task": {"a": [99.0, 9]}}},
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines + odd)))
    _, parsed = report(planned, tmp_path / "report.html", run)
    name = "Next-token loss, nats a token; first and last are means over a fifth of the steps that held such samples"
    rows = [row[:5] for row in parsed.tables[name][1:]]
    assert ["context bucket", "32k", "30", "4.000", "4.000"] in rows
    assert ["task", "a", "20", "9.500", "1.500"] in rows
    assert ["task", "b", "10", "1.000", "1.000"] in rows


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


def test_a_torn_table_is_named(corpus: Corpus, tmp_path: Path) -> None:
    path = next(corpus.folder.glob("samples/**/*.parquet"))
    data = path.read_bytes()
    path.write_bytes(data[:40] + b"\xff" * 200 + data[240:])
    with pytest.raises(CorruptCorpusError, match=r"cannot be read: .*longreel check"):
        write_report(corpus.folder, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


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
