"""Captions from a model behind any OpenAI-compatible URL (`manifests.chat`): the body of a request, what its reply is worth.

An endpoint's batch is what is in flight at once: servers batch that themselves, better than a client could.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifests import chat as chatting
from manifests.curate_spec import CaptionSpec
from manifests.errors import UsageError
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from pipelines.model_work import Answer, Request


def api_key(spec: CaptionSpec) -> str | None:
    """The key of an endpoint; None when it needs none.

    Raises:
        UsageError: the variable that should hold it is not set.
    """
    return chatting.api_key(spec.api_key_env, "curate.captions.api_key_env")


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
        self.chat = chatting.Chat(
            endpoint=spec.endpoint, key=api_key(spec), timeout_s=spec.timeout_s, connections=spec.concurrency
        )

    def answer(self, requests: Sequence[Request], pictures: Sequence[Sequence[MediaItem]]) -> Sequence[Answer]:
        """The text that the model writes about each request.

        Raises:
            AskAgainError: the call failed for a reason that passes.
        """
        return [self._ask(request, shown) for request, shown in zip(requests, pictures, strict=True)]

    def _ask(self, request: Request, pictures: Sequence[MediaItem]) -> Answer:
        reply = self.chat.ask(chat(request, pictures))
        if reply.error is not None:
            return Answer(kind=request.kind, error=reply.error)
        if reply.cut:
            limit = request.parameters.get("max_tokens")
            return Answer(kind=request.kind, error=f"the answer was cut off at max_tokens={limit}: raise it", usage=reply.usage)
        return Answer(kind=request.kind, value=reply.text, usage=reply.usage)


def chat(request: Request, pictures: Sequence[MediaItem]) -> dict[str, Any]:
    """The body of a chat completion: each picture after its time, if it has one, and then the prompt."""
    parameters = request.parameters
    times = parameters.get("times") or [None] * len(pictures)
    content: list[dict[str, Any]] = []
    for picture, seconds in zip(pictures, times, strict=True):
        if seconds is not None:
            content.append({"type": "text", "text": f"{seconds:.1f} s:"})
        content.append({"type": "image_url", "image_url": {"url": chatting.data_url(picture, parameters["pixels_max"])}})
    content.append({"type": "text", "text": request.prompt})
    return {
        "model": request.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": parameters["max_tokens"],
        "temperature": 0,
    }
