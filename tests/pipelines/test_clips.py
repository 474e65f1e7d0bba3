"""Long films: every second belongs to a clip of every form, and no clip is longer than its form."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.recipes import keye_vl_2
from pipelines.clips import TAIL_MIN_S, plan_clips, spans

RECIPE = keye_vl_2()


@given(
    duration=st.floats(1.0, 30_000.0).map(lambda seconds: round(seconds, 3)),
    cuts=st.lists(st.floats(0.1, 30_000.0).map(lambda seconds: round(seconds, 3)), max_size=200),
)
def test_clips_cover_a_film_and_break_at_its_cuts(duration: float, cuts: list[float]) -> None:
    inside = sorted({cut for cut in cuts if cut < duration})
    for form in RECIPE.curate.video_forms:
        pieces = spans(form, duration, inside)
        assert pieces[0][0] == 0.0
        assert duration - pieces[-1][1] < TAIL_MIN_S
        assert all(0 < end - start <= form.max_s + 1e-6 for start, end in pieces)
        for (start, end), (following, _) in itertools.pairwise(pieces):
            assert end == following
            if form.name == "whole" and any(start + form.max_s / 2 < cut <= start + form.max_s for cut in inside):
                assert end in inside


def test_a_film_of_five_hours_is_used_in_parts_that_fit_the_largest_bucket() -> None:
    cuts = [float(cut) for cut in range(0, 18_000, 700)][1:]
    clips = plan_clips(RECIPE.curate.video_forms, 18_000.0, cuts, 360, 640, RECIPE.visual)
    wholes = [clip for clip in clips if clip.form == "whole"]
    assert [(clip.start_s, clip.end_s) for clip in wholes] == [(0.0, 7_000.0), (7_000.0, 14_000.0), (14_000.0, 18_000.0)]
    for clip in wholes:
        assert RECIPE.buckets.duration(clip.duration_s) == "2h"
        cost = len(clip.plan.points) * RECIPE.visual.tokens(clip.plan.height, clip.plan.width)
        assert cost <= RECIPE.curate.video_forms[-1].visual_budget
        steps = {later - earlier for earlier, later in itertools.pairwise(clip.plan.points)}
        assert len(steps) == 1
    assert sum(clip.duration_s for clip in wholes) == pytest.approx(18_000.0)
