"""Every file is an item, belongs to one, or is an inventory; names depend on neither order nor place; no unsafe reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from manifests.errors import UsageError
from pipelines.inputs import escaped, find_inputs


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def test_sidecars_traces_and_inventories_are_not_items(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "a.captions.json", "b.png", "b.gui.json", "c.jpg", "c.caption.json")
    make(tmp_path, "t/trace.json", "t/step-0.png", "t/step-1.png", "t/notes.txt", "lost.gui.json")
    (tmp_path / "SOURCES.json").write_text('{"files": [{"path": "t", "licence": "MIT", "origin": "here"}]}')
    found = find_inputs([tmp_path])
    assert {item.source: [file.role for file in item.attached] for item in found.items} == {
        "a.mp4": [".captions.json"],
        "b.png": [".gui.json"],
        "c.jpg": [".caption.json"],
        "lost.gui.json": [],
        "t/notes.txt": [],
        "t/trace.json": ["step-0.png", "step-1.png"],
    }
    assert found.attached == 6
    by_source = {item.source: item for item in found.items}
    assert by_source["lost.gui.json"].problem is not None
    assert by_source["lost.gui.json"].problem.reason == "orphan_sidecar"
    assert (by_source["t/trace.json"].licence, by_source["t/trace.json"].origin) == ("MIT", "here")
    assert by_source["a.mp4"].licence == "unknown"
    files = sum(len(names) for _, _, names in os.walk(tmp_path))
    assert files == len(found.items) + found.attached


def test_a_changed_sidecar_is_another_source(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "a.gui.json")
    (before,) = find_inputs([tmp_path]).items
    (tmp_path / "a.gui.json").write_text("other")
    (after,) = find_inputs([tmp_path]).items
    assert before.sha256 == after.sha256
    assert before.source_id != after.source_id


def test_names_do_not_depend_on_order_and_tell_two_inputs_apart(tmp_path: Path) -> None:
    one, two = make(tmp_path / "x" / "in", "same.txt", "only.txt"), make(tmp_path / "y" / "in", "same.txt")
    forth, back = find_inputs([one, two]), find_inputs([two, one])
    assert forth == back
    assert [item.source for item in forth.items] == ["only.txt", "x/in/same.txt", "y/in/same.txt"]


def test_overlapping_inputs_count_a_file_once(tmp_path: Path) -> None:
    make(tmp_path, "deep/a.txt", "b.txt")
    found = find_inputs([tmp_path / "deep" / "a.txt", tmp_path / "deep", tmp_path])
    assert [item.source for item in found.items] == ["b.txt", "deep/a.txt"]


def test_a_single_file_brings_its_sidecar_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "a.captions.json", "b.mp4")
    (item,) = find_inputs([tmp_path / "a.mp4"]).items
    assert item.source == "a.mp4"
    assert [file.role for file in item.attached] == [".captions.json"]


def test_links_and_special_files_are_not_followed(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", "secret.txt")
    folder = make(tmp_path / "in", "real.txt")
    (folder / "inner.txt").symlink_to("real.txt")
    (folder / "escape.txt").symlink_to(outside / "secret.txt")
    (folder / "dangling.txt").symlink_to("nowhere")
    (folder / "folder").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    problems = {item.source: item.problem.reason if item.problem else None for item in find_inputs([folder]).items}
    assert problems == {
        "dangling.txt": "unreadable",
        "escape.txt": "unsafe_path",
        "folder": "unsafe_path",
        "inner.txt": None,
        "pipe": "unsafe_path",
        "real.txt": None,
    }


def test_any_bytes_may_be_a_name(tmp_path: Path) -> None:
    for name in (b"caf\xe9.txt", b"line\nfeed.txt", b"back\\slash.txt", "grün.txt".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    sources = [item.source for item in find_inputs([tmp_path]).items]
    assert sources == ["back\\\\slash.txt", "caf\\xe9.txt", "grün.txt", "line\\u000afeed.txt"]
    assert all(source.isprintable() and source.encode() for source in sources)
    assert escaped("a\\xe9") != escaped(os.fsdecode(b"a\xe9"))


def test_a_wrong_request_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "SOURCES.json").write_text("{")
    for path, words in (("nowhere", "does not exist"), ("empty", "without any file"), ("bad", "not readable JSON")):
        with pytest.raises(UsageError, match=words) as caught:
            find_inputs([tmp_path / path])
        assert path in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_longest_entry_of_an_inventory_wins(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c.txt", "a/d.txt")
    entries = {"a": {"licence": "MIT"}, "a/b/c.txt": {"license": "CC0-1.0", "url": "somewhere"}}
    (tmp_path / "SOURCES.json").write_text(json.dumps(entries))
    found = {item.source: (item.licence, item.origin) for item in find_inputs([tmp_path]).items}
    assert found == {"a/b/c.txt": ("CC0-1.0", "somewhere"), "a/d.txt": ("MIT", None)}
