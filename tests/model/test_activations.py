"""The counted activation memory is what autograd really keeps, part by part, to the byte."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import pytest
import torch
from small_model import random_model, row_with_images, small_config
from torch.profiler import ProfilerActivity, profile

from model import presets
from model.activations import LOSS_CHUNK, activations
from model.losses import CHUNK_ELEMENTS
from model.sequence_shard import SequenceShard
from model.vlm import PARTS, VisionLanguageModel, part_of


def _kept(model, row, cu, pixels, grid, mode, shard=None) -> Counter[str]:
    """Bytes of distinct storages saved for backward, by the part whose module saved them."""
    running: list[str] = []

    def leave(*_):
        running.pop()

    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda _m, _a, name=name: running.append(name))
        module.register_forward_hook(leave)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held, kept = {}, Counter()

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters | held.keys():
            held[storage.data_ptr()] = tensor  # alive, so that no address is used twice
            # The model itself only puts the visual tokens into the row.
            kept[part_of(running[-1] + ".") if running[-1] else "projector"] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(row, None, cu, pixels, grid, mode, row, shard=shard).combine(lambda_balance=0.01)
    return kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("mode", "trains"), [("dense", "everything"), ("sparse", "everything"), ("dense", "projector"), ("warmup", "indexer")]
)
def test_counted_is_kept(mode, trains, samples, dtype):
    model = random_model(small_config()).to(dtype)
    if trains != "everything":
        model.train_only(trains)
    made = [row_with_images([(4, 6), (4, 4 + 2 * n)], text=20 + 3 * n) for n in range(samples)]
    rows, pixels, grids = zip(*made, strict=True)
    lengths = [len(row) for row in rows]
    cu = torch.tensor([0, *lengths]).cumsum(0)
    kept = _kept(model, torch.cat(rows), cu, torch.cat(pixels).to(dtype), torch.cat(grids), mode)
    sizes = [(h, w) for _, h, w in torch.cat(grids).tolist()]
    counted = activations(model.config, lengths, sizes, attention=mode, trains=trains, width=dtype.itemsize)
    assert counted.vision == kept["vision"]
    assert counted.projector + counted.embeddings == kept["projector"] + kept["embeddings"]
    assert counted.lm_head == kept["lm_head"]
    assert counted.decoder + counted.indexer == kept["decoder"] + kept["indexer"]
    assert counted.kept == kept.total()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("mode", "trains"), [("dense", "everything"), ("sparse", "everything"), ("warmup", "indexer")])
def test_of_a_shared_row_a_rank_keeps_its_part_and_the_gathered_keys(mode, trains, dtype, monkeypatch):
    def gather(gathered, mine, group):
        gathered.copy_(mine.repeat(2, *[1] * (mine.ndim - 1)))

    monkeypatch.setattr("torch.distributed.all_gather_into_tensor", gather)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor, group: None)
    model = random_model(small_config()).to(dtype)
    model.train_only(*(part for part in PARTS if part == "indexer" or trains == "everything"))
    row = torch.randint(0, 500, (128,), generator=torch.Generator().manual_seed(1))
    kept = [
        _kept(model, row, None, None, None, mode, SequenceShard(128, rank=rank, size=2, group=None)).total() for rank in (0, 1)
    ]
    said = activations(model.config, [128], attention=mode, trains=trains, width=dtype.itemsize, ranks=2).kept
    alone = activations(model.config, [128], attention=mode, trains=trains, width=dtype.itemsize).kept
    assert 0.9 * said < max(kept) <= said < 0.85 * alone


@pytest.mark.parametrize(
    ("mode", "checkpointing", "dtype"),
    [("dense", True, torch.float32), ("sparse", True, torch.bfloat16), ("sparse", False, torch.float32),
     ("warmup", False, torch.bfloat16)],
)  # fmt: skip
def test_a_pass_needs_no_more_than_is_said_and_not_much_less(mode, checkpointing, dtype):
    """Every allocation of a training pass, as torch's profiler sees them, against the peak and the gradients."""
    model = VisionLanguageModel(presets.tiny(vocab_size=512)).to(dtype)
    model.train_only("indexer") if mode == "warmup" else model.train_only(*(p for p in PARTS if p != "vision"))
    model.gradient_checkpointing = checkpointing
    row = torch.randint(0, 500, (512,), generator=torch.Generator().manual_seed(1))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = model(row, None, None, None, None, mode, row)
        output.combine(lambda_balance=0.01).backward() if mode != "warmup" else output.indexer_loss.backward()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = list(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    trains = "indexer" if mode == "warmup" else "everything"
    said = activations(
        model.config, [512], attention=mode, trains=trains, checkpointing=checkpointing, width=dtype.itemsize
    ).peak + gradients  # fmt: skip
    # Without checkpointing the first gradients appear while activations go: both are never there at once.
    assert 0.65 * said < max(held) <= said


def test_the_chunk_of_the_loss_is_the_loss_s():
    assert LOSS_CHUNK == CHUNK_ELEMENTS


def test_warm_up_and_checkpointing_are_what_they_save():
    config = small_config()
    whole = activations(config, [4096], attention="sparse")
    assert activations(config, [4096], attention="warmup", trains="indexer").kept < 0.2 * whole.kept
    deeper = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, layers=24))
    saved = activations(deeper, [4096], attention="sparse", checkpointing=True)
    assert saved.peak < 0.2 * activations(deeper, [4096], attention="sparse").peak
    assert saved.recomputed > saved.decoder / 24


def test_a_training_without_such_attention_is_refused():
    with pytest.raises(ValueError, match="trains='indexer' does not go with attention='dense'"):
        activations(small_config(), [10], trains="indexer")
