# mypy: allow-untyped-defs
"""The KL that teaches the indexer, and what its queries and gates learn from it, without a matrix of probabilities.

    KL_t = sum_g sum_s p_g[t,s] (log p_g[t,s] - I[t,s] + logsumexp_s I[t,s]),  p_g = mean over the group's heads

A program owns B neighbouring queries and goes over what they read twice: once for the logarithm of the sum of the scores'
exponentials, which costs one small product a tile; then again with every group's probabilities recomputed from the LSE
that attention left. It is the same for a selected set (the union, masked) and for warm-up (every key that is seen).

Decided here: the value cannot be had in one pass. p_g is a mean over heads of probabilities whose sums are known only at
the end, and its logarithm does not split. So the value costs the logits a second time, and the gradient of the indexer's
queries and gates, whose slope G * softmax(I) - sum_g p_g is then in registers, is formed in the same pass; backward only
scales it. The indexer's keys are served from the side of the keys (`attention_keys`).

Shapes: M = B * R rows (query-major), X = B * J indexer rows (query-major), N keys of a tile, D, E head dims, T tokens, H query
heads, G groups, R = H / G, J indexer heads.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.kernels.attention_queries import read_tile


@triton.jit
def kl_queries(
    q, k, lse, index_q, index_k, index_w, kl, index_lse, into_index_q, into_index_w,
    blocks, rows, bits, sizes, first_block, capacity, top_k, scale,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, J: tl.constexpr, E: tl.constexpr, B: tl.constexpr, N: tl.constexpr,
    SELECTED: tl.constexpr, WITH_GRADIENT: tl.constexpr,
):  # fmt: skip
    """kl [T], index_lse [T] float32; into_index_q [T, J, E], into_index_w [T, J]. Grid: (blocks,), the longest first."""
    slot = tl.num_programs(0) - 1 - tl.program_id(0)
    block = blocks + (first_block + slot) * 4
    start, count, first = tl.load(block), tl.load(block + 1), tl.load(block + 2)
    if (count > 0) & ((start + count - first > top_k) == SELECTED):
        R: tl.constexpr = H // G
        m_M, x_X, b_B = tl.arange(0, B * R), tl.arange(0, B * J), tl.arange(0, B)
        d_D, e_E = tl.arange(0, D), tl.arange(0, E)
        place_M, there_X, there_B = m_M // R, x_X // J < count, b_B < count
        at_XE = (start * J + x_X)[:, None] * E + e_E[None, :]
        q_XE = tl.load(index_q + at_XE, mask=there_X[:, None], other=0.0)
        w_X = tl.load(index_w + start * J + x_X, mask=there_X, other=0.0).to(tl.float32)
        size = tl.load(sizes + slot) if SELECTED else start + count - first

        best_B = tl.full((B,), -1.0e30, tl.float32)
        sum_B = tl.zeros((B,), tl.float32)
        for n0 in range(0, size, N):
            row_N, there_N, sees_BN = read_tile(
                n0, size, first, start, rows + slot * capacity, bits + slot * capacity, b_B, N, SELECTED
            )
            k_NE = tl.load(index_k + row_N[:, None] * E + e_E[None, :], mask=there_N[:, None], other=0.0)
            products_XN = tl.dot(q_XE, tl.trans(k_NE), input_precision="ieee")
            scores_BN = tl.sum(tl.reshape(tl.maximum(products_XN, 0.0) * w_X[:, None], (B, J, N)), 1)
            scores_BN = tl.where(sees_BN, scores_BN, float("-inf"))
            above_B = tl.maximum(best_B, tl.max(scores_BN, 1))
            sum_B = sum_B * tl.exp(best_B - above_B) + tl.sum(tl.exp(scores_BN - above_B[:, None]), 1)
            best_B = above_B
        index_lse_B = tl.where(there_B, best_B + tl.log(sum_B), 0.0)
        tl.store(index_lse + start + b_B, index_lse_B, mask=there_B)

        kl_B = tl.zeros((B,), tl.float32)
        into_w_X = tl.zeros((B * J,), tl.float32)
        into_q_XE = tl.zeros((B * J, E), tl.float32)
        for n0 in range(0, size, N):
            row_N, there_N, sees_BN = read_tile(
                n0, size, first, start, rows + slot * capacity, bits + slot * capacity, b_B, N, SELECTED
            )
            sees_BN = sees_BN & there_B[:, None]
            k_NE = tl.load(index_k + row_N[:, None] * E + e_E[None, :], mask=there_N[:, None], other=0.0)
            products_XN = tl.dot(q_XE, tl.trans(k_NE), input_precision="ieee")
            scores_BN = tl.sum(tl.reshape(tl.maximum(products_XN, 0.0) * w_X[:, None], (B, J, N)), 1)
            log_q_BN = scores_BN - index_lse_B[:, None]
            target_BN = tl.zeros((B, N), tl.float32)
            for group in range(G):
                head_M = (start + place_M) * H + group * R + m_M % R
                there_M = place_M < count
                q_MD = tl.load(q + head_M[:, None] * D + d_D[None, :], mask=there_M[:, None], other=0.0)
                lse_M = tl.load(lse + head_M, mask=there_M, other=float("inf"))
                at_ND = (row_N * G + group)[:, None] * D + d_D[None, :]
                k_ND = tl.load(k + at_ND, mask=there_N[:, None], other=0.0)
                p_MN = tl.exp2(tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee") * scale - lse_M[:, None])
                p_BN = tl.where(sees_BN, tl.sum(tl.reshape(p_MN, (B, R, N)), 1) / R, 0.0)
                # 0 * log 0 counts as 0: the smallest normal number keeps the logarithm finite.
                log_p_BN = tl.log(tl.maximum(p_BN, 1.17549435e-38))
                kl_B += tl.sum(tl.where(sees_BN, p_BN * (log_p_BN - log_q_BN), 0.0), 1)
                target_BN += p_BN
            if WITH_GRADIENT:
                slope_BN = tl.where(sees_BN, G * tl.exp(log_q_BN) - target_BN, 0.0)
                slope_XN = tl.reshape(tl.broadcast_to(slope_BN[:, None, :], (B, J, N)), (B * J, N))
                into_w_X += tl.sum(tl.maximum(products_XN, 0.0) * slope_XN, 1)
                slope_XN = tl.where(products_XN > 0.0, slope_XN * w_X[:, None], 0.0)
                into_q_XE = tl.dot(slope_XN.to(k_NE.dtype), k_NE, into_q_XE, input_precision="ieee")
        tl.store(kl + start + b_B, kl_B, mask=there_B)
        if WITH_GRADIENT:
            tl.store(into_index_q + at_XE, into_q_XE.to(into_index_q.dtype.element_ty), mask=there_X[:, None])
            tl.store(into_index_w + start * J + x_X, into_w_X.to(into_index_w.dtype.element_ty), mask=there_X)
