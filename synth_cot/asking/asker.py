"""Asks what has no answer yet: a bounded number at once, each request once, every answer kept at once.

Threads wait for the network; what bounds them over all processes of a machine are locks on files: a slot for each request in
flight, and a lock for each request, so that two processes never ask the same. An exhausted budget is an answer with an error.
When many requests in a row failed all their calls, the server is taken for gone: until one succeeds, each is called only once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from manifests.chat import AskAgainError
from manifests.chat import Reply as Said
from manifests.patience import held, patiently
from manifests.synth_spec import TeacherSpec
from synth_cot.asking.ledger import Ledger
from synth_cot.asking.purse import Cost, OverBudgetError, Purse, cost
from synth_cot.asking.request import Answer, Request

GONE_AFTER = 2
"""A server is taken for gone after so many times ``concurrency`` failed requests in a row."""

Model = Callable[[Request], Said]
"""What answers: it may raise `manifests.chat.AskAgainError`."""


class Asker:
    """Asks one teacher.

    Args:
        spec: the teacher.
        model: what answers; called from ``spec.concurrency`` threads.
        ledger: where answers are kept.
    """

    def __init__(self, spec: TeacherSpec, model: Model, ledger: Ledger) -> None:
        self.spec, self.model, self.ledger = spec, model, ledger
        self.purse = Purse(ledger.folder, spec)
        self.slots = ledger.folder / "slots"
        self.interval_s = 60.0 / spec.requests_per_minute if spec.requests_per_minute else 0.0
        self.failed_in_a_row = 0
        self.lock = threading.Lock()

    def ask(self, requests: Iterable[Request], told: Callable[[], None] = lambda: None) -> None:
        """Returns when every request has an answer in the ledger. ``told`` is called after each.

        Raises:
            OSError: an answer could not be kept.
        """
        unique = {request.request_id: request for request in requests}
        slots = list(range(self.spec.concurrency))

        def one(request: Request) -> None:
            with self.lock:
                slot = slots.pop()
            try:
                self._once(request, self.slots / f"{self.spec.name}-{slot}")
            finally:
                with self.lock:
                    slots.append(slot)
            told()

        with ThreadPoolExecutor(self.spec.concurrency, thread_name_prefix=self.spec.name) as threads:
            for future in [threads.submit(one, request) for request in unique.values()]:
                future.result()

    def _once(self, request: Request, slot: Path) -> None:
        """Asks a request unless it is answered, or being answered, by somebody else."""
        with held(self.ledger.folder / "asking" / request.request_id):
            if self.ledger.find(request) is None:
                with held(slot):
                    self.ledger.keep(request, self._answer(request))

    def _answer(self, request: Request) -> Answer:
        gone = self.failed_in_a_row >= GONE_AFTER * self.spec.concurrency
        spent: list[Cost] = []
        try:
            answer = patiently(
                lambda: self._call(request, spent),
                name=request.request_id,
                calls=1 if gone else 1 + self.spec.retries,
                pace_at=self.slots / f"{self.spec.name}-pace",
                interval_s=self.interval_s,
            )
        except OverBudgetError as error:
            return Answer(error=f"over budget: {error}", again=True, usd=_usd(spent), max_tokens=request.max_tokens)
        except AskAgainError as error:
            with self.lock:
                self.failed_in_a_row += 1
            return Answer(error=str(error)[:300], again=True, usd=_usd(spent), max_tokens=request.max_tokens)
        with self.lock:
            self.failed_in_a_row = 0
        return answer

    def _call(self, request: Request, spent: list[Cost]) -> Answer:
        """One call: reserved before, settled after. ``spent`` collects what calls of this request did cost."""
        reserved = self.purse.reserve(request)
        begun = time.monotonic()
        try:
            said = self.model(request)
        except AskAgainError as error:
            spent.append(self.purse.settle(reserved, None if error.worked else Cost(tokens=0, usd=0.0)))
            raise
        except BaseException:
            self.purse.settle(reserved, None)
            raise
        seconds = round(time.monotonic() - begun, 3)
        tokens = (said.usage.get("prompt_tokens"), said.usage.get("completion_tokens"))
        known = None if None in tokens else cost(tokens[0] or 0, tokens[1] or 0, self.spec)
        if said.error is not None:
            known = Cost(tokens=0, usd=0.0)  # refused with a status: nothing was made
        spent.append(self.purse.settle(reserved, known))
        problem = said.error or (f"it was cut off at max_tokens={request.max_tokens}: raise it" if said.cut else None)
        return Answer(
            text=said.text, error=problem, cut=said.cut, max_tokens=request.max_tokens, usage=dict(said.usage), seconds=seconds,
            usd=_usd(spent),
        )  # fmt: skip


def _usd(spent: list[Cost]) -> float:
    return round(sum(one.usd for one in spent), 9)
