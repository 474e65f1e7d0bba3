"""A trained model examined after the fact: held-out loss by group, dense against sparse attention, and needles in haystacks.

    OUT/heldout.json     the common held-out set of the corpus's stage 3, under each way of attention
    OUT/needle.json      see `trainer.needle_run`

Decided here: it takes any folder with the published names, or a run, of which it takes the last stage that is there. Everything
is asked of the same model on the same prompts under both ways of attention: what sparse reading costs is the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from manifests import files
from manifests.catalog import Catalog
from manifests.errors import UsageError
from manifests.fingerprint import sha256_bytes, value_id
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from manifests.stage_spec import Attention
from manifests.tokenizer import load_tokenizer
from model.vlm import VisionLanguageModel
from trainer.build import load_model
from trainer.evaluate import evaluate
from trainer.loader import StageSequences
from trainer.needle import NeedleSpec
from trainer.needle_pool import read_pool
from trainer.needle_reading import ModelReader
from trainer.needle_run import run_needles
from trainer.ranks import Ranks
from trainer.sample_facts import kinds_of
from trainer.stage_manifest import read_stages

HELDOUT_STAGE = 3
# Of each file of weights so much at both ends, and its size, tell one model from another without reading all of it.
_READ = 2**20


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model on disk: the folder with its weights, and what it is called."""

    folder: Path
    name: str


def find_model(path: Path, stage: int | None = None) -> ModelFolder:
    """The model of a run, or a model's own folder.

    Args:
        stage: of a run: the model of this stage; None: of the last that is there.

    Raises:
        UsageError: there is none.
    """
    if (path / "config.json").is_file():
        if stage is not None:
            raise UsageError(f"{path} is one model and no run: leave --stage out")
        return ModelFolder(folder=path, name=path.name)
    found = {int(folder.parent.name.removeprefix("stage")): folder for folder in path.glob("stage[0-9]/model")}
    if not found:
        raise UsageError(f"{path} holds no model: name a RUN with a finished stage, or a folder with config.json")
    if stage is not None and stage not in found:
        raise UsageError(f"{path} has no model of stage {stage}: it has {', '.join(map(str, sorted(found)))}")
    chosen = max(found) if stage is None else stage
    return ModelFolder(folder=found[chosen], name=f"stage {chosen}")


def only_plan(corpus: Path) -> str:
    """The recipe that a corpus is planned for, when there is one.

    Raises:
        UsageError: it is planned for none, or for several.
    """
    catalog = Catalog(corpus)
    planned = [name for (name,) in catalog.connection.execute("SELECT DISTINCT recipe FROM stages ORDER BY 1").fetchall()]
    if len(planned) != 1:
        choose = f"it has plans for {', '.join(planned)}: choose with --recipe" if planned else "run `longreel plan` first"
        raise UsageError(f"{corpus} has {len(planned)} plans; {choose}")
    return str(planned[0])


def default_lengths(recipe: Recipe) -> tuple[int, ...]:
    """An eighth, a quarter, half and the whole of the longest context."""
    longest = max(stage.context for stage in recipe.stages)
    return tuple(longest // part for part in (8, 4, 2, 1))


class Examination:
    """A model and a corpus, ready to be asked.

    Args:
        corpus: planned for `recipe_name`; its held-out side is what is asked about.

    Raises:
        UsageError: no such model or plan.
    """

    def __init__(self, model: ModelFolder, corpus: Path, recipe_name: str) -> None:
        self.catalog = Catalog(corpus)
        self.recipe = next(iter(read_stages(self.catalog, recipe_name).values())).recipe
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.ranks = Ranks(rank=0, world=1, device=device)
        self.model: VisionLanguageModel = load_model(model.folder, self.recipe.train).to(device).eval()
        self.identity = value_id([_weights(model.folder), self.catalog.corpus.versions(), recipe_name])

    def heldout(self, out: Path, attentions: Sequence[Attention], progress: Progress = silent) -> dict[str, Any]:
        """Held-out loss under each way of attention; also written to ``OUT/heldout.json``."""
        sequences = StageSequences(self.catalog, self.recipe, stage=HELDOUT_STAGE, split="heldout")
        kinds = kinds_of(self.catalog, self.recipe.name, stage=HELDOUT_STAGE, split="heldout")
        measured: dict[str, Any] = {
            attention: asdict(
                evaluate(
                    self.model,
                    sequences,
                    at_most=self.recipe.train.heldout_sequences,
                    attention=attention,
                    with_recall=attention == "sparse",
                    ranks=self.ranks,
                    progress=progress,
                    label="held-out",
                    kinds=kinds,
                )
            )
            for attention in attentions
        }
        files.write_json(out / "heldout.json", measured)
        return measured

    def needles(
        self, out: Path, spec: NeedleSpec, attentions: Sequence[Attention], progress: Progress = silent
    ) -> dict[str, Any]:
        """Needles in haystacks; see `trainer.needle_run.run_needles`.

        Raises:
            UsageError: the model has fewer positions than a length.
        """
        room = self.model.config.decoder.max_positions
        if max(spec.lengths) > room:
            raise UsageError(f"a haystack of {max(spec.lengths):,} tokens is longer than the model's {room:,} positions")
        tokenizer = load_tokenizer(self.recipe.tokenizer)
        pool = read_pool(self.catalog, tokenizer, self.recipe.visual, longest=max(spec.lengths))
        reader = ModelReader(self.model, tokenizer)
        return run_needles(reader, pool, spec, attentions=attentions, identity=self.identity, out=out, progress=progress)


def _weights(folder: Path) -> list[tuple[str, int, str]]:
    """Name, size and a hash of both ends of every file of weights."""
    known = []
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as stream:
            ends = stream.read(_READ)
            stream.seek(max(size - _READ, 0))
            ends += stream.read(_READ)
        known.append((path.name, size, sha256_bytes(ends)))
    return known
