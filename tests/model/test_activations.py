"""The counted activation memory is what autograd really keeps, part by part, to the byte."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from small_model import random_model, row_with_images, small_config

from model.activations import activations
from model.vlm import part_of


def _kept(model, row, cu, pixels, grid, mode) -> Counter[str]:
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
        model(row, None, cu, pixels, grid, mode, row).combine(lambda_balance=0.01)
    return kept


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("mode", "trains"), [("dense", "everything"), ("sparse", "everything"), ("dense", "projector"), ("warmup", "indexer")]
)
def test_counted_is_kept(mode, trains, samples):
    model = random_model(small_config())
    if trains != "everything":
        model.train_only(trains)
    made = [row_with_images([(4, 6), (4, 4 + 2 * n)], text=20 + 3 * n) for n in range(samples)]
    rows, pixels, grids = zip(*made, strict=True)
    lengths = [len(row) for row in rows]
    cu = torch.tensor([0, *lengths]).cumsum(0)
    kept = _kept(model, torch.cat(rows), cu, torch.cat(pixels), torch.cat(grids), mode)
    sizes = [(h, w) for _, h, w in torch.cat(grids).tolist()]
    counted = activations(model.config, lengths, sizes, attention=mode, trains=trains)
    assert counted.vision == kept["vision"]
    assert counted.projector + counted.embeddings == kept["projector"] + kept["embeddings"]
    assert counted.lm_head == kept["lm_head"]
    assert counted.decoder + counted.indexer == kept["decoder"] + kept["indexer"]
    assert counted.kept == kept.total()


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
