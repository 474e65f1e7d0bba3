"""Every kernel against the plain path on inputs drawn anew: run by `dsa_gpu.py` before it measures anything.

Selection is compared on small integers, whose scores are exact and often equal, so that sets must be the same; and on
numbers, where a key may differ if its score equals the k-th best one up to rounding. Outputs and gradients are compared with
`dsa_reference` in float32, relative to the largest value of each tensor; `TOLERANCE` is a few steps of bf16.

Shapes: T tokens, K selected.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import torch
from dsa_gpu_inputs import Geometry, decode_batch, packed_row
from torch import Tensor

from model.dsa_cpu import decode_attention
from model.dsa_reference import reference_attention
from model.indexer import index_scores, top_k_indices
from model.kernels import dispatch
from model.kernels.dispatch import PackedRow
from model.kernels.quantisation import quantised_scores

TOLERANCE = {torch.bfloat16: 2e-2, torch.float32: 1e-4}
NEAR = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is checked: lengths of the samples of a row, of a long sample whose guesses need a sample of keys, of cached
    sequences."""

    geometry: Geometry
    row: list[int]
    long: int
    decode: list[int]
    dtype: torch.dtype


# On a GPU, the published layer with a k that short rows exceed; on the interpreter, whatever takes seconds.
ON_GPU = Sizes(
    geometry=Geometry(top_k=256), row=[700, 1, 1, 300, 1500, 17], long=9000, decode=[1, 5000, 256, 9001], dtype=torch.bfloat16
)
ON_INTERPRETER = Sizes(
    geometry=Geometry(heads=4, groups=2, dim=16, index_heads=2, index_dim=16, top_k=8),
    row=[23, 1, 12], long=0, decode=[1, 40, 9], dtype=torch.float32,
)  # fmt: skip


def run_checks(sizes: Sizes, *, seed: int, device: torch.device) -> Iterator[tuple[str, str | None]]:
    """(what was checked, None or what is wrong)."""
    yield "selection, equal scores", _selection(sizes, sizes.row, seed, device, rounded=True)
    yield "selection, numbers", _selection(sizes, sizes.row, seed + 1, device, rounded=False)
    if sizes.long:
        yield "selection, long sample", _selection(sizes, [sizes.long], seed + 2, device, rounded=False)
        yield "selection, long sample, equal scores", _selection(sizes, [sizes.long], seed + 2, device, rounded=True)
        yield "selection, 8 bits", _selection(sizes, [sizes.long], seed + 2, device, rounded=False, precision="fp8")
    yield "sparse attention, KL, gradients", _attention(sizes, sizes.geometry.top_k, seed + 3, device)
    yield "warm-up, KL, gradients", _attention(sizes, None, seed + 4, device)
    yield "decode", _decode(sizes, seed + 5, device)


def _with_exact_scores(row: PackedRow) -> PackedRow:
    """The indexer's tensors as multiples of powers of two so few that scores have no rounding, and often are equal."""
    changed = {name: getattr(row, name).detach().float().mul(2).round() / 2 for name in ("index_q", "index_k")}
    changed["index_w"] = row.index_w.detach().float().mul(16).round() / 64
    made = {name: x.to(row.q.dtype).requires_grad_(row.q.requires_grad) for name, x in changed.items()}
    return dataclasses.replace(row, **made)


def _selection(
    sizes: Sizes, lengths: list[int], seed: int, device: torch.device, *, rounded: bool, precision: str = "exact"
) -> str | None:
    top_k = sizes.geometry.top_k
    row = packed_row(lengths, sizes.geometry, scores="planted", seed=seed, device=device, dtype=sizes.dtype, top_k=top_k)
    if rounded:
        row = _with_exact_scores(row)
    with dispatch.using("triton", index_precision=precision):
        selected, again = (dispatch.kernel("select", row).serve(row) for _ in range(2))
    if not torch.equal(selected, again):
        return "two runs differ"
    scored = quantised_scores if precision == "fp8" else index_scores
    for start, end in itertools.pairwise(row.cu_seqlens.tolist()):
        q, k, w = (x[start:end].float() for x in (row.index_q, row.index_k, row.index_w))
        for first in range(0, end - start, 512):
            last = min(first + 512, end - start)
            scores = scored(q[first:last], k[:last], w[first:last])
            scores.masked_fill_(torch.ones_like(scores, dtype=torch.bool).triu(first + 1), -torch.inf)
            wrong = _differing(selected[start + first : start + last] - start, scores, top_k, exact=rounded)
            if wrong:
                return f"queries {first} to {last} of the sample at {start}: {wrong}"
    return None


def _differing(selected_TK: Tensor, scores_TS: Tensor, top_k: int, *, exact: bool) -> str | None:
    size = scores_TS.shape[1]
    ours, best = torch.zeros(2, len(scores_TS), size + 1, dtype=torch.bool, device=scores_TS.device)
    ours.scatter_(1, selected_TK.long().where((selected_TK >= 0) & (selected_TK < size), size), True)
    best.scatter_(1, top_k_indices(scores_TS, top_k), True)
    ours, best = ours[:, :-1], best[:, :-1]
    if not torch.equal(ours.sum(-1), best.sum(-1)):
        return "sets of another size"
    apart = ours ^ best
    if not apart.any():
        return None
    if exact:
        return f"{int(apart.sum())} keys differ"
    kth_T1 = scores_TS.masked_fill(~best, torch.inf).amin(-1, keepdim=True)
    scale_T1 = scores_TS.where(scores_TS.isfinite(), 0.0).abs().amax(-1, keepdim=True)
    far = apart & ((scores_TS - kth_T1).abs() > NEAR * scale_T1)
    return f"{int(far.sum())} keys differ whose scores do not" if far.any() else None


def _attention(sizes: Sizes, top_k: int | None, seed: int, device: torch.device) -> str | None:
    """Output, KL and all gradients of a row, on the kernel's own sets; and the same bits twice."""
    row = packed_row(
        sizes.row, sizes.geometry, scores="planted", seed=seed, device=device, dtype=sizes.dtype, top_k=top_k, with_kl=True,
        learns=True,
    )  # fmt: skip
    row = _with_exact_scores(row)  # so that the sets are the same and what differs is the attention
    weight = torch.randn(row.q.shape, generator=torch.Generator(device).manual_seed(seed), device=device).to(sizes.dtype)

    def run(attend: Callable[[], tuple[Tensor, Tensor]]) -> list[Tensor]:
        out, kl = attend()
        loss = kl + ((out * weight).sum() if top_k is not None else 0.0)
        wanted = [row.q, row.k, row.v] if top_k is not None else []
        return [out.detach(), kl.detach(), *torch.autograd.grad(loss, [*wanted, row.index_q, row.index_k, row.index_w])]

    def by_kernel() -> tuple[Tensor, Tensor]:
        with dispatch.using("triton"):
            done = dispatch.attend_row(row)
        assert done is not None
        assert done.kl is not None
        return done.out, done.kl

    def by_formula() -> tuple[Tensor, Tensor]:
        outs, kl = [], torch.zeros((), device=device)
        for start, end in itertools.pairwise(row.cu_seqlens.tolist()):
            names = ("q", "k", "v", "index_q", "index_k", "index_w")
            done = reference_attention(*(getattr(row, name)[start:end].float() for name in names), top_k=top_k)
            outs.append(done.out)
            kl = kl + done.kl
        return torch.cat(outs), kl

    ours, again, expected = run(by_kernel), run(by_kernel), run(by_formula)
    if not all(torch.equal(a, b) for a, b in zip(ours, again, strict=True)):
        return "two runs differ"
    names = ["output", "KL", *(["dq", "dk", "dv"] if top_k is not None else []), "indexer's dq", "dk", "dw"]
    for name, a, b in zip(names, ours, expected, strict=True):
        apart = float((a.float() - b.float()).abs().max() / b.float().abs().max().clamp_min(1e-20))
        if not apart <= TOLERANCE[sizes.dtype]:
            return f"{name} differs by {apart:.1e} of its largest value"
    return None


def _decode(sizes: Sizes, seed: int, device: torch.device) -> str | None:
    batch = decode_batch(sizes.decode, sizes.geometry, seed=seed, device=device, dtype=sizes.dtype)
    with dispatch.using("triton"):
        done, again = dispatch.decode(batch), dispatch.decode(batch)
    assert done is not None
    assert again is not None
    if not (torch.equal(done.out, again.out) and torch.equal(done.selected, again.selected)):
        return "two runs differ"
    for b, (k, v, index_k) in enumerate(zip(batch.k, batch.v, batch.index_k, strict=True)):
        one = slice(b, b + 1)
        scores = index_scores(batch.index_q[one].float(), index_k.float(), batch.index_w[one].float())
        wrong = _differing(done.selected[one], scores, sizes.geometry.top_k, exact=False)
        if wrong:
            return f"sequence {b}: {wrong}"
        expected = decode_attention(
            batch.q[one].float(), k.float(), v.float(), batch.index_q[one], index_k, batch.index_w[one], top_k=batch.top_k
        )
        apart = float((done.out[one].float() - expected.out).abs().max() / expected.out.abs().max())
        if not apart <= TOLERANCE[sizes.dtype]:
            return f"sequence {b}: output differs by {apart:.1e} of its largest value"
    return None
