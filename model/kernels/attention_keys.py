# mypy: allow-untyped-defs
"""Sparse attention's backward pass from the side of the keys: the gradients of keys and values, and of the indexer's keys.

Every row of a gradient is added to by one program only, in the order of the queries: two runs give identical bits, and
nothing is atomic.

- Short blocks (`*_short`): a program owns N keys in a row and loops over the short queries that see them, sums in registers.
- Selected sets (`selected_keys`): a program owns a range of keys. For each block of queries in order it takes the part of
  the block's union that lies in its range, recomputes that tile's probabilities, and adds the tile's sums to float32 rows
  in memory that only it touches; a range is small enough to stay in the L2 cache while the program lives.

Decided here: the KL's gradient needs the probabilities of all groups on a tile at once, and they are at hand when one
program goes through the groups; so it does, and the indexer's keys are served in the same pass ("inside the sparse
backward"). The KL's gradient on a score is G * softmax(I) - sum_g p_g (see `dsa_reference`).

Not taken: a list of queries for every key. A key's queries do not come in neighbouring runs, so each would load R query
rows for one row of keys: 8 times the bytes of the gather it mirrors.

Shapes: M = B * R query rows (query-major), N keys of a tile, D head dim, X = B * J indexer rows (query-major), J indexer
heads, E indexer head dim, T tokens, H query heads, G groups, R = H / G, Z ranges.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def index_keys(
    index_q, index_k, index_w, index_lse, row_N, there_N, start, count, target_NB, sees_NB,
    J: tl.constexpr, E: tl.constexpr, G: tl.constexpr, B: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """The KL's gradient on a tile of the indexer's keys from B queries, [N, E]; `target_NB`: sum over groups of p."""
    x_X, e_E, b_B = tl.arange(0, B * J), tl.arange(0, E), tl.arange(0, B)
    there_X = x_X // J < count
    q_XE = tl.load(index_q + (start * J + x_X)[:, None] * E + e_E[None, :], mask=there_X[:, None], other=0.0)
    w_X = tl.load(index_w + start * J + x_X, mask=there_X, other=0.0).to(tl.float32)
    k_NE = tl.load(index_k + row_N[:, None] * E + e_E[None, :], mask=there_N[:, None], other=0.0)
    lse_B = tl.load(index_lse + start + b_B, mask=b_B < count, other=float("inf"))
    products_NX = tl.dot(k_NE, tl.trans(q_XE), input_precision="ieee")
    scores_NB = tl.sum(tl.reshape(tl.maximum(products_NX, 0.0) * w_X[None, :], (N, B, J)), 2)
    slope_NB = tl.where(sees_NB, G * tl.exp(scores_NB - lse_B[None, :]) - target_NB, 0.0)
    slope_NX = tl.reshape(tl.broadcast_to(slope_NB[:, :, None], (N, B, J)), (N, B * J))
    slope_NX = tl.where(products_NX > 0.0, slope_NX * w_X[None, :], 0.0)
    return tl.dot(slope_NX.to(q_XE.dtype), q_XE, input_precision="ieee")


@triton.jit
def short_keys(
    q, k, v, lse, grad_out, offset, into_k, into_v, key_blocks, top_k, scale, scale_q,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, B: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """into_k, into_v [T, G, D] float32 of keys that short blocks read; the rest is left as it is. Grid: (key blocks, G)."""
    block = key_blocks + tl.program_id(0) * 4
    start, count, first, end = tl.load(block), tl.load(block + 1), tl.load(block + 2), tl.load(block + 3)
    group = tl.program_id(1)
    until = tl.where(end - first <= top_k, end, first + top_k // B * B)
    if (count > 0) & (start < until):
        R: tl.constexpr = H // G
        n_N, m_M, d_D = tl.arange(0, N), tl.arange(0, B * R), tl.arange(0, D)
        row_N, there_N = start + n_N, n_N < count
        at_ND = (row_N * G + group)[:, None] * D + d_D[None, :]
        k_ND = tl.load(k + at_ND, mask=there_N[:, None], other=0.0)
        v_ND = tl.load(v + at_ND, mask=there_N[:, None], other=0.0)
        into_k_ND, into_v_ND = tl.zeros((N, D), tl.float32), tl.zeros((N, D), tl.float32)
        for t0 in range(start, until, B):
            token_M = t0 + m_M // R
            there_M = token_M < until
            head_M = token_M * H + group * R + m_M % R
            at_MD = head_M[:, None] * D + d_D[None, :]
            q_MD = tl.load(q + at_MD, mask=there_M[:, None], other=0.0)
            grad_MD = tl.load(grad_out + at_MD, mask=there_M[:, None], other=0.0)
            lse_M = tl.load(lse + head_M, mask=there_M, other=float("inf"))
            offset_M = tl.load(offset + head_M, mask=there_M, other=0.0)
            logits_NM = tl.dot(k_ND, tl.trans(q_MD), input_precision="ieee") * scale
            p_NM = tl.where(row_N[:, None] <= token_M[None, :], tl.exp2(logits_NM - lse_M[None, :]), 0.0)
            into_v_ND = tl.dot(p_NM.to(grad_MD.dtype), grad_MD, into_v_ND, input_precision="ieee")
            slope_NM = p_NM * (tl.dot(v_ND, tl.trans(grad_MD), input_precision="ieee") - offset_M[None, :])
            into_k_ND = tl.dot(slope_NM.to(q_MD.dtype), q_MD, into_k_ND, input_precision="ieee")
        tl.store(into_k + at_ND, into_k_ND * scale_q, mask=there_N[:, None])
        tl.store(into_v + at_ND, into_v_ND, mask=there_N[:, None])


@triton.jit
def short_index_keys(
    q, k, lse, index_q, index_k, index_w, index_lse, into_index_k, key_blocks, top_k, scale,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, J: tl.constexpr, E: tl.constexpr, B: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """into_index_k [T, E] float32 of keys that short blocks read (all of them in warm-up). Grid: (key blocks,)."""
    block = key_blocks + tl.program_id(0) * 4
    start, count, first, end = tl.load(block), tl.load(block + 1), tl.load(block + 2), tl.load(block + 3)
    until = tl.where(end - first <= top_k, end, first + top_k // B * B)
    if (count > 0) & (start < until):
        R: tl.constexpr = H // G
        n_N, m_M, d_D, b_B = tl.arange(0, N), tl.arange(0, B * R), tl.arange(0, D), tl.arange(0, B)
        row_N, there_N = start + n_N, n_N < count
        into_NE = tl.zeros((N, E), tl.float32)
        for t0 in range(start, until, B):
            token_M = t0 + m_M // R
            there_M = token_M < until
            target_NB = tl.zeros((N, B), tl.float32)
            for group in range(G):
                at_ND = (row_N * G + group)[:, None] * D + d_D[None, :]
                k_ND = tl.load(k + at_ND, mask=there_N[:, None], other=0.0)
                head_M = token_M * H + group * R + m_M % R
                q_MD = tl.load(q + head_M[:, None] * D + d_D[None, :], mask=there_M[:, None], other=0.0)
                lse_M = tl.load(lse + head_M, mask=there_M, other=float("inf"))
                logits_NM = tl.dot(k_ND, tl.trans(q_MD), input_precision="ieee") * scale
                p_NM = tl.where(row_N[:, None] <= token_M[None, :], tl.exp2(logits_NM - lse_M[None, :]), 0.0)
                target_NB += tl.sum(tl.reshape(p_NM, (N, B, R)), 2) / R
            sees_NB = (row_N[:, None] <= (t0 + b_B)[None, :]) & (t0 + b_B < until)[None, :] & there_N[:, None]
            into_NE += index_keys(
                index_q, index_k, index_w, index_lse, row_N, there_N, t0, until - t0, target_NB, sees_NB, J, E, G, B, N
            )
        tl.store(into_index_k + row_N[:, None] * E + tl.arange(0, E)[None, :], into_NE, mask=there_N[:, None])


@triton.jit
def selected_keys(
    q, k, v, lse, grad_out, offset, index_q, index_k, index_w, index_lse, into_k, into_v, into_index_k,
    blocks, rows, bits, span_from, span_to, first_block, chunk, capacity, ranges, scale, scale_q,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, J: tl.constexpr, E: tl.constexpr, B: tl.constexpr, N: tl.constexpr,
    WITH_KV: tl.constexpr, WITH_KL: tl.constexpr,
):  # fmt: skip
    """Adds what a chunk's blocks give to into_k, into_v [T, G, D] and into_index_k [T, E], all float32. Grid: (Z,)."""
    R: tl.constexpr = H // G
    m_M, d_D, n_N, b_B, e_E = tl.arange(0, B * R), tl.arange(0, D), tl.arange(0, N), tl.arange(0, B), tl.arange(0, E)
    place_M = m_M // R
    for slot in range(chunk):
        begin = tl.load(span_from + slot * ranges + tl.program_id(0))
        stop = tl.load(span_to + slot * ranges + tl.program_id(0))
        if begin < stop:
            block = blocks + (first_block + slot) * 4
            start, count = tl.load(block), tl.load(block + 1)
            there_M = place_M < count
            for n0 in range(begin, stop, N):
                there_N = n0 + n_N < stop
                row_N = tl.load(rows + slot * capacity + n0 + n_N, mask=there_N, other=0)
                word_N = tl.load(bits + slot * capacity + n0 + n_N, mask=there_N, other=0)
                sees_NM = ((word_N[:, None] >> place_M[None, :]) & 1) != 0
                target_NB = tl.zeros((N, B), tl.float32)
                for group in range(G):
                    at_ND = (row_N * G + group)[:, None] * D + d_D[None, :]
                    head_M = (start + place_M) * H + group * R + m_M % R
                    at_MD = head_M[:, None] * D + d_D[None, :]
                    k_ND = tl.load(k + at_ND, mask=there_N[:, None], other=0.0)
                    q_MD = tl.load(q + at_MD, mask=there_M[:, None], other=0.0)
                    lse_M = tl.load(lse + head_M, mask=there_M, other=float("inf"))
                    logits_NM = tl.dot(k_ND, tl.trans(q_MD), input_precision="ieee") * scale
                    p_NM = tl.where(sees_NM, tl.exp2(logits_NM - lse_M[None, :]), 0.0)
                    if WITH_KV:
                        v_ND = tl.load(v + at_ND, mask=there_N[:, None], other=0.0)
                        grad_MD = tl.load(grad_out + at_MD, mask=there_M[:, None], other=0.0)
                        offset_M = tl.load(offset + head_M, mask=there_M, other=0.0)
                        sum_ND = tl.load(into_v + at_ND, mask=there_N[:, None], other=0.0)
                        sum_ND += tl.dot(p_NM.to(grad_MD.dtype), grad_MD, input_precision="ieee")
                        tl.store(into_v + at_ND, sum_ND, mask=there_N[:, None])
                        slope_NM = p_NM * (tl.dot(v_ND, tl.trans(grad_MD), input_precision="ieee") - offset_M[None, :])
                        sum_ND = tl.load(into_k + at_ND, mask=there_N[:, None], other=0.0)
                        sum_ND += tl.dot(slope_NM.to(q_MD.dtype), q_MD, input_precision="ieee") * scale_q
                        tl.store(into_k + at_ND, sum_ND, mask=there_N[:, None])
                    if WITH_KL:
                        target_NB += tl.sum(tl.reshape(p_NM, (N, B, R)), 2) / R
                if WITH_KL:
                    sees_NB = ((word_N[:, None] >> b_B[None, :]) & 1) != 0
                    at_NE = row_N[:, None] * E + e_E[None, :]
                    sum_NE = tl.load(into_index_k + at_NE, mask=there_N[:, None], other=0.0)
                    sum_NE += index_keys(
                        index_q, index_k, index_w, index_lse, row_N, there_N, start, count, target_NB, sees_NB, J, E, G, B, N
                    )
                    tl.store(into_index_k + at_NE, sum_NE, mask=there_N[:, None])
            # Another block's threads may add to rows that these have written.
            tl.debug_barrier()
