"""Questions on hand-written annotations: the truths a person can check, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import curated
import pytest

from synth_cot.known import Known, from_annotation
from synth_cot.question import Ask, Question, Rejection
from synth_cot.questions import families

FORMS = curated.small_recipe().curate.video_forms
TEXTS = dict(enumerate(curated.PAGE_TEXTS, start=1))


def known(kind: str, payload: dict[str, Any]) -> Known:
    return from_annotation(curated.annotation("x", kind, payload), FORMS, TEXTS)


def ask_all(kind: str, payload: dict[str, Any], task: str) -> list[tuple[Ask, Question | Rejection]]:
    (family,) = [family for family in families() if task == family.TASK]
    return [
        (ask, family.build(subject, ask, 17)) for subject in known(kind, payload).subjects for ask in family.candidates(subject)
    ]


def truths(kind: str, payload: dict[str, Any], task: str) -> dict[tuple[tuple[str, ...], str], str]:
    return {(ask.ids, ask.value): q.truth for ask, q in ask_all(kind, payload, task) if isinstance(q, Question)}


def reasons(kind: str, payload: dict[str, Any], task: str) -> dict[tuple[tuple[str, ...], str], str]:
    return {(ask.ids, ask.value): q.reason for ask, q in ask_all(kind, payload, task) if isinstance(q, Rejection)}


def changed(payload: dict[str, Any], index: int, **fields: Any) -> dict[str, Any]:
    """The login screen with one control changed."""
    other = copy.deepcopy(payload)
    other["elements"][index].update(fields)
    return other


def test_counts_are_those_one_sees_and_single_things_are_not_counted() -> None:
    assert truths("gui", curated.LOGIN, "reason.gui.count") == {((), "button"): "3", ((), "textbox"): "2"}
    assert reasons("gui", curated.LOGIN, "reason.gui.count") == {((), "checkbox"): "trivial", ((), "link"): "trivial"}


def test_controls_on_top_of_each_other_are_not_counted() -> None:
    stacked = changed(curated.LOGIN, 5, box=[12, 201, 111, 241])
    assert reasons("gui", stacked, "reason.gui.count")[(), "button"] == "ambiguous"


def test_boxes_are_rounded_thousandths_of_the_picture() -> None:
    found = truths("gui", curated.LOGIN, "reason.gui.locate")
    assert found[("e5",), ""] == "[[31, 476, 344, 571]]"
    assert len(found) == 8


def test_two_controls_of_one_name_are_not_located() -> None:
    assert "ambiguous" in reasons("trace", curated.TRACE, "reason.gui.locate").values()
    twice = changed(curated.LOGIN, 5, text="LOG IN")
    assert {key for key, reason in reasons("gui", twice, "reason.gui.locate").items() if reason == "ambiguous"} == {
        (("e5",), ""), (("e6",), ""),
    }  # fmt: skip


def test_a_box_outside_the_screen_is_refused_everywhere() -> None:
    outside = changed(curated.LOGIN, 4, box=[10, 200, 400, 240])
    assert reasons("gui", outside, "reason.gui.locate")[("e5",), ""] == "wrong_box"
    assert reasons("gui", outside, "reason.gui.read")[("e5",), ""] == "wrong_box"
    assert reasons("gui", outside, "reason.gui.count")[(), "button"] == "wrong_box"


def test_text_in_a_shared_region_is_not_read() -> None:
    under = changed(curated.LOGIN, 0, box=[0, 0, 320, 420])
    assert set(reasons("gui", under, "reason.gui.read").values()) == {"ambiguous"}
    assert truths("gui", curated.LOGIN, "reason.gui.read")[("e8",), ""] == "Forgot?"


def test_names_of_icons_are_not_text() -> None:
    icon = changed(curated.LOGIN, 6, text="trash")
    assert reasons("gui", icon, "reason.gui.read")[("e7",), ""] == "not_shown"


def test_comparisons_are_true_and_near_ties_are_refused() -> None:
    by_id = {element["id"]: element["box"] for element in curated.LOGIN["elements"]}  # type: ignore[attr-defined]
    found = truths("gui", curated.LOGIN, "reason.gui.compare")
    assert found
    assert {"A", "B"} == set(found.values())
    for ((one, other), relation), truth in found.items():
        a, b = by_id[one], by_id[other]
        first = {
            "larger": (a[2] - a[0]) * (a[3] - a[1]) > (b[2] - b[0]) * (b[3] - b[1]),
            "further left": a[0] < b[0],
            "higher up": a[1] < b[1],
        }[relation]
        assert truth == ("A" if first else "B")
    ties = {frozenset(ids) for (ids, relation), reason in reasons("gui", curated.LOGIN, "reason.gui.compare").items()
            if relation == "higher up" and reason == "too_close"}  # fmt: skip
    assert ties == {frozenset({"e3", "e8"}), frozenset({"e5", "e6"})}


def test_orders_follow_the_screen() -> None:
    tops = {element["text"]: element["box"] for element in curated.LOGIN["elements"]}  # type: ignore[attr-defined]
    found = truths("gui", curated.LOGIN, "reason.gui.order")
    assert found
    for (_, direction), truth in found.items():
        starts = [tops[name][1 if direction == "from top to bottom" else 0] for name in truth.split(", ")]
        assert starts == sorted(starts)


def test_intervals_are_those_of_the_scenes_to_a_tenth() -> None:
    assert truths("video", curated.VIDEO, "reason.video.interval") == {
        (("0",), ""): "[[0.0, 3.0]]", (("1",), ""): "[[3.0, 4.3]]", (("2",), ""): "[[4.3, 9.5]]", (("3",), ""): "[[9.5, 12.0]]",
    }  # fmt: skip


def test_scenes_described_alike_or_never_shown_are_refused() -> None:
    alike = copy.deepcopy(curated.VIDEO)
    alike["scenes"][3]["text"] = alike["scenes"][1]["text"] + " Again."
    assert reasons("video", alike, "reason.video.interval") == {(("1",), ""): "ambiguous", (("3",), ""): "ambiguous"}
    hidden = copy.deepcopy(curated.VIDEO)
    hidden["frames"] = [frame for frame in hidden["frames"] if frame[0] not in (3, 4)]
    assert reasons("video", hidden, "reason.video.interval") == {(("1",), ""): "unseen"}


def test_a_scene_that_is_the_whole_video_is_no_question() -> None:
    one = curated.VIDEO | {"scenes": [{"start": 0.0, "end": 11.5, "text": "Rain."}]}
    assert reasons("video", one, "reason.video.interval") == {(("0",), ""): "trivial"}


def test_order_and_duration_of_scenes() -> None:
    spans = [(scene["start"], scene["end"]) for scene in curated.SCENES]
    for ((one, other), value), truth in truths("video", curated.VIDEO, "reason.video.order").items():
        first = spans[int(one)] < spans[int(other)]
        assert truth == ("A" if first == (value == "first") else "B")
    durations = truths("video", curated.VIDEO, "reason.video.duration")
    for ((one, other), _), truth in durations.items():
        lengths = [spans[int(index)][1] - spans[int(index)][0] for index in (one, other)]
        assert truth == ("A" if lengths[0] > lengths[1] else "B")
    assert len(durations) == 5, "scenes 0 and 3 last 3.0 and 2.5 s: too close"


def test_the_scene_at_a_moment_is_the_one_that_holds_it() -> None:
    found = truths("video", curated.VIDEO, "reason.video.at")
    assert len(found) == 4
    for (ids, moment), truth in found.items():
        scene = curated.SCENES[int(ids["ABCD".index(truth)])]
        assert scene["start"] < float(moment) < scene["end"]


def test_shots_are_counted_only_when_all_can_be_seen() -> None:
    assert list(truths("video", curated.VIDEO, "reason.video.count").values()) == ["4"]
    single = curated.VIDEO | {"shots": [[0.0, 12.0]]}
    assert list(reasons("video", single, "reason.video.count").values()) == ["trivial"]
    blink = curated.VIDEO | {"shots": [[0.0, 3.2], [3.2, 3.8], [3.8, 12.0]]}
    assert list(reasons("video", blink, "reason.video.count").values()) == ["unseen"]


def test_a_video_longer_than_every_form_is_asked_about_window_by_window() -> None:
    long = curated.VIDEO | {
        "duration_s": 9000.0,
        "scenes": [*curated.SCENES, {"start": 7300.0, "end": 7320.25, "text": "Snow falls on the empty bridge."}],
        "frames": [[point, curated.value_id(point)] for point in (1, 3, 5, 10, 7305)],
    }
    subjects = known("video", long).subjects
    assert len(subjects) == 2
    assert truths("video", long, "reason.video.interval")[("0",), ""] == "[[100.0, 120.3]]", "seconds of the window"
    assert truths("video", long, "reason.video.count") == {}, "the shots of a part are not those of the video"


def test_the_page_that_begins_with_a_line() -> None:
    found = truths("document", curated.DOCUMENT, "reason.document.page")
    assert {line: truth for (_, line), truth in found.items()} == {
        line: str(number) for number, line in enumerate(curated.LINES, start=1) if len(line) >= 8
    }


@pytest.mark.parametrize(
    ("page", "text"), [(4, "The harbour in winter\nAgain."), (5, "Closing words. The harbour in winter."), (1, "")]
)
def test_a_line_that_stands_twice_or_a_page_without_text_is_no_question(page: int, text: str) -> None:
    subject = from_annotation(curated.annotation("x", "document", curated.DOCUMENT), FORMS, TEXTS | {page: text}).subjects[0]
    (family,) = [family for family in families() if family.TASK == "reason.document.page"]
    (ask,) = [ask for ask in family.candidates(subject) if ask.value == "The harbour in winter"]
    assert isinstance(family.build(subject, ask, 17), Rejection)
