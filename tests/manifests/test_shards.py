"""Shards are what WebDataset reads, what offsets say, and the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import pytest
import webdataset
from small_corpus import picture

from manifests.errors import CorruptCorpusError
from manifests.shards import members, read_media, write_shard


def test_offsets_find_the_pictures(tmp_path: Path) -> None:
    pictures = [picture(seed) for seed in range(5)]
    for item, place in zip(pictures, write_shard(tmp_path / "s.tar", pictures), strict=True):
        assert read_media(tmp_path / "s.tar", place.offset, place.length, place.sha256) == item.data


def test_webdataset_reads_a_shard(tmp_path: Path) -> None:
    pictures = [picture(seed) for seed in range(3)]
    write_shard(tmp_path / "s.tar", pictures)
    read = list(webdataset.WebDataset(str(tmp_path / "s.tar"), shardshuffle=False))
    assert [(row["__key__"], row["jpg"]) for row in read] == [(item.media_id, item.data) for item in pictures]


def test_equal_pictures_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_shard(tmp_path / name, [picture(1), picture(2)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert next(name for name, _ in members(tmp_path / "a")).endswith(".jpg")


def test_wrong_bytes_are_refused(tmp_path: Path) -> None:
    (place,) = write_shard(tmp_path / "s.tar", [picture(1)])
    with pytest.raises(CorruptCorpusError, match="not what was written"):
        read_media(tmp_path / "s.tar", place.offset + 1, place.length, place.sha256)
    with pytest.raises(CorruptCorpusError, match="ends before byte"):
        read_media(tmp_path / "s.tar", place.offset, 10**9)
    with pytest.raises(CorruptCorpusError, match="is missing"):
        read_media(tmp_path / "t.tar", 0, 1)


def test_a_shard_that_fails_half_way_does_not_appear(tmp_path: Path) -> None:
    def items():
        yield picture(1)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_shard(tmp_path / "s.tar", items())
    assert list(tmp_path.iterdir()) == []
