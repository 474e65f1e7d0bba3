"""One call to a model behind any OpenAI-compatible URL: curation asks captioners through it, and synthesis its teachers.

Everything a server may do to us has an end: a reply is read with a limit of bytes and one of time that holds for the whole
reply, not between two bytes of it. What may pass (429, 5xx, a broken or empty reply, a time limit) is `AskAgainError`; what
will not (another 4xx) is a reply with an error. Who waits how long between calls is `manifests.patience`.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from PIL import Image

from manifests.errors import UsageError
from manifests.shards import MediaItem

REPLY_BYTES_MAX = 4 * 2**20
PASSING = (408, 409, 425, 429)
SHOWN_QUALITY = 90
SAID_CHARACTERS = 160


class AskAgainError(Exception):
    """A call failed for a reason that passes.

    Attributes:
        after_s: how many seconds the server wants to be left alone.
        worked: whether the server may have worked on it, and charge for it: it was sent, and no refusal came back.
    """

    def __init__(self, words: str, after_s: float | None = None, *, worked: bool = False) -> None:
        super().__init__(words)
        self.after_s, self.worked = after_s, worked


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a server said.

    Attributes:
        text: the message, stripped; "" when there is none.
        error: why the request is refused for good, or None.
        cut: whether the message was cut off at ``max_tokens``.
        usage: ``prompt_tokens`` and ``completion_tokens``, where the server tells them.
    """

    text: str = ""
    error: str | None = None
    cut: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)


class Chat:
    """An endpoint. Safe to call from many threads.

    Args:
        endpoint: URL that ``/chat/completions`` is put behind.
        key: the API key; None for an endpoint without one.
        timeout_s: seconds after which a call is given up.
        connections: open at once, at most.
    """

    def __init__(self, *, endpoint: str, key: str | None, timeout_s: float, connections: int) -> None:
        self.url, self.timeout_s = f"{endpoint.rstrip('/')}/chat/completions", timeout_s
        self.client = httpx2.Client(
            # Unpacked, a packed reply could be a thousand times as long.
            headers={"Accept-Encoding": "identity"} | ({} if key is None else {"Authorization": f"Bearer {key}"}),
            timeout=timeout_s,
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def ask(self, body: Mapping[str, Any]) -> Reply:
        """The reply to the body of a chat completion.

        Raises:
            AskAgainError: the call failed for a reason that passes.
        """
        status, headers, reply = self._post(body)
        if status in PASSING or status >= 500:
            raise AskAgainError(f"HTTP {status}: {_said(reply)}", _seconds(headers.get("retry-after")))
        if status != 200:
            return Reply(error=f"HTTP {status}: {_said(reply)}")
        try:
            value = json.loads(reply)
            choice = value["choices"][0]
            words = choice["message"]["content"]
            if not isinstance(words, str) or not words.strip():
                raise ValueError("the reply has no text")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            words = f"not a chat completion ({type(error).__name__}): {_said(reply)}"
            raise AskAgainError(words, worked=True) from error
        return Reply(text=words.strip(), cut=choice.get("finish_reason") == "length", usage=_usage(value))

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the reply, read whole within the limits."""
        deadline = time.monotonic() + self.timeout_s
        reply = bytearray()
        try:
            with self.client.stream("POST", self.url, json=body) as response:
                for piece in response.iter_bytes():
                    reply += piece
                    if len(reply) > REPLY_BYTES_MAX:
                        raise AskAgainError(f"the reply is longer than {REPLY_BYTES_MAX:,} bytes", worked=True)
                    if time.monotonic() > deadline:
                        raise AskAgainError(f"no whole reply within timeout_s={self.timeout_s:g}", worked=True)
                return response.status_code, response.headers, bytes(reply)
        except httpx2.ConnectError as error:
            raise AskAgainError(_transport(error)) from error
        except httpx2.TimeoutException as error:
            raise AskAgainError(f"no reply within timeout_s={self.timeout_s:g}", worked=True) from error
        except httpx2.HTTPError as error:
            raise AskAgainError(_transport(error), worked=True) from error


def api_key(variable: str | None, setting: str) -> str | None:
    """The key that an environment variable holds; None when none is named.

    Args:
        setting: what names the variable, for the message.

    Raises:
        UsageError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise UsageError(f"{setting} names {variable}, which is not set: export the key under that name")
    return key


def data_url(picture: MediaItem, pixels_max: int) -> str:
    """A picture as a data URL, made smaller when it has more than ``pixels_max`` pixels."""
    data, kind = picture.data, {"jpg": "jpeg"}.get(picture.extension, picture.extension)
    pixels = picture.height * picture.width
    if pixels > pixels_max:
        scale = (pixels_max / pixels) ** 0.5
        size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        stream = io.BytesIO()
        with Image.open(io.BytesIO(data)) as whole:
            whole.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=SHOWN_QUALITY)
        data, kind = stream.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _transport(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


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
