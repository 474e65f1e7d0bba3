"""One new token of many sequences: indexer over the cached keys, the `top_k` best, attention over what they name.

Decided here:
- A step reads every indexer key once (2 E bytes a key: 16.8 MB at 128K) and `top_k` rows of keys and values a group
  (2,048 x 2 KiB = 4.2 MB at four groups of 128); full attention reads all keys and values (268 MB). So bytes are all that
  counts, and one sequence must keep the whole GPU busy: each of the steps is split over the keys.
- The sequences of a batch have caches of their own, of any length: kernels get a table of addresses and lengths, not a
  padded copy.
- Scores, [B, longest] float32 (a thirty-second of the bytes of the keys at 64 dims in bf16), are written: they are few.
- Each split keeps the keys at or above a guess, taken from a strided sample of the sequence's scores as in
  `index_selection`: every split finds the same guess. One program a sequence merges what the splits kept, finds the k-th
  best bit by bit and writes the set, ascending. When the sample misled (fewer than k kept, or more than fit), it reads the
  sequence's scores again instead, 32 times: exact and slow. Too many are kept also where very many scores are equal.
- Attention over the chosen is split too, and the parts are summed in their order: no atomics, the same bits every time.

Shapes: B sequences, J indexer heads, E indexer head dim, S cached keys of a sequence, N keys of a tile, P keys of a split,
M keys of the sample, A room of the merge, K selected, G groups, R query heads a group, D head dim, C parts of a set.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from model.dsa_reference import SampleAttention
from model.kernels.build import Build
from model.kernels.dispatch import DecodeBatch
from model.kernels.index_selection import reason_not_indexer, served_types
from model.kernels.ordering import best_places, image, kth_largest

SPLIT, SAMPLE, PART = 2048, 4096, 128


@triton.jit
def _past_scores(
    index_q, index_w, addresses, scores, batch, widest,
    J: tl.constexpr, JP: tl.constexpr, E: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores of a split of one sequence's keys. `addresses` [4, B]: of keys, values and indexer keys, and lengths."""
    number = tl.program_id(0)
    length = tl.load(addresses + 3 * batch + number).to(tl.int32)
    first = tl.program_id(1) * P
    if first >= length:
        return
    index_k = tl.load(addresses + 2 * batch + number).to(tl.pointer_type(index_q.dtype.element_ty))
    index_k = tl.multiple_of(index_k, 16)
    head_J, dims = tl.arange(0, JP), tl.arange(0, E)
    live_J = head_J < J
    q_JE = tl.load(index_q + (number * J + head_J)[:, None] * E + dims[None, :], mask=live_J[:, None], other=0.0)
    w_J = tl.load(index_w + number * J + head_J, mask=live_J, other=0.0).to(tl.float32)
    for at in range(first, min(first + P, length), N):
        key_N = at + tl.arange(0, N)
        k_EN = tl.load(index_k + key_N[None, :].to(tl.int64) * E + dims[:, None], mask=(key_N < length)[None, :], other=0.0)
        product_JN = tl.dot(q_JE, k_EN, input_precision=PRECISION)
        score_N = tl.sum(tl.maximum(product_JN, 0.0) * w_J[:, None], axis=0)
        tl.store(scores + number.to(tl.int64) * widest + key_N, score_N, mask=key_N < length)


@triton.jit
def _keep_split(
    scores, addresses, kept, counts, batch, widest, splits, top_k,
    P: tl.constexpr, M: tl.constexpr, A: tl.constexpr,
):  # fmt: skip
    """(image of the score, key) of a split's keys at or above the sequence's guess, in order, and how many."""
    number, split = tl.program_id(0), tl.program_id(1)
    length = tl.load(addresses + 3 * batch + number).to(tl.int32)
    count_at = counts + number * splits + split
    if split * P >= length:
        tl.store(count_at, 0)
        return
    scores += number.to(tl.int64) * widest
    threshold = tl.zeros((1,), dtype=tl.uint32)
    if length > A:
        stride = (length + M - 1) // M
        cell_M = tl.arange(0, M)
        drawn_M = cell_M * stride + ((cell_M.to(tl.uint32) * 2654435761) >> 8).to(tl.int32) % stride
        inside_M = drawn_M < length
        u_M = tl.where(inside_M, image(tl.load(scores + drawn_M, mask=inside_M, other=0.0)), 0)
        drawn = tl.sum(inside_M.to(tl.int32), axis=0)
        rank = top_k * (drawn.to(tl.float32) / length.to(tl.float32))
        wanted = tl.minimum((rank + 4.0 * tl.sqrt(rank) + 4.0).to(tl.int32), drawn)
        threshold = kth_largest(u_M[None, :], tl.zeros((1,), dtype=tl.int32) + wanted)
    at_P = split * P + tl.arange(0, P)
    u_P = image(tl.load(scores + at_P, mask=at_P < length, other=0.0))
    keep_P = (at_P < length) & (u_P >= threshold)
    place_P = tl.cumsum(keep_P.to(tl.int32), axis=0) - 1
    entry_P = (u_P.to(tl.uint64) << 32) | at_P.to(tl.uint64)
    tl.store(kept + (number * splits + split).to(tl.int64) * P + place_P, entry_P, mask=keep_P)
    tl.store(count_at, tl.sum(keep_P.to(tl.int32), axis=0))


@triton.jit
def _merge_best(
    scores, addresses, kept, counts, selected, batch, widest, splits, top_k, width,
    P: tl.constexpr, W: tl.constexpr, A: tl.constexpr,
):  # fmt: skip
    """The set of one sequence, ascending; `selected` holds -1 before."""
    number = tl.program_id(0)
    length = tl.load(addresses + 3 * batch + number).to(tl.int32)
    selected += number.to(tl.int64) * width
    if length <= top_k:
        at_W = tl.arange(0, W)
        tl.store(selected + at_W, at_W, mask=at_W < length)
        return
    counts += number * splits
    at_A = tl.arange(0, A)
    from_A = tl.zeros((A,), dtype=tl.int32)
    total = 0
    for split in range(splits):
        count = tl.load(counts + split)
        from_A = tl.where((at_A >= total) & (at_A < total + count), split * P + at_A - total, from_A)
        total += count
    if (total >= top_k) & (total <= A):
        entry_A = tl.load(kept + number.to(tl.int64) * splits * P + from_A, mask=at_A < total, other=0)
        u_1A = tl.where(at_A < total, (entry_A >> 32).to(tl.uint32), 0)[None, :]
        kth_1 = kth_largest(u_1A, tl.zeros((1,), dtype=tl.int32) + top_k)
        take_1A, place_1A = best_places(u_1A, kth_1, top_k)
        tl.store(selected + place_1A, (entry_A & 0xFFFFFFFF).to(tl.int32)[None, :], mask=take_1A & (place_1A < width))
    else:
        scores += number.to(tl.int64) * widest
        kth = tl.zeros((1,), dtype=tl.uint32)
        one = tl.full((1,), 1, dtype=tl.uint32)
        for step in range(32):
            trial = kth | (one << (31 - step))
            reached = tl.zeros((1,), dtype=tl.int32)
            for first in range(0, length, A):
                u_A = image(tl.load(scores + first + at_A, mask=first + at_A < length, other=0.0))
                reached += tl.sum(((u_A >= trial) & (first + at_A < length)).to(tl.int32), axis=0)
            kth = tl.where(reached >= top_k, trial, kth)
        above = tl.zeros((1,), dtype=tl.int32)
        for first in range(0, length, A):
            u_A = image(tl.load(scores + first + at_A, mask=first + at_A < length, other=0.0))
            above += tl.sum(((u_A > kth) & (first + at_A < length)).to(tl.int32), axis=0)
        room = top_k - above
        placed = tl.zeros((1,), dtype=tl.int32)
        for first in range(0, length, A):
            inside_A = first + at_A < length
            u_A = image(tl.load(scores + first + at_A, mask=inside_A, other=0.0))
            level_A = inside_A & (u_A == kth)
            take_A = (inside_A & (u_A > kth)) | (level_A & (tl.cumsum(level_A.to(tl.int32), axis=0) <= room))
            place_A = placed + tl.cumsum(take_A.to(tl.int32), axis=0) - 1
            tl.store(selected + place_A, first + at_A, mask=take_A)
            room -= tl.sum(level_A.to(tl.int32), axis=0)
            placed += tl.sum(take_A.to(tl.int32), axis=0)


@triton.jit
def _attend_part(
    q, addresses, selected, partial, peaks, sums, batch, width, parts, scale_log2,
    G: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, D: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attention of one group over N of the chosen keys: unnormalised output, largest logit and sum, of each head."""
    number, group, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    element = q.dtype.element_ty
    k = tl.multiple_of(tl.load(addresses + number).to(tl.pointer_type(element)), 16)
    v = tl.multiple_of(tl.load(addresses + batch + number).to(tl.pointer_type(element)), 16)
    head_R, dims, at_N = tl.arange(0, RP), tl.arange(0, D), part * N + tl.arange(0, N)
    key_N = tl.load(selected + number.to(tl.int64) * width + at_N, mask=at_N < width, other=-1)
    chosen_N = key_N >= 0
    row_N = (tl.where(chosen_N, key_N, 0).to(tl.int64) * G + group) * D
    live_R = head_R < R
    at_R = (number * G + group) * R + head_R
    q_RD = tl.load(q + at_R[:, None].to(tl.int64) * D + dims[None, :], mask=live_R[:, None], other=0.0)
    k_DN = tl.load(k + row_N[None, :] + dims[:, None], mask=chosen_N[None, :], other=0.0)
    v_ND = tl.load(v + row_N[:, None] + dims[None, :], mask=chosen_N[:, None], other=0.0)
    logit_RN = tl.dot(q_RD, k_DN, input_precision=PRECISION) * scale_log2
    logit_RN = tl.where(chosen_N[None, :], logit_RN, float("-inf"))
    peak_R = tl.max(logit_RN, axis=1)
    p_RN = tl.exp2(logit_RN - tl.where(peak_R == float("-inf"), 0.0, peak_R)[:, None])
    out_RD = tl.dot(p_RN.to(element), v_ND, input_precision=PRECISION)
    into_R = at_R.to(tl.int64) * parts + part
    tl.store(peaks + into_R, peak_R, mask=live_R)
    tl.store(sums + into_R, tl.sum(p_RN, axis=1), mask=live_R)
    tl.store(partial + into_R[:, None] * D + dims[None, :], out_RD, mask=live_R[:, None])


@triton.jit
def _merge_parts(partial, peaks, sums, out, parts, D: tl.constexpr, C: tl.constexpr):
    """The output of one head from its parts, summed in their order."""
    head = tl.program_id(0).to(tl.int64)
    part_C, dims = tl.arange(0, C), tl.arange(0, D)
    inside_C = part_C < parts
    peak_C = tl.load(peaks + head * parts + part_C, mask=inside_C, other=float("-inf"))
    factor_C = tl.exp2(peak_C - tl.max(peak_C, axis=0))
    total = tl.sum(factor_C * tl.load(sums + head * parts + part_C, mask=inside_C, other=0.0), axis=0)
    part_CD = tl.load(partial + (head * parts + part_C)[:, None] * D + dims[None, :], mask=inside_C[:, None], other=0.0)
    out_D = tl.sum(part_CD * factor_C[:, None], axis=0) / total
    tl.store(out + head * D + dims, out_D.to(out.dtype.element_ty))


def reason_not(batch: DecodeBatch) -> str | None:
    """Why these kernels cannot serve the step; None when they can."""
    heads, dim = batch.q.shape[1:]
    if batch.q.dtype not in served_types():
        return f"queries are {batch.q.dtype}, kernels take {', '.join(map(str, served_types()))}"
    if dim not in (16, 32, 64, 128, 256):
        return f"the head dim is {dim}, kernels take 16, 32, 64, 128 and 256"
    if heads // batch.k[0].shape[1] > 64:
        return f"{heads // batch.k[0].shape[1]} query heads share a group, kernels take at most 64"
    for name, caches in (("keys", batch.k), ("values", batch.v), ("indexer keys", batch.index_k)):
        for cache in caches:
            if cache.dtype != batch.q.dtype:
                return f"cached {name} are {cache.dtype}, the queries {batch.q.dtype}"
            if not cache.is_contiguous() or cache.data_ptr() % 16:
                return f"cached {name} are not contiguous rows at an address divisible by 16"
    if batch.index_q.dtype != batch.q.dtype:
        return f"indexer queries are {batch.index_q.dtype}, the queries {batch.q.dtype}"
    return reason_not_indexer(batch.index_q, batch.index_w, batch.top_k)


@torch.no_grad()
def serve(batch: DecodeBatch) -> SampleAttention:
    """One step of every sequence; see `DecodeBatch`."""
    return decode(batch)


def decode(batch: DecodeBatch, *, split: int = SPLIT, sample: int = SAMPLE, part: int = PART) -> SampleAttention:
    """As `serve`; `split` and `part`: keys a program scores and attends to, `sample`: scores the guess is taken from; all
    powers of two, `split` at least 32 and `part` at least 16."""
    device, number = batch.device, len(batch.k)
    heads, dim = batch.q.shape[1:]
    index_heads, index_dim = batch.index_q.shape[1:]
    groups = batch.k[0].shape[1]
    lengths = [len(keys) for keys in batch.k]
    longest, width = max(lengths), min(batch.top_k, max(lengths))
    table = [[x.data_ptr() for x in caches] for caches in (batch.k, batch.v, batch.index_k)] + [lengths]
    addresses = torch.tensor(table, dtype=torch.int64).to(device, non_blocking=True)
    q, index_q, index_w = batch.q.contiguous(), batch.index_q.contiguous(), batch.index_w.contiguous()
    precision = "ieee" if q.dtype == torch.float32 else "tf32"
    splits, room = triton.cdiv(longest, split), triton.next_power_of_2(4 * batch.top_k)

    selected = torch.full((number, width), -1, dtype=torch.int32, device=device)
    scores = torch.empty(number, longest, dtype=torch.float32, device=device)
    kept = torch.empty(number, splits, split, dtype=torch.uint64, device=device)
    counts = torch.empty(number, splits, dtype=torch.int32, device=device)
    if longest > batch.top_k:
        _past_scores[(number, splits)](
            index_q, index_w, addresses, scores, number, longest, J=index_heads,
            JP=max(16, triton.next_power_of_2(index_heads)), E=index_dim, N=min(128, split), P=split, PRECISION=precision,
        )  # fmt: skip
        _keep_split[(number, splits)](
            scores, addresses, kept, counts, number, longest, splits, batch.top_k, P=split, M=sample, A=room, num_warps=8
        )
    _merge_best[(number,)](
        scores, addresses, kept, counts, selected, number, longest, splits, batch.top_k, width,
        P=split, W=triton.next_power_of_2(width), A=room, num_warps=16,
    )  # fmt: skip

    parts, per_group = triton.cdiv(width, part), heads // groups
    partial = torch.empty(number, heads, parts, dim, dtype=torch.float32, device=device)
    peaks, sums = torch.empty(2, number, heads, parts, dtype=torch.float32, device=device)
    _attend_part[(number, groups, parts)](
        q, addresses, selected, partial, peaks, sums, number, width, parts, dim**-0.5 * 1.4426950408889634,
        G=groups, R=per_group, RP=max(16, triton.next_power_of_2(per_group)), D=dim, N=part, PRECISION=precision,
    )  # fmt: skip
    out = torch.empty_like(q)
    _merge_parts[(number * heads,)](partial, peaks, sums, out, parts, D=dim, C=triton.next_power_of_2(parts))
    return SampleAttention(out, None, selected)


def builds() -> list[Build]:
    """The variants of the published geometry in bf16: 32 heads, 4 groups of 128 dims, 16 x 64 indexer, k = 2048."""
    kinds = dict.fromkeys(("q", "index_q", "index_w", "out"), "*bf16")
    kinds |= dict.fromkeys(("scores", "partial", "peaks", "sums"), "*fp32")
    kinds |= {"addresses": "*i64", "kept": "*u64", "counts": "*i32", "selected": "*i32", "scale_log2": "fp32"}
    kinds |= dict.fromkeys(("batch", "widest", "splits", "top_k", "width", "parts"), "i32")
    shapes: list[tuple[Any, int, dict[str, Any]]] = [
        (_past_scores, 4, {"J": 16, "JP": 16, "E": 64, "N": 128, "P": SPLIT, "PRECISION": "tf32"}),
        (_keep_split, 8, {"P": SPLIT, "M": SAMPLE, "A": 8192}),
        (_merge_best, 16, {"P": SPLIT, "W": 2048, "A": 8192}),
        (_attend_part, 4, {"G": 4, "R": 8, "RP": 16, "D": 128, "N": PART, "PRECISION": "tf32"}),
        (_merge_parts, 4, {"D": 128, "C": 16}),
    ]
    return [
        Build(
            name=f"decode: {kernel.__name__}",
            kernel=kernel,
            types={name: kinds[name] for name in kernel.arg_names if name not in constants},
            constants=constants,
            warps=warps,
        )
        for kernel, warps, constants in shapes
    ]
