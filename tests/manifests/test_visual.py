"""The resize rule and the frame plan keep their budgets for every size, and agree with figures computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.recipes import keye_vl_2, laptop
from manifests.visual import VisualSpec

SIDE = st.integers(1, 6000)


@given(height=SIDE, width=SIDE, low=st.integers(1, 64), extra=st.integers(0, 4096))
def test_resize_keeps_the_budget(height: int, width: int, low: int, extra: int) -> None:
    spec = VisualSpec()
    rows, columns = spec.resize(height, width, low, low + extra)
    assert rows % 28 == columns % 28 == 0
    assert 1 <= spec.tokens(rows, columns) <= low + extra


@given(height=st.integers(200, 3000), width=st.integers(200, 3000))
def test_resize_keeps_the_aspect_ratio(height: int, width: int) -> None:
    rows, columns = VisualSpec().image_size(height, width)
    assert rows / columns == pytest.approx(height / width, rel=0.35 if min(height, width) < 300 else 0.2)


def test_native_sizes_are_kept() -> None:
    spec = VisualSpec()
    assert spec.image_size(1080, 1920) == (1092, 1932)
    assert spec.tokens(1092, 1932) == 39 * 69
    assert spec.image_size(280, 280) == (280, 280)


@given(start=st.floats(0, 5000), length=st.floats(0.04, 7200), form=st.integers(0, 2), small=st.booleans())
def test_a_clip_never_costs_more_than_its_share(start: float, length: float, form: int, small: bool) -> None:
    recipe = laptop() if small else keye_vl_2()
    chosen = recipe.curate.video_forms[form]
    if length > chosen.max_s:
        return
    plan = recipe.visual.frames(start, start + length, 360, 640, chosen.visual_budget)
    cost = len(plan.points) * recipe.visual.tokens(plan.height, plan.width)
    assert cost <= chosen.visual_budget * recipe.visual.adaptive_factor(length) + 1
    assert list(plan.points) == sorted(set(plan.points))
    assert all(start - 1e-6 <= point / recipe.visual.fps for point in plan.points)


def test_published_budgets() -> None:
    spec = VisualSpec()
    assert [spec.adaptive_factor(s) for s in (256, 257, 512, 513, 1024, 1025)] == [0.125, 0.25, 0.25, 0.5, 0.5, 1.0]
    two_hours = spec.frames(0, 7200, 360, 640, 180 * 1024)
    assert len(two_hours.points) == 2880
    assert len(two_hours.points) * spec.tokens(two_hours.height, two_hours.width) <= 180 * 1024


def test_frames_of_a_longer_form_lie_on_the_grid_of_a_shorter() -> None:
    spec = keye_vl_2().visual
    assert set(spec.frames(0, 3600, 360, 640, 180 * 1024).points) <= set(range(7200))


@pytest.mark.parametrize(
    "change", [{"fps": 0.0}, {"image_tokens_min": 0}, {"frame_tokens_max": 1}, {"adaptive": ((9.0, 0.5), (1.0, 0.5))}]
)
def test_a_bad_rule_is_refused_with_its_value(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        VisualSpec(**change)
