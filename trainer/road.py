"""The road of a run: for each stage its phases, for each phase its steps, and what is written between.

Decided here: a phase starts from a folder of weights and ends by writing one; DeepSpeed's checkpoints lie within a phase. So a
run killed anywhere continues from the newer of the two, and no phase depends on the optimiser of the one before.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from manifests.catalog import Catalog
from manifests.errors import UsageError
from manifests.fingerprint import value_id
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from model.vlm import VisionLanguageModel
from trainer.announcement import announcement
from trainer.bad_steps import StepRule
from trainer.build import build_model, load_model, precision_of
from trainer.checkpoints import Checkpoint, Checkpoints, Position, write_model
from trainer.engine import PhaseEngine, StepFigures
from trainer.evaluate import Evaluation, evaluate, evaluation_attention, phases_until
from trainer.figures import planned_figures
from trainer.launch import Launch
from trainer.layout import Layout
from trainer.loader import Loader, StageSequences, StepBatches, step_positions
from trainer.metrics import StageRow, TrainResult, stage_row
from trainer.model_shape import model_config
from trainer.parallel import make_groups, require_plan
from trainer.ranks import Ranks, start_ranks
from trainer.run_folder import START, RunFolder, readable_failures
from trainer.sample_facts import kinds_of
from trainer.sample_order import samples_in_order
from trainer.seeing import Seeing
from trainer.stage_manifest import StageManifest, read_stages
from trainer.stages import Phase, phases_of, trained_parameters
from trainer.watching import Nobody, Watch

HELDOUT_STAGE = 3


def train(
    corpus_folder: Path,
    recipe: Recipe,
    *,
    stages: Sequence[int],
    out: Path,
    resume: bool = False,
    launch: Launch = Launch(),  # noqa: B008, frozen
    progress: Progress = silent,
    watch: Watch = Nobody(),  # noqa: B008, has no state
) -> TrainResult:
    """Trains stages of a plan, one after the other; finished ones are kept as they are. See `trainer.train`."""
    begun = time.perf_counter()
    catalog = Catalog(corpus_folder)
    manifests = read_stages(catalog, recipe.name)
    wanted = sorted(set(stages))
    if unknown := sorted(set(wanted) - set(manifests)):
        has = ", ".join(map(str, manifests))
        raise UsageError(f"the plan of {recipe.name!r} has no stage {unknown[0]}: it has {has}")
    identities = {
        number: value_id([manifests[stage].fingerprint for stage in manifests if stage <= number]) for number in manifests
    }
    folder = RunFolder(out)
    which = "all" if len(wanted) > 1 else wanted[0]
    command = f"longreel train {corpus_folder} --recipe {recipe.name} --stage {which} --out {out}"
    rows = _finished(folder, wanted, identities)
    for number in wanted:
        if number in rows:
            continue
        folder.require_room(number, identities[number], resume=resume, command=command)
        _require_material(manifests[number])
        before = number - 1
        if before in manifests and before not in wanted and folder.finished(before, identities[before]) is None:
            raise UsageError(
                f"stage {number} starts from the model of stage {before}, and {folder.model(before)} is not there: "
                f"run `longreel train {corpus_folder} --recipe {recipe.name} --stage {before} --out {out}` first, "
                f"or --stage all"
            )
    unchanged = len(rows) == len(wanted)
    if not unchanged:
        run = _Run(catalog, manifests, identities, folder, launch, progress, watch)
        with readable_failures(out), closing(run.seeing), run.loader:
            for number in wanted:
                if number not in rows:
                    rows[number] = run.stage(number)
    return TrainResult(
        stages=[asdict(rows[number]) for number in wanted], unchanged=unchanged, seconds=time.perf_counter() - begun
    )


def _finished(folder: RunFolder, wanted: list[int], identities: dict[int, str]) -> dict[int, StageRow]:
    rows = {number: folder.finished(number, identities[number]) for number in wanted}
    return {number: row for number, row in rows.items() if row is not None}


def _require_material(manifest: StageManifest) -> None:
    if not manifest.sequences:
        raise UsageError(
            f"stage {manifest.spec.number} has no training sequences: no sample fits its mixture; curate more input, plan again"
        )
    phases_of(manifest.spec, manifest.steps)


def _launched(recipe: Recipe, launch: Launch, *, world: int) -> Recipe:
    """The recipe with what the launch chose for itself.

    One rank that trains in fp32 has nothing to divide: ZeRO's flat copies would only cost it 3 % of a step of 1,024 tokens.
    """
    zero = launch.zero_stage
    if zero is None and world == 1 and recipe.train.precision == "fp32":
        zero = 0
    return recipe if zero is None else replace(recipe, train=replace(recipe.train, zero_stage=zero))


class _Run:
    """One call's work: the process group, the corpus, and the model as it stands."""

    def __init__(
        self,
        catalog: Catalog,
        manifests: dict[int, StageManifest],
        identities: dict[int, str],
        folder: RunFolder,
        launch: Launch,
        progress: Progress,
        watch: Watch,
    ) -> None:
        self.catalog, self.manifests, self.identities, self.folder = catalog, manifests, identities, folder
        self.launch = launch
        self.ranks: Ranks = replace(start_ranks(), sharing=launch.sequence_parallel)
        self.recipe = _launched(next(iter(manifests.values())).recipe, launch, world=self.ranks.world)
        require_plan(
            launch,
            ranks=self.ranks.world,
            zero_stage=self.recipe.train.zero_stage,
            precision=self.recipe.train.precision,
            config=model_config(self.recipe),
        )
        self.groups = make_groups(launch)
        self.progress: Progress = progress if self.ranks.leads else silent
        self.seeing = Seeing(
            folder.folder, folder.metrics, manifests, ranks=self.ranks, watch=watch, precision=precision_of(self.recipe.train)
        )

        self.loader = Loader(
            catalog,
            self.recipe,
            launch=launch,
            on_gpu=self.ranks.device.type == "cuda",
            neighbours=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            rank=self.ranks.rank,
            ranks=self.ranks.world,
            replaced=folder.folder / "replaced.jsonl",
        )

    @cached_property
    def heldout(self) -> StageSequences:
        """The common held-out set."""
        return self.loader.sequences(stage=HELDOUT_STAGE, split="heldout")

    def stage(self, number: int) -> StageRow:
        """Trains, evaluates and records one stage."""
        manifest = self.manifests[number]
        phases = phases_of(manifest.spec, manifest.steps)
        if self.ranks.leads:
            self.folder.begin(number, self.identities[number])
        self.ranks.wait()
        before = self._evaluation_before(number)
        sequences = self.loader.sequences(stage=number, split="train")
        checkpoints = Checkpoints(
            self.folder.stage(number) / "checkpoints", self.ranks, in_background=self.launch.checkpoint_in_background
        )
        position, checkpoint = self._resume_at(number, phases, checkpoints)
        if self.ranks.leads:
            self.folder.metrics.cut(number, position.steps)
            self.folder.skipped.cut(number, position.steps)
        if not self.folder.model(number).is_dir():
            self._announce(manifest, phases)
            try:
                for phase in phases[position.phase :]:
                    self._phase(manifest, phase, phases, sequences, checkpoints, position, checkpoint)
                    position = Position(stage=number, phase=phase.index + 1, steps=phase.last, world=self.ranks.world)
                    checkpoint = None
                checkpoints.settle()
            finally:
                checkpoints.close()
        model = load_model(self.folder.model(number), self.recipe.train)
        after = self._evaluate(model, number, with_recall=True)
        row = stage_row(
            manifest,
            self.folder.metrics.lines(),
            before=before,
            after=after,
            trained_parameters=trained_parameters(model, phases),
        )
        if self.ranks.leads:
            self.folder.finish(number, self.identities[number], row)
            checkpoints.discard()
            self.folder.summarise(self.recipe.name)
        self.ranks.wait()
        return row

    def _start(self, number: int, phase: int) -> VisionLanguageModel:
        """The weights a phase starts from."""
        if phase:
            return load_model(self.folder.phase_model(number, phase - 1), self.recipe.train)
        if number:
            return load_model(self.folder.model(number - 1), self.recipe.train)
        return build_model(self.recipe)

    def _resume_at(
        self, number: int, phases: tuple[Phase, ...], checkpoints: Checkpoints
    ) -> tuple[Position, Checkpoint | None]:
        """Where the stage goes on, and the checkpoint to load there (None: at the start of a phase)."""
        done = 0
        while done < len(phases) - 1 and self.folder.phase_model(number, done).is_dir():
            done += 1
        start = Position(stage=number, phase=done, steps=phases[done].first, world=self.ranks.world)
        if self.folder.model(number).is_dir():
            return Position(stage=number, phase=len(phases), steps=phases[-1].last, world=self.ranks.world), None
        checkpoint, damaged = checkpoints.newest()
        for problem in damaged:
            self._say(f"{problem}: passed over for the checkpoint before it")
        if checkpoint is None or checkpoint.position.steps <= start.steps or checkpoint.position.phase < done:
            return start, None
        position = checkpoint.position
        if position.world != self.ranks.world:
            self._say(
                f"stage {number} goes on from step {position.steps} on {self.ranks.world} processes, written by "
                f"{position.world}: the same samples in the same order, losses equal but for rounding"
            )
        return position, checkpoint

    def _phase(
        self,
        manifest: StageManifest,
        phase: Phase,
        phases: tuple[Phase, ...],
        sequences: StageSequences,
        checkpoints: Checkpoints,
        position: Position,
        checkpoint: Checkpoint | None,
    ) -> None:
        number, train = manifest.spec.number, self.recipe.train
        passes = -(-manifest.spec.sequences_per_step // self.ranks.data_world)
        engine = PhaseEngine(
            self._start(number, phase.index),
            phase.spec,
            train,
            passes=passes,
            ranks=self.ranks,
            kinds=kinds_of(self.catalog, self.recipe.name, stage=number, split="train"),
            groups=self.groups,
        )
        rule = StepRule(train, phase.spec)
        if checkpoint is not None:
            engine.restore(checkpoint.files, position.updates)
            rule.restore(checkpoint.rules)
        label = f"stage {number}/{phase.spec.name}"
        span = phase.last - phase.first
        loader = self.loader.steps(
            sequences,
            per_step=manifest.spec.sequences_per_step,
            first=max(position.steps, phase.first),
            last=phase.last,
            rank=self.ranks.data_rank,
            world=self.ranks.data_world,
            sharing=(self.ranks.rank % self.ranks.sharing, self.ranks.sharing),
        )
        self.progress(label, loader.first - phase.first, span)
        self.seeing.phase(manifest, phase, first=loader.first)
        with loader:
            for batches in loader:
                clock = time.perf_counter()
                rate = phase.learning_rate(batches.step)
                figures = engine.step(batches, rate, rule.judge)
                rule.note(figures)
                seconds = time.perf_counter() - clock + batches.waited_s
                steps = batches.step + 1
                saves = steps == phase.last or steps % train.checkpoint_steps == 0
                recalls = saves if self.launch.recall_steps is None else steps % (self.launch.recall_steps or steps + 1) == 0
                self.seeing.step(
                    figures,
                    step=steps,
                    sequences=step_positions(
                        batches.step, sequences=manifest.sequences, per_step=manifest.spec.sequences_per_step
                    ),
                    learning_rate=rate,
                    seconds=seconds,
                    data_wait_s=batches.waited_s,
                    recall=engine.recall(batches) if recalls and phase.spec.attention != "dense" else None,
                )
                self.progress(
                    label, steps - phase.first, span, f"loss {figures.loss:.2f}  {figures.tokens / seconds:,.0f} tok/s"
                )
                if figures.skipped is not None:
                    self._record_skipped(number, phase, steps, figures, batches)
                    rule.require_sound(f"stage {number}, step {steps}", self.folder.skipped.path)
                if saves:
                    here = Position(
                        stage=number, phase=phase.index, steps=steps, world=self.ranks.world, updates=engine.updates
                    )
                    checkpoints.save(here, engine.state.snapshot(), rule.state())
                    self.seeing.checkpoint(checkpoints.standing())
        rule.require_learnt(label, engine.updates, self.folder.skipped.path)
        last = phase.index == len(phases) - 1
        write_model(
            self.folder.model(number) if last else self.folder.phase_model(number, phase.index), engine.export, self.ranks
        )
        engine.close()

    def _record_skipped(self, stage: int, phase: Phase, steps: int, figures: StepFigures, batches: StepBatches) -> None:
        """Lists a skipped step with the samples of all ranks; every rank calls it."""
        samples = samples_in_order(batches, self.ranks)
        if self.ranks.leads:
            self.folder.skipped.append(stage=stage, phase=phase.spec.name, step=steps, figures=figures, samples=samples)
        self._say(f"stage {stage}, step {steps}: {figures.skipped}; its update is left out ({self.folder.skipped.path})")

    def _evaluation_before(self, number: int) -> Evaluation:
        """Held-out figures before a stage: those after the one before it, measured once."""
        known = self.folder.evaluations().get(str(number - 1) if number else START)
        if known is not None:
            return known
        return self._evaluate(self._start(number, 0), number - 1, with_recall=False)

    def _evaluate(self, model: VisionLanguageModel, number: int, *, with_recall: bool) -> Evaluation:
        """Held-out figures after a stage (-1: of the untrained model), recorded."""
        specs = [manifest.spec for manifest in self.manifests.values()]
        evaluation = evaluate(
            model.to(self.ranks.device),
            self.heldout,
            at_most=self.recipe.train.heldout_sequences,
            attention=evaluation_attention(phases_until(specs, number)),
            with_recall=with_recall,
            ranks=self.ranks,
            progress=self.progress,
            label="held-out before stage 0" if number < 0 else f"held-out after stage {number}",
            kinds=kinds_of(self.catalog, self.recipe.name, stage=HELDOUT_STAGE, split="heldout"),
        )
        if self.ranks.leads:
            self.folder.record_evaluation(START if number < 0 else str(number), evaluation)
        self.ranks.wait()
        return evaluation

    def _announce(self, manifest: StageManifest, phases: tuple[Phase, ...]) -> None:
        """What the stage trains, and what it will cost."""
        if not self.ranks.leads:
            return
        launch, figures = self.launch, planned_figures(self.catalog, self.recipe)
        layout = Layout(self.ranks.world, launch.sequence_parallel, launch.expert_parallel, zero=self.recipe.train.zero_stage)
        self._say(
            announcement(
                self.recipe,
                model_config(self.recipe),
                manifest,
                phases,
                counted=next(counted for counted in figures if counted["stage"] == manifest.spec.number),
                layout=layout,
                lines=self.folder.metrics.lines(),
            )
        )

    def _say(self, line: str) -> None:
        if self.ranks.leads:
            print(line, file=sys.stderr, flush=True)
