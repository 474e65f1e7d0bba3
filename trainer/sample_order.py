"""Which samples a step trained on, in the global order, however they were spread over ranks.

The fingerprint of a step is the sum, over its packed sequences, of a hash of the sequence's place in the step and the ids of
its samples in order, modulo 2^40. Each rank adds up its own; sums over ranks are exact in float64. So it is the same on any
number of ranks, and another if one sample were left out, repeated or moved.
"""

from __future__ import annotations

import hashlib

from trainer.loader import StepBatches
from trainer.ranks import Ranks

_BITS = 40


def samples_by_place(batches: StepBatches, ranks: Ranks) -> dict[int, list[str]]:
    """Sample ids of this rank's sequences by their place in the step: the k-th of data group d of D is in place d + k D."""
    return {
        ranks.data_rank + number * ranks.data_world: [fact.sample_id for fact in batch.facts]
        for number, (batch, weight) in enumerate(batches.batches)
        if weight
    }


def share_of_fingerprint(batches: StepBatches, ranks: Ranks) -> float:
    """This rank's part of a step's fingerprint, to be summed over ranks."""
    total = 0
    for place, samples in samples_by_place(batches, ranks).items():
        digest = hashlib.sha256(f"{place}:{','.join(samples)}".encode()).digest()
        total += int.from_bytes(digest[: _BITS // 8], "big")
    return float(total % 2**_BITS)


def fingerprint(total: float) -> str:
    """The fingerprint from the sum of its parts, as ten hexadecimal digits."""
    return f"{int(total) % 2**_BITS:010x}"


def samples_in_order(batches: StepBatches, ranks: Ranks) -> list[str]:
    """The sample ids of a whole step in the global order; every rank calls it."""
    found: dict[int, list[str]] = {}
    for part in ranks.gather(samples_by_place(batches, ranks)):
        found.update(part)
    return [sample for place in sorted(found) for sample in found[place]]
