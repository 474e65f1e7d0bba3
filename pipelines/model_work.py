"""Work for models, apart from the work of processors: what is asked, who answers, and where answers are kept.

A reader stays a plain function of the item, the recipe and the answers. It asks by returning `Waiting` instead of a result;
once its requests are answered it is called again, with its own state, its pictures and the answers. A request is named by its
content, so an answer on disk serves every item that asks the same, and a killed run asks nothing twice.

Who answers a kind of request is one line of `PROVIDERS`. Two sorts of them are told apart: a *local* model computes, is loaded
once per process and called with batches; a *remote* one waits for a network, so it is called by as many threads as it allows
at once over all processes of a machine, and already while other items are still being read. Only names travel and queue;
pictures are in memory while their batch is being answered.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from manifests.fingerprint import canonical_json, value_id
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from pipelines.pictures import PictureStore

ROUNDS = 3
"""How often an item may wait: twice for its reader, so that what models say can be put before models once more, and once for
the filters after it."""

PROVIDERS: dict[str, str] = {
    "caption": "pipelines.endpoint:make_provider",
    "embed": "pipelines.clip_score:make_provider",
    "ocr": "pipelines.ocr:make_provider",
}
"""Kind of request -> ``module:factory``; the factory is called with the recipe, once per process."""

REMOTE: frozenset[str] = frozenset({"caption"})
"""Kinds whose provider waits for a network instead of computing: a `RemoteProvider`."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to a model.

    Attributes:
        kind: who answers: a key of `PROVIDERS`.
        model: name and version of the model; with the rest, everything that the answer depends on.
        media_ids: pictures of the item that are shown, in order.
        parameters: whatever else the provider needs, as JSON.
    """

    kind: str
    model: str
    media_ids: tuple[str, ...] = ()
    prompt: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def request_id(self) -> str:
        """32 hexadecimal digits of the hash of everything asked: equal questions are one question."""
        return value_id(self)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said.

    Attributes:
        value: the answer, as JSON; None when there is none.
        error: why there is none.
        again: whether the reason may be gone another time (a network, a busy server): a further curation asks again.
        usage: what it cost, in the provider's own units (``prompt_tokens`` and the like).
    """

    kind: str
    value: Any = None
    error: str | None = None
    again: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Waiting:
    """What a reader returns that cannot go on without answers.

    Attributes:
        state: JSON that the reader is given back.
        store: pictures that it is given back; the requests show some of them.
    """

    requests: Sequence[Request]
    state: Any
    store: PictureStore


class Provider(Protocol):
    """Answers requests of one kind.

    Attributes:
        batch: requests per call, at most; 1 for remote providers.
        concurrency: calls at once: of a process for local providers, of a machine for remote ones.
        cache: a folder beyond the corpus in which answers are kept for other curations.
    """

    batch: int
    concurrency: int
    cache: Path | None

    def answer(self, requests: Sequence[Request], pictures: Sequence[Sequence[MediaItem]]) -> Sequence[Answer]:
        """One answer per request, in order; ``pictures`` are those each request shows. An exception is a failed call."""
        ...


class RemoteProvider(Provider, Protocol):
    """A provider that waits for a network; it is given one request a call.

    Attributes:
        retries: how often a request is asked again after `manifests.chat.AskAgainError`, at most.
        interval_s: seconds between the starts of two calls of this machine, at least; 0 for no limit.
    """

    retries: int
    interval_s: float


_providers: dict[tuple[str, str], Provider] = {}
_providers_lock = threading.Lock()


def provider_of(kind: str, recipe: Recipe) -> Provider:
    """The provider of a kind, made on first use in this process.

    Raises:
        KeyError: nobody answers this kind.
    """
    wanted = kind, canonical_json(recipe)
    with _providers_lock:
        if wanted not in _providers:
            if kind not in PROVIDERS:
                raise KeyError(f"nobody answers requests of kind {kind!r}: PROVIDERS has {', '.join(PROVIDERS) or 'none'}")
            module, _, factory = PROVIDERS[kind].partition(":")
            _providers[wanted] = getattr(importlib.import_module(module), factory)(recipe)
        return _providers[wanted]
