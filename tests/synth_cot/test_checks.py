"""The checks: a teacher that lies is caught, whatever it lies about."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import curated
import pytest

from synth_cot.answering import Answering
from synth_cot.checks.claims import examine, value
from synth_cot.checks.process import check_process
from synth_cot.checks.response import check_response
from synth_cot.forms import shaped
from synth_cot.known import Known, Subject, from_annotation
from synth_cot.made.sources import draw_source, planned
from synth_cot.question import Question, Rejection
from synth_cot.questions import families
from synth_cot.stem.generators import GENERATORS, problems
from synth_cot.teachers.programmatic import Programmatic
from synth_cot.teachers.teacher import Reply
from synth_cot.work import Worker

RECIPE = curated.small_recipe()
STORED = dict.fromkeys(curated.media_ids(curated.ANNOTATIONS), (420, 320))
STORED |= {
    picture.media_id: (picture.height, picture.width)
    for made in planned(RECIPE)
    for picture in draw_source(made, RECIPE).pictures
}


def everything() -> list[Known]:
    """The hand-written sources and two problems of each generator."""
    texts = dict(enumerate(curated.PAGE_TEXTS, start=1))
    forms = RECIPE.curate.video_forms
    known = [
        from_annotation(curated.annotation(name, kind, payload), forms, texts) for name, kind, payload in curated.ANNOTATIONS
    ]
    drawn = [draw_source(made, RECIPE).known for made in planned(RECIPE)]
    return known + drawn + [one for generator in sorted(GENERATORS) for one in problems(generator, 17, 2, 0.1)]


def asked() -> list[tuple[Question, Subject, Known]]:
    """Every question that can be asked of them."""
    found = []
    for known in everything():
        for subject in known.subjects:
            for family in families():
                for ask in family.candidates(subject):
                    question = family.build(subject, ask, 17)
                    if isinstance(question, Question):
                        question = shaped(question, subject, known.source.source_id, RECIPE.synth)
                        found.append((question, subject, known))
    return found


ASKED = asked()


@dataclasses.dataclass(frozen=True)
class Liar:
    """Writes what the programmatic teacher writes, with something changed."""

    change: Callable[[str], str]
    name: str = "liar/1"

    def write(self, question: Question, subject: Subject, *, seed: int) -> Reply | None:
        honest = Programmatic().write(question, subject, seed=seed)
        return None if honest is None else Reply(text=self.change(honest.text))


def wrong_answer(text: str) -> str:
    """A well-formed response with another answer of the same kind."""
    head, answer = text.rsplit("<answer>", 1)
    answer = answer.removesuffix("</answer>")
    if re.fullmatch(r"[A-E]", answer):
        other = "B" if answer == "A" else "A"
    elif answer in ("True", "False"):
        other = str(answer != "True")
    elif re.search(r"\d", answer):
        other = re.sub(r"\d(?!.*\d)", lambda digit: str((int(digit[0]) + 1) % 10), answer, flags=re.DOTALL)
    else:
        other = f"{answer}, zebra"
    return f"{head}<answer>{other}</answer>"


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (wrong_answer, {"wrong_answer", "wrong_clues", "no_truth"}),
        (lambda text: text.replace("<answer>", ""), {"wrong_format"}),
        (lambda text: text + " Also, 42.", {"wrong_format"}),
        (lambda text: "<answer>" + text.removeprefix("<answer>"), {"wrong_format"}),
    ],
)
def test_no_wrong_or_malformed_answer_is_kept(change: Callable[[str], str], reasons: set[str]) -> None:
    liar = Liar(change)
    for question, subject, known in ASKED:
        reply = liar.write(question, subject, seed=17)
        assert reply is not None
        if reply.text == Programmatic().write(question, subject, seed=17).text:  # type: ignore[union-attr]
            continue
        verdict, rejection = check_response(reply.text, question, subject, known)
        assert rejection is not None, f"{question.ask}: {reply.text} was kept"
        assert rejection.reason in reasons
        assert verdict.score < 1.0


def test_a_liar_leaves_no_sample_and_every_question_a_reason() -> None:
    for known in everything():
        outcome = Worker(RECIPE, Answering(RECIPE.synth, lambda _: None, Liar(wrong_answer)), STORED, "test").work(known)
        assert outcome.samples == outcome.lineage == []
        assert outcome.asked == len(outcome.dropped) > 0
        assert all(row["reason"] and row["detail"] and row["stage"] == "verify" for row in outcome.dropped)


def test_the_honest_teacher_is_kept() -> None:
    for question, subject, known in ASKED:
        reply = Programmatic().write(question, subject, seed=17)
        assert reply is not None
        assert check_response(reply.text, question, subject, known)[1] is None
        assert check_process(reply.text, question, subject, known) is None


def judged(task: str, change: Callable[[str], str]) -> list[Rejection | None]:
    """What the process check says of changed reasoning, for every question of a task."""
    verdicts = []
    for asked, subject, known in ASKED:
        question = dataclasses.replace(asked, ask=dataclasses.replace(asked.ask, think=True, clues=False))
        if question.ask.task == task:
            reply = Programmatic().write(question, subject, seed=17)
            assert reply is not None
            assert change(reply.text) != reply.text
            verdicts.append(check_process(change(reply.text), question, subject, known))
    assert verdicts
    return verdicts


@pytest.mark.parametrize(
    ("task", "change", "reason"),
    [
        ("reason.gui.count", lambda text: re.sub(r"\[(\d+),", lambda m: f"[{int(m[1]) + 7},", text, count=1), "no_such_box"),
        ("reason.gui.count", lambda text: re.sub(r"“[^”]*”", "“Buy now”", text, count=1), "not_there"),
        ("reason.gui.compare", lambda text: re.sub(r"“[^”]*” at", "“Buy now” at", text, count=1), "not_there"),
        ("reason.video.interval", lambda text: re.sub(r"“[^”]*”", "“A dog barks”", text, count=1), "not_there"),
        ("reason.film.count", lambda text: re.sub(r"“[^”]*”", "“grey cube”", text, count=1), "not_there"),
        ("reason.film.count", lambda text: re.sub(r"(\[\d+\.\d, )(\d+)", r"\g<1>9\2", text, count=1), "no_such_interval"),
        ("reason.film.longest", lambda text: re.sub(r"= (\d+) seconds", r"= 1\1 seconds", text, count=1), "false_step"),
        ("reason.image.difference", lambda text: re.sub(r" - (\d+) = ", r" - 1\1 = ", text, count=1), "false_step"),
        ("reason.image.count", lambda text: re.sub(r"“[^”]*”", "“grey cube”", text, count=1), "not_there"),
        ("reason.pair.kind", lambda text: re.sub(r"\[(\d+), (\d+),", r"[\1, 1\2,", text, count=1), "no_such_box"),
        ("reason.table.sum", lambda text: re.sub(r": “(\d+)”", r": “1\1”", text, count=1), "not_there"),
        ("reason.table.most", lambda text: re.sub(r"“([^”]*)” under", "“Nobody” under", text, count=1), "not_there"),
        ("reason.document.page", lambda text: text.replace("does not begin", "begins", 1), "not_there"),
        ("reason.document.order", lambda text: re.sub(r"page (\d) begins", "page 5 begins", text, count=1), "not_there"),
        ("reason.gui.count", lambda text: "\n".join(text.split("\n")[:2] + text.split("\n")[3:]), "count_not_shown"),
        ("reason.video.count", lambda text: text.replace("9.5]", "9.6]"), "no_such_interval"),
        ("reason.video.interval", lambda text: text.replace("[0.0, ", "[0.1, ", 1), "no_such_interval"),
        ("reason.video.order", lambda text: re.sub(r" ([<>]) ", lambda m: " > " if m[1] == "<" else " < ", text), "false_step"),
        ("reason.document.page", lambda text: re.sub(r"page \d ", "page 91 ", text, count=1), "no_such_page"),
        (
            "stem.chain_sum",
            lambda text: re.sub(r"= (-?\d+)\n", r"= \g<1>0\n", text, count=1).replace("= 00", "= 1"),
            "false_step",
        ),
        ("stem.gcd", lambda text: re.sub(r"mod (\d+) = (\d+)", r"mod \1 = 1\2", text, count=1), "false_step"),
        ("stem.word_sorting", lambda text: text.replace("” < “", "” > “").replace("” > “", "” = “"), "false_step"),
        ("stem.spell_backward", lambda text: re.sub(r"is “\w”", "is “#”".replace("#", "Q"), text, count=1), "false_step"),
        ("stem.letter_counting", lambda text: re.sub(r"”: (\d)", r"”: 1\1", text, count=1), "false_step"),
        (
            "stem.lcm",
            lambda text: re.sub(r"<think>.*</think>", "<think>It is obvious.</think>", text, flags=re.S),
            "no_checked_step",
        ),
    ],
)
def test_a_false_or_invented_step_is_caught(task: str, change: Callable[[str], str], reason: str) -> None:
    found = {None if verdict is None else verdict.reason for verdict in judged(task, change)}
    assert found == {reason}


@pytest.mark.parametrize(
    ("text", "checked", "false"),
    [
        ("12 + 5 = 17", 1, 0),
        ("1. -423 - 760 = -1183", 1, 0),
        ("-( 3 - 5 ) = 2 and 17 mod 5 = 2", 2, 0),
        ("0.1 + 0.2 = 0.3", 1, 0),
        ("11 * 11 = 121 > 107, so", 1, 0),
        ("11 * 11 = 121 > 122, so", 1, 1),
        ("-3 < 2 < 7", 1, 0),
        ("7 / 0 = 1", 1, 1),
        ("2 + 2 = 5", 1, 1),
        ("the button “2 + 2 = 5” at [1, 2, 3, 4]", 0, 0),
        ("“Ape” < “ape” < “bee”", 1, 0),
        ("“bee” < “ape”", 1, 1),
        ("“s” in “sends”: 2; “S” in “sends”: 3", 2, 1),
        ("letter 3 of “sun” is “n”; letter 9 of “sun” is “n”", 2, 1),
        ("no numbers here", 0, 0),
    ],
)
def test_claims_are_found_and_recomputed(text: str, checked: int, false: int) -> None:
    found, wrong = examine(text)
    assert (found, len(wrong)) == (checked, false)


def test_arithmetic_is_never_evaluated_as_code() -> None:
    with pytest.raises(ValueError, match="no arithmetic"):
        value("__import__('os')")
