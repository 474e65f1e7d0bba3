"""The model on a CPU beside its peer: training steps against transformers, sparse attention against dense.

Decided here:
- The peer is transformers' Qwen3-MoE with our weights (written by `save_pretrained(layout="qwen3_moe")`), SDPA attention and
  the faster of its two expert implementations that fit (the third, batched_mm, copies its experts' weights for every
  token: 20 GiB at the third geometry), found out first. Both sides read the same packed row, give the same loss
  (checked) and take the same fused AdamW step. They alternate; a ratio is the median of the rounds' ratios.
- Packing is written as each side wants it: cu_seqlens here, position ids that start again there (transformers turns
  them into a block-diagonal mask).
- `limit` is what the products alone allow: the time of the bare matrix products of a step (head, experts, projections,
  attention; forward once, backward twice, attention's logits once more), each called once by torch.mm or torch.bmm in the
  shapes of the step, in the same rounds; the peer's time over it. No step built of torch's products passes that ratio.
- Peak memory is of one child process a side that does nothing else: the kernel's VmHWM less what it was after the imports
  (`ru_maxrss` would start at the parent's size).
- The attention part is one layer's attention of 8 heads of 64, 2 KV groups, indexer 4 x 32, k = 512, forward and backward,
  the indexer's KL with its gradient included. `near`: neighbouring queries choose nearly alike, as trained attention does.
  `random`: every query its own random set, the worst case. `choosing` is the part of the sparse time that goes into scores
  and top-k: quadratic, but forward only.

Run: `python benchmarks/model_cpu.py [--quick]`. Prints tables; machine kind and load stand on top.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from transformers import Qwen3MoeForCausalLM
from transformers import logging as peer_logging

from model import VisionLanguageModel, presets
from model.attention import _dense
from model.config import IndexerConfig, ModelConfig, MoEConfig
from model.dsa_cpu import sparse_attention
from model.indexer import index_scores, top_k_indices
from model.sequence_shard import whole

PEER_EXPERTS = ("eager", "grouped_mm")
TOP_K, CHUNK = 512, 64


@dataclass(frozen=True, kw_only=True)
class Case:
    """A geometry and the samples packed into one row of it."""

    name: str
    config: ModelConfig
    lengths: tuple[int, ...]


def cases(quick: bool) -> list[Case]:
    """`tiny` as the laptop recipe trains it, and a layer shape with many experts and a larger vocabulary."""
    tiny = presets.tiny()
    wide = presets.tiny(vocab_size=32768, hidden_size=512, layers=2)
    moe = MoEConfig(experts=64, experts_per_token=8, expert_size=128)
    wide = replace(wide, decoder=replace(wide.decoder, moe=moe, indexer=IndexerConfig(heads=4, head_dim=32)))
    # Four long samples among short ones: the lengths of a packed row of the laptop corpus.
    packed = (700, 90, 1150, 130, 260, 75, 410, 88, 620, 140, 97, 336)
    both = [Case(name="tiny, packed row", config=tiny, lengths=packed)]
    if quick:
        return both
    return [
        *both,
        Case(name="tiny, one sample", config=tiny, lengths=(4096,)),
        Case(name="64 experts, packed row", config=wide, lengths=packed),
    ]


def _row(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ids [T], labels [T], position ids [T] and cu_seqlens of a random row."""
    tokens = sum(case.lengths)
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.randint(0, case.config.decoder.vocab_size - 8, (tokens,), generator=generator)
    positions = torch.cat([torch.arange(length) for length in case.lengths])
    labels = ids.masked_fill(positions == 0, -100)
    ends = torch.tensor([0, *case.lengths]).cumsum(0)
    return ids, labels, positions, ends


def _ours(case: Case, model: VisionLanguageModel) -> Callable[[], float]:
    ids, labels, positions, ends = _row(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(ids, positions, ends, labels=labels).combine()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _peer(case: Case, model: Qwen3MoeForCausalLM) -> Callable[[], float]:
    ids, labels, positions, _ = _row(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(ids[None], position_ids=positions[None], labels=labels[None], use_cache=False).loss
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _products(case: Case) -> Callable[[], None]:
    """The matrix products that a step of either side consists of, without anything between them."""
    decoder, tokens = case.config.decoder, sum(case.lengths)
    moe, size, heads = decoder.moe, decoder.hidden_size, decoder.heads * decoder.head_dim
    key, group = decoder.kv_heads * decoder.head_dim, decoder.heads // decoder.kv_heads
    rows = tokens * moe.experts_per_token // moe.experts
    # (calls, rows, inner, columns); the gradients by input and by weight have as many operations each.
    linear = [
        (decoder.layers * moe.experts, rows, size, 2 * moe.expert_size),
        (decoder.layers * moe.experts, rows, moe.expert_size, size),
        (2 * decoder.layers, tokens, size, heads),
        (2 * decoder.layers, tokens, size, key),
    ]
    chunk = 512
    linear += [(tokens // chunk, chunk, size, decoder.vocab_size)]
    products = []
    for calls, m, k, n in linear:
        x_MK, w_KN, y_MN = torch.randn(m, k), torch.randn(k, n), torch.randn(m, n)
        products += [
            (calls, torch.mm, (x_MK, w_KN), torch.empty(m, n)),
            (calls, torch.mm, (y_MN, w_KN.T), torch.empty(m, k)),
            (calls, torch.mm, (x_MK.T, y_MN), torch.empty(k, n)),
        ]
    for length in case.lengths:
        # 64 queries see half of the sample on average. Of seven products two make logits, forward and backward.
        block, seen = min(64, length), max(length // 2, 1)
        q = torch.randn(decoder.kv_heads, group * block, decoder.head_dim)
        k = torch.randn(decoder.kv_heads, decoder.head_dim, seen)
        calls = 7 * decoder.layers * -(-length // block)
        products.append((calls, torch.bmm, (q, k), torch.empty(decoder.kv_heads, group * block, seen)))

    def run() -> None:
        for calls, product, factors, out in products:
            for _ in range(calls):
                product(*factors, out=out)

    return run


def _text_model(case: Case) -> VisionLanguageModel:
    return VisionLanguageModel(replace(case.config, vision=None))


def _load_peer(folder: Path, experts: str) -> Qwen3MoeForCausalLM:
    model = Qwen3MoeForCausalLM.from_pretrained(
        folder, attn_implementation="sdpa", experts_implementation=experts, dtype=torch.float32
    )
    return model.train()


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def training_step(case: Case, rounds: int) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), _text_model(case)
        model.save_pretrained(folder, layout="qwen3_moe")
        speeds = {}
        for experts in PEER_EXPERTS:
            tried = _peer(case, _load_peer(folder, experts))
            tried()
            speeds[experts] = _seconds(tried)
        experts = min(speeds, key=lambda name: speeds[name])
        ours, peer = _ours(case, model), _peer(case, _load_peer(folder, experts))
        first = ours(), peer()
        if abs(first[0] - first[1]) > 1e-3:
            raise SystemExit(f"{case.name}: not the same work: our loss is {first[0]:.5f}, the peer's {first[1]:.5f}")
        bare = _products(case)
        bare()
        times = [(_seconds(ours), _seconds(peer), _seconds(bare)) for _ in range(rounds)]
        memory = {side: _peak_of_child(side, case.name, folder, experts) for side in ("ours", "peer")}
    tokens = sum(case.lengths)
    ratio = statistics.median(peer / ours for ours, peer, _ in times)
    limit = statistics.median(peer / bare for _, peer, bare in times)
    mine, theirs, _ = (tokens / statistics.median(side) for side in zip(*times, strict=True))
    columns = f"{mine:>8,.0f}{theirs:>9,.0f}{ratio:>6.2f}x{limit:>6.2f}x{memory['ours']:>9,.0f}{memory['peer']:>8,.0f}"
    return f"{case.name:<23}{columns}  {experts}"


def _peak_of_child(side: str, case: str, folder: Path, experts: str) -> float:
    """MiB of memory that three training steps take at most, imports not counted."""
    arguments = [sys.executable, __file__, "--child", side, "--case", case, "--folder", str(folder), "--experts", experts]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mib"])


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def _child(side: str, case: Case, folder: Path, experts: str) -> None:
    before = _peak_kib()
    if side == "ours":
        step = _ours(case, VisionLanguageModel.from_pretrained(folder))
    else:
        step = _peer(case, _load_peer(folder, experts))
    for _ in range(3):
        step()
    print(json.dumps({"peak_mib": (_peak_kib() - before) / 1024}))


def attention_inputs(length: int, *, near: bool) -> list[Tensor]:
    """q, k, v, and the indexer's q, k, w of one sample.

    `near` makes the indexer's keys a smooth path through its space plus noise, and each query its own key plus noise.
    """
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = [draw(length, 8, 64), draw(length, 2, 64), draw(length, 2, 64)]
    if near:
        angle = torch.arange(length)[:, None] * draw(16) / 400.0
        path = torch.cat((angle.cos(), angle.sin()), dim=1)
        tensors += [path[:, None] + 0.3 * draw(length, 4, 32), path + 0.3 * draw(length, 32), 1.0 + 0.1 * draw(length, 4)]
    else:
        tensors += [draw(length, 4, 32), draw(length, 32), draw(length, 4)]
    return [tensor.requires_grad_() for tensor in tensors]


def _choose(inputs: list[Tensor]) -> list[Tensor]:
    """The sets of every chunk but the first ones, which see fewer than k keys."""
    q, k, w = (tensor.detach() for tensor in inputs[3:])
    starts = range(TOP_K, len(k), CHUNK)
    with torch.no_grad():
        return [top_k_indices(index_scores(q[s : s + CHUNK], k[: s + CHUNK], w[s : s + CHUNK]), TOP_K) for s in starts]


def attention_length(length: int, rounds: int) -> str:
    """One line of the table: seconds forward + backward, dense, sparse (near and random), and their parts."""

    def dense(inputs: list[Tensor]) -> None:
        _dense(*inputs[:3], whole(((0, length),))).sum().backward()

    def sparse(inputs: list[Tensor]) -> None:
        done = sparse_attention(*inputs, top_k=TOP_K, chunk=CHUNK)
        assert done.kl is not None
        (done.out.sum() + done.kl).backward()

    near, random = attention_inputs(length, near=True), attention_inputs(length, near=False)
    works = [lambda: dense(near), lambda: sparse(near), lambda: _choose(near), lambda: sparse(random)]
    rows = [[_seconds(work) for work in works] for _ in range(rounds)]
    full, kin, choosing, apart = (statistics.median(column) for column in zip(*rows, strict=True))
    union = statistics.mean(float(len(chosen.unique())) for chosen in _choose(near)[-8:])
    return (
        f"{length:>7,}{full:>9.2f}{kin:>9.2f}{choosing:>10.2f}{(kin - choosing):>9.2f}{full / kin:>8.2f}x"
        f"{apart:>10.2f}{full / apart:>7.2f}x{union:>7,.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one geometry, 4K and 8K, few rounds")
    for name in ("child", "case", "folder", "experts"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    peer_logging.set_verbosity_error()
    peer_logging.disable_progress_bar()
    if arguments.child:
        case = next(case for case in cases(False) if case.name == arguments.case)
        _child(arguments.child, case, Path(arguments.folder), arguments.experts)
        return
    begun = time.perf_counter()
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"{platform.machine()}, {threads} threads, load {load:.1f} at the start, torch {torch.__version__}\n")
    print(f"{'training step, fp32':<23}{'tokens/s':>8}{'peer':>9}{'ratio':>7}{'limit':>7}{'MiB':>9}{'peer':>8}  its experts")
    for case in cases(arguments.quick):
        print(training_step(case, 2 if arguments.quick else 5), flush=True)
    print(f"\nattention, seconds forward + backward, k = {TOP_K}")
    print(
        f"{'length':>7}{'dense':>9}{'near':>9}{'choosing':>10}{'reading':>9}{'ratio':>9}{'random':>10}{'ratio':>8}{'union':>7}"
    )
    lengths = {4096: 2, 8192: 1} if arguments.quick else {4096: 3, 8192: 3, 16384: 1, 32768: 1}
    for length, rounds in lengths.items():
        print(attention_length(length, rounds), flush=True)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
