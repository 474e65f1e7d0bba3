"""What a step shows is what happened: losses by group, load of the experts, operations, curves."""

from __future__ import annotations

import json
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_corpus import TinyCorpus, read_metrics
from torch.nn.functional import cross_entropy

from manifests.catalog import Catalog
from manifests.stage_spec import PhaseSpec
from model.costs import forward_flops
from trainer import train
from trainer.build import build_model
from trainer.engine import PhaseEngine
from trainer.flops import step_flops
from trainer.launch import Launch
from trainer.loader import StageSequences, StepBatches
from trainer.metrics import TrainResult
from trainer.model_shape import model_config
from trainer.ranks import start_ranks
from trainer.recall import measured_sample, one_sample
from trainer.sample_facts import AXES, LossByKind, SampleFacts, SampleKind, kinds_of
from trainer.tensorboard import TensorBoard


def test_groups_of_every_step_add_up_to_its_loss(whole_run: tuple[Path, TrainResult]) -> None:
    for line in read_metrics(whole_run[0]):
        assert set(line["losses"]) == set(AXES)
        for axis in AXES:
            groups = line["losses"][axis].values()
            targets = sum(count for _, count in groups)
            assert sum(mean * count for mean, count in groups) / targets == pytest.approx(line["loss"], rel=1e-5)
        first, end = line["sequences"]
        assert end > first
        assert line["forward_s"] + line["backward_s"] + line["optimiser_s"] <= line["seconds"] + 0.001
        assert line["memory_bytes"] > 10**8
        assert line["mfu"] > 0
    assert {"image.caption", "video.caption", "text.plain"} <= set(line["losses"]["task"])


def test_a_steps_sequences_name_its_samples(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult]) -> None:
    """Positions in a line, looked up in the plan, hold exactly the tokens the line counts."""
    catalog = Catalog(tiny_corpus.folder)
    for line in read_metrics(whole_run[0]):
        (tokens,) = catalog.connection.execute(
            "SELECT sum(s.total_tokens) FROM segments g JOIN samples s USING (sample_id) WHERE g.recipe = 'pocket' "
            "AND g.stage = ? AND g.split = 'train' AND g.position >= ? AND g.position < ?",
            [line["stage"], *line["sequences"]],
        ).fetchall()[0]
        assert tokens == line["tokens"]


def test_a_step_tells_tasks_and_experts_apart(tiny_corpus: TinyCorpus) -> None:
    """Against samples run one by one, with the loss of torch, and the router's choices counted one by one."""
    recipe, spec = tiny_corpus.recipe, tiny_corpus.recipe.stages[1].phases[0]
    catalog = Catalog(tiny_corpus.folder)
    reader = StageSequences(catalog, recipe, stage=1, split="train")
    batches = [reader.batch(position) for position in range(2)]
    plain = build_model(recipe)
    sums: Counter[str] = Counter()
    load = torch.zeros(recipe_layers(recipe), plain.config.decoder.moe.experts)
    for batch in batches:
        with torch.no_grad():
            whole = plain(
                batch.input_ids, cu_seqlens=batch.cu_seqlens, pixel_values=batch.pixel_values,
                image_grid_thw=batch.image_grid_thw, labels=batch.labels, need_logits=True,
            )  # fmt: skip
        load += whole.router.load
        ends = batch.cu_seqlens.tolist()
        for fact, start, end in zip(batch.facts, ends[:-1], ends[1:], strict=True):
            sums[fact.kind.task] += float(
                cross_entropy(whole.logits[start : end - 1], batch.labels[start + 1 : end], ignore_index=-100, reduction="sum")
            )
    kinds = kinds_of(catalog, recipe.name, stage=1, split="train")
    engine = PhaseEngine(build_model(recipe), spec, recipe.train, passes=2, ranks=start_ranks(), kinds=kinds)
    sight = engine.step(StepBatches(step=0, batches=tuple((b, 1.0) for b in batches), waited_s=0.25), 1e-3).sight
    engine.close()
    shown = {task: mean * targets for task, (mean, targets) in sight.losses["task"].items()}
    assert shown == pytest.approx(sums, rel=1e-4)
    assert sight.expert_load == pytest.approx((load.amax(1) / load.mean(1)).tolist(), rel=1e-5)
    assert sight.experts_unused == (load == 0).sum(1).tolist()
    assert sight.indexer_kl == []
    assert sight.data_wait_s == 0.25
    assert sight.flops == sum(step_flops(plain.config, spec, batch) for batch in batches)


def recipe_layers(recipe: Any) -> int:
    return model_config(recipe).decoder.layers


def test_operations_follow_what_trains(tiny_corpus: TinyCorpus) -> None:
    recipe = tiny_corpus.recipe
    config = model_config(recipe)
    batch = StageSequences(Catalog(tiny_corpus.folder), recipe, stage=3, split="train").batch(0)
    assert batch.image_grid_thw is not None
    ends = batch.cu_seqlens.tolist()
    lengths = [end - start for start, end in pairwise(ends)]
    grids = [(h, w) for _, h, w in batch.image_grid_thw.tolist()]

    def phase(attention: Any, trains: Any) -> float:
        return step_flops(config, PhaseSpec(name="p", attention=attention, trains=trains), batch)

    dense = forward_flops(config, lengths, grids)
    warm = forward_flops(config, lengths, grids, attention="warmup")
    sparse = forward_flops(config, lengths, grids, attention="sparse")
    assert phase("dense", "everything") == 3 * dense.total
    assert phase("dense", "projector") == 2 * dense.total + dense.projector - dense.vision
    assert phase("warmup", "indexer") == warm.total + 2 * warm.indexer
    # Backward goes through fewer pairs of the indexer than forward.
    assert 3 * sparse.total - 2 * sparse.indexer < phase("sparse", "everything") < 3 * sparse.total


def test_recall_is_measured_with_checkpoints_where_an_indexer_trains(
    tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path
) -> None:
    lines = read_metrics(whole_run[0])
    measured = {(line["stage"], line["step"]) for line in lines if line["indexer_recall"] is not None}
    last = {(2, 2), (2, 4), (3, 2), (3, 4), (3, 5)}
    assert measured == last
    assert all(0 < line["indexer_recall"] <= 1 for line in lines if line["indexer_recall"] is not None)
    assert all(len(line["indexer_kl"]) == (0 if line["indexer_loss"] is None else 4) for line in lines)


def test_measuring_recall_changes_no_step(tiny_corpus: TinyCorpus, whole_run: tuple[Path, TrainResult], tmp_path: Path) -> None:
    import shutil

    for name in ("stage0", "stage1", "stage2"):
        shutil.copytree(whole_run[0] / name, tmp_path / name)
    shutil.copy(whole_run[0] / "evaluations.json", tmp_path)
    train(tiny_corpus.folder, tiny_corpus.recipe, stages=[3], out=tmp_path, launch=Launch(recall_steps=1))
    ours = read_metrics(tmp_path)
    before = [line for line in read_metrics(whole_run[0]) if line["stage"] == 3]
    assert all(line["indexer_recall"] is not None for line in ours)
    assert [(line["loss"], line["grad_norm"]) for line in ours] == [(line["loss"], line["grad_norm"]) for line in before]


def test_a_sample_of_a_shared_sequence_keeps_its_rank_s_pictures(tiny_corpus: TinyCorpus) -> None:
    """What two ranks have of a sample is what one has, whose owners stay as they were."""
    recipe = tiny_corpus.recipe
    config = model_config(recipe)
    reader = StageSequences(Catalog(tiny_corpus.folder), recipe, stage=3, split="train")
    whole, parts = reader.batch(0), [reader.batch(0, (rank, 2)) for rank in range(2)]
    seen: set[int] = set()
    for number in range(len(whole.facts)):
        alone, ours = one_sample(whole, number, config), [one_sample(part, number, config) for part in parts]
        if alone.pixel_values is None:
            continue
        sizes = alone.image_grid_thw.prod(1).tolist()
        owners = ours[0].share.owners
        assert ours[1].share.owners == owners
        assert len(owners) == len(sizes)
        rows = [iter(part.pixel_values.split([n for n, owner in zip(sizes, owners, strict=True) if owner == rank]))
                for rank, part in enumerate(ours)]  # fmt: skip
        assert torch.equal(torch.cat([next(rows[owner]) for owner in owners]), alone.pixel_values)
        seen |= set(owners)
    assert seen == {0, 1}


def test_recall_is_measured_on_one_whole_sample(tiny_corpus: TinyCorpus) -> None:
    """A sample taken out of a packed sequence is what it was before it was packed, pictures included."""
    recipe = tiny_corpus.recipe
    config = model_config(recipe)
    reader = StageSequences(Catalog(tiny_corpus.folder), recipe, stage=3, split="train")
    batch = reader.batch(0)
    assert len(batch.facts) > 2
    plain = build_model(recipe)
    ends = batch.cu_seqlens.tolist()
    with torch.no_grad():
        whole = plain(
            batch.input_ids, cu_seqlens=batch.cu_seqlens, pixel_values=batch.pixel_values, image_grid_thw=batch.image_grid_thw
        ).logits  # fmt: skip
        for number, (start, end) in enumerate(pairwise(ends)):
            alone = one_sample(batch, number, config)
            assert alone.facts == batch.facts[number : number + 1]
            assert alone.cu_seqlens.tolist() == [0, end - start]
            logits = plain(
                alone.input_ids, cu_seqlens=alone.cu_seqlens, pixel_values=alone.pixel_values,
                image_grid_thw=alone.image_grid_thw,
            ).logits  # fmt: skip
            torch.testing.assert_close(logits, whole[start:end], atol=1e-4, rtol=1e-4)
    assert sum(one_sample(batch, number, config).targets for number in range(len(batch.facts))) == batch.targets
    sizes = [end - start for start, end in pairwise(ends)]
    assert measured_sample(batch, config).tokens == max(sizes)
    assert measured_sample(batch, config.with_top_k(1)).tokens == max(
        size for size in sizes if size <= 32 or size == min(sizes)
    )


def test_groups_are_summed_along_each_axis() -> None:
    short, long = SampleKind("a", "text", "32k", "none"), SampleKind("b", "text", "64k", "none")
    tally = LossByKind([short, long])
    unknown = SampleFacts("u", SampleKind("c", "video", "32k", "15s"))
    tally.add([SampleFacts("x", short), SampleFacts("y", long), unknown], [6.0, 10.0, 99.0], [3.0, 5.0, 1.0])
    tally.add([SampleFacts("z", short)], [2.0], [1.0])
    assert tally.along(tally.values()) == {
        "task": {"a": (2.0, 4), "b": (2.0, 5)},
        "modality": {"text": (2.0, 9)},
        "context": {"32k": (2.0, 4), "64k": (2.0, 5)},
        "duration": {"none": (2.0, 9)},
    }


def events(folder: Path) -> dict[tuple[str, int], float]:
    """Scalars of all event files in order of time, as TensorBoard reads them: a session start forgets what comes after it."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[tuple[str, int], float] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            if event.HasField("session_log"):
                found = {key: value for key, value in found.items() if key[1] < event.step}
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


def test_tensorboard_shows_the_lines(whole_run: tuple[Path, TrainResult]) -> None:
    lines = read_metrics(whole_run[0])
    shown = events(whole_run[0] / "tensorboard")
    assert [shown["loss/train", at] for at in range(1, len(lines) + 1)] == pytest.approx([line["loss"] for line in lines])
    text = {at: value for (name, at), value in shown.items() if name == "loss_by_task/text.plain"}
    assert text == pytest.approx(
        {
            at: line["losses"]["task"]["text.plain"][0]
            for at, line in enumerate(lines, 1)
            if "text.plain" in line["losses"]["task"]
        }
    )
    assert ("indexer_kl/layer03", len(lines)) in shown


def test_tensorboard_forgets_what_is_made_again(whole_run: tuple[Path, TrainResult], tmp_path: Path) -> None:
    from trainer.step_line import StepLine

    line = StepLine(**json.loads((whole_run[0] / "metrics.jsonl").read_text().splitlines()[-1]))
    first = TensorBoard(tmp_path, 1)
    for at in (1, 2, 3, 4):
        first.step(line, at)
    first.close()
    again = TensorBoard(tmp_path, 3)
    again.step(line, 3)
    again.close()
    assert sorted(at for name, at in events(tmp_path) if name == "loss/train") == [1, 2, 3]
