"""One reading of one item: from its file, or from where it waited, to its finished file, or to where it waits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.recipe import Recipe
from pipelines.extraction import Answered, extract, quarantined
from pipelines.finished import finished_path, write_outcome
from pipelines.items import Item, Quarantined
from pipelines.model_work import Waiting
from pipelines.waiting import pending_path, read_answer, read_pending, write_pending


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is to be read, and where it goes.

    Attributes:
        work: the work folder of the corpus.
        key: name of the item's files there.
        turn: how often the item has waited; 0 for its first reading.
    """

    item: Item
    work: str
    key: str
    turn: int = 0

    @property
    def finished(self) -> Path:
        """The file that is there when the item needs no further reading."""
        return finished_path(Path(self.work), self.key)

    @property
    def pending(self) -> Path:
        """The file that is there when the item waits after this reading."""
        return pending_path(Path(self.work), self.key, self.turn + 1)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Reading:
        """The inverse of `to_json`."""
        return cls(**{**value, "item": Item.from_json(value["item"])})


def read_item(reading: Reading, recipe: Recipe) -> None:
    """Reads an item; afterwards one of ``reading.finished`` and ``reading.pending`` is there.

    Raises:
        FileNotFoundError: an answer that the item waited for is not there.
    """
    answered: Answered | None = None
    earlier: tuple[str, ...] = ()
    if reading.turn:
        work = Path(reading.work)
        before = read_pending(pending_path(work, reading.key, reading.turn))
        earlier = (*before.answered, *before.requests)
        answered = Answered(
            turn=reading.turn,
            state=before.state,
            store=before.pictures,
            answers={request_id: read_answer(work / "answers", request_id) for request_id in earlier},
        )
    result = extract(reading.item, recipe, answered)
    if isinstance(result, Waiting):
        try:
            write_pending(reading.pending, dataclasses.asdict(reading.item), result, earlier)
            return
        except (TypeError, ValueError) as error:  # what a reader asks is its own mistake, not the run's
            result = quarantined(reading.item, Quarantined("extract", "error", f"{type(error).__name__}: {error}"[:300]))
    write_outcome(reading.finished, result)
