"""`--set` changes what it names, and says what would have been right when it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum.overrides import apply
from curriculum.recipes import keye_vl_2, laptop, named
from manifests.curate_spec import CaptionSpec
from manifests.errors import UsageError


@pytest.mark.parametrize(
    ("change", "read", "value"),
    [
        ("stage3.context=16384", lambda r: r.stages[3].context, 16384),
        ("stages.3.context=16K", lambda r: r.stages[3].context, 16384),
        ("stage1.tokens=4_096", lambda r: r.stages[1].tokens, 4096),
        ("stage1.tokens=4e9", lambda r: r.stages[1].tokens, 4_000_000_000),
        ("stage3.long_share=none", lambda r: r.stages[3].long_share, None),
        ("stage3.long_share=0.25", lambda r: r.stages[3].long_share, 0.25),
        ("curate.jpeg_quality=80", lambda r: r.curate.jpeg_quality, 80),
        ("curate.excluded_licences=[\"GPL-3.0\"]", lambda r: r.curate.excluded_licences, ("GPL-3.0",)),
        ("curate.video_forms.whole.max_s=3600", lambda r: r.curate.video_forms[2].max_s, 3600.0),
        ("visual.fps=2", lambda r: r.visual.fps, 2.0),
        ("visual.adaptive=[[8, 0.5]]", lambda r: r.visual.adaptive, ((8.0, 0.5),)),
        ("train.precision=bf16", lambda r: r.train.precision, "bf16"),
        ("train.activation_checkpointing=true", lambda r: r.train.activation_checkpointing, True),
        ("stage2.mixture.video.weight=0.5", lambda r: r.stages[2].mixture[1].weight, 0.5),
        ("stage0.mixture=[{\"task\": \"*\", \"weight\": 1}]", lambda r: r.stages[0].mixture[0].task, "*"),
        ("stage2.phases.sparse.learning_rate=1e-5", lambda r: r.stages[2].phases[1].learning_rate, 1e-5),
        ("model.preset=small", lambda r: r.model.preset, "small"),
    ],
)  # fmt: skip
def test_a_field_is_changed_and_nothing_else(change: str, read: Any, value: Any) -> None:
    changed = apply(laptop(), [change])
    assert read(changed) == value
    assert type(read(changed)) is type(value)
    back = apply(laptop(), [])
    assert read(back) != value
    assert back == laptop()


def test_fields_that_belong_together_change_together() -> None:
    recipe = apply(keye_vl_2(), ["stage2.phases.0.share=0.3", "stage2.phases.1.share=0.7"])
    assert [phase.share for phase in recipe.stages[2].phases] == [0.3, 0.7]
    with pytest.raises(UsageError, match=r"stage2.phases.0.share=0.3: stage2: the shares of the phases sum to 1.299, not 1"):
        apply(keye_vl_2(), ["stage2.phases.0.share=0.3"])


def test_the_last_of_two_values_counts() -> None:
    assert apply(laptop(), ["visual.fps=2", "visual.fps=4"]).visual.fps == 4.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stage3.contxt=4096", ["stage3 has no 'contxt'", "did you mean 'context'", "visual_budget"]),
        ("stag3.context=4096", ["the recipe has no 'stag3'", "did you mean 'stage3'"]),
        ("stage7.context=4096", ["stages has no '7'"]),
        ("curate.jpeg_qualty=80", ["curate has no 'jpeg_qualty'", "did you mean 'jpeg_quality'"]),
        ("stage2.phases.sparce.share=1", ["stage2.phases has no 'sparce'", "did you mean 'sparse'"]),
        ("stage3.context=many", ["'many'", "stage3.context", "a whole number, such as 4096, 4_096, 32K or 4e9"]),
        ("stage3.context=4096.5", ["'4096.5'", "a whole number"]),
        ("visual.fps=nan", ["'nan'", "visual.fps", "a finite number"]),
        ("train.precision=fp8", ["'fp8'", "train.precision", "one of fp32, bf16"]),
        ("train.activation_checkpointing=maybe", ["true or false"]),
        ("curate.excluded_licences=GPL", ["curate.excluded_licences", "a JSON list"]),
        ("curate.excluded_licences=[1]", ["str values, not 1"]),
        ("stage0.mixture=[{\"tsk\": \"*\"}]", ["an object with fields among task, weight"]),
        ("stage0.mixture=[{\"task\": \"*\"}]", ["required", "weight"]),
        ("stage3=4096", ["stage3 has fields of its own", "context"]),
        ("stage3.context.x=1", ["stage3.context is a single value"]),
        ("nonsense", ["nonsense", "write FIELD=VALUE"]),
        ("stage1.tokens=-5", ["stage1.tokens=-5", "stage1: tokens=-5 must be above 0"]),
        ("stage1.visual_budget=1M", ["'1M'"]),
        ("stage3.context=512", ["visual_budget=5760 must be between 0 and context=512"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        apply(laptop(), [change])
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert change.split("=")[0] in message
    assert "\n" not in message


def test_recipes_by_name() -> None:
    assert named("laptop") == laptop()
    with pytest.raises(UsageError, match=r"no recipe 'keye_vl2'; did you mean 'keye_vl_2'\? there are: keye_vl_2, laptop"):
        named("keye_vl2")
    with pytest.raises(UsageError, match=r"no recipe 'zzz'; there are: keye_vl_2, laptop"):
        named("zzz")


def test_a_part_that_the_recipe_lacks_is_made_from_its_fields() -> None:
    said = ["curate.captions.endpoint=http://localhost:8000/v1", "curate.captions.model=m", "curate.captions.retries=2"]
    captions = apply(laptop(), said).curate.captions
    assert captions == CaptionSpec(endpoint="http://localhost:8000/v1", model="m", retries=2)
    with pytest.raises(UsageError, match=r"curate\.captions also needs curate\.captions\.endpoint, curate\.captions\.model"):
        apply(laptop(), ["curate.captions.retries=2"])
    with pytest.raises(UsageError, match="did you mean 'endpoint'"):
        apply(laptop(), ["curate.captions.endpiont=http://localhost"])
    with pytest.raises(UsageError, match="must begin with http"):
        apply(laptop(), ["curate.captions.endpoint=localhost", "curate.captions.model=m"])
