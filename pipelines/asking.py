"""How models are asked: in bounded batches, a bounded number at once, each request once, every answer kept at once.

What queues are names of waiting items; pictures are read when their batch is asked, so memory is bounded by batch size times
concurrency. For remote kinds, locks on files bound the calls of all processes of the machine together and keep two of them from
asking the same; locks go with their process, so a kill leaves nothing to clean up.

A remote call that fails for a passing reason is made again, each time after a longer wait. When many requests in a row failed
all their calls, the server is taken for gone: until one succeeds, each is called for only once, so that an outage costs
minutes and not the sum of all waits.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from manifests.chat import AskAgainError
from manifests.patience import WAIT_FIRST_S, held, patiently
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from pipelines.model_work import REMOTE, Answer, Provider, RemoteProvider, Request, provider_of
from pipelines.waiting import Pending, answer_path, is_answered, read_answer, read_pending, write_answer

ERROR_CHARACTERS = 300
GONE_AFTER = 2
"""A server is taken for gone after so many times ``concurrency`` failed requests in a row."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request by name, and the waiting item that holds it."""

    kind: str
    request_id: str
    pending: Path


class Asker:
    """Asks questions of all kinds and keeps the answers.

    Args:
        work: the work folder of a corpus.
        recipe: what the providers are made with.
    """

    def __init__(self, work: Path, recipe: Recipe) -> None:
        self.work, self.recipe = work, recipe
        self.answers = work / "answers"
        self._lines: dict[str, _Line] = {}

    def ask(self, question: Question, *, block: bool) -> None:
        """Queues a question; with ``block``, waits while the queue of its kind is full."""
        if is_answered(self.answers, question.request_id):
            return
        if question.kind not in self._lines:
            provider = provider_of(question.kind, self.recipe)
            self._lines[question.kind] = _Line(question.kind, provider, self.work)
        self._lines[question.kind].put(question, block=block)

    def finish(self) -> None:
        """Returns when everything queued has an answer or has failed.

        Raises:
            OSError: an answer could not be written. A model's failure is an answer, not an error.
        """
        for line in self._lines.values():
            line.flush()
        self._close(cancel=False)

    def stop(self) -> None:
        """Forgets what is queued and what went wrong, and returns when nothing is being asked any more."""
        self._close(cancel=True)

    def _close(self, *, cancel: bool) -> None:
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.close(cancel=cancel)


class _Line:
    """The questions of one kind."""

    def __init__(self, kind: str, provider: Provider, work: Path) -> None:
        self.kind, self.provider, self.work = kind, provider, work
        self.answers = work / "answers"
        self.remote = kind in REMOTE
        self.batch: list[Question] = []
        self.errors: list[BaseException] = []
        self.failed_in_a_row = 0
        self.room = threading.Semaphore(2 * provider.concurrency)
        self.slot = threading.local()
        numbers = itertools.count()

        def number_thread() -> None:
            self.slot.number = next(numbers)

        self.threads = ThreadPoolExecutor(provider.concurrency, thread_name_prefix=kind, initializer=number_thread)

    def put(self, question: Question, *, block: bool) -> None:
        self.batch.append(question)
        if len(self.batch) >= self.provider.batch:
            self.flush(block=block)

    def flush(self, *, block: bool = True) -> None:
        if not self.batch:
            return
        batch, self.batch = self.batch, []
        if block:
            self.room.acquire()

        def done(call: Future[None]) -> None:
            if block:
                self.room.release()
            if not call.cancelled() and (error := call.exception()) is not None:
                self.errors.append(error)

        self.threads.submit(self._call, batch).add_done_callback(done)

    def close(self, *, cancel: bool) -> None:
        self.threads.shutdown(wait=True, cancel_futures=cancel)
        if self.errors and not cancel:
            raise self.errors[0]

    def _call(self, batch: Sequence[Question]) -> None:
        if not self.remote:
            self._answer(batch)
            return
        for question in batch:
            with held(self.work / "asking" / question.request_id):
                # An item that is not there any more was answered, read and cleared away by others.
                if not is_answered(self.answers, question.request_id) and question.pending.is_file():
                    self._answer([question])

    def _answer(self, batch: Sequence[Question]) -> None:
        """Answers a batch, from the provider's cache where it can."""
        unknown: list[Question] = []
        for question in batch:
            cached = None if self.provider.cache is None else _cached(self.provider.cache, question.request_id)
            if cached is None:
                unknown.append(question)
            else:
                write_answer(self.answers, question.request_id, cached)
        if not unknown:
            return
        requests: list[Request] = []
        pictures: list[list[MediaItem]] = []
        for question in unknown:
            waiting = _waiting(question.pending)
            request = waiting.requests[question.request_id]
            requests.append(request)
            pictures.append(list(waiting.pictures.pictures(request.media_ids)))
        if self.remote:
            with held(self.work / "slots" / f"{self.kind}-{self.slot.number}"):
                answers: Sequence[Answer] = [self._patiently(requests[0], pictures[0])]
        else:
            answers = _asked(self.kind, self.provider, requests, pictures)
        for question, answer in zip(unknown, answers, strict=True):
            if self.provider.cache is not None and answer.error is None:
                write_answer(self.provider.cache, question.request_id, answer)
            write_answer(self.answers, question.request_id, answer)

    def _patiently(self, request: Request, pictures: Sequence[MediaItem]) -> Answer:
        """A remote provider's answer, or why there is none after all calls."""
        provider = cast(RemoteProvider, self.provider)
        calls = 1 + (provider.retries if self.failed_in_a_row < GONE_AFTER * provider.concurrency else 0)
        try:
            (answer,) = patiently(
                lambda: provider.answer([request], [pictures]),
                name=request.request_id,
                calls=calls,
                pace_at=self.work / "slots" / f"{self.kind}-pace",
                interval_s=provider.interval_s,
                wait_first_s=WAIT_FIRST_S,
            )
        except AskAgainError as error:
            problem = str(error)
        except Exception as error:
            return _failed(self.kind, error)
        else:
            self.failed_in_a_row = 0
            return answer
        self.failed_in_a_row += 1
        words = f"{problem}; asked {calls} times" if calls > 1 else problem
        return Answer(kind=self.kind, error=words[:ERROR_CHARACTERS], again=True)


def _failed(kind: str, error: Exception) -> Answer:
    words = (str(error).splitlines() or [""])[0]
    return Answer(kind=kind, error=f"{type(error).__name__}: {words}"[:ERROR_CHARACTERS])


def _asked(
    kind: str, provider: Provider, requests: Sequence[Request], pictures: Sequence[Sequence[MediaItem]]
) -> Sequence[Answer]:
    """The provider's answers; when a batch fails as a whole, each request is asked alone, so that one costs only itself."""
    try:
        answers = provider.answer(requests, pictures)
        if len(answers) != len(requests):
            raise ValueError(f"{len(answers)} answers to {len(requests)} requests")
    except Exception as error:
        if len(requests) == 1:
            return [_failed(kind, error)]
        return [
            answer
            for request, shown in zip(requests, pictures, strict=True)
            for answer in _asked(kind, provider, [request], [shown])
        ]
    return answers


@lru_cache(maxsize=8)
def _waiting(path: Path) -> Pending:
    """A waiting item; its requests come one after another, and a long video has hundreds of them."""
    return read_pending(path)


def _cached(cache: Path, request_id: str) -> Answer | None:
    if answer_path(cache, request_id).is_file():
        with contextlib.suppress(ValueError):
            return read_answer(cache, request_id)
    return None
