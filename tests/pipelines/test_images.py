"""Pictures and their captions."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from pipelines.extraction import Outcome


def test_pictures_without_words_or_that_are_bombs(examples: Path, read: Callable[..., Outcome]) -> None:
    assert read("a.jpg", examples / "images" / "coffee.jpg").dropped[0]["reason"] == "no_caption"
    for caption in (b"[]", b"{", b'{"caption": 3}', b'{"caption": " "}', b'{"caption": "\xff"}'):
        outcome = read("a.jpg", examples / "images" / "coffee.jpg", {".caption.json": caption})
        assert outcome.quarantine is not None, caption
        assert outcome.quarantine["reason"] == "bad_sidecar"
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    bomb = read("bomb.png", stream.getvalue(), {".caption.json": b'{"caption": "a black square"}'})
    assert bomb.quarantine is not None
    assert (bomb.quarantine["stage"], bomb.quarantine["reason"]) == ("probe", "too_large")


def test_a_caption_as_img2dataset_writes_it(examples: Path, read: Callable[..., Outcome]) -> None:
    metadata = {"caption": "a cup of coffee", "url": "", "key": "000000001", "status": "success", "width": 512, "height": 384}
    outcome = read("000000001.jpg", examples / "images" / "coffee.jpg", {".json": json.dumps(metadata).encode()})
    (sample,) = outcome.samples
    assert sample["messages"][1]["parts"][0]["text"] == "a cup of coffee"
    for other in (b'{"caption": null}', b'{"width": 3}', b"[]", b"{"):
        outcome = read("000000001.jpg", examples / "images" / "coffee.jpg", {".json": other})
        assert [row["reason"] for row in outcome.dropped] == ["no_caption"], other
