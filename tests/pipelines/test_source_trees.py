"""Projects and series: every file is in one item, long samples hold whole files in reading order, answers can be checked."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from manifests.recipe import Recipe
from pipelines.code_order import reading_order
from pipelines.extraction import Outcome, extract
from pipelines.inputs import find_inputs
from pipelines.items import Item
from pipelines.trees import ROLE


def code(name: str, lines: int, first: str = "") -> str:
    body = "".join(
        f"def {name}_{number}(value):\n    return value * {number} + {number * number}\n\n" for number in range(lines)
    )
    return f"{first}\n{body}" if first else body


def project(folder: Path) -> Path:
    """A small project with everything that may stand in one."""
    files: dict[str, str | bytes] = {
        "app/pyproject.toml": "[project]\nname = 'app'\nversion = '1.0'\ndescription = 'Enough words to be a text'\n",
        "app/README.md": "# App\n\nThis project computes what nobody asked for, at great length and with little use.\n",
        "app/src/app/zeta.py": code("zeta", 20),
        "app/src/app/alpha.py": code("alpha", 30, "from app import zeta\nfrom .mid import mid_1"),
        "app/src/app/mid.py": code("mid", 12, "from . import zeta"),
        "app/src/app/__init__.py": b"",
        "app/src/app/latin.py": "# Grüße\n".encode("latin-1"),
        "app/docs/notes.txt": b"PK\x03\x04 this is an archive that calls itself text\0\0",
        "app/data.csv": "a,b\n1,2\n" * 20,
        "app/.git/HEAD": "ref: refs/heads/main\n",
        "app/.git/objects/aa/bb": bytes(range(200)),
        "other/lone.py": code("lone", 12),
        "other/words.txt": "Some prose that has nothing to do with the project beside it, and stays alone.\n",
    }
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def tree_of(folder: Path) -> Item:
    (item,) = [item for item in find_inputs([folder]).items if any(file.role.startswith(ROLE) for file in item.attached)]
    return item


def read(item: Item, recipe: Recipe) -> Outcome:
    outcome = extract(item, recipe)
    assert isinstance(outcome, Outcome)
    return outcome


def test_every_file_is_in_exactly_one_item(tmp_path: Path) -> None:
    found = find_inputs([project(tmp_path)])
    sources = Counter(source for item in found.items for source in (item.source, *(file.source for file in item.attached)))
    files = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file() and ".git" not in path.parts
    }
    assert set(sources) == files | {"app/.git"}
    assert set(sources.values()) == {1}
    alone = {item.source for item in found.items if not item.attached}
    assert alone == {"app/.git", "app/data.csv", "other/lone.py", "other/words.txt"}
    assert found.attached == len(files) - 4


def test_folders_of_version_control_are_filtered_not_lost(tmp_path: Path, recipe: Recipe) -> None:
    (item,) = [item for item in find_inputs([project(tmp_path)]).items if item.source == "app/.git"]
    outcome = read(item, recipe)
    assert (outcome.status, outcome.dropped[0]["reason"]) == ("filtered", "not_source")


def test_the_recipe_may_leave_files_alone(tmp_path: Path) -> None:
    found = find_inputs([project(tmp_path)], trees=False)
    assert found.attached == 0
    assert len(found.items) == sum(len(files) for _, _, files in os.walk(tmp_path))


def test_files_of_other_licences_are_not_mixed(tmp_path: Path) -> None:
    project(tmp_path)
    entries = {"app": {"licence": "MIT"}, "app/src/app/zeta.py": {"licence": "GPL-3.0-only"}}
    (tmp_path / "SOURCES.json").write_text(json.dumps(entries))
    by_source = {item.source: item for item in find_inputs([tmp_path]).items}
    assert by_source["app/src/app/zeta.py"].licence == "GPL-3.0-only"
    assert not by_source["app/src/app/zeta.py"].attached
    assert tree_of(tmp_path).licence == "MIT"


def test_an_archive_of_documents_in_git_is_no_project(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"page-{number}.md").write_text(f"# Page {number}\n")
    (tmp_path / "build.py").write_text("print()\n")
    (tmp_path / "Makefile").write_text("all:\n")
    (tmp_path / ".git").mkdir()
    assert not any(item.attached for item in find_inputs([tmp_path]).items)
    (tmp_path / "series.json").write_text("{}")
    # What a person says counts: now it is a series.
    assert len(tree_of(tmp_path).attached) == 6


def test_what_is_used_is_read_before_its_user() -> None:
    files = {
        "a.py": "from pkg import b\nimport c, d as e",
        "c.py": "import a",  # a cycle
        "d.py": "",
        "pkg/b.py": "from .deep.x import y\nfrom .. import d",
        "pkg/deep/x.py": "",
        "main.c": '#include "util.h"\n#include <stdio.h>',
        "util.h": "",
        "web/app.js": 'import x from "./lib/x"; const y = require("../y.js")',
        "web/lib/x.ts": "",
        "y.js": "",
        "README.md": "",
    }
    order = reading_order(files)
    assert sorted(order) == sorted(files)
    place = {path: index for index, path in enumerate(order)}
    assert order[0] == "README.md"
    users = {"a.py": ["pkg/b.py", "c.py", "d.py"], "pkg/b.py": ["pkg/deep/x.py", "d.py"], "main.c": ["util.h"]}
    for user, used in {**users, "web/app.js": ["web/lib/x.ts", "y.js"]}.items():
        assert all(place[path] < place[user] for path in used), (user, order)
    assert reading_order(dict(reversed(files.items()))) == order
    chain = {f"m{number:05d}.py": f"import m{number + 1:05d}" for number in range(3_000)}
    assert reading_order(chain)[0] == "m02999.py"


def test_long_samples_are_whole_files_in_order(tmp_path: Path, recipe: Recipe) -> None:
    item = tree_of(project(tmp_path))
    outcome = read(item, recipe)
    long = [row for row in outcome.samples if row["task"] == "code.long"]
    assert long
    for row in long:
        parts = row["messages"][0]["parts"]
        numbers = [part["origin"]["page"] for part in parts]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        for part in parts:
            head, _, words = part["text"].partition("\n")
            path = tmp_path / "app" / head.removeprefix("==> ").removesuffix(" <==")
            assert words.strip("\n") == path.read_text().strip("\n")
    assert outcome.annotation is not None
    order = [file["path"] for file in json.loads(outcome.annotation[1])["files"]]
    assert order[0] == "README.md"
    assert order.index("src/app/zeta.py") < order.index("src/app/mid.py") < order.index("src/app/alpha.py")
    short = "".join(
        part["text"]
        for row in outcome.samples
        if row["task"] == "code.text"
        for part in row["messages"][0]["parts"]
        if order[part["origin"]["page"] - 1] == "src/app/alpha.py"
    )
    assert short == (tmp_path / "app/src/app/alpha.py").read_text()
    assert {row["licence"] for row in outcome.samples} == {"unknown"}


def test_files_that_cannot_be_read_are_named_and_cost_nothing_else(tmp_path: Path, recipe: Recipe) -> None:
    outcome = read(tree_of(project(tmp_path)), recipe)
    assert outcome.status == "used"
    named = {(row["reason"], row["detail"].split(":")[0]) for row in outcome.dropped}
    assert ("empty", "src/app/__init__.py") in named
    assert ("bad_encoding", "src/app/latin.py") in named
    assert {reason for reason, name in named if name == "docs/notes.txt"} == {"wrong_type"}


def test_which_file_holds_a_line_has_one_answer(tmp_path: Path, recipe: Recipe) -> None:
    outcome = read(tree_of(project(tmp_path)), recipe)
    asked = [row for row in outcome.samples if row["task"] == "document.multi"]
    assert asked
    for row in asked:
        question, answer = row["messages"]
        line = question["parts"][-1]["text"].split("“")[1].split("”")[0]
        files = [part["text"] for part in question["parts"][:-1]]
        assert len(files) > 1
        holding = [words.split("\n", 1)[0] for words in files if line in words]
        assert holding == [f"==> {answer['parts'][0]['text']} <=="]
        assert "".join(files).count(line) == 1


def test_the_order_of_walking_changes_nothing(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path)
    before = find_inputs([tmp_path])
    walk = os.walk

    def backwards(top: Path, **options: bool):  # type: ignore[no-untyped-def]
        for folder, names, files in walk(top, **options):
            names.reverse()
            yield folder, names, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert find_inputs([tmp_path]) == before
