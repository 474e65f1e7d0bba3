"""A packed row as launches see it: chunk after chunk of blocks, each with the keys that its blocks read.

Decided here: a chunk is a bounded number of blocks, so that whatever is kept for each key of each list (the lists themselves,
parts of gradients, sums over groups) has a size that does not grow with the row. How large tiles, chunks and windows are stands
in one place, `Layout`; none of it was tuned, as no GPU was at hand: it is what compiles without spilled registers.

Shapes: T queries, S keys, H query heads, G groups, D head dim, C blocks of a chunk, Z ranges of keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from model.kernels.key_parts import Window, Windows, add_parts
from model.kernels.neighbours import Unions, UnionShape
from model.kernels.row_blocks import row_blocks, visible

_LOG2_E = 1.4426950408889634


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How much a program takes at once, and how many warps and stages of loads each launch has.

    `rows`, `queries`: see `block`. `keys`, `keys_backward`, `keys_kl`, `keys_kl_last`: keys of a tile in the forward pass,
    the backward pass, the KL and its last pass. `keys_parts`, `columns`: of a sum over parts. `window_bytes`: room for parts.
    """

    rows: int = 128
    queries: int = 16
    keys: int = 64
    keys_backward: int = 64
    keys_kl: int = 64
    keys_kl_last: int = 32
    keys_parts: int = 64
    columns: int = 64
    window_bytes: int = 2**31
    warps: int = 8
    warps_parts: int = 4
    stages: int = 4
    stages_backward: int = 3
    union: UnionShape = field(default_factory=UnionShape)

    def block(self, heads_of_group: int) -> int:
        """B: the queries whose heads fill `rows`, at most `queries`."""
        return max(1, min(self.queries, self.rows // heads_of_group))


LAYOUT = Layout()


@dataclass(frozen=True)
class Chunk:
    """A chunk of blocks: what every kernel on the side of the queries is told, and how long the lists are.

    `spans`: where in each block's list each range of keys begins and ends, [C, Z] each. `most`: keys in all lists together,
    at most; `longest`: in one.
    """

    row: RowChunks
    told: dict[str, Any]
    blocks: int
    spans: tuple[Tensor, Tensor]
    most: int
    longest: int

    def windows(self, row_bytes: int) -> Windows:
        sizes, budget = self.told["sizes"][: self.blocks], self.row.layout.window_bytes
        spans = (span[: self.blocks] for span in self.spans)
        return Windows(sizes, *spans, most=self.most, longest=self.longest, row_bytes=row_bytes, budget=budget)

    def told_writers(self, window: Window) -> dict[str, Any]:
        """What kernels that write parts are told."""
        own = {"places": window.places, "bases": window.bases, "ranges": window.bases.shape[1]}
        return {**self.told, **own, "RANGE": self.row.layout.union.range}


@dataclass
class RowChunks:
    """A row's geometry and its chunks: those of short blocks, then those of blocks that need a selection."""

    q: Tensor
    k: Tensor
    selected: Tensor | None
    segments: Tensor
    longest: int
    top_k: int | None
    layout: Layout = field(default_factory=lambda: LAYOUT)

    def __post_init__(self) -> None:
        self.tokens, heads, dim = self.q.shape
        groups = self.k.shape[1]
        self.block = self.layout.block(heads // groups)
        self.limit = self.longest if self.top_k is None else min(self.top_k, self.longest)
        self.scale = dim**-0.5 * _LOG2_E
        self.shape = {"H": heads, "G": groups, "D": dim, "B": self.block}
        self.blocks = row_blocks(self.segments, self.tokens, self.block)

    def __iter__(self) -> Iterator[Chunk]:
        """A chunk's lists are there until the next is asked for. Kernels pass over blocks of the other kind."""
        for first in range(0, len(self.blocks), self.layout.union.chunk):
            yield self._short(first)
        if self.selected is None or self.longest <= self.limit:
            return
        unions = Unions(
            self.selected, self.blocks, keys=len(self.k), longest=self.longest, top_k=self.limit, block=self.block,
            shape=self.layout.union,
        )  # fmt: skip
        for first in range(0, len(self.blocks), unions.chunk):
            blocks = unions.build(first)
            lists = {"rows": unions.rows, "bits": unions.bits, "sizes": unions.sizes}
            told = self._told(**lists, first_block=first, capacity=unions.capacity, SELECTED=True)
            most = blocks * unions.capacity
            yield Chunk(self, told, blocks, (unions.span_from, unions.span_to), most, unions.capacity)

    def _short(self, first: int) -> Chunk:
        """The lists of short blocks are the keys in a row."""
        blocks, size = self.blocks[first : first + self.layout.union.chunk], self.layout.union.range
        sees = visible(blocks)
        sizes = sees.where(sees <= self.limit, 0)
        edges = torch.arange(0, len(self.k) + size, size, device=sizes.device, dtype=torch.int32)
        reach_CZ = (edges - blocks[:, 2:3]).clamp_min_(0).minimum(sizes[:, None])
        most = min(len(blocks), len(self.segments) * (self.limit // self.block + 1)) * self.limit
        told = self._told(rows=sizes, bits=sizes, sizes=sizes, first_block=first, capacity=0, SELECTED=False)
        return Chunk(self, told, len(blocks), (reach_CZ[:, :-1], reach_CZ[:, 1:]), most, self.limit)

    def _told(self, **lists: Any) -> dict[str, Any]:
        return {"blocks": self.blocks, "top_k": self.limit, "scale": self.scale, **self.shape, **lists}

    def add_parts(self, parts: Tensor, part_rows: Tensor, window: Window, into: Tensor) -> None:
        """Adds a window's parts [room, X] to into [S, X]."""
        layout, width = self.layout, into[0].numel()
        columns = min(width, layout.columns)
        add_parts[(len(window.bounds) - 1, width // columns)](
            parts, part_rows, window.bounds, into, len(into), WIDTH=width, X=columns, RANGE=layout.union.range,
            N=layout.keys_parts, num_warps=layout.warps_parts, num_stages=layout.stages,
        )  # fmt: skip
