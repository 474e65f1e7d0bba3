# mypy: allow-untyped-defs
"""Sparse attention from the side of the queries: output with LSE, and later the queries' gradient.

A program owns B neighbouring queries and one KV group: B x R query heads, the rows of its matrix products, share every
key they load. Queries, probabilities and gradients stay in registers; keys and values come tile by tile, either the
block's union (`neighbours`), gathered and masked by who selected what, or, for a short block, the keys that it sees, in a row.

Decided here: a tile's rows are read one tile ahead and handed from turn to turn. Loads of keys then depend on nothing that
their own turn loads, and the compiler starts them two tiles early; with the list read in the same turn it waited for them.
Probabilities are never kept. The forward pass keeps one number for each query and head, the logarithm (base
2) of the sum of exponentials; with it both backward passes recompute a tile's probabilities, without a maximum or
a sum over tiles. What a block gives to the keys and values of its union is written down, a row for each key of the list, and
added up key by key afterwards (`attention_keys`): so all five products of the backward pass share one pass over the union.

Shapes: M = B * R rows of a program (query-major), N keys of a tile, D head dim, T tokens, H query heads, G groups,
R = H / G heads of a group.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.kernels.key_parts import place_parts


@triton.jit
def read_list(rows, bits, n0, size, first, N: tl.constexpr, SELECTED: tl.constexpr):
    """The keys' rows [N] of a tile, and who selected each [N] (of a short block: nothing of use)."""
    n_N = n0 + tl.arange(0, N)
    row_N, word_N = first + n_N, n_N
    if SELECTED:
        row_N = tl.load(rows + n_N, mask=n_N < size, other=0)
        word_N = tl.load(bits + n_N, mask=n_N < size, other=0)
    return row_N, word_N


@triton.jit
def who_reads(row_N, word_N, sees, place_M, SELECTED: tl.constexpr):
    """Whether the query at a place in the block reads a key, [M, N]. `sees`: the key up to which the first one sees."""
    reads_MN = row_N[None, :] <= (sees + place_M)[:, None]
    if SELECTED:
        reads_MN = ((word_N[None, :] >> place_M[:, None]) & 1) != 0
    return reads_MN


@triton.jit(do_not_specialize=["first_block"])
def attend_queries(
    q, k, v, out, lse, blocks, rows, bits, sizes, first_block, capacity, top_k, scale,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, B: tl.constexpr, N: tl.constexpr, SELECTED: tl.constexpr,
):  # fmt: skip
    """out [T, H, D] and lse [T, H] of the blocks that need a selection, or of the short ones. `scale`: D^-0.5 / ln 2.

    Grid: (G, blocks): programs at work together are neighbours and find each other's keys in the L2 cache. The last blocks,
    which read most, come first.
    """
    slot = tl.num_programs(1) - 1 - tl.program_id(1)
    group = tl.program_id(0)
    block = blocks + (first_block + slot) * 4
    start, count, first, sees = tl.load(block), tl.load(block + 1), tl.load(block + 2), tl.load(block + 3)
    if (count > 0) & ((sees + count - first > top_k) == SELECTED):
        R: tl.constexpr = H // G
        m_M, d_D = tl.arange(0, B * R), tl.arange(0, D)
        place_M = m_M // R
        there_M = place_M < count
        head_M = (start + place_M) * H + group * R + m_M % R
        at_MD = head_M[:, None] * D + d_D[None, :]
        q_MD = tl.load(q + at_MD, mask=there_M[:, None], other=0.0)
        best_M = tl.full((B * R,), -1.0e30, tl.float32)
        sum_M = tl.zeros((B * R,), tl.float32)
        out_MD = tl.zeros((B * R, D), tl.float32)
        size = tl.load(sizes + slot) if SELECTED else sees + count - first
        rows += slot * capacity
        bits += slot * capacity
        row_N, word_N = read_list(rows, bits, 0, size, first, N, SELECTED)
        for n0 in range(0, size, N):
            there_N = n0 + tl.arange(0, N) < size
            reads_MN = who_reads(row_N, word_N, sees, place_M, SELECTED)
            at_ND = (row_N * G + group)[:, None] * D + d_D[None, :]
            k_ND = tl.load(k + at_ND, mask=there_N[:, None], other=0.0)
            row_N, word_N = read_list(rows, bits, n0 + N, size, first, N, SELECTED)
            logits_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee") * scale
            logits_MN = tl.where(reads_MN, logits_MN, float("-inf"))
            above_M = tl.maximum(best_M, tl.max(logits_MN, 1))
            p_MN = tl.exp2(logits_MN - above_M[:, None])
            shrink_M = tl.exp2(best_M - above_M)
            best_M, sum_M = above_M, sum_M * shrink_M + tl.sum(p_MN, 1)
            v_ND = tl.load(v + at_ND, mask=there_N[:, None], other=0.0)
            out_MD = out_MD * shrink_M[:, None]
            out_MD = tl.dot(p_MN.to(v_ND.dtype), v_ND, out_MD, input_precision="ieee")
        tl.store(out + at_MD, (out_MD / sum_M[:, None]).to(out.dtype.element_ty), mask=there_M[:, None])
        tl.store(lse + head_M, best_M + tl.log2(sum_M), mask=there_M)


@triton.jit(do_not_specialize=["first_block"])
def attend_queries_backward(
    q, k, v, out, lse, grad_out, into_q, parts, part_rows, blocks, rows, bits, sizes, places, bases, first_block, capacity,
    ranges, top_k, scale, scale_q,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, B: tl.constexpr, N: tl.constexpr, RANGE: tl.constexpr,
    SELECTED: tl.constexpr,
):  # fmt: skip
    """into_q [T, H, D] of a window's blocks, and what they give to each key and value they read, parts [room, 2, G, D]
    of the keys part_rows [room].

    `scale_q`: D^-0.5. `places`, `bases`: see `key_parts.Window`. Grid as in `attend_queries`.
    """
    slot = tl.num_programs(1) - 1 - tl.program_id(1)
    group = tl.program_id(0)
    block = blocks + (first_block + slot) * 4
    start, count, first, sees = tl.load(block), tl.load(block + 1), tl.load(block + 2), tl.load(block + 3)
    if (tl.load(places + slot) >= 0) & (count > 0) & ((sees + count - first > top_k) == SELECTED):
        R: tl.constexpr = H // G
        m_M, d_D = tl.arange(0, B * R), tl.arange(0, D)
        place_M = m_M // R
        there_M = place_M < count
        head_M = (start + place_M) * H + group * R + m_M % R
        at_MD = head_M[:, None] * D + d_D[None, :]
        q_MD = tl.load(q + at_MD, mask=there_M[:, None], other=0.0)
        grad_MD = tl.load(grad_out + at_MD, mask=there_M[:, None], other=0.0)
        out_MD = tl.load(out + at_MD, mask=there_M[:, None], other=0.0)
        offset_M = tl.sum(grad_MD.to(tl.float32) * out_MD.to(tl.float32), 1)
        # An absent query gets an LSE that makes its probabilities 0.
        lse_M = tl.load(lse + head_M, mask=there_M, other=float("inf"))
        into_MD = tl.zeros((B * R, D), tl.float32)
        size = tl.load(sizes + slot) if SELECTED else sees + count - first
        rows += slot * capacity
        bits += slot * capacity
        n_N = tl.arange(0, N)
        row_N, word_N = read_list(rows, bits, 0, size, first, N, SELECTED)
        part_N = place_parts(bases, slot, ranges, row_N, n_N, size, RANGE)
        for n0 in range(0, size, N):
            there_N = n0 + n_N < size
            reads_MN = who_reads(row_N, word_N, sees, place_M, SELECTED)
            at_ND = (row_N * G + group)[:, None] * D + d_D[None, :]
            k_ND = tl.load(k + at_ND, mask=there_N[:, None], other=0.0)
            v_ND = tl.load(v + at_ND, mask=there_N[:, None], other=0.0)
            here_N, here_row_N = part_N, row_N
            row_N, word_N = read_list(rows, bits, n0 + N, size, first, N, SELECTED)
            part_N = place_parts(bases, slot, ranges, row_N, n0 + N + n_N, size, RANGE)
            logits_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee") * scale
            p_MN = tl.where(reads_MN, tl.exp2(logits_MN - lse_M[:, None]), 0.0)
            slope_MN = p_MN * (tl.dot(grad_MD, tl.trans(v_ND), input_precision="ieee") - offset_M[:, None])
            slope_MN = slope_MN.to(k_ND.dtype)
            into_MD = tl.dot(slope_MN, k_ND, into_MD, input_precision="ieee")
            if group == 0:
                tl.store(part_rows + here_N, here_row_N, mask=there_N)
            at_DN = (here_N * (2 * G * D) + group * D)[None, :] + d_D[:, None]
            part_DN = tl.dot(tl.trans(q_MD), slope_MN, input_precision="ieee") * scale_q
            tl.store(parts + at_DN, part_DN.to(parts.dtype.element_ty), mask=there_N[None, :])
            part_DN = tl.dot(tl.trans(grad_MD), p_MN.to(grad_MD.dtype), input_precision="ieee")
            tl.store(parts + at_DN + G * D, part_DN.to(parts.dtype.element_ty), mask=there_N[None, :])
        tl.store(into_q + at_MD, (into_MD * scale_q).to(into_q.dtype.element_ty), mask=there_M[:, None])
