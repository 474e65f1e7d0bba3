"""The process in which items are read: ``python -m pipelines.reader_process PARENT [IN,OUT ...]``. See `pipelines.isolation`.

Requests and replies are lines of JSON on standard input and output. The first request is the recipe; each further one is a
`pipelines.reading.Reading`. The process ends with its input, or when its parent is gone, whichever comes first.

Once it is ready it becomes as many readers more as there are pairs of file descriptors, one for requests and one for replies:
loading what items need takes a second, forking a hundredth of it. Such a reader says its process id when it is ready, and ends
when nobody holds the other end of its requests any more.
"""

from __future__ import annotations

import gc
import json
import os
import select
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from manifests.recipe import Recipe

POLL_S = 0.2


def end_with_parent(parent: int) -> None:
    """Ends this process soon after its parent has ended, so that a killed run leaves nobody who writes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_with_requests(requests: IO[str]) -> None:
    """Ends this process when the other end of its requests is closed, though it may be busy with one."""

    def watch() -> None:
        hung_up = select.poll()
        hung_up.register(requests.fileno(), 0)  # being told of a hang-up need not be asked for
        hung_up.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def forkable() -> bool:
    """Whether this process has no thread that a fork would leave behind; jemalloc's, which pyarrow brings, is used to it."""
    threads = Path("/proc/self/task")
    if not threads.is_dir():
        return False
    others = [task for task in threads.iterdir() if task.name != str(os.getpid())]
    return all((task / "comm").read_text().strip() == "jemalloc_bg_thd" for task in others)


def multiply(pairs: Sequence[tuple[int, int]], replies: IO[str]) -> tuple[IO[str], IO[str]] | None:
    """Forks a reader for every pair of requests and replies, where forking is safe; whoever asked sees the others end at once.

    Args:
        replies: of this process; a fork that held it would hide from its parent that it has ended.

    Returns:
        In a forked reader its own requests and replies, else None.
    """
    safe = forkable()
    gc.freeze()  # what is loaded is shared for as long as nobody writes to it, and collecting garbage would
    for place, (asked, answered) in enumerate(pairs):
        if safe and os.fork() == 0:
            os.setsid()
            replies.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for other in (end for pair in pairs[place + 1 :] for end in pair):
                os.close(other)
            return os.fdopen(asked, encoding="utf-8"), os.fdopen(answered, "w", encoding="utf-8")
        os.close(asked)
        os.close(answered)
    return None


def prepare(recipe: Recipe) -> None:
    """Loads what most items need, while the run that started this process is still getting ready."""
    import pipelines.video  # noqa: F401 - pictures need most of it, too
    from manifests.tokenizer import load_tokenizer
    from pipelines.finished import setting_id
    from pipelines.language import language_of

    load_tokenizer(recipe.tokenizer)
    setting_id(recipe)
    language_of("Unpacking the model of languages takes half a second, and nearly every item has a few words.")


def main() -> None:
    """Serves requests until the input ends."""
    parent = int(sys.argv[1])
    pairs = [(int(asked), int(answered)) for asked, answered in (pair.split(",") for pair in sys.argv[2:])]
    replies: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Decoders print what they like; standard output is the line to the parent and must carry nothing else.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    from manifests.recipe_json import recipe_from_json
    from pipelines.reading import Reading, read_item

    requests: IO[str] = sys.stdin
    recipe = recipe_from_json(requests.readline())
    prepare(recipe)
    own = multiply(pairs, replies)
    if own is None:
        end_with_parent(parent)
        print("ready", file=replies, flush=True)
    else:
        requests, replies = own
        end_with_requests(requests)
        requests.readline()  # the recipe, which it has
        print(f"ready {os.getpid()}", file=replies, flush=True)
    for line in requests:
        read_item(Reading.from_json(json.loads(line)), recipe)
        print("done", file=replies, flush=True)


if __name__ == "__main__":
    main()
