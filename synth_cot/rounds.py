"""The work on all sources, round after round: what waits for answers is asked for, and then worked on again.

`work_here` is the plain loop in this process. The functions it calls (make a worker, work on an item, ask requests) are those
that the Beam pipeline of `synth_cot.graph` maps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from manifests.corpus import Corpus
from manifests.errors import LongreelError
from manifests.files import write_bytes
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from manifests.shards import MediaItem
from manifests.synth_spec import TeacherSpec
from synth_cot.answering import Answering
from synth_cot.asking.asker import Asker
from synth_cot.asking.ledger import Ledger
from synth_cot.asking.models import model_of
from synth_cot.asking.pictures import Shown
from synth_cot.asking.request import Piece, Request
from synth_cot.decontamination import Decontaminator
from synth_cot.reading import read_stored_sizes
from synth_cot.work import Item, NearBenchmark, Outcome, Worker

ROUNDS = 3
"""How often a source may wait: for responses, then for what puts them in doubt; one more to be safe."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What workers are made with: names and values, so that it travels."""

    corpus: Path
    recipe: Recipe
    fingerprint: str

    @property
    def ledger(self) -> Path:
        """Where requests and responses are kept."""
        given = self.recipe.synth.ledger
        return Corpus(self.corpus).work / "teachers" if given is None else Path(given)

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """Evaluation data near which nothing is asked: what curation was told of, and what only synthesis is."""
        return (*self.recipe.curate.quality.benchmarks, *self.recipe.synth.benchmarks)

    @property
    def outcomes(self) -> Path:
        """Where a pipeline leaves what came of each source."""
        return Corpus(self.corpus).work / "outcomes"

    @property
    def pictures(self) -> Path:
        """Where pictures lie that a request shows and no shard holds yet."""
        return Corpus(self.corpus).work / "drawn"


def make_worker(setting: Setting) -> Worker:
    """A worker of this process."""
    recipe, ledger = setting.recipe, Ledger(setting.ledger)
    near = _near_benchmark(setting) if setting.benchmarks else None
    answering = Answering(recipe.synth, ledger.find)
    return Worker(recipe, answering, read_stored_sizes(Corpus(setting.corpus)), setting.fingerprint, near)


def work(worker: Worker, setting: Setting, item: Item) -> Outcome:
    """The outcome of an item; the pictures that its open requests show are put where an asker finds them."""
    outcome = worker.work(item)
    shown = {piece.media_id for request in outcome.waiting for piece in request.pieces}
    for picture in outcome.media:
        if picture.media_id in shown:
            write_bytes(setting.pictures / f"{picture.media_id}.{picture.extension}", picture.data)
    return outcome


def ask(setting: Setting, requests: Iterable[Request], progress: Progress = silent) -> None:
    """Returns when every request has an answer in the ledger; all teachers are asked at the same time."""
    by_teacher: dict[str, list[Request]] = {}
    for request in requests:
        by_teacher.setdefault(request.teacher, []).append(request)
    ledger, shown = Ledger(setting.ledger), Shown(setting.corpus, setting.pictures)

    def one(spec: TeacherSpec, wanted: list[Request]) -> None:
        total, done = len({request.request_id for request in wanted}), itertools.count(1)
        Asker(spec, model_of(spec, shown), ledger).ask(wanted, lambda: progress(f"ask {spec.name}", next(done), total))

    asked = [spec for spec in setting.recipe.synth.teachers if spec.name in by_teacher]
    with ThreadPoolExecutor(max(1, len(asked))) as threads:
        for future in [threads.submit(one, spec, by_teacher[spec.name]) for spec in asked]:
            future.result()


def work_here(setting: Setting, items: Sequence[Item], progress: Progress = silent) -> list[Outcome]:
    """The outcomes of all items, in their order.

    Raises:
        LongreelError: a source still waits after all rounds.
    """
    worker = make_worker(setting)
    outcomes: dict[int, Outcome] = {}
    todo = list(enumerate(items))
    for turn in range(ROUNDS + 1):
        waiting: list[tuple[int, Item]] = []
        requests: list[Request] = []
        for done, (index, item) in enumerate(todo):
            outcome = outcomes[index] = work(worker, setting, item)
            progress("synthesize", done, len(todo), outcome.source)
            if outcome.waiting:
                waiting.append((index, item))
                requests += outcome.waiting
        progress("synthesize", len(todo), len(todo))
        if not waiting:
            return [outcomes[index] for index in range(len(items))]
        if turn < ROUNDS:
            ask(setting, requests, progress)
            todo = waiting
    raise LongreelError(f"{outcomes[todo[0][0]].source} still waits for answers after {ROUNDS} rounds: this is a defect")


def _near_benchmark(setting: Setting) -> NearBenchmark:
    decontaminator = Decontaminator(setting.benchmarks)
    shown = Shown(setting.corpus, setting.pictures)

    def near(prompt: str, media_ids: Sequence[str], own: Sequence[MediaItem]) -> str | None:
        data = {picture.media_id: picture.data for picture in own}
        pictures = (data.get(one) or shown.picture(Piece(media_id=one)).data for one in media_ids)
        return decontaminator.verdict(prompt, pictures)

    return near
