"""Indexer scores with selection: each query's `top_k` best visible keys, without a T x S tensor.

Score of key s for query t: I[t,s] = sum_j w[t,j] ReLU(q[t,j] . k[s]), in the row's own type with float32 sums. Equal
scores go to the lower index. The answer is a function of the scores alone: no atomics, every order fixed.

Decided here:
- A score costs 2 * J * E operations (2,048 at 16 x 64): 2.1 ns of an H100's tensor cores per thousand. Writing it and
  reading it twice costs 12 bytes: 3.6 ns per thousand. Both are too dear to do twice, so a score is computed once and
  thrown away at once unless it can be among the best.
- What can be among the best is guessed from a sample: the scores of every `stride`-th key, shifted inside its stride by
  a hash so that no period of the data is met. The guess is the sample's value at the rank of the k-th best plus four
  standard deviations: some 1.5-2 k keys lie above it, whatever the scores look like, for a rank of a random sample does
  not depend on their distribution. The sample costs `SAMPLE` scores a query.
- The pass over the keys is one program for each tile of queries, keys ascending. It keeps (score, index) of keys above
  the guess, and of keys equal to it the first k (a tile more at most): so a plateau of equal scores costs no more than any
  other row. A kept key's place is the number kept before it, so what is kept is in order.
- The guess is checked, not trusted: when fewer than k or more than fit were above it, the tile goes through the keys
  again with a better one (doubling steps, then halving). Every row ends exact; an unlucky row costs time, not truth.
- The kept of a row then fit into registers, where the k-th largest is found bit by bit and the set written out.
- Queries go in chunks so that what is kept takes at most `SCRATCH_BYTES`, whatever the length.
- A query that sees at most k keys takes all of them and is not scored.
- FP8: queries and keys turned and quantised by `model.kernels.quantisation`, the same kernels, a scale per key at the end.

Floor: docs/kernels.md. Shapes: T queries, S keys of the row (as many, unless
ranks share it), J indexer heads, E indexer head dim, B queries of a tile, N keys of a
tile, C queries of a chunk, M keys of the sample, A room for kept keys of a query, K selected.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels.build import Build
from model.kernels.dispatch import PackedRow, index_precision, interpreted
from model.kernels.ordering import best_places, from_image, image, kth_largest, ones_in
from model.kernels.quantisation import quantised_indexer
from model.kernels.row_blocks import whole_samples

SCRATCH_BYTES = 1 << 30
SAMPLE = 2048
MAX_TOP_K = 4096


@triton.jit
def _tile_scores(
    q, w, k_EN, row_B, live_B,
    J: tl.constexpr, E: tl.constexpr, B: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores [B, N] of a tile of queries and the keys `k_EN`."""
    dims = tl.arange(0, E)
    score_BN = tl.zeros((B, N), dtype=tl.float32)
    for j in range(J):
        q_BE = tl.load(q + (row_B[:, None].to(tl.int64) * J + j) * E + dims[None, :], mask=live_B[:, None], other=0.0)
        w_B = tl.load(w + row_B.to(tl.int64) * J + j, mask=live_B, other=0.0).to(tl.float32)
        product_BN = tl.dot(q_BE, k_EN, input_precision=PRECISION)
        score_BN += tl.maximum(product_BN, 0.0) * w_B[:, None]
    return score_BN


@triton.jit
def _sampled_scores(
    q, k, w, k_scale, starts, lasts, sampled, first, chunk_end, keys,
    J: tl.constexpr, E: tl.constexpr, B: tl.constexpr, N: tl.constexpr, M: tl.constexpr, A: tl.constexpr,
    SCALED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores of M sampled keys for each query of a chunk that sees more than A: [C, M], -inf where not visible."""
    tile = tl.program_id(0)
    row_B = first + tile * B + tl.arange(0, B)
    inside_B = row_B < chunk_end
    start_B = tl.load(starts + row_B, mask=inside_B, other=0)
    last_B = tl.load(lasts + row_B, mask=inside_B, other=-1)
    live_B = inside_B & (last_B - start_B + 1 > A)
    begin = tl.min(tl.where(live_B, start_B, keys), axis=0)
    end = tl.max(tl.where(live_B, last_B + 1, 0), axis=0)
    if begin >= end:
        return
    stride = (end - begin + M - 1) // M
    cell_N = tl.program_id(1) * N + tl.arange(0, N)
    shift_N = ((cell_N.to(tl.uint32) * 2654435761) >> 8).to(tl.int32) % stride
    key_N = begin + cell_N * stride + shift_N
    dims = tl.arange(0, E)
    k_EN = tl.load(k + key_N[None, :].to(tl.int64) * E + dims[:, None], mask=(key_N < end)[None, :], other=0.0)
    score_BN = _tile_scores(q, w, k_EN, row_B, live_B, J, E, B, N, PRECISION)
    if SCALED:
        score_BN *= tl.load(k_scale + key_N, mask=key_N < end, other=0.0)[None, :]
    visible_BN = (key_N[None, :] >= start_B[:, None]) & (key_N[None, :] <= last_B[:, None])
    at_BN = (row_B - first)[:, None].to(tl.int64) * M + cell_N[None, :]
    tl.store(sampled + at_BN, tl.where(visible_BN, score_BN, float("-inf")), mask=live_B[:, None] & (cell_N < M)[None, :])


@triton.jit
def _guesses(
    sampled, starts, lasts, guesses, first, chunk_end, top_k,
    R: tl.constexpr, M: tl.constexpr, A: tl.constexpr,
):  # fmt: skip
    """A score that at least k and at most A keys of a query are likely to reach: -inf where all fit."""
    line_R = tl.program_id(0) * R + tl.arange(0, R)
    inside_R = first + line_R < chunk_end
    start_R = tl.load(starts + first + line_R, mask=inside_R, other=0)
    seen_R = tl.load(lasts + first + line_R, mask=inside_R, other=-1) - start_R + 1
    large_R = inside_R & (seen_R > A)
    guess_R = tl.full((R,), float("-inf"), dtype=tl.float32)
    if tl.max(large_R.to(tl.int32), axis=0) > 0:
        at_RM = line_R[:, None].to(tl.int64) * M + tl.arange(0, M)[None, :]
        score_RM = tl.load(sampled + at_RM, mask=large_R[:, None], other=float("-inf"))
        valid_RM = score_RM > float("-inf")
        drawn_R = tl.sum(valid_RM.to(tl.int32), axis=1)
        rank_R = top_k * (drawn_R.to(tl.float32) / tl.maximum(seen_R, 1).to(tl.float32))
        wanted_R = tl.minimum((rank_R + 4.0 * tl.sqrt(rank_R) + 4.0).to(tl.int32), drawn_R)
        found_R = from_image(kth_largest(tl.where(valid_RM, image(score_RM), 0), wanted_R))
        guess_R = tl.where(large_R, tl.where(drawn_R > 0, found_R, 0.0), guess_R)
    tl.store(guesses + line_R, guess_R, mask=inside_R)


@triton.jit
def _store_32(kept, score_BN, at, start_B, until_B, guess_B, level_B, stored_B, top_k, B: tl.constexpr, A: tl.constexpr):
    """Stores what of 32 neighbouring keys reaches the guess; returns how many equalled it and how many are stored, so far.

    A row's 32 answers are the bits of a word: the bits below one's own say how many are kept before it. Unlike a running
    sum this stays in the registers where the product left the scores.
    """
    key_N = at + tl.arange(0, 32)
    bit_N = tl.full((32,), 1, dtype=tl.uint32) << tl.arange(0, 32).to(tl.uint32)
    visible_BN = (key_N[None, :] >= start_B[:, None]) & (key_N[None, :] <= until_B[:, None])
    level_BN = visible_BN & (score_BN == guess_B[:, None]) & (level_B < top_k)[:, None]
    keep_BN = level_BN | (visible_BN & (score_BN > guess_B[:, None]))
    if tl.max(keep_BN.to(tl.int32)) > 0:
        word_B = tl.sum(tl.where(keep_BN, bit_N[None, :], 0), axis=1).to(tl.uint32)
        place_BN = stored_B[:, None] + ones_in(word_B[:, None] & (bit_N - 1)[None, :])
        entry_BN = (score_BN.to(tl.uint32, bitcast=True).to(tl.uint64) << 32) | key_N[None, :].to(tl.uint64)
        # Offsets inside a tile fit into 32 bits.
        tl.store(kept + (tl.arange(0, B) * A)[:, None] + place_BN, entry_BN, mask=keep_BN & (place_BN < A))
        level_B += tl.sum(level_BN.to(tl.int32), axis=1)
        stored_B += ones_in(word_B)
    return level_B, stored_B


@triton.jit
def _halves(score_BN, B: tl.constexpr, N: tl.constexpr):
    """Scores of the first and of the last half of the keys."""
    return tl.split(tl.permute(tl.reshape(score_BN, (B, 2, N // 2)), (0, 2, 1)))


@triton.jit
def _store(
    kept, score_BN, at, start_B, until_B, guess_B, level_B, stored_B, top_k,
    B: tl.constexpr, N: tl.constexpr, A: tl.constexpr,
):  # fmt: skip
    """As `_store_32` for 32, 64 or 128 keys. Piece by piece, so that few registers are in use at once."""
    tl.static_assert(N == 32 or N == 64 or N == 128)
    if N == 32:
        return _store_32(kept, score_BN, at, start_B, until_B, guess_B, level_B, stored_B, top_k, B, A)
    left_BN, right_BN = _halves(score_BN, B, N)
    if N == 64:
        level_B, stored_B = _store_32(kept, left_BN, at, start_B, until_B, guess_B, level_B, stored_B, top_k, B, A)
        return _store_32(kept, right_BN, at + 32, start_B, until_B, guess_B, level_B, stored_B, top_k, B, A)
    one_BN, two_BN = _halves(left_BN, B, 64)
    level_B, stored_B = _store_32(kept, one_BN, at, start_B, until_B, guess_B, level_B, stored_B, top_k, B, A)
    level_B, stored_B = _store_32(kept, two_BN, at + 32, start_B, until_B, guess_B, level_B, stored_B, top_k, B, A)
    one_BN, two_BN = _halves(right_BN, B, 64)
    level_B, stored_B = _store_32(kept, one_BN, at + 64, start_B, until_B, guess_B, level_B, stored_B, top_k, B, A)
    return _store_32(kept, two_BN, at + 96, start_B, until_B, guess_B, level_B, stored_B, top_k, B, A)


@triton.jit
def _keep(
    q, k, w, k_scale, starts, lasts, guesses, kept, kept_count, first, chunk_end, keys, top_k,
    J: tl.constexpr, E: tl.constexpr, B: tl.constexpr, N: tl.constexpr, A: tl.constexpr,
    SCALED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(score, key) of each query's keys at or above its guess, keys ascending, and how many; see the module docstring."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)  # the longest first
    line_B = tile * B + tl.arange(0, B)
    row_B = first + line_B
    inside_B = row_B < chunk_end
    start_B = tl.load(starts + row_B, mask=inside_B, other=0)
    last_B = tl.load(lasts + row_B, mask=inside_B, other=-1)
    live_B = inside_B & (last_B - start_B + 1 > top_k)
    begin = tl.min(tl.where(live_B, start_B, keys), axis=0)
    end = tl.max(tl.where(live_B, last_B + 1, 0), axis=0)
    if begin >= end:
        return
    dims = tl.arange(0, E)
    guess_B = tl.load(guesses + line_B, mask=live_B, other=0.0)
    kept += tile.to(tl.int64) * B * A
    low_B = tl.zeros((B,), dtype=tl.int64)
    high_B = tl.full((B,), 0xFFFFFFFF, dtype=tl.int64)
    step_B = tl.full((B,), 1 << 19, dtype=tl.int64)
    rounds = 0
    while rounds < 80:
        level_B = tl.zeros((B,), dtype=tl.int32)
        stored_B = tl.zeros((B,), dtype=tl.int32)
        for at in range(begin, end, N):
            key_N = at + tl.arange(0, N)
            k_EN = tl.load(k + key_N[None, :].to(tl.int64) * E + dims[:, None], mask=(key_N < end)[None, :], other=0.0)
            score_BN = _tile_scores(q, w, k_EN, row_B, live_B, J, E, B, N, PRECISION)
            if SCALED:
                score_BN *= tl.load(k_scale + key_N, mask=key_N < end, other=0.0)[None, :]
            until_B = tl.where(live_B, last_B, -1)
            level_B, stored_B = _store(kept, score_BN, at, start_B, until_B, guess_B, level_B, stored_B, top_k, B, N, A)
        few_B = live_B & (stored_B < top_k)
        many_B = live_B & (stored_B > A)
        rounds += 1
        tl.store(kept_count + line_B, tl.minimum(stored_B, A), mask=live_B)
        if tl.max((few_B | many_B).to(tl.int32), axis=0) == 0:
            rounds = 80
        else:
            u_B = image(guess_B).to(tl.int64)
            high_B = tl.where(few_B, u_B - 1, high_B)
            low_B = tl.where(many_B, u_B + 1, low_B)
            jump_B = tl.where(few_B, u_B - step_B, u_B + step_B)
            next_B = tl.where((low_B > 0) & (high_B < 0xFFFFFFFF), (low_B + high_B) >> 1, jump_B)
            next_B = tl.minimum(tl.maximum(next_B, low_B), high_B)
            next_B = tl.minimum(tl.maximum(next_B, 0x007FFFFF), 0xFF800000)  # the images of -inf and inf
            step_B *= 2
            guess_B = tl.where(few_B | many_B, from_image(next_B.to(tl.uint32)), guess_B)


@triton.jit
def _best(
    kept, kept_count, starts, lasts, selected, first, chunk_end, top_k, width,
    R: tl.constexpr, W: tl.constexpr, A: tl.constexpr,
):  # fmt: skip
    """The set of each query: all it sees, or the k best of what was kept, ascending, padded with -1 to `width`."""
    line_R = tl.program_id(0) * R + tl.arange(0, R)
    row_R = first + line_R
    inside_R = row_R < chunk_end
    start_R = tl.load(starts + row_R, mask=inside_R, other=0)
    last_R = tl.load(lasts + row_R, mask=inside_R, other=-1)
    short_R = inside_R & (last_R - start_R + 1 <= top_k)
    long_R = inside_R & (last_R - start_R + 1 > top_k)
    into_R = row_R.to(tl.int64) * width
    if tl.max(short_R.to(tl.int32), axis=0) > 0:
        at_W = tl.arange(0, W)
        key_RW = start_R[:, None] + at_W[None, :]
        key_RW = tl.where(key_RW <= last_R[:, None], key_RW, -1)
        tl.store(
            selected + into_R[:, None] + at_W[None, :], key_RW, mask=(inside_R & short_R)[:, None] & (at_W < width)[None, :]
        )
    if tl.max(long_R.to(tl.int32), axis=0) > 0:
        at_A = tl.arange(0, A)
        from_RA = line_R[:, None].to(tl.int64) * A + at_A[None, :]
        there_RA = at_A[None, :] < tl.load(kept_count + line_R, mask=long_R, other=0)[:, None]
        entry_RA = tl.load(kept + from_RA, mask=there_RA, other=0)
        u_RA = tl.where(there_RA, image((entry_RA >> 32).to(tl.uint32).to(tl.float32, bitcast=True)), 0)
        kth_R = kth_largest(u_RA, tl.zeros_like(row_R) + top_k)
        take_RA, place_RA = best_places(u_RA, kth_R, top_k)
        key_RA = (entry_RA & 0xFFFFFFFF).to(tl.int32)
        tl.store(selected + into_R[:, None] + place_RA, key_RA, mask=take_RA & (place_RA < width))


def reason_not(row: PackedRow) -> str | None:
    """Why these kernels cannot select for this row; None when they can."""
    return reason_not_indexer(row.index_q, row.index_w, row.top_k)


def served_types() -> tuple[torch.dtype, ...]:
    """Half precision; on the interpreter float32 too, whose products on a GPU leave the tensor cores and spill registers."""
    return (torch.bfloat16, torch.float16, *((torch.float32,) if interpreted() else ()))


def reason_not_indexer(index_q: Tensor, index_w: Tensor, top_k: int | None) -> str | None:
    """What the selection of a row and of a decoding step ask of the indexer's tensors."""
    dim = index_q.shape[-1]
    if index_q.dtype not in served_types():
        return f"indexer queries are {index_q.dtype}, kernels take {', '.join(map(str, served_types()))}"
    if dim not in (16, 32, 64, 128):
        return f"the indexer's head dim is {dim}, kernels take 16, 32, 64 and 128"
    if top_k is None or not 1 <= top_k <= MAX_TOP_K:
        return f"top_k is {top_k}, kernels select 1 to {MAX_TOP_K} keys"
    return None


def key_ranges(segments_N4: Tensor, queries: int) -> tuple[Tensor, Tensor]:
    """The first and the last key that each query sees: [T] int32 each, found on the device.

    Args:
        segments_N4: [N, 4] int32 (start, end, first, last): queries [start, end) are the last of keys [first, last).
    """
    place_T = torch.arange(queries, dtype=torch.int32, device=segments_N4.device)
    _, end_T, first_T, last_T = segments_N4[torch.searchsorted(segments_N4[:, 0].contiguous(), place_T, right=True) - 1].unbind(
        1
    )
    return first_T.contiguous(), last_T - end_T + place_T


@torch.no_grad()
def serve(row: PackedRow) -> Tensor:
    """The selected sets of a packed row: [T, min(top_k, longest)] int32, see `PackedRow`."""
    assert row.top_k is not None
    k_scale, (q, k, w) = None, (row.index_q, row.index_k, row.index_w)
    if index_precision() == "fp8":
        q, k, w, k_scale = quantised_indexer(q, k, w)
    segments = whole_samples(row.cu_seqlens) if row.segments is None else row.segments
    return select(q, k, w, segments, longest=row.longest, top_k=row.top_k, k_scale_S=k_scale)


@torch.no_grad()
def select(
    index_q_TJE: Tensor,
    index_k_SE: Tensor,
    index_w_TJ: Tensor,
    segments_N4: Tensor,
    *,
    longest: int,
    top_k: int,
    k_scale_S: Tensor | None = None,
    tile: tuple[int, int] = (64, 128),
    warps: int = 4,
    stages: int = 3,
    rows: int = 1,
    sample: int = SAMPLE,
    scratch_bytes: int = SCRATCH_BYTES,
) -> Tensor:
    """As `serve`, of tensors; the rest is for quantised tensors, tuning and tests.

    Args:
        segments_N4: [N, 4] int32, which queries see which keys, see `key_ranges`. longest: the most keys a query may see.
        k_scale_S: float32, multiplies the scores of each key (the queries' scales are folded into the gates).
        tile: queries and keys of a tile. rows: queries whose set one program finds (more than 1 only suits the interpreter).
        sample: keys sampled, a power of two. scratch_bytes: the most that what is kept for a chunk may take.
    """
    tokens, heads, dim = index_q_TJE.shape
    device, width = index_q_TJE.device, min(top_k, longest)
    selected_TK = torch.full((tokens, width), -1, dtype=torch.int32, device=device)
    starts_T, lasts_T = key_ranges(segments_N4, tokens)
    queries, keys = tile
    # Above a guess that misses nothing lie fewer than k keys, equal to it up to k and what its tile holds.
    room = triton.next_power_of_2(max(4 * top_k, 2 * top_k + keys))
    chunk = max(queries, min(tokens, scratch_bytes // (8 * room + 4 * sample)) // queries * queries)
    if longest <= top_k:
        chunk = tokens
    q, k, w = index_q_TJE.contiguous(), index_k_SE.contiguous(), index_w_TJ.contiguous()
    lines = chunk if longest > top_k else 0
    kept = torch.empty(lines * room, dtype=torch.uint64, device=device)
    kept_count = torch.zeros(max(lines, 1), dtype=torch.int32, device=device)
    guesses = torch.full((max(lines, 1),), -torch.inf, dtype=torch.float32, device=device)
    sampled = torch.empty(lines * sample if longest > room else 1, dtype=torch.float32, device=device)
    scale = k_scale_S if k_scale_S is not None else guesses
    shape: dict[str, int | str] = {"J": heads, "E": dim, "B": queries, "N": keys, "A": room, "SCALED": k_scale_S is not None}
    shape["PRECISION"] = "ieee" if q.dtype == torch.float32 else "tf32"
    for first in range(0, tokens, chunk):
        size = min(chunk, tokens - first)
        tiles = triton.cdiv(size, queries)
        if longest > top_k:
            if longest > room:
                _sampled_scores[(tiles, triton.cdiv(sample, keys))](
                    q, k, w, scale, starts_T, lasts_T, sampled, first, first + size, len(k),
                    M=sample, **shape, num_warps=warps, num_stages=stages,
                )  # fmt: skip
                _guesses[(triton.cdiv(size, rows),)](
                    sampled, starts_T, lasts_T, guesses, first, first + size, top_k, R=rows, M=sample, A=room, num_warps=4
                )
            _keep[(tiles,)](
                q, k, w, scale, starts_T, lasts_T, guesses, kept, kept_count, first, first + size, len(k), top_k,
                **shape, num_warps=warps, num_stages=stages,
            )  # fmt: skip
        _best[(triton.cdiv(size, rows),)](
            kept, kept_count, starts_T, lasts_T, selected_TK, first, first + size, top_k, width,
            R=rows, W=triton.next_power_of_2(width), A=room, num_warps=8,
        )  # fmt: skip
    return selected_TK


def builds() -> list[Build]:
    """The variants of the published geometry: 16 heads of 64, k = 2048."""
    made = []
    pointers = {"k_scale": "*fp32", "starts": "*i32", "lasts": "*i32", "guesses": "*fp32", "sampled": "*fp32"}
    pointers |= {"kept": "*u64", "kept_count": "*i32", "selected": "*i32"}
    numbers = dict.fromkeys(("first", "chunk_end", "keys", "top_k", "width"), "i32")
    for precision in ("bf16", "fp8e4nv"):
        given = {"q": f"*{precision}", "k": f"*{precision}", "w": "*bf16" if precision == "bf16" else "*fp32"}
        for kernel, tile, warps in ((_sampled_scores, (64, 128), 4), (_keep, (64, 128), 4)):
            constants: dict[str, Any] = {"J": 16, "E": 64, "B": tile[0], "N": tile[1], "M": SAMPLE, "A": 8192}
            constants |= {"SCALED": precision != "bf16", "PRECISION": "tf32"}
            made.append((kernel, f"{precision} {tile[0]}x{tile[1]}", given, constants, warps))
    made.append((_guesses, "", {}, {"R": 1, "M": SAMPLE, "A": 8192}, 4))
    made.append((_best, "", {}, {"R": 1, "W": 2048, "A": 8192}, 8))
    return [
        Build(
            name=f"{kernel.__name__} {variant}".strip(),
            kernel=kernel,
            types={name: (given | pointers | numbers)[name] for name in kernel.arg_names if name not in constants},
            constants={name: value for name, value in constants.items() if name in kernel.arg_names},
            warps=warps,
            stages=3,
        )
        for kernel, variant, given, constants, warps in made
    ]
