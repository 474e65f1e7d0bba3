"""Items that wait for models, and the answers they wait for, as files in the work folder of a corpus.

    _work/pending/<key[:2]>/<key>-<turn>    a waiting item: what it asks, its state, its pictures
    _work/answers/<id[:2]>/<id>             an answer; beside it <id>.failed when no model could give one

Both appear whole or not at all and outlive a kill. A failed request is not asked again in the same run; the next run forgets
the failure first, so that an endpoint that was down for an hour costs no item that is still unfinished.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manifests.files import write_bytes
from manifests.fingerprint import canonical_json
from pipelines.kept import KeptPictures, read_kept, write_kept
from pipelines.model_work import Answer, Request, Waiting

MAGIC = b"LRPEND1\n"
FAILED = ".failed"


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A waiting item.

    Attributes:
        item: the item as JSON, so that nothing but its key has to travel.
        state: what its reader wants back.
        requests: what it asks, by id.
        answered: ids of what it asked before.
        pictures: what the reader stored; read when they are wanted.
    """

    item: dict[str, Any]
    state: Any
    requests: dict[str, Request]
    answered: tuple[str, ...]
    pictures: KeptPictures


def pending_path(work: Path, key: str, turn: int) -> Path:
    """Where the item with this key waits for the answers of its ``turn``-th requests (from 1)."""
    return work / "pending" / key[:2] / f"{key}-{turn}"


def write_pending(path: Path, item: dict[str, Any], waiting: Waiting, answered: Iterable[str] = ()) -> None:
    """Writes a waiting item with all its pictures.

    Raises:
        ValueError: nothing is asked, or a request shows a picture that is not in the store.
    """
    asked = {request.request_id: request for request in waiting.requests}
    if not asked:
        raise ValueError("a reader waits but asks nothing")
    for request in asked.values():
        missing = [media_id for media_id in request.media_ids if media_id not in waiting.store]
        if missing:
            raise ValueError(f"a {request.kind} request shows pictures that were not stored: {', '.join(missing[:3])}")
    header = {
        "item": item,
        "state": waiting.state,
        "requests": {request_id: asdict(request) for request_id, request in sorted(asked.items())},
        "answered": sorted(answered),
    }
    write_kept(path, MAGIC, header, waiting.store, waiting.store.media_ids())


def read_pending(path: Path) -> Pending:
    """Reads a waiting item.

    Raises:
        ValueError: the file is no waiting item.
    """
    value, places = read_kept(path, MAGIC)
    requests = {
        request_id: Request(**{**request, "media_ids": tuple(request["media_ids"])})
        for request_id, request in value["requests"].items()
    }
    return Pending(
        item=value["item"],
        state=value["state"],
        requests=requests,
        answered=tuple(value["answered"]),
        pictures=KeptPictures(path, places),
    )


def forget_pictures(path: Path) -> None:
    """Leaves of a waiting item only what is not a picture: it waits no more, and its pictures would lie on disk twice."""
    header, places = read_kept(path, MAGIC)
    if places:
        write_kept(path, MAGIC, header, None, ())


def answer_path(folder: Path, request_id: str) -> Path:
    """Where an answer lies in a folder of answers."""
    return folder / request_id[:2] / request_id


def is_answered(folder: Path, request_id: str) -> bool:
    """Whether a request needs no asking: it has an answer, or failed in this run."""
    path = answer_path(folder, request_id)
    return path.is_file() or path.with_name(path.name + FAILED).is_file()


def write_answer(folder: Path, request_id: str, answer: Answer) -> None:
    """Keeps an answer."""
    path = answer_path(folder, request_id)
    write_bytes(path if answer.error is None else path.with_name(path.name + FAILED), canonical_json(answer).encode())


def read_answer(folder: Path, request_id: str) -> Answer:
    """An answer that is kept.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no answer.
    """
    path = answer_path(folder, request_id)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = path.with_name(path.name + FAILED).read_bytes()
    try:
        return Answer(**json.loads(data))
    except TypeError as error:
        raise ValueError(f"{path} is no answer: {error}") from error


def forget_failures(work: Path) -> int:
    """Lets a new run ask again what failed; returns how many requests that are.

    What an item asks on a later turn may depend on answers of earlier ones, so those turns are taken again as well.
    """
    failed = list((work / "answers").glob(f"??/*{FAILED}"))
    later = [path for path in (work / "pending").glob("??/*-*") if not path.name.endswith("-1")] if failed else []
    for path in (*later, *failed):
        path.unlink(missing_ok=True)
    return len(failed)
