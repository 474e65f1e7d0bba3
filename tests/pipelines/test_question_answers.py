"""Text questions and answers: every line is a sample or a dropped row with its number."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.extraction import Outcome

QUESTION = {"question": "How many days has a week?", "answer": "Seven."}
DIALOGUE = {
    "messages": [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "What is iron's symbol?"},
        {"role": "assistant", "content": "Fe."},
        {"role": "user", "content": "And gold's?"},
        {"role": "assistant", "content": "Au."},
    ]
}


def lines(*values: Any) -> bytes:
    return "\n".join(value if isinstance(value, str) else json.dumps(value) for value in values).encode()


def test_both_forms_become_conversations_with_their_line(read: Callable[..., Outcome]) -> None:
    outcome = read("qa.jsonl", lines(QUESTION, "", DIALOGUE))
    assert [row["task"] for row in outcome.samples] == ["text.qa", "text.qa"]
    assert [row["capabilities"] for row in outcome.samples] == [["question_answering"], ["question_answering", "dialogue"]]
    said = [[(turn["role"], turn["parts"][0]["text"]) for turn in row["messages"]] for row in outcome.samples]
    assert said[0] == [("user", "How many days has a week?"), ("assistant", "Seven.")]
    assert said[1] == [(turn["role"], turn["content"]) for turn in DIALOGUE["messages"]]
    pages = [{turn["parts"][0]["origin"]["page"] for turn in row["messages"]} for row in outcome.samples]
    assert pages == [{1}, {3}]
    assert outcome.samples[1]["learned_tokens"] > 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Expecting"),
        ("[1]", "list"),
        ({"question": "Why?", "answer": " "}, "turn 1 (assistant) has no text"),
        ({"question": 3, "answer": "x"}, "turn 0 (user) has no text"),
        ({"question": "Why?"}, "turn 1"),
        ({"messages": []}, "no list with an entry"),
        ({"messages": DIALOGUE["messages"][:2]}, "do not take turns"),
        ({"messages": DIALOGUE["messages"][:1]}, "do not take turns"),
        ({"messages": [*DIALOGUE["messages"], {"role": "tool", "content": "x"}]}, "do not take turns"),
        ({"messages": ["hello"]}, "turn 0"),
        ('{"question": "x", "answer": NaN}', "NaN"),
    ],
)
def test_a_bad_line_is_told_and_costs_no_other(line: Any, words: str, read: Callable[..., Outcome]) -> None:
    outcome = read("qa.jsonl", lines(QUESTION, line, DIALOGUE))
    assert len(outcome.samples) == 2
    (dropped,) = outcome.dropped
    assert (dropped["task"], dropped["reason"]) == ("text.qa", "bad_line")
    assert dropped["detail"].startswith("line 2: ")
    assert words in dropped["detail"]


def test_the_same_question_twice_is_kept_once(read: Callable[..., Outcome]) -> None:
    outcome = read("qa.jsonl", lines(QUESTION, QUESTION))
    assert len(outcome.samples) == 1
    assert [row["reason"] for row in outcome.dropped] == ["exact_duplicate"]


def test_broken_first_lines_do_not_hide_the_form_and_other_lines_stay_text(read: Callable[..., Outcome]) -> None:
    assert {row["task"] for row in read("qa.jsonl", lines("{", QUESTION)).samples} == {"text.qa"}
    log = lines(*({"level": "info", "event": f"request {number} was served in time"} for number in range(20)))
    assert {row["task"] for row in read("log.jsonl", log).samples} == {"code.text"}
