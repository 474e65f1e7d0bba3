"""Media behind an address: fetched through a bounded cache that several processes share, and named when it cannot be had."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from tiny_corpus import TinyCorpus
from upath import UPath

from manifests.catalog import Catalog
from trainer import block_cache
from trainer.block_cache import BLOCK, BlockCache, UnreachableError
from trainer.launch import Launch
from trainer.loader import StageSequences
from trainer.media import BadMediaError

Store = tuple[fsspec.AbstractFileSystem, str]


@pytest.fixture
def store(tiny_corpus: TinyCorpus) -> Iterator[Store]:
    """The tiny corpus behind an address."""
    memory, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    for path in tiny_corpus.folder.rglob("*"):
        if path.is_file():
            memory.pipe_file(f"{root}/{path.relative_to(tiny_corpus.folder).as_posix()}", path.read_bytes())
    yield memory, root
    memory.rm(root, recursive=True)


def behind(store: Store, corpus: TinyCorpus, cache: Path) -> StageSequences:
    launch = Launch(media_cache=str(cache), media_cache_bytes=2**26)
    return StageSequences(Catalog(f"memory:/{store[1]}"), corpus.recipe, stage=1, split="train", launch=launch)


def test_a_corpus_behind_an_address_gives_the_same_batches(
    store: Store, tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = StageSequences(Catalog(tiny_corpus.folder), tiny_corpus.recipe, stage=1, split="train")
    for again in range(2):
        there = behind(store, tiny_corpus, tmp_path / "cache")
        for position in range(len(here)):
            one, other = here.batch(position), there.batch(position)
            assert torch.equal(one.input_ids, other.input_ids)
            assert one.pixel_values is None or torch.equal(one.pixel_values, other.pixel_values)  # type: ignore[arg-type]
        if not again:  # the second time nothing is fetched
            monkeypatch.setattr(block_cache, "_fetch", lambda *where: pytest.fail(f"fetched {where}"))


def test_a_damaged_block_is_fetched_anew(store: Store, tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    behind(store, tiny_corpus, tmp_path / "cache").batch(0)
    (block,) = (path for path in (tmp_path / "cache").glob("*/*") if path.name.isdigit())
    whole = block.read_bytes()
    block.write_bytes(bytes(len(whole)))
    behind(store, tiny_corpus, tmp_path / "cache").batch(0)
    assert block.read_bytes() == whole
    memory, root = store
    (shard,) = (path for path in memory.find(root) if path.endswith(".tar"))
    memory.pipe_file(shard, bytes(len(whole)))
    block.unlink()
    with pytest.raises(
        BadMediaError, match=r"^sample .*, picture .*: media shard media/shard-00000.tar: .* not what was written"
    ):
        behind(store, tiny_corpus, tmp_path / "cache").batch(0)
    memory.rm(shard)
    block.unlink()
    with pytest.raises(BadMediaError, match=r"^sample .*, picture .* of media/shard-00000.tar cannot be read"):
        behind(store, tiny_corpus, tmp_path / "cache").batch(0)


class Flaky:
    """A remote file that fails so often before it answers."""

    def __init__(self, file: UPath, failures: int) -> None:
        self.file, self.failures = file, failures

    def __str__(self) -> str:
        return str(self.file)

    def open(self, mode: str) -> object:
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionResetError("the line is dead")
        return self.file.open(mode)


def test_a_broken_download_is_tried_again_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_cache, "FIRST_WAIT_S", 0.0)
    file = UPath(f"memory://{uuid.uuid4().hex}/shard.tar")
    file.write_bytes(bytes(range(256)))
    cache = BlockCache(tmp_path, BLOCK)
    assert cache.read(Flaky(file, 3), 250, 100) == bytes(range(250, 256))  # type: ignore[arg-type]
    cache.forget(file, 0, 1)
    with pytest.raises(UnreachableError, match=r"shard.tar: bytes 0 to 1048576 .* in 4 tries \(ConnectionResetError: the line"):
        cache.read(Flaky(file, 4), 0, 1)  # type: ignore[arg-type]


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def test_the_cache_stays_within_its_bound_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    file = tmp_path / "shard"
    file.write_bytes(b"".join(bytes([number]) * BLOCK for number in range(12)))
    cache = BlockCache(tmp_path / "cache", 8 * BLOCK)
    for number in range(12):
        assert cache.read(file, number * BLOCK + 5, 10) == bytes([number]) * 10
        cache.read(file, 0, 1)  # always in use
        assert taken(cache.folder) <= cache.limit
    held = {int(path.name) for path in cache.folder.glob("*/*")}
    assert {0, 11} <= held
    assert 1 not in held
    assert cache.read(file, 3 * BLOCK - 2, 4) == bytes([2, 2, 3, 3])


READ = """
import sys
from pathlib import Path
from trainer.block_cache import BLOCK, BlockCache
cache, seed = BlockCache(Path(sys.argv[2]), 6 * BLOCK), int(sys.argv[3])
for turn in range(40):
    number = (turn * 7 + seed * 3) % 16
    assert cache.read(Path(sys.argv[1]), number * BLOCK, 3) == bytes([number]) * 3
"""


def test_processes_share_a_cache(tmp_path: Path) -> None:
    file = tmp_path / "shard"
    file.write_bytes(b"".join(bytes([number]) * BLOCK for number in range(16)))
    command = [sys.executable, "-c", READ, str(file), str(tmp_path / "cache")]
    readers = [subprocess.Popen([*command, str(seed)], stderr=subprocess.PIPE, text=True) for seed in (1, 2, 3)]
    assert [reader.communicate()[1] for reader in readers] == ["", "", ""]
    assert taken(tmp_path / "cache") <= 6 * BLOCK
    # What a killed process left goes with the next clearing, and the count is made anew.
    (tmp_path / "cache" / "bytes").write_bytes(b"%032d" % (60 * BLOCK))
    cache = BlockCache(tmp_path / "cache", 6 * BLOCK)
    for number in range(16):
        cache.read(file, number * BLOCK, 1)
    assert taken(cache.folder) > BLOCK
