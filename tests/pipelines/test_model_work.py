"""Asking models: batches and calls are bounded, nothing is asked twice, one failure costs one request, every wait ends."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from caption_server import CaptionServer, caption_server
from PIL import Image

from manifests.curate_spec import CaptionSpec
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from pipelines import asking, model_work
from pipelines.asking import Asker, Question
from pipelines.model_work import Answer, Request, Waiting
from pipelines.pictures import PictureStore, encode_jpeg
from pipelines.waiting import forget_failures, forget_pictures, pending_path, read_answer, read_pending, write_pending

ITEM = {"source": "a"}


class Counting:
    """A local model that knows everything but pictures whose prompt is ``bad``."""

    batch, concurrency, cache = 4, 2, None

    def __init__(self, recipe: Recipe) -> None:
        self.batches: list[int] = []
        self.busy = self.busy_max = 0
        self.lock = threading.Lock()

    def answer(self, requests: Sequence[Request], pictures: Sequence[Sequence[MediaItem]]) -> list[Answer]:
        with self.lock:
            self.batches.append(len(requests))
            self.busy += 1
            self.busy_max = max(self.busy_max, self.busy)
        time.sleep(0.01)
        with self.lock:
            self.busy -= 1
        if any(request.prompt == "bad" for request in requests):
            raise MemoryError("this one is too much")
        return [Answer(kind="count", value=len(shown[0].data)) for shown in pictures]


@pytest.fixture
def server() -> Iterator[CaptionServer]:
    with caption_server() as running:
        yield running


@pytest.fixture
def captioning(recipe: Recipe, server: CaptionServer) -> Recipe:
    spec = CaptionSpec(endpoint=server.url, model="seer", timeout_s=1.0, retries=3, concurrency=3)
    return replace(recipe, curate=replace(recipe.curate, captions=spec))


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    assert recipe.curate.captions is not None
    return replace(recipe, curate=replace(recipe.curate, captions=replace(recipe.curate.captions, **fields)))


def wait_for(work: Path, kind: str, prompts: Sequence[str]) -> list[Question]:
    """A waiting item that asks these, as questions in this order."""
    store = PictureStore()
    media_id = store.add(encode_jpeg(Image.linear_gradient("L").convert("RGB"), 90), "jpg", 256, 256)
    limits = {"max_tokens": 64, "pixels_max": 1_000_000}
    requests = [Request(kind=kind, model="m", media_ids=(media_id,), prompt=words, parameters=limits) for words in prompts]
    path = pending_path(work, f"{kind}-key", 1)
    write_pending(path, ITEM, Waiting(requests=requests, state={"at": 1}, store=store))
    return [Question(kind=kind, request_id=request.request_id, pending=path) for request in requests]


def ask_all(asker: Asker, questions: Sequence[Question]) -> None:
    for question in questions:
        asker.ask(question, block=True)
    asker.finish()


def test_local_work_comes_in_bounded_batches_and_one_failure_costs_one(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Counting(recipe)
    monkeypatch.setattr(asking, "provider_of", lambda kind, recipe: provider)
    questions = wait_for(tmp_path, "count", [str(number) for number in range(21)] + ["bad"])
    ask_all(Asker(tmp_path, recipe), questions)
    assert max(provider.batches) == 4
    assert provider.busy_max <= 2
    answers = [read_answer(tmp_path / "answers", question.request_id) for question in questions]
    assert [answer.error for answer in answers[:-1]] == [None] * 21
    assert answers[-1].error == "MemoryError: this one is too much"
    provider.batches.clear()
    ask_all(Asker(tmp_path, recipe), questions)
    assert provider.batches == []
    assert forget_failures(tmp_path) == 1
    ask_all(Asker(tmp_path, recipe), questions)
    assert provider.batches == [1]


def test_a_kind_that_nobody_answers_is_named(recipe: Recipe) -> None:
    with pytest.raises(KeyError, match="nobody answers requests of kind 'smell'"):
        model_work.provider_of("smell", recipe)


def test_two_askers_share_the_bound_and_ask_nothing_twice(tmp_path: Path, captioning: Recipe, server: CaptionServer) -> None:
    server.delay_s = 0.02
    questions = wait_for(tmp_path, "caption", [str(number) for number in range(30)])
    threads = [
        threading.Thread(target=ask_all, args=(Asker(tmp_path, captioning), order)) for order in (questions, questions[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(server.asked.values()) == {1: 30}
    assert 2 <= server.in_flight_max <= 3
    assert all(read_answer(tmp_path / "answers", question.request_id).value for question in questions)


def test_every_fault_that_passes_is_waited_out(tmp_path: Path, captioning: Recipe, server: CaptionServer) -> None:
    faults = ("500", "429", "truncated", "html", "no choices", "drop")
    server.fault = lambda before, body: faults[int(body["messages"][0]["content"][-1]["text"])] if before == 0 else ""
    questions = wait_for(tmp_path, "caption", [str(number) for number in range(len(faults))])
    ask_all(Asker(tmp_path, captioning), questions)
    assert [read_answer(tmp_path / "answers", question.request_id).error for question in questions] == [None] * len(faults)
    assert Counter(server.asked.values()) == {2: len(faults)}


def test_an_endpoint_that_is_gone_is_not_waited_for_each_time(
    tmp_path: Path, captioning: Recipe, server: CaptionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WAIT_FIRST_S", 0.01)
    server.fault = lambda before, body: "503"
    single = changed(captioning, concurrency=1, model="gone")
    questions = wait_for(tmp_path, "caption", [str(number) for number in range(12)])
    ask_all(Asker(tmp_path, single), questions)
    calls = 4 * asking.GONE_AFTER + (12 - asking.GONE_AFTER)
    assert sum(server.asked.values()) == calls
    failed = [read_answer(tmp_path / "answers", question.request_id) for question in questions]
    assert all(answer.again for answer in failed)
    assert failed[0].error == 'HTTP 503: {"error": {"message": "told to say 503"}}; asked 4 times'
    server.fault = lambda before, body: ""
    assert forget_failures(tmp_path) == 12
    ask_all(Asker(tmp_path, single), questions)
    assert not any(read_answer(tmp_path / "answers", question.request_id).error for question in questions)


def test_calls_are_paced_over_all_askers(tmp_path: Path, captioning: Recipe, server: CaptionServer) -> None:
    questions = wait_for(tmp_path, "caption", [str(number) for number in range(8)])
    paced = changed(captioning, requests_per_minute=1_200.0)
    threads = [
        threading.Thread(target=ask_all, args=(Asker(tmp_path, paced), half)) for half in (questions[::2], questions[1::2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.arrivals[-1] - server.arrivals[0] >= 7 * 0.05 - 0.04


def test_a_cache_serves_another_corpus(tmp_path: Path, captioning: Recipe, server: CaptionServer) -> None:
    cached = changed(captioning, cache=str(tmp_path / "cache"))
    server.fault = lambda before, body: "400" if body["messages"][0]["content"][-1]["text"] == "0" else ""
    first = wait_for(tmp_path / "one", "caption", ["0", "1", "2"])
    ask_all(Asker(tmp_path / "one", cached), first)
    second = wait_for(tmp_path / "two", "caption", ["0", "1", "2"])
    ask_all(Asker(tmp_path / "two", cached), second)
    assert sorted(server.asked.values()) == [1, 1, 2]
    for question in second:
        assert read_answer(tmp_path / "two" / "answers", question.request_id) == read_answer(
            tmp_path / "one" / "answers", question.request_id
        )


def test_stopping_forgets_what_is_queued_and_keeps_what_is_answered(
    tmp_path: Path, captioning: Recipe, server: CaptionServer
) -> None:
    server.delay_s = 0.1
    questions = wait_for(tmp_path, "caption", [str(number) for number in range(40)])
    asker = Asker(tmp_path, captioning)
    for question in questions:
        asker.ask(question, block=False)
    asker.stop()
    asked = sum(server.asked.values())
    assert asked <= 2 * 3
    ask_all(asker, questions)
    assert Counter(server.asked.values()) == {1: 40}


def test_a_waiting_item_is_given_back_as_it_was(tmp_path: Path) -> None:
    (question, other) = wait_for(tmp_path, "count", ["a", "b"])
    pending = read_pending(question.pending)
    assert (pending.item, pending.state, pending.answered) == (ITEM, {"at": 1}, ())
    assert sorted(pending.requests) == sorted([question.request_id, other.request_id])
    for name, request in pending.requests.items():
        assert request.request_id == name
    (media_id,) = pending.pictures.media_ids()
    added = pending.pictures.add(b"more", "png", 1, 1)
    assert [shown.media_id for shown in pending.pictures.pictures([added, media_id])] == [added, media_id]
    forget_pictures(question.pending)
    assert read_pending(question.pending).requests == pending.requests
    assert len(read_pending(question.pending).pictures) == 0


def test_what_cannot_be_shown_is_not_asked(tmp_path: Path) -> None:
    request = Request(kind="count", model="m", media_ids=("f" * 32,))
    with pytest.raises(ValueError, match="shows pictures that were not stored: ffff"):
        write_pending(tmp_path / "p", ITEM, Waiting(requests=[request], state=None, store=PictureStore()))
    with pytest.raises(ValueError, match="waits but asks nothing"):
        write_pending(tmp_path / "p", ITEM, Waiting(requests=[], state=None, store=PictureStore()))
