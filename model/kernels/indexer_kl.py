# mypy: allow-untyped-defs
"""The KL that teaches the indexer, and its gradient, without a matrix of probabilities.

    KL_t = sum_g sum_s p_g[t,s] (log p_g[t,s] - I[t,s] + logsumexp_s I[t,s]),  p_g = mean over the group's heads
    slope[t,s] = G * softmax_s(I)[t,s] - sum_g p_g[t,s]

A program owns B neighbouring queries and what they read: their sets' union, masked, or, in warm-up and in short blocks, every
key that is seen. It goes over the keys group by group, recomputing probabilities from the LSE that attention left, and once
more, having the sum over groups, for the indexer.

Decided here:
- The value cannot be had in the pass that computes attention. p_g is a mean over heads of probabilities whose sums are known
  only at the end, and its logarithm does not split. So it costs the logits a second time: half of attention's operations.
- As value and gradient need the same probabilities, the gradient is formed with the value, as in `dsa_cpu`; backward scales it.
- Groups go outside, keys inside: a group's queries are loaded once. The other way round they would be loaded anew for every
  tile of keys, 128 KB for 16 KB of keys. The price is a number for each query and key, the sum over groups so far, which passes
  through memory (`targets`, kept as long as a window).
- What the indexer's keys get is written down for each key and added up afterwards (`key_parts`).

Shapes: M = B * R rows (query-major), X = B * J indexer rows (query-major), N keys of a tile (LAST of them in
the last pass, which needs more registers a key), D, E head dims, T queries, H query
heads, G groups, R = H / G, J indexer heads.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.kernels.attention_queries import read_list, who_reads
from model.kernels.key_parts import place_parts


@triton.jit
def index_tile(q_XE, w_X, index_k, row_N, there_N, B: tl.constexpr, J: tl.constexpr, E: tl.constexpr, N: tl.constexpr):
    """The indexer's keys [N, E], rectified products [X, N] and scores [B, N] of a tile."""
    k_NE = tl.load(index_k + row_N[:, None] * E + tl.arange(0, E)[None, :], mask=there_N[:, None], other=0.0)
    rectified_XN = tl.maximum(tl.dot(q_XE, tl.trans(k_NE), input_precision="ieee"), 0.0)
    scores_BN = tl.sum(tl.reshape(rectified_XN * w_X[:, None], (B, J, N)), 1)
    return k_NE, rectified_XN, scores_BN


@triton.jit(do_not_specialize=["first_block"])
def kl_queries(
    q, k, lse, index_q, index_k, index_w, kl, into_index_q, into_index_w, parts, part_rows, targets,
    blocks, rows, bits, sizes, places, bases, first_block, capacity, ranges, top_k, scale,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, J: tl.constexpr, E: tl.constexpr, B: tl.constexpr, N: tl.constexpr,
    LAST: tl.constexpr, RANGE: tl.constexpr, SELECTED: tl.constexpr, WITH_GRADIENT: tl.constexpr,
):  # fmt: skip
    """kl [T] float32 of a window's blocks, and with the gradient into_index_q [T, J, E], into_index_w [T, J], parts [room, E]
    of the keys part_rows [room].

    `targets` [room * B] float32: scratch. `places`, `bases`: see `key_parts.Window`. Grid: (blocks,), the longest first.
    """
    slot = tl.num_programs(0) - 1 - tl.program_id(0)
    block = blocks + (first_block + slot) * 4
    start, count, first, sees = tl.load(block), tl.load(block + 1), tl.load(block + 2), tl.load(block + 3)
    place = tl.load(places + slot)
    if (place >= 0) & (count > 0) & ((sees + count - first > top_k) == SELECTED):
        R: tl.constexpr = H // G
        m_M, x_X, b_B = tl.arange(0, B * R), tl.arange(0, B * J), tl.arange(0, B)
        d_D, e_E, n_N = tl.arange(0, D), tl.arange(0, E), tl.arange(0, N)
        place_M, there_M, there_B = m_M // R, m_M // R < count, b_B < count
        size = tl.load(sizes + slot) if SELECTED else sees + count - first
        rows += slot * capacity
        bits += slot * capacity
        kl_B = tl.zeros((B,), tl.float32)
        targets_B = targets + place * B + b_B * size

        for group in range(G):
            head_M = (start + place_M) * H + group * R + m_M % R
            q_MD = tl.load(q + head_M[:, None] * D + d_D[None, :], mask=there_M[:, None], other=0.0)
            lse_M = tl.load(lse + head_M, mask=there_M, other=float("inf"))
            row_N, word_N = read_list(rows, bits, 0, size, first, N, SELECTED)
            for n0 in range(0, size, N):
                there_N = n0 + n_N < size
                reads_BN = who_reads(row_N, word_N, sees, b_B, SELECTED) & there_B[:, None]
                k_ND = tl.load(k + (row_N * G + group)[:, None] * D + d_D[None, :], mask=there_N[:, None], other=0.0)
                at_BN = targets_B[:, None] + (n0 + n_N)[None, :]
                earlier_BN = tl.load(at_BN, mask=there_N[None, :] & (group > 0), other=0.0)
                row_N, word_N = read_list(rows, bits, n0 + N, size, first, N, SELECTED)
                p_MN = tl.exp2(tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee") * scale - lse_M[:, None])
                p_BN = tl.where(reads_BN, tl.sum(tl.reshape(p_MN, (B, R, N)), 1) / R, 0.0)
                # 0 * log 0 counts as 0: about the smallest normal number keeps the logarithm finite.
                kl_B += tl.sum(p_BN * tl.log(tl.maximum(p_BN, 1.2e-38)), 1)
                tl.store(at_BN, earlier_BN + p_BN, mask=there_N[None, :])
            # Other threads read what these have written.
            tl.debug_barrier()

        at_X = start * J + x_X
        there_X = x_X // J < count
        q_XE = tl.load(index_q + at_X[:, None] * E + e_E[None, :], mask=there_X[:, None], other=0.0)
        w_X = tl.load(index_w + at_X, mask=there_X, other=0.0).to(tl.float32)
        best_B = tl.full((B,), -1.0e30, tl.float32)
        sum_B = tl.zeros((B,), tl.float32)
        row_N, word_N = read_list(rows, bits, 0, size, first, N, SELECTED)
        for n0 in range(0, size, N):
            there_N = n0 + n_N < size
            reads_BN = who_reads(row_N, word_N, sees, b_B, SELECTED)
            _, _, scores_BN = index_tile(q_XE, w_X, index_k, row_N, there_N, B, J, E, N)
            row_N, word_N = read_list(rows, bits, n0 + N, size, first, N, SELECTED)
            scores_BN = tl.where(reads_BN, scores_BN, float("-inf"))
            above_B = tl.maximum(best_B, tl.max(scores_BN, 1))
            sum_B = sum_B * tl.exp(best_B - above_B) + tl.sum(tl.exp(scores_BN - above_B[:, None]), 1)
            best_B = above_B
        lse_B = tl.where(there_B, best_B + tl.log(tl.where(there_B, sum_B, 1.0)), 0.0)

        into_w_X = tl.zeros((B * J,), tl.float32)
        into_q_XE = tl.zeros((B * J, E), tl.float32)
        n_N = tl.arange(0, LAST)
        row_N, word_N = read_list(rows, bits, 0, size, first, LAST, SELECTED)
        for n0 in range(0, size, LAST):
            there_N = n0 + n_N < size
            reads_BN = who_reads(row_N, word_N, sees, b_B, SELECTED) & there_B[:, None]
            k_NE, rectified_XN, scores_BN = index_tile(q_XE, w_X, index_k, row_N, there_N, B, J, E, LAST)
            here_row_N = row_N
            row_N, word_N = read_list(rows, bits, n0 + LAST, size, first, LAST, SELECTED)
            target_BN = tl.load(targets_B[:, None] + (n0 + n_N)[None, :], mask=there_N[None, :], other=0.0)
            log_q_BN = scores_BN - lse_B[:, None]
            kl_B -= tl.sum(tl.where(reads_BN, target_BN * log_q_BN, 0.0), 1)
            if WITH_GRADIENT:
                slope_BN = tl.where(reads_BN, G * tl.exp(log_q_BN) - target_BN, 0.0)
                slope_XN = tl.reshape(tl.broadcast_to(slope_BN[:, None, :], (B, J, LAST)), (B * J, LAST))
                into_w_X += tl.sum(rectified_XN * slope_XN, 1)
                slope_XN = tl.where(rectified_XN > 0.0, slope_XN * w_X[:, None], 0.0).to(k_NE.dtype)
                into_q_XE = tl.dot(slope_XN, k_NE, into_q_XE, input_precision="ieee")
                part_NE = tl.dot(tl.trans(slope_XN), q_XE, input_precision="ieee")
                part_N = place_parts(bases, slot, ranges, here_row_N, n0 + n_N, size, RANGE)
                tl.store(part_rows + part_N, here_row_N, mask=there_N)
                at_NE = part_N[:, None] * E + e_E[None, :]
                tl.store(parts + at_NE, part_NE.to(parts.dtype.element_ty), mask=there_N[:, None])
        tl.store(kl + start + b_B, kl_B, mask=there_B)
        if WITH_GRADIENT:
            tl.store(
                into_index_q + at_X[:, None] * E + e_E[None, :],
                into_q_XE.to(into_index_q.dtype.element_ty),
                mask=there_X[:, None],
            )
            tl.store(into_index_w + at_X, into_w_X.to(into_index_w.dtype.element_ty), mask=there_X)
