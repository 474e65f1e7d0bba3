"""The process in which items are read: ``python -m pipelines.reader_process PARENT``. See `pipelines.isolation`.

Requests and replies are lines of JSON on standard input and output. The first request is the recipe; each further one is a
`pipelines.reading.Reading`. The process ends with its input, or when its parent is gone, whichever comes first.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

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
    end_with_parent(int(sys.argv[1]))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Decoders print what they like; standard output is the line to the parent and must carry nothing else.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    from manifests.recipe_json import recipe_from_json
    from pipelines.reading import Reading, read_item

    recipe = recipe_from_json(sys.stdin.readline())
    prepare(recipe)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        read_item(Reading.from_json(json.loads(line)), recipe)
        print("done", file=replies, flush=True)


if __name__ == "__main__":
    main()
