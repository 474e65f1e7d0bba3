"""Run by torchrun: one row on all ranks together against the same row on each alone; writes relative differences as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from small_model import random_model, row_with_images, small_config

from model import VisionLanguageModel
from model.config import ModelConfig
from model.expert_shard import ExpertShard
from model.output import ModelOutput
from model.sequence_shard import SequenceShard

GRIDS = [(4, 4), (2, 2), (4, 2), (4, 4), (2, 2)]
OWNERS = [0, 2, 2, 1, 2]


def total(x: torch.Tensor) -> torch.Tensor:
    """The sum over ranks."""
    summed = x.detach().double().clone()
    dist.all_reduce(summed)
    return summed


def figures(output: ModelOutput) -> dict[str, torch.Tensor]:
    """Everything that adds up."""
    assert output.token_losses_sum is not None
    assert output.sample_losses is not None
    assert output.sample_targets is not None
    found = {
        "token_losses_sum": output.token_losses_sum, "load_balancing_loss": output.load_balancing_loss,
        "load": output.router.load, "entropy": output.router.entropy, "sample_losses": output.sample_losses,
        "sample_targets": output.sample_targets,
    }  # fmt: skip
    if output.indexer_loss is not None and output.indexer_loss_per_layer is not None:
        found |= {"indexer_loss": output.indexer_loss, "indexer_loss_per_layer": output.indexer_loss_per_layer}
    return found


def gradients(model: VisionLanguageModel, output: ModelOutput) -> dict[str, torch.Tensor]:
    """Of a weighted sum of the losses."""
    terms = [(output.token_losses_sum, 0.02), (output.indexer_loss, 0.7), (output.load_balancing_loss, 0.3)]
    torch.stack([loss * weight for loss, weight in terms if loss is not None and loss.requires_grad]).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def divided_experts(rank: int, size: int) -> dict[str, float]:
    """Three ranks with rows of their own (one is short, so that some rank has little to do) and a third of the experts each:
    losses and gradients against the model that has all of them."""
    one, ours = (random_model(_six_experts()) for _ in range(2))
    for layer in ours.model.layers:
        layer.mlp.experts.divide(ExpertShard(rank=rank, size=size, group=dist.group.WORLD, experts=6))
    ids, pixels, grid = row_with_images(GRIDS[: rank + 1], text=(13, 7, 1)[rank], seed=rank)
    common = {"pixel_values": pixels, "image_grid_thw": grid, "attention": "sparse", "labels": ids}
    differences = {}
    for times in range(2):
        ours.gradient_checkpointing = bool(times)
        here, there = ours(ids, **common), one(ids, **common)
        found, expected = gradients(ours, here), gradients(one, there)
        assert set(found) == set(expected)
        for name, value in figures(there).items():
            differences[f"{name} {times}"] = float((figures(here)[name] - value).abs().max() / value.abs().max())
        for name, gradient in expected.items():
            # A divided weight has its gradient from every rank's tokens, another from its own.
            whole, mine = (total(gradient), found[name]) if ".experts." in name else (gradient, found[name])
            if ".experts." in name:
                whole = whole[rank * 2 : rank * 2 + 2]
            differences[f"{name} {times}"] = float((mine - whole).abs().max() / whole.abs().max().clamp_min(1e-12))
    shard = ours.model.layers[0].mlp.experts.shard
    assert shard is not None
    whole = shard.whole(ours.model.layers[0].mlp.experts.down_proj)
    differences["whole"] = float((whole - one.model.layers[0].mlp.experts.down_proj).abs().max())
    return differences


def _six_experts() -> ModelConfig:
    config = small_config(top_k=8)
    moe = dataclasses.replace(config.decoder.moe, experts=6)
    return dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, moe=moe))


def main() -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    model = random_model(small_config(top_k=8))
    ids, pixels, grid = row_with_images(GRIDS, text=13)
    cu = torch.tensor([0, 41, 47, len(ids)])
    labels = ids.clone()
    labels[::5] = -100
    results: dict[str, Any] = {}
    shard = SequenceShard(len(ids), rank=rank, size=size, group=dist.group.WORLD, owners=OWNERS)
    parts = pixels.split(grid.prod(1).tolist())
    mine = torch.cat([pixels[:0], *(parts[number] for number in shard.pictures())])
    for mode in ("dense", "warmup", "sparse"):
        for checkpointing in (False, True):
            model.gradient_checkpointing = checkpointing
            common = {"cu_seqlens": cu, "image_grid_thw": grid, "attention": mode, "labels": labels}
            part = model(ids, pixel_values=mine, shard=shard, **common)
            parts = gradients(model, part)
            one = model(ids, pixel_values=pixels, **common)
            wholes = gradients(model, one)
            differences = {}
            for name, whole in figures(one).items():
                differences[name] = float((total(figures(part)[name]) - whole).abs().max() / whole.abs().max())
            for name, whole in wholes.items():
                summed = total(parts[name]) if name in parts else total(torch.zeros_like(whole))
                differences[name] = float((summed - whole).abs().max() / whole.abs().max().clamp_min(1e-12))
            extra = set(parts) - set(wholes)
            differences |= dict.fromkeys(extra, 1.0)
            results[f"{mode} {checkpointing}"] = differences
    with torch.no_grad():
        measured = {"measure_recall": True, "need_logits": False, "cu_seqlens": cu, "image_grid_thw": grid, "labels": labels}
        here = model(ids, pixel_values=mine, shard=shard, **measured).recall
        one_rank = model(ids, pixel_values=pixels, **measured).recall
    assert here is not None
    assert one_rank is not None
    results["recall"] = [[r.mean, r.mean_all, r.attainable, r.queries] for r in (here, one_rank)]
    counts = torch.zeros(size, dtype=torch.int64)
    counts[rank] = len(mine)
    dist.all_reduce(counts)
    results["pixels"] = counts.tolist()
    worst = [None] * size
    dist.all_gather_object(worst, divided_experts(rank, size))
    results["experts"] = worst
    if rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
