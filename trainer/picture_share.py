"""Who reads and encodes which picture of a packed sequence that several ranks share.

Decided here: whole pictures, dealt out by their patches, when the sequence is read: a rank then decodes its own pictures and no
others. (When every rank read the whole sequence, eight ranks that share one decoded each of its pictures eight times.) Loads no
torch, for reader processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PictureShare:
    """One rank's pictures of a sequence.

    Attributes:
        owners: of each picture in reading order, the rank among those that share the sequence.
        rank: this one.
    """

    owners: tuple[int, ...]
    rank: int

    def has(self, number: int) -> bool:
        """Whether a picture is this rank's."""
        return self.owners[number] == self.rank


def owners_of(patches: Sequence[int], ranks: int) -> tuple[int, ...]:
    """A rank for each picture: the largest first, each to the rank with the fewest patches so far."""
    owners, loads = [0] * len(patches), [0] * ranks
    for number in sorted(range(len(patches)), key=lambda n: (-patches[n], n)):
        owners[number] = loads.index(min(loads))
        loads[owners[number]] += patches[number]
    return tuple(owners)
