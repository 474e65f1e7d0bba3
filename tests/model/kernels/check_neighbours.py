"""The union of neighbouring queries' sets on Triton's interpreter, against dictionaries."""

from __future__ import annotations

import itertools

import torch

from model.kernels.neighbours import Unions, UnionShape
from model.kernels.row_blocks import row_blocks, visible, whole_samples

TOP_K, BLOCK, RANGE = 12, 16, 16
LENGTHS = [5, 1, 70, 1, 33]


def _selected(edges, generator):
    selected = torch.full((edges[-1], TOP_K), -1, dtype=torch.int32)
    for start, end in itertools.pairwise(edges):
        for t in range(start, end):
            chosen = torch.randperm(t - start + 1, generator=generator)[:TOP_K].sort().values + start
            selected[t, : len(chosen)] = chosen.to(torch.int32)
    return selected


def test_lists_hold_each_key_once_in_order_with_who_selected_it():
    edges = torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32)
    selected = _selected(edges.tolist(), torch.Generator().manual_seed(0))
    blocks = row_blocks(whole_samples(edges), len(selected), BLOCK)
    sees = visible(blocks)
    shape = UnionShape(chunk=4, range=RANGE, scan=32, step=16, programs=3)
    unions = Unions(selected, blocks, keys=len(selected), longest=max(LENGTHS), top_k=TOP_K, block=BLOCK, shape=shape)
    long_blocks = 0
    for first in range(0, len(blocks), unions.chunk):
        for slot in range(unions.build(first)):
            start, count = blocks[first + slot, :2].tolist()
            expected: dict[int, int] = {}
            if sees[first + slot] > TOP_K:
                long_blocks += 1
                for query in range(count):
                    for key in selected[start + query].tolist():
                        if key >= 0:
                            expected[key] = expected.get(key, 0) | 1 << query
            size = int(unions.sizes[slot])
            rows, bits = unions.rows[slot, :size].tolist(), unions.bits[slot, :size].tolist()
            assert dict(zip(rows, bits, strict=True)) == expected
            assert rows == sorted(expected)
            for part in range(unions.ranges):
                begin, end = int(unions.span_from[slot, part]), int(unions.span_to[slot, part])
                assert rows[begin:end] == [key for key in rows if key // RANGE == part]
    assert long_blocks == 8


def test_blocks_cover_every_query_once_and_stay_in_their_sample():
    edges = torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32)
    blocks = row_blocks(whole_samples(edges), sum(LENGTHS), BLOCK)
    rows = [row for start, count, _, _ in blocks.tolist() for row in range(start, start + count)]
    assert rows == list(range(sum(LENGTHS)))
    for start, count, first, sees in blocks.tolist():
        if count:
            assert sees == start
            assert first in edges.tolist()
            assert not any(start < edge < start + count for edge in edges.tolist())
