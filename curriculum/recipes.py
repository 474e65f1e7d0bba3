"""The recipes: functions that return one whole `Recipe`. A variant calls another and changes what differs.

Where the Keye-VL-2.0 report is silent (mixture weights, learning rates, batch sizes, where among the stages the DSA phases
fall) the choice is ours and stands here as a plain field: dense attention up to 32K, then at the start of stage 2, where
contexts outgrow what full attention can afford, the indexer's dense warm-up (DeepSeek-V3.2: learning rate 1e-3), and sparse
attention from there on (7.3e-6 in the same source).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from manifests.curate_spec import CurateSpec, DocumentSpec, VideoForm
from manifests.errors import UsageError
from manifests.recipe import BucketSpec, Recipe, TrainSpec
from manifests.stage_spec import CostSpec, MixtureSpec, ModelSpec, PhaseSpec, StageSpec
from manifests.synth_spec import MadeSpec, SynthSpec
from manifests.visual import VisualSpec

K = 1024


def _mixture(captions: float = 0.0, interleaved: float = 0.0, **weights: float) -> tuple[MixtureSpec, ...]:
    """Ingredients by task prefix; captions and interleaved pictures apart, because counting and grounding begin at stage 2."""
    named = {"image.caption": captions, "image.interleaved": interleaved, **weights}
    return tuple(MixtureSpec(task=task, weight=weight) for task, weight in named.items() if weight)


def keye_vl_2() -> Recipe:
    """The published recipe: 8K, 32K, 64K and 256K contexts; visual budgets of 24K, 64K and 180K; 4B, 1T, 2T and 500B tokens."""
    alignment = _mixture(captions=0.7, interleaved=0.3)
    broad = _mixture(captions=0.15, interleaved=0.1, video=0.25, document=0.25, code=0.1, text=0.15)
    verified = _mixture(image=0.1, video=0.2, document=0.15, code=0.1, text=0.1, gui=0.15, reason=0.1, stem=0.1)
    long = _mixture(image=0.05, video=0.3, document=0.25, code=0.1, text=0.05, gui=0.1, reason=0.1, stem=0.05)
    return Recipe(
        name="keye_vl_2",
        tokenizer="qwen3",
        visual=VisualSpec(),
        buckets=BucketSpec(),
        curate=CurateSpec(
            video_forms=(
                VideoForm(name="segment", max_s=15.0, visual_budget=24 * K),
                VideoForm(name="window", max_s=900.0, visual_budget=64 * K),
                VideoForm(name="whole", max_s=7200.0, visual_budget=180 * K),
            ),
            stored_tokens_max=2_048,
            documents=DocumentSpec(augmented_share=0.25, together=True),
            pasted_per_screen=1,
        ),
        synth=SynthSpec(),
        model=ModelSpec(preset="keye_vl_2_30b_a3b", top_k=2048),
        stages=(
            StageSpec(
                number=0, name="projector alignment", context=8 * K, visual_budget=8 * K,
                tokens=4_000_000_000, sequences_per_step=512, ranks=64,
                mixture=alignment,
                phases=(
                    PhaseSpec(name="align", attention="dense", trains="projector", learning_rate=1e-3, indexer_lambda=0.0),
                ),
            ),
            StageSpec(
                number=1, name="multimodal 32K", context=32 * K, visual_budget=24 * K,
                tokens=1_000_000_000_000, sequences_per_step=512, ranks=64,
                mixture=broad,
                phases=(
                    PhaseSpec(name="dense", attention="dense", trains="everything", learning_rate=1e-4, indexer_lambda=0.0),
                ),
            ),
            StageSpec(
                number=2, name="verifiable tasks 64K", context=64 * K, visual_budget=64 * K,
                tokens=2_000_000_000_000, sequences_per_step=256, ranks=32,
                mixture=verified,
                phases=(
                    PhaseSpec(name="indexer warm-up", attention="warmup", trains="indexer", share=0.001, learning_rate=1e-3),
                    PhaseSpec(name="sparse", attention="sparse", trains="everything", share=0.999, learning_rate=2e-5),
                ),
            ),
            StageSpec(
                number=3, name="long context 256K", context=256 * K, visual_budget=180 * K,
                tokens=500_000_000_000, sequences_per_step=64, ranks=8,
                mixture=long, long_share=0.5,
                phases=(PhaseSpec(name="sparse", attention="sparse", trains="everything", learning_rate=7.3e-6),),
            ),
        ),
        train=TrainSpec(zero_stage=3),
    )  # fmt: skip


def laptop() -> Recipe:
    """The same shape at 1/32 of the context, with a model of a few million parameters: the whole road on two CPU cores.

    Context and visual budgets, bucket edges and top-k are 1/32 of `keye_vl_2`'s; the buckets keep their published names. A
    frame costs 4 to 32 tokens (112 x 56 px and up) instead of 64 to 256, at one frame a second. Duration edges stay real
    seconds.
    """
    alignment = _mixture(captions=1.0)
    broad = _mixture(captions=0.06, video=0.24, document=0.35, code=0.15, text=0.2)
    verified = _mixture(image=0.05, video=0.2, document=0.15, code=0.1, text=0.05, gui=0.2, reason=0.15, stem=0.1)
    long = _mixture(image=0.05, video=0.25, document=0.3, code=0.1, text=0.05, gui=0.1, reason=0.1, stem=0.05)
    return Recipe(
        name="laptop",
        tokenizer="laptop",
        visual=VisualSpec(
            image_tokens_max=64, frame_tokens_min=4, frame_tokens_max=32, fps=1.0,
            adaptive=((8.0, 0.125), (16.0, 0.25), (32.0, 0.5)),
        ),
        buckets=BucketSpec(context_32k=K, context_64k=2 * K, context_256k=8 * K),
        curate=CurateSpec(
            video_forms=(
                VideoForm(name="segment", max_s=15.0, visual_budget=24 * K // 32),
                VideoForm(name="window", max_s=900.0, visual_budget=64 * K // 32),
                VideoForm(name="whole", max_s=7200.0, visual_budget=180 * K // 32),
            ),
            stored_tokens_max=256,
            shard_bytes=4 * 2**20,
            documents=DocumentSpec(augmented_share=0.1),
            pasted_per_screen=1,
        ),
        synth=SynthSpec(stem_problems=80, made=MadeSpec(pictures=30, pairs=40, films=30, tables=30)),
        model=ModelSpec(
            preset="tiny",
            top_k=2048 // 32,
            cost=CostSpec(token=5_910_528, read_pair=4_096, indexer_token=251_904, scored_pair=1_056),
        ),
        stages=(
            StageSpec(
                number=0, name="projector alignment", context=256, visual_budget=256, tokens=32_000, sequences_per_step=2,
                mixture=alignment, epochs_max=16,
                phases=(
                    PhaseSpec(name="align", attention="dense", trains="projector", learning_rate=2e-3, indexer_lambda=0.0),
                ),
            ),
            StageSpec(
                number=1, name="multimodal 32K/32", context=K, visual_budget=24 * K // 32, tokens=224_000, sequences_per_step=1,
                mixture=broad, epochs_max=4,
                phases=(
                    PhaseSpec(name="dense", attention="dense", trains="everything", learning_rate=1e-3, indexer_lambda=0.0),
                ),
            ),
            StageSpec(
                number=2, name="verifiable tasks 64K/32", context=2 * K, visual_budget=2 * K,
                tokens=224_000, sequences_per_step=1,
                mixture=verified, epochs_max=4,
                phases=(
                    PhaseSpec(name="indexer warm-up", attention="warmup", trains="indexer", share=0.25, learning_rate=2e-3),
                    PhaseSpec(name="sparse", attention="sparse", trains="everything", share=0.75, learning_rate=1e-3),
                ),
            ),
            StageSpec(
                number=3, name="long context 256K/32", context=8 * K, visual_budget=180 * K // 32,
                tokens=224_000, sequences_per_step=1,
                mixture=long, long_share=0.5, epochs_max=4,
                phases=(PhaseSpec(name="sparse", attention="sparse", trains="everything", learning_rate=5e-4),),
            ),
        ),
        train=TrainSpec(
            precision="fp32", zero_stage=1, checkpoint_steps=40,
            activation_checkpointing=False, heldout_sequences=6, weight_decay=0.01,
        ),
    )  # fmt: skip


RECIPES: dict[str, Callable[[], Recipe]] = {"keye_vl_2": keye_vl_2, "laptop": laptop}


def named(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name in RECIPES:
        return RECIPES[name]()
    nearest = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    guess = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    raise UsageError(f"no recipe {name!r}{guess} there are: {', '.join(sorted(RECIPES))}")
