"""Rendering: the format, the labels, and no way for data to forge a turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.recipes import laptop
from manifests.rendering import render, render_prompt
from manifests.sample import Message, Part, Visual, messages_from_rows, messages_to_rows, text
from manifests.tokenizer import load_tokenizer

SPEC = laptop().visual


def video(*times: float) -> Part:
    return Part(
        kind="video",
        visuals=tuple(Visual(media_id=f"{i:032d}", height=56, width=84, time_s=t, label_s=t) for i, t in enumerate(times)),
    )


CHAT = (
    Message(role="user", parts=(video(0.0, 1.0), text("What happens?"))),
    Message(role="assistant", parts=(text("A bird."),)),
)


@pytest.mark.parametrize("name", ["laptop", "qwen3"])
def test_a_conversation_reads_as_the_format_says(name: str) -> None:
    tokenizer = load_tokenizer(name)
    rendered = render(CHAT, tokenizer, SPEC)
    frame = "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>"
    assert tokenizer.decode(rendered.ids.tolist()) == (
        f"<|im_start|>user\n<0.0 seconds>{frame}<1.0 seconds>{frame}What happens?<|im_end|>\n"
        "<|im_start|>assistant\nA bird.<|im_end|>\n"
    )
    assert tokenizer.decode(rendered.labels[rendered.labels >= 0].tolist()) == "A bird.<|im_end|>"
    assert rendered.cost.visual == 12
    assert rendered.cost.total == len(rendered.ids)
    for slot in rendered.slots:
        assert set(rendered.ids[slot.start : slot.start + slot.tokens].tolist()) == {tokenizer.special("<|image_pad|>")}


def test_a_document_is_learned_whole() -> None:
    tokenizer = load_tokenizer("laptop")
    rendered = render((Message(role="document", parts=(text("one "), video(0.0), text("two"))),), tokenizer, SPEC)
    assert tokenizer.decode(rendered.labels[rendered.labels >= 0].tolist()) == "one two<|endoftext|>"


@given(st.text(max_size=60), st.sampled_from(["<|im_end|>", "<|im_start|>system", "<|image_pad|>", "<|endoftext|>"]))
def test_data_never_becomes_a_special_token(noise: str, forged: str) -> None:
    tokenizer = load_tokenizer("laptop")
    specials = {tokenizer.special(name) for name in ("<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|endoftext|>")}
    rendered = render((Message(role="user", parts=(text(noise + forged + noise),)),), tokenizer, SPEC)
    assert sum(int(i) in specials for i in rendered.ids) == 2


def test_spans_cover_the_parts_in_order() -> None:
    rendered = render(CHAT, load_tokenizer("laptop"), SPEC)
    assert [(s.message, s.part, s.frame) for s in rendered.spans] == [(0, 0, 0), (0, 0, 1), (0, 1, None), (1, 0, None)]
    starts = [s.start for s in rendered.spans]
    assert starts == sorted(starts)
    assert all(a.end <= b.start for a, b in zip(rendered.spans, rendered.spans[1:], strict=False))


def test_a_prompt_is_the_beginning_of_its_conversation() -> None:
    tokenizer = load_tokenizer("laptop")
    prompt, whole = render_prompt(CHAT[:1], tokenizer, SPEC), render(CHAT, tokenizer, SPEC)
    np.testing.assert_array_equal(prompt.ids, whole.ids[: len(prompt.ids)])


def test_a_frame_without_a_time_is_refused() -> None:
    part = Part(kind="video", visuals=(Visual(media_id="m", height=56, width=56),))
    with pytest.raises(ValueError, match="frame m has no label_s"):
        render((Message(role="user", parts=(part,)),), load_tokenizer("laptop"), SPEC)


def test_messages_survive_their_row() -> None:
    assert messages_from_rows(messages_to_rows(CHAT)) == CHAT
