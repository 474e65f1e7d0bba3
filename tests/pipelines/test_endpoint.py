"""One call of an endpoint: what passes is asked again, what does not is an answer with an error, and everything ends."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from caption_server import CaptionServer, caption_server, said_about
from PIL import Image

from manifests.chat import AskAgainError
from manifests.curate_spec import CaptionSpec
from manifests.errors import UsageError
from manifests.fingerprint import canonical_json
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from pipelines.endpoint import Endpoint, api_key, chat, make_provider
from pipelines.model_work import Request
from pipelines.pictures import PictureStore, encode_jpeg, encode_png

LIMITS = {"max_tokens": 64, "pixels_max": 1_000_000}


@pytest.fixture
def server() -> Iterator[CaptionServer]:
    with caption_server() as running:
        yield running


def spec_of(server: CaptionServer, **fields: Any) -> CaptionSpec:
    return CaptionSpec(**{"endpoint": server.url, "model": "seer", "timeout_s": 1.0, **fields})


def picture(width: int = 40, height: int = 30) -> MediaItem:
    store = PictureStore()
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    return next(store.pictures([store.add(encode_jpeg(image, 90), "jpg", height, width)]))


def request(shown: MediaItem, **parameters: Any) -> Request:
    values = {**LIMITS, **parameters}
    return Request(kind="caption", model="seer", media_ids=(shown.media_id,), prompt="What is it?", parameters=values)


def test_a_whole_reply_is_an_answer_with_its_cost(server: CaptionServer) -> None:
    shown = picture()
    asked = request(shown)
    (answer,) = Endpoint(spec_of(server)).answer([asked], [[shown]])
    assert (answer.value, answer.error) == (said_about(chat(asked, [shown])), None)
    assert answer.usage == {"prompt_tokens": 7, "completion_tokens": 5}
    (sent,) = server.bodies
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("seer", 64, 0)


@pytest.mark.parametrize("fault", ["500", "503", "429", "408", "truncated", "html", "no choices", "empty", "slow", "drop"])
def test_what_may_pass_is_to_be_asked_again(server: CaptionServer, fault: str) -> None:
    server.fault = lambda before, body: fault
    shown = picture()
    with pytest.raises(AskAgainError) as caught:
        Endpoint(spec_of(server)).answer([request(shown)], [[shown]])
    assert caught.value.after_s == (0.0 if fault.isdigit() else None)


def test_what_will_not_pass_is_an_answer_with_an_error(server: CaptionServer) -> None:
    shown = picture()
    server.fault = lambda before, body: "400"
    (refused,) = Endpoint(spec_of(server)).answer([request(shown)], [[shown]])
    assert refused.error is not None
    assert "HTTP 400" in refused.error
    assert "told to say 400" in refused.error
    server.fault = lambda before, body: "length"
    (cut,) = Endpoint(spec_of(server)).answer([request(shown)], [[shown]])
    assert cut.error == "the answer was cut off at max_tokens=64: raise it"
    assert not refused.again
    assert not cut.again


def test_a_reply_that_trickles_ends_with_the_time_limit(server: CaptionServer) -> None:
    server.fault = lambda before, body: "trickle"
    shown = picture()
    began = time.monotonic()
    with pytest.raises(AskAgainError, match="no whole reply within timeout_s=1"):
        Endpoint(spec_of(server)).answer([request(shown)], [[shown]])
    assert time.monotonic() - began < 2.5


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    server: CaptionServer, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(server, api_key_env="SEER_KEY")
    monkeypatch.delenv("SEER_KEY", raising=False)
    with pytest.raises(UsageError, match="SEER_KEY, which is not set"):
        api_key(spec)
    monkeypatch.setenv("SEER_KEY", "sk-secret")
    shown = picture()
    captioning = replace(recipe, curate=replace(recipe.curate, captions=spec))
    make_provider(captioning).answer([request(shown)], [[shown]])
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in canonical_json(captioning)
    with pytest.raises(ValueError, match="user or password"):
        CaptionSpec(endpoint="https://me:secret@host/v1", model="seer")


def test_pictures_travel_as_data_urls_no_larger_than_allowed() -> None:
    small, large = picture(), picture(300, 200)
    content = chat(request(small, pixels_max=10_000, times=[0.0, 2.5]), [small, large])["messages"][0]["content"]
    assert [part.get("text") for part in content] == ["0.0 s:", None, "2.5 s:", None, "What is it?"]
    sent = [base64.b64decode(part["image_url"]["url"].split("base64,")[1]) for part in content if part["type"] == "image_url"]
    assert sent[0] == small.data
    with Image.open(io.BytesIO(sent[1])) as shrunk:
        assert shrunk.width * shrunk.height <= 10_000
        assert shrunk.width / shrunk.height == pytest.approx(1.5, rel=0.02)


def test_a_screenshot_keeps_its_format() -> None:
    store = PictureStore()
    (shown,) = store.pictures([store.add(encode_png(Image.new("RGB", (8, 8), "red")), "png", 8, 8)])
    (part, _) = chat(request(shown), [shown])["messages"][0]["content"]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")
