"""Which files serve others, and that a corpus of every form keeps its promises."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from test_gui_trees import RICO, UIAUTOMATOR, picture
from written_tables import rows

from manifests.check import check
from manifests.recipe import Recipe
from pipelines import curate
from pipelines.forms import HEAD_BYTES, json_form
from pipelines.inputs import find_inputs


def test_a_json_or_xml_file_describes_a_picture_of_its_name_and_else_stands_for_itself(tmp_path: Path) -> None:
    for name in ("a.png", "a.json", "b.png", "b.xml", "c.json", "d.xml", "e.mp4", "e.json", "trace.png", "trace.json"):
        (tmp_path / name).write_text(name)
    assert {item.source: [file.role for file in item.attached] for item in find_inputs([tmp_path]).items} == {
        "a.png": [".json"], "b.png": [".xml"], "c.json": [], "d.xml": [], "e.json": [], "e.mp4": [], "trace.json": [],
        "trace.png": [],
    }  # fmt: skip


def test_the_form_of_a_json_file_is_told_by_its_first_bytes() -> None:
    question, document = b'{"question": "a", "answer": "b"}', b'{"texts": ["a"], "images": [null]}'
    assert json_form("x.jsonl", b"\n{\n" + question) == "questions"
    assert json_form("x.jsonl", document) == "interleaved"
    assert json_form("x.json", b"\xef\xbb\xbf" + document) == "interleaved"
    assert json_form("x.json", b'[{"bbox": [1], "img_filename": "a.png"}]') == "screens"
    assert json_form("deep/pasting.json", b"") == "pasting"
    assert json_form("x.txt", question) is None
    assert json_form("x.json", b'{"level": 1}') is None
    assert json_form("x.jsonl", b'{"level": 1}\n' + question) is None
    long = b'"texts": ["' + b"word " * HEAD_BYTES
    for head in (b"{" + long, b'{"images": [null], ' + long, b'{"text_list": ["' + long):
        assert json_form("x.jsonl", head[:HEAD_BYTES]) == "interleaved"
        assert json_form("x.json", head[:HEAD_BYTES]) == "interleaved"


def every_form(folder: Path, examples: Path) -> Path:
    """A folder with an input in each form that names other files or describes a screen."""
    for name in ("rico", "page/figures", "set/images", "balls/objects", "balls/backgrounds", "trace"):
        (folder / name).mkdir(parents=True)
    (folder / "rico" / "1.png").write_bytes(picture(360, 640, (14, 150, 346, 190)))
    (folder / "rico" / "1.json").write_text(json.dumps(RICO))
    (folder / "rico" / "2.png").write_bytes(picture(360, 640, (20, 100, 120, 130)))
    (folder / "rico" / "2.xml").write_text(UIAUTOMATOR)
    shutil.copy(examples / "images" / "coffee.jpg", folder / "page" / "figures" / "cup.jpg")
    (folder / "page" / "page.md").write_text(
        "# Cups\n\n" + "A cup holds coffee, and tea. " * 6 + "\n\n![A cup](figures/cup.jpg)"
    )
    shutil.copy(examples / "gui" / "click-tab-2.png", folder / "set" / "images" / "a.png")
    set_rows = [{"img_filename": "a.png", "bbox": [5, 5, 40, 40], "instruction": "go", "data_type": "icon", "data_source": "x"}]
    (folder / "set" / "set.json").write_text(json.dumps([*set_rows, {"img_filename": "b.png"}]))
    shutil.copy(examples / "gui" / "login-user.png", folder / "balls" / "objects" / "form.png")
    shutil.copy(examples / "images" / "coffee.jpg", folder / "balls" / "backgrounds" / "cup.jpg")
    (folder / "balls" / "pasting.json").write_text('{"format": "longreel-pasting/1", "pictures": 3}')
    (folder / "qa.jsonl").write_text('{"question": "How many days has a week?", "answer": "Seven."}\n{}\n')
    for path in (examples / "traces" / "login-user").iterdir():
        shutil.copy(path, folder / "trace")
    return folder


def test_a_corpus_of_every_form_keeps_its_promises(examples: Path, tmp_path: Path, recipe: Recipe) -> None:
    folder = every_form(tmp_path / "in", examples)
    pasting = replace(recipe, curate=replace(recipe.curate, pasted_per_screen=1))
    result = curate([folder], tmp_path / "out", pasting, beam_options=("--direct_running_mode=in_memory",))
    for finding in check(tmp_path / "out"):
        assert finding.holds, (finding.promise, finding.problems)
    assert result.counts["quarantined"] == 0, rows(tmp_path / "out", "quarantine")
    files = sum(len(names) for _, _, names in os.walk(folder))
    assert files == result.counts["inputs"] + result.counts["attached"]
    assert set(result.counts["tasks"]) == {
        "gui.action", "gui.describe", "gui.function", "gui.instruction", "gui.locate", "gui.next_action", "gui.operation",
        "gui.qa", "gui.recognise", "image.count", "image.grounding", "image.interleaved", "text.qa",
    }  # fmt: skip
    assert {row["source"]: row["status"] for row in rows(tmp_path / "out", "sources")} == {
        "balls/pasting.json": "used", "page/page.md": "used", "qa.jsonl": "used", "rico/1.png": "used", "rico/2.png": "used",
        "set/images/a.png": "used", "set/set.json": "filtered", "trace/trace.json": "used",
    }  # fmt: skip
    assert {row["kind"] for row in rows(tmp_path / "out", "annotations")} == {"gui", "pasted", "trace"}
