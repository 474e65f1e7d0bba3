"""What the trainer reads is what curation counted, in one global order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from reading import change_byte, place_of, sequences
from tiny_corpus import TinyCorpus

from manifests.catalog import Catalog
from manifests.errors import CorruptCorpusError, CostMismatchError, LongreelError
from manifests.files import write_rows
from manifests.rendering import render
from manifests.schemas import SAMPLES
from model.patches import images_to_patches
from trainer.collate import PackedBatch, collate
from trainer.launch import Launch
from trainer.loader import Loader, StageSequences, StepLoader, rank_positions, step_positions
from trainer.media import decode
from trainer.packed_arrays import grid_of, pack
from trainer.sequence_reader import Order
from trainer.token_store import tokens_of


def test_batches_hold_exactly_the_counted_tokens(tiny_corpus: TinyCorpus) -> None:
    query = "SELECT tokens, visual_tokens FROM sequences WHERE stage = 1 AND split = 'train' ORDER BY position"
    counted = Catalog(tiny_corpus.folder).connection.execute(query).fetchall()
    loaded = [sequences(tiny_corpus).batch(position) for position in range(len(counted))]
    assert [(batch.tokens, batch.visual_tokens) for batch in loaded] == counted
    pad = tiny_corpus.tokenizer.special("<|image_pad|>")
    for batch in loaded:
        assert int((batch.input_ids == pad).sum()) == batch.visual_tokens
        if batch.pixel_values is not None and batch.image_grid_thw is not None:
            assert len(batch.pixel_values) == int(batch.image_grid_thw.prod(1).sum()) == 4 * batch.visual_tokens


def test_tokens_are_those_that_curation_counted(tiny_corpus: TinyCorpus) -> None:
    by_id = {sample.sample_id: sample for sample in tiny_corpus.samples["train"]}
    reader = sequences(tiny_corpus)
    for position in range(len(reader)):
        samples = [by_id[sample_id] for sample_id in reader.sample_ids(position)]
        rendered = [render(each.messages, tiny_corpus.tokenizer, tiny_corpus.recipe.visual) for each in samples]
        tokens = reader.reader.tokens(reader.order(position))
        assert tokens.ids.tolist() == [token for one in rendered for token in one.ids.tolist()]
        assert tokens.labels.tolist() == [label for one in rendered for label in one.labels.tolist()]


def test_labels_never_cross_samples(tiny_corpus: TinyCorpus) -> None:
    samples = [
        render(s.messages, tiny_corpus.tokenizer, tiny_corpus.recipe.visual) for s in tiny_corpus.samples["train"][2:9:3]
    ]
    batch = collate(pack(tokens_of(samples), [], patch=14, merge=2))
    starts = batch.cu_seqlens[:-1].long()
    assert len(starts) == 3
    assert (batch.labels[starts] == -100).all()
    assert batch.targets == int((batch.labels[1:] >= 0).sum()) == sum(int((s.labels >= 0).sum()) - 1 for s in samples)


def rewrite_samples(corpus: TinyCorpus, change: dict[str, Any]) -> str:
    """Changes the row of the first training sample; returns its id."""
    path = next((corpus.folder / "samples").rglob("*.parquet"))
    rows = pq.read_table(path).to_pylist()
    rows[0].update(change)
    write_rows(path, rows, SAMPLES)
    return str(rows[0]["sample_id"])


@pytest.mark.parametrize("column", ["total_tokens", "visual_tokens"])
def test_a_wrong_count_stops_with_the_sample(own_corpus: TinyCorpus, column: str) -> None:
    sample_id = rewrite_samples(own_corpus, {column: 7})
    with pytest.raises(CostMismatchError, match=f"sample {sample_id} renders to .* counts .*7.* curate again"):
        sequences(own_corpus).batch(0)


def test_a_changed_byte_in_a_shard_stops_with_sample_and_picture(own_corpus: TinyCorpus) -> None:
    reader = sequences(own_corpus)
    picture = own_corpus.samples["train"][0].visuals[0].media_id
    shard, offset, _, _ = place_of(reader, picture)
    change_byte(own_corpus.folder / shard, offset + 40)
    sample_id = own_corpus.samples["train"][0].sample_id
    with pytest.raises(CorruptCorpusError, match=f"sample {sample_id}, picture {picture}: media shard .* not what was written"):
        reader.batch(0)


def test_pictures_are_resized_to_what_was_counted(own_corpus: TinyCorpus) -> None:
    data = next(item.data for item in own_corpus.pictures.values() if item.extension == "png")
    first, second = (decode(data, height=56, width=84) for _ in range(2))
    assert first.shape == (56, 84, 3)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_the_global_order_does_not_depend_on_world_size(world: int) -> None:
    for step in range(4):
        positions = step_positions(step, sequences=13, per_step=4)
        shares = [rank_positions(positions, rank=rank, world=world) for rank in range(world)]
        assert len({len(share) for share in shares}) == 1
        dealt = [share[turn] for turn in range(len(shares[0])) for share in shares]
        assert [position for position in dealt if position is not None] == list(positions)
    assert [list(step_positions(step, sequences=13, per_step=4)) for step in range(4)][-1] == [12]


def test_the_loader_goes_on_where_it_is_told(tiny_corpus: TinyCorpus) -> None:
    def ids(first: int) -> list[torch.Tensor]:
        loader = StepLoader(sequences(tiny_corpus), per_step=2, first=first, last=6, rank=0, world=1)
        with loader:
            return [batch.input_ids for step in loader for batch, weight in step.batches if weight]

    whole, rest = ids(0), ids(4)
    assert len(whole) == len(sequences(tiny_corpus))
    assert all(torch.equal(a, b) for a, b in zip(whole[8:], rest, strict=True))


def test_an_error_while_reading_ahead_reaches_the_trainer(own_corpus: TinyCorpus) -> None:
    rewrite_samples(own_corpus, {"total_tokens": 7})
    with (
        StepLoader(sequences(own_corpus), per_step=1, first=0, last=2, rank=0, world=1) as loader,
        pytest.raises(CostMismatchError),
    ):
        list(loader)


def test_leaving_the_loader_early_stops_its_thread(tiny_corpus: TinyCorpus) -> None:
    loader = StepLoader(sequences(tiny_corpus), per_step=1, first=0, last=13, rank=0, world=1, ahead=1)
    with loader:
        next(iter(loader))
    assert not loader._thread.is_alive()


def same(one: PackedBatch, other: PackedBatch) -> bool:
    tensors = ("input_ids", "labels", "cu_seqlens", "pixel_values", "image_grid_thw")
    pairs = [(getattr(one, name), getattr(other, name)) for name in tensors]
    return one.facts == other.facts and all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


def test_pictures_become_the_floats_of_the_model(tiny_corpus: TinyCorpus) -> None:
    pictures = [decode(item.data, height=56, width=84) for item in list(tiny_corpus.pictures.values())[:3]]
    text = [render(tiny_corpus.samples["train"][2].messages, tiny_corpus.tokenizer, tiny_corpus.recipe.visual)]
    batch = collate(pack(tokens_of(text), pictures, patch=14, merge=2))
    pixels, grid = images_to_patches([picture.copy() for picture in pictures], patch_size=14, merge_size=2)
    assert batch.pixel_values is not None
    assert batch.image_grid_thw is not None
    assert torch.equal(batch.pixel_values, pixels)
    assert torch.equal(batch.image_grid_thw, grid)
    with pytest.raises(ValueError, match="50x56 px is no multiple of 28 px"):
        grid_of(np.zeros((56, 50, 3), dtype=np.uint8), patch=14, merge=2)


def test_bytes_that_wait_for_a_device_become_the_same_floats(tiny_corpus: TinyCorpus) -> None:
    reader = sequences(tiny_corpus)
    arrays = reader.reader.read(reader.order(0))
    waiting = replace(collate(arrays), pixel_values=torch.from_numpy(arrays.patches))
    assert same(waiting.to(torch.device("cpu")), collate(arrays))


def test_facts_are_those_of_the_table_in_order(tiny_corpus: TinyCorpus) -> None:
    reader = sequences(tiny_corpus)
    planned = Catalog(tiny_corpus.folder).connection.execute(
        "SELECT position, sample_id, task, modality, context_bucket, coalesce(duration_bucket, 'none') FROM segments "
        "JOIN samples USING (sample_id) WHERE stage = 1 AND segments.split = 'train' ORDER BY position, segment"
    ).fetchall()  # fmt: skip
    found = [(at, fact.sample_id, *fact.kind) for at in range(len(reader)) for fact in reader.facts(at)]
    assert found == planned


def test_processes_read_what_a_thread_reads_stage_after_stage(tiny_corpus: TinyCorpus) -> None:
    with Loader(Catalog(tiny_corpus.folder), tiny_corpus.recipe, launch=Launch(workers=2)) as loader:
        seen = set()
        for stage in (1, 3):
            reader = loader.sequences(stage=stage, split="train")
            with loader.steps(reader, per_step=2, first=1, last=-(-len(reader) // 2)) as steps:
                read = [batch for step in steps for batch, weight in step.batches if weight]
            assert loader._pool is not None
            seen |= {process.process.pid for process in loader._pool.processes}
            expected = [sequences(tiny_corpus, stage=stage).batch(position) for position in range(2, len(reader))]
            assert len(read) == len(expected) > 0
            assert all(same(a, b) for a, b in zip(read, expected, strict=True))
        assert len(seen) == 2  # the same processes for both stages


def test_a_reader_process_loads_neither_torch_nor_duckdb() -> None:
    look = (
        "import sys, trainer.reader_process; print([m for m in ('torch', 'deepspeed', 'duckdb', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_of_a_process_is_the_same_error(own_corpus: TinyCorpus) -> None:
    sample_id = rewrite_samples(own_corpus, {"total_tokens": 7})
    with (
        Loader(Catalog(own_corpus.folder), own_corpus.recipe, launch=Launch(workers=1)) as loader,
        loader.steps(loader.sequences(stage=1, split="train"), per_step=1, first=0, last=2) as steps,
        pytest.raises(CostMismatchError, match=f"^sample {sample_id} renders to .* counts 7"),
    ):
        list(steps)


def test_killed_processes_are_replaced_and_nothing_is_lost(tiny_corpus: TinyCorpus) -> None:
    with Loader(Catalog(tiny_corpus.folder), tiny_corpus.recipe, launch=Launch(workers=2)) as loader:
        reader = loader.sequences(stage=1, split="train")
        read = []
        with loader.steps(reader, per_step=1, first=0, last=len(reader)) as steps:
            for step in steps:
                if step.step == 0:
                    assert loader._pool is not None
                    for process in list(loader._pool.processes):
                        process.process.kill()
                read += [batch.input_ids for batch, _ in step.batches]
    expected = [sequences(tiny_corpus).batch(position).input_ids for position in range(len(reader))]
    assert all(torch.equal(a, b) for a, b in zip(read, expected, strict=True))


def test_a_sequence_that_ends_every_process_is_named(tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = sequences(tiny_corpus)
    monkeypatch.setattr(StageSequences, "order", lambda self, position, sharing: _Deadly(self.where, position, ()))
    with (
        Loader(Catalog(tiny_corpus.folder), tiny_corpus.recipe, launch=Launch(workers=1)) as loader,
        loader.steps(reader, per_step=1, first=0, last=1) as steps,
        pytest.raises(LongreelError, match=r"stage 1, train: sequence 0 ended 2 reader processes \(status 3\)"),
    ):
        list(steps)


class _Deadly(Order):
    """Ends the process that unpickles it, as a crash of a decoder would."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def test_leaving_early_ends_the_processes(tiny_corpus: TinyCorpus) -> None:
    with Loader(Catalog(tiny_corpus.folder), tiny_corpus.recipe, launch=Launch(workers=2)) as loader:
        reader = loader.sequences(stage=1, split="train")
        with loader.steps(reader, per_step=1, first=0, last=len(reader)) as steps:
            next(iter(steps))
        assert loader._pool is not None
        processes = list(loader._pool.processes)
        # What the first reading left is dropped, not mistaken for the second's.
        with loader.steps(reader, per_step=1, first=5, last=6) as steps:
            (step,) = steps
        assert torch.equal(step.batches[0][0].input_ids, sequences(tiny_corpus).batch(5).input_ids)
    assert all(process.process.poll() is not None for process in processes)


TRAIN = """
import sys, time
from manifests.catalog import Catalog
from trainer.launch import Launch
from trainer.loader import Loader
from trainer.stage_manifest import read_stages
catalog = Catalog(sys.argv[1])
with Loader(catalog, read_stages(catalog, "pocket")[1].recipe, launch=Launch(workers=2)) as loader:
    sequences = loader.sequences(stage=1, split="train")
    with loader.steps(sequences, per_step=1, first=0, last=len(sequences)) as steps:
        next(iter(steps))
        print(*(process.process.pid for process in loader._pool.processes), flush=True)
        time.sleep(60)
"""


def test_processes_end_with_a_killed_trainer(tiny_corpus: TinyCorpus) -> None:
    trainer = subprocess.Popen([sys.executable, "-c", TRAIN, str(tiny_corpus.folder)], stdout=subprocess.PIPE, text=True)
    with trainer:
        assert trainer.stdout is not None
        readers = [int(word) for word in trainer.stdout.readline().split()]
        trainer.kill()
    assert len(readers) == 2
    deadline = time.monotonic() + 20
    while alive := [pid for pid in readers if is_running(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Whether a process is there and is no zombie that nobody waits for."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_media_is_replaced_recorded_and_teaches_nothing(own_corpus: TinyCorpus, tmp_path: Path, workers: int) -> None:
    whole = sequences(own_corpus).batch(0)
    picture = own_corpus.samples["train"][0].visuals[0].media_id
    shard, offset, _, _ = place_of(sequences(own_corpus), picture)
    change_byte(own_corpus.folder / shard, offset + 40)
    launch = Launch(workers=workers, on_bad_media="replace")
    for _ in range(2):  # training a step again records nothing anew
        with Loader(
            Catalog(own_corpus.folder), own_corpus.recipe, launch=launch, replaced=tmp_path / "run" / "replaced.jsonl"
        ) as loader:
            reader = loader.sequences(stage=1, split="train")
            with loader.steps(reader, per_step=1, first=0, last=1) as steps:
                ((batch, _),) = next(iter(steps)).batches
    assert torch.equal(batch.input_ids, whole.input_ids)
    assert batch.pixel_values is not None
    assert whole.pixel_values is not None
    assert batch.pixel_values.shape == whole.pixel_values.shape
    samples = reader.sample_ids(0)
    damaged = samples.index(own_corpus.samples["train"][0].sample_id)
    start, end = batch.cu_seqlens[damaged : damaged + 2].tolist()
    assert (batch.labels[start:end] == -100).all()
    assert (whole.labels[start:end] != -100).any()
    others = torch.ones(batch.tokens, dtype=torch.bool)
    others[start:end] = False
    assert torch.equal(batch.labels[others], whole.labels[others])
    assert batch.targets == int((batch.labels != -100).sum())
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "replaced.jsonl").read_text().splitlines()]
    assert (line["where"], line["position"], line["sample_id"], line["media_id"]) == (
        "stage 1, train",
        0,
        samples[damaged],
        picture,
    )
    assert "not what was written" in line["reason"]


def test_a_packed_sample_without_a_row_is_named(own_corpus: TinyCorpus) -> None:
    path = next((own_corpus.folder / "samples").rglob("*.parquet"))
    rows = pq.read_table(path).to_pylist()
    write_rows(path, [row for row in rows if row["sample_id"] != own_corpus.samples["train"][0].sample_id], SAMPLES)
    with pytest.raises(CorruptCorpusError, match=f"sample {own_corpus.samples['train'][0].sample_id} is packed but not in"):
        sequences(own_corpus)


def test_rows_that_change_while_they_are_read_are_noticed(own_corpus: TinyCorpus) -> None:
    reader = sequences(own_corpus)
    path = next((own_corpus.folder / "samples").rglob("*.parquet"))
    write_rows(path, pq.read_table(path).to_pylist()[::-1], SAMPLES)
    with pytest.raises(CorruptCorpusError, match="the corpus changed while it was read"):
        reader.batch(0)


def test_row_groups_are_read_as_they_are_needed(own_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [sequences(own_corpus).batch(position) for position in range(len(sequences(own_corpus)))]
    path = next((own_corpus.folder / "samples").rglob("*.parquet"))
    pq.write_table(pq.read_table(path), path, row_group_size=2)
    monkeypatch.setattr("trainer.sequence_reader.ROW_BYTES", 1)
    reader = sequences(own_corpus)
    assert all(same(reader.batch(position), batch) for position, batch in enumerate(whole))
    assert len(reader.reader.rows._groups) == 1


def test_a_launch_says_how_many_processes_read() -> None:
    assert Launch(workers=5).workers_for(on_gpu=False, neighbours=1) == 5
    assert Launch().workers_for(on_gpu=False, neighbours=1) == 0
    assert 1 <= Launch().workers_for(on_gpu=True, neighbours=4) <= 8
    for wrong in ({"workers": -1}, {"on_bad_media": "ignore"}, {"media_cache_bytes": 1}):
        with pytest.raises(ValueError, match=f"launch: {next(iter(wrong))}="):
            Launch(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_tokens_are_those_that_are_rendered(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    if not workers:  # several parts; processes have a PART of their own
        monkeypatch.setattr("trainer.token_store.PART", 3)
    launch = Launch(workers=workers, tokens=str(tmp_path / "tokens"))
    expected = [sequences(tiny_corpus).batch(position) for position in range(len(sequences(tiny_corpus)))]
    for _ in range(2):
        with Loader(Catalog(tiny_corpus.folder), tiny_corpus.recipe, launch=launch) as loader:
            reader = loader.sequences(stage=1, split="train")
            assert reader.kept is not None
            files = {path: path.stat().st_mtime_ns for path in Path(reader.kept[0]).iterdir()}
            # Rendering is not needed any more.
            monkeypatch.setattr(reader.reader, "render", lambda segment: pytest.fail("rendered"))
            with loader.steps(reader, per_step=1, first=0, last=len(reader)) as steps:
                assert all(same(step.batches[0][0], batch) for step, batch in zip(steps, expected, strict=True))
    assert {path: path.stat().st_mtime_ns for path in Path(reader.kept[0]).iterdir()} == files


def test_damaged_kept_tokens_are_named(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    launch = Launch(tokens=str(tmp_path / "tokens"))
    reader = Loader(Catalog(tiny_corpus.folder), tiny_corpus.recipe, launch=launch).sequences(stage=1, split="train")
    (path,) = (tmp_path / "tokens").rglob("part-*.tokens")
    change_byte(path, path.stat().st_size - 9)
    with pytest.raises(CorruptCorpusError, match=rf"part-00000\.tokens: sequence {len(reader) - 1} is not what was written"):
        reader.batch(len(reader) - 1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptCorpusError, match=r"part-00000\.tokens cannot be read"):
        Loader(Catalog(tiny_corpus.folder), tiny_corpus.recipe, launch=launch).sequences(stage=1, split="train").batch(0)
