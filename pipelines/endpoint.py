"""A model behind any OpenAI-compatible URL: one chat request, pictures as data URLs, and what is believed of the reply.

Everything a server may do to us has an end: a reply is read with a limit of bytes and one of time that holds for the whole
reply, not between two bytes of it. What may pass (429, 5xx, a broken or empty reply, a time limit) is `AskAgainError`; what
will not (another 4xx, an answer cut off at ``max_tokens``) is an answer with an error. An endpoint's batch is what is in flight
at once: servers batch that themselves, better than a client could.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from manifests.errors import UsageError
from manifests.recipe import CaptionSpec, Recipe
from manifests.shards import MediaItem
from pipelines.model_work import Answer, AskAgainError, Request
from pipelines.pictures import encode_jpeg

REPLY_BYTES_MAX = 4 * 2**20
PASSING = (408, 409, 425, 429)
SHOWN_QUALITY = 90
SAID_CHARACTERS = 160


def api_key(spec: CaptionSpec) -> str | None:
    """The key of an endpoint; None when it needs none.

    Raises:
        UsageError: the variable that should hold it is not set.
    """
    if spec.api_key_env is None:
        return None
    key = os.environ.get(spec.api_key_env, "")
    if not key:
        raise UsageError(
            f"curate.captions.api_key_env names {spec.api_key_env}, which is not set: export the key under that name"
        )
    return key


def make_provider(recipe: Recipe) -> Endpoint:
    """The factory that `pipelines.model_work.PROVIDERS` names.

    Raises:
        UsageError: the recipe has no endpoint, or its key is not set.
    """
    if recipe.curate.captions is None:
        raise UsageError("something asks for captions, but the recipe has no curate.captions")
    return Endpoint(recipe.curate.captions)


class Endpoint:
    """The provider of kind ``caption``; see `pipelines.model_work.RemoteProvider`. Safe to call from many threads."""

    def __init__(self, spec: CaptionSpec) -> None:
        self.batch, self.concurrency, self.retries = 1, spec.concurrency, spec.retries
        self.interval_s = 60.0 / spec.requests_per_minute if spec.requests_per_minute else 0.0
        self.cache = None if spec.cache is None else Path(spec.cache)
        self.spec = spec
        key = api_key(spec)
        self.client = httpx2.Client(
            # Unpacked, a packed reply could be a thousand times as long.
            headers={"Accept-Encoding": "identity"} | ({} if key is None else {"Authorization": f"Bearer {key}"}),
            timeout=spec.timeout_s,
            limits=httpx2.Limits(max_connections=spec.concurrency, max_keepalive_connections=spec.concurrency),
        )

    def answer(self, requests: Sequence[Request], pictures: Sequence[Sequence[MediaItem]]) -> Sequence[Answer]:
        """The text that the model writes about each request.

        Raises:
            AskAgainError: the call failed for a reason that passes.
        """
        return [self._ask(request, shown) for request, shown in zip(requests, pictures, strict=True)]

    def _ask(self, request: Request, pictures: Sequence[MediaItem]) -> Answer:
        status, headers, reply = self._post(chat(request, pictures))
        if status in PASSING or status >= 500:
            raise AskAgainError(f"HTTP {status}: {_said(reply)}", _seconds(headers.get("retry-after")))
        if status != 200:
            return Answer(kind=request.kind, error=f"HTTP {status}: {_said(reply)}")
        try:
            value = json.loads(reply)
            choice = value["choices"][0]
            words = choice["message"]["content"]
            if not isinstance(words, str) or not words.strip():
                raise ValueError("the reply has no text")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise AskAgainError(f"not a chat completion ({type(error).__name__}): {_said(reply)}") from error
        if choice.get("finish_reason") == "length":
            limit = request.parameters.get("max_tokens")
            return Answer(
                kind=request.kind, error=f"the answer was cut off at max_tokens={limit}: raise it", usage=_usage(value)
            )
        return Answer(kind=request.kind, value=words.strip(), usage=_usage(value))

    def _post(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the reply, read whole within the limits."""
        deadline = time.monotonic() + self.spec.timeout_s
        url = f"{self.spec.endpoint.rstrip('/')}/chat/completions"
        reply = bytearray()
        try:
            with self.client.stream("POST", url, json=body) as response:
                for piece in response.iter_bytes():
                    reply += piece
                    if len(reply) > REPLY_BYTES_MAX:
                        raise AskAgainError(f"the reply is longer than {REPLY_BYTES_MAX:,} bytes")
                    if time.monotonic() > deadline:
                        raise AskAgainError(f"no whole reply within timeout_s={self.spec.timeout_s:g}")
                return response.status_code, response.headers, bytes(reply)
        except httpx2.TimeoutException as error:
            raise AskAgainError(f"no reply within timeout_s={self.spec.timeout_s:g}") from error
        except httpx2.HTTPError as error:
            raise AskAgainError(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error


def chat(request: Request, pictures: Sequence[MediaItem]) -> dict[str, Any]:
    """The body of a chat completion: each picture after its time, if it has one, and then the prompt."""
    parameters = request.parameters
    times = parameters.get("times") or [None] * len(pictures)
    content: list[dict[str, Any]] = []
    for picture, seconds in zip(pictures, times, strict=True):
        if seconds is not None:
            content.append({"type": "text", "text": f"{seconds:.1f} s:"})
        content.append({"type": "image_url", "image_url": {"url": data_url(picture, parameters["pixels_max"])}})
    content.append({"type": "text", "text": request.prompt})
    return {
        "model": request.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": parameters["max_tokens"],
        "temperature": 0,
    }


def data_url(picture: MediaItem, pixels_max: int) -> str:
    """A picture as a data URL, made smaller when it has more than ``pixels_max`` pixels."""
    data, kind = picture.data, {"jpg": "jpeg"}.get(picture.extension, picture.extension)
    pixels = picture.height * picture.width
    if pixels > pixels_max:
        scale = (pixels_max / pixels) ** 0.5
        size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        with Image.open(io.BytesIO(data)) as whole:
            data, kind = encode_jpeg(whole.convert("RGB").resize(size, Image.Resampling.LANCZOS), SHOWN_QUALITY), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _said(reply: bytes) -> str:
    """The beginning of a reply as one line."""
    return " ".join(reply[: 4 * SAID_CHARACTERS].decode("utf-8", "replace").split())[:SAID_CHARACTERS] or "an empty reply"


def _seconds(header: str | None) -> float | None:
    """The seconds of a ``Retry-After``; None for a date or nonsense: then we wait as we would."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _usage(value: Mapping[str, Any]) -> dict[str, int]:
    usage = value.get("usage")
    found = usage if isinstance(usage, dict) else {}
    return {
        name: found[name]
        for name in ("prompt_tokens", "completion_tokens")
        if isinstance(found.get(name), int) and not isinstance(found[name], bool)
    }
