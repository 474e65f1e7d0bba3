"""What may be spent on a teacher: no call is made unless the most it can cost is still there.

    LEDGER/purse-NAME.json    what is settled, and each open reservation; changed under a lock, whole or not at all

Before a call the most it may cost is reserved: the length of its text in bytes (no byte-level tokenizer makes more tokens), the
recipe's bound for each picture, and ``max_tokens``. After it, what it did cost is settled: what the server says, or all that
was reserved when it does not say, or when the call broke off and may have been charged for. A reservation that a killed process
left counts as spent for ever. So the sum of what was settled and reserved never exceeds the budget, whatever happens; raising
the budget lets the next run go on.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.files import read_json, write_json
from manifests.patience import held
from manifests.synth_spec import TeacherSpec
from synth_cot.asking.request import Request

MESSAGE_TOKENS = 64
"""What a chat template may add around two messages, at most."""


class OverBudgetError(Exception):
    """A request would cost more than is left."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Tokens and US dollars."""

    tokens: int
    usd: float


def most(request: Request, spec: TeacherSpec) -> Cost:
    """The most that a request can cost."""
    text = len(request.system.encode()) + sum(len(piece.text.encode()) for piece in request.pieces)
    pictures = sum(bool(piece.media_id) for piece in request.pieces)
    return cost(text + pictures * spec.picture_tokens + MESSAGE_TOKENS, request.max_tokens, spec)


def cost(prompt_tokens: int, completion_tokens: int, spec: TeacherSpec) -> Cost:
    """What so many tokens cost."""
    usd = (prompt_tokens * spec.prompt_price + completion_tokens * spec.completion_price) / 1e6
    return Cost(tokens=prompt_tokens + completion_tokens, usd=usd)


class Purse:
    """The budget of one teacher in one ledger, for all processes of a machine."""

    def __init__(self, folder: Path, spec: TeacherSpec) -> None:
        self.path, self.spec = folder / f"purse-{spec.name}.json", spec

    def reserve(self, request: Request) -> str:
        """Takes the most that a request can cost; returns what `settle` wants.

        Raises:
            OverBudgetError: less is left.
        """
        wanted, name = most(request, self.spec), uuid.uuid4().hex
        budget_usd, budget_tokens = self.spec.budget_usd, self.spec.budget_tokens
        with self._book() as book:
            spent = _sum(book)
            if budget_usd is not None and spent.usd + wanted.usd > budget_usd:
                raise OverBudgetError(f"{spent.usd:.4f} of {budget_usd:g} USD are spent, and it may cost {wanted.usd:.4f}")
            if budget_tokens is not None and spent.tokens + wanted.tokens > budget_tokens:
                raise OverBudgetError(f"{spent.tokens:,} of {budget_tokens:,} tokens are spent; it may need {wanted.tokens:,}")
            book["reserved"][name] = [wanted.tokens, wanted.usd]
        return name

    def settle(self, name: str, spent: Cost | None) -> Cost:
        """Puts what a call did cost in the place of what was reserved for it; None: all that was reserved.

        Returns:
            What it cost.
        """
        with self._book() as book:
            tokens, usd = book["reserved"].pop(name)
            cost = Cost(tokens=tokens, usd=usd) if spent is None else spent
            book["settled"] = [book["settled"][0] + cost.tokens, book["settled"][1] + cost.usd]
        return cost

    def spent(self) -> Cost:
        """What is spent and reserved."""
        return _sum(self._read())

    def _read(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {"settled": [0, 0.0], "reserved": {}}
        return dict(read_json(self.path))

    @contextlib.contextmanager
    def _book(self) -> Iterator[dict[str, Any]]:
        """The book, for changing; nobody else has it meanwhile. It is written when the block ends well."""
        with held(self.path.with_suffix(".lock")):
            book = self._read()
            yield book
            write_json(self.path, book)


def _sum(book: dict[str, Any]) -> Cost:
    costs = [book["settled"], *book["reserved"].values()]
    return Cost(tokens=sum(tokens for tokens, _ in costs), usd=sum(usd for _, usd in costs))
