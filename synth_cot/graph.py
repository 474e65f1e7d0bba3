"""The Beam pipeline of the step: work on sources, ask what they wait for, work on those again; outcomes are files.

    items -> spread -> work --> outcomes, a file each
                         |
                         +-> requests -> each once -> batches -> ask (threads; answers go to the ledger)
                         +-> items that wait --------------------> when all are asked: work again (at most `ROUNDS` times)

Workers share the corpus folder, as in curation, so outcomes are written there and only names, items and requests travel. The
files are read again in the order of items: what is decided over all of them (`synth_cot.gathering`) does not depend on who was
first.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput

from manifests.errors import LongreelError
from manifests.files import write_bytes
from manifests.fingerprint import canonical_json
from manifests.shards import MediaItem
from synth_cot.asking.request import Request
from synth_cot.rounds import ROUNDS, Setting, ask, make_worker, work
from synth_cot.work import Item, Outcome, Worker

BATCH = 256
REQUEST = "request"


class Synthesis(beam.PTransform):
    """Numbered items to nothing: each outcome is a file ``<number>`` of a folder.

    Guarantees: when the pipeline has ended well, every item has its file, whole; running it again writes the same bytes, given
    the same answers. Does not guarantee that a file of an earlier run is gone.

    Args:
        setting: what workers are made with.
        folder: for the outcomes; shared by all workers.
    """

    def __init__(self, setting: Setting, folder: Path) -> None:
        super().__init__()
        self.setting, self.folder = setting, folder

    def expand(self, items: beam.PCollection[tuple[int, Item]]) -> beam.PCollection[tuple[int, Item]]:
        """Work and ask, round after round."""
        waiting = items | "spread" >> beam.Reshuffle()
        for turn in range(ROUNDS + 1):
            worked = waiting | f"work {turn}" >> beam.ParDo(_Work(self.setting, self.folder)).with_outputs(
                REQUEST, main="waiting"
            )
            asked = (
                worked[REQUEST]
                | f"by name {turn}" >> beam.GroupByKey()
                | f"each once {turn}" >> beam.Map(_first).with_output_types(Request)
                | f"batches {turn}" >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
                | f"ask {turn}" >> beam.Map(_asked, self.setting)
                | f"all {turn}" >> beam.combiners.Count.Globally()
            )
            waiting = worked["waiting"] | f"when asked {turn}" >> beam.Map(_given, AsSingleton(asked))
        return waiting


class _Work(beam.DoFn):
    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting, self.folder = setting, folder
        self.worker: Worker | None = None

    def setup(self) -> None:
        self.worker = make_worker(self.setting)

    def process(self, numbered: tuple[int, Item]) -> Iterator[Any]:
        assert self.worker is not None
        number, item = numbered
        outcome = work(self.worker, self.setting, item)
        if outcome.waiting:
            for request in outcome.waiting:
                yield TaggedOutput(REQUEST, (request.request_id, request))
            yield numbered
        else:
            write_bytes(self.folder / str(number), _packed(outcome))


def _first(named: tuple[str, Any]) -> Request:
    request: Request = next(iter(named[1]))
    return request


def _asked(requests: Sequence[Request], setting: Setting) -> int:
    ask(setting, requests)
    return len(requests)


def _given(numbered: tuple[int, Item], asked: int) -> tuple[int, Item]:
    return numbered


def read_outcomes(folder: Path, count: int) -> Iterator[Outcome]:
    """The outcomes of so many items, in their order.

    Raises:
        LongreelError: one still waits after all rounds.
    """
    for number in range(count):
        try:
            yield _unpacked((folder / str(number)).read_bytes())
        except FileNotFoundError:
            raise LongreelError(f"source {number} still waits for answers after {ROUNDS} rounds: this is a defect") from None


def _packed(outcome: Outcome) -> bytes:
    pictures = [vars(item) | {"data": base64.b64encode(item.data).decode()} for item in outcome.media]
    rows = {name: value for name, value in vars(outcome).items() if name not in ("media", "waiting")}
    return canonical_json(rows | {"media": pictures}).encode()


def _unpacked(data: bytes) -> Outcome:
    value = json.loads(data)
    media = [MediaItem(**item | {"data": base64.b64decode(item["data"])}) for item in value.pop("media")]
    for row in value["samples"]:
        row["quality"] = [tuple(score) for score in row["quality"]]
    return Outcome(**value, media=media)
