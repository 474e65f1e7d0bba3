"""From a sample to the tokens the trainer makes, and so to what the sample costs. The only module that knows the chat format.

    <|im_start|>user\\n ... <|im_end|>\\n<|im_start|>assistant\\n ... <|im_end|>\\n        a conversation
    ... <|endoftext|>                                                                     a document

An image is ``<|vision_start|>`` + n x ``<|image_pad|>`` + ``<|vision_end|>``; a video is, for each frame, its time as plain
text (``<12.5 seconds>``) and then the frame like an image, so that the language model reads time. Curation counts what this
module returns and the trainer trains what this module returns: they cannot differ but by a change of code, which the trainer
and `longreel check` catch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.sample import Message, Part, Visual
from manifests.tokenizer import Tokenizer
from manifests.visual import VisualSpec

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class VisualSlot:
    """Where one picture stands: its tokens are ``[start, start + tokens)`` of the sample."""

    visual: Visual
    start: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Span:
    """The tokens ``[start, end)`` of the sample that one part, or one frame of a video part, became."""

    message: int
    part: int
    frame: int | None
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A sample as tokens.

    Attributes:
        ids: int32 [tokens].
        labels: int32 [tokens]: the id where the token is a training target, -100 elsewhere (not shifted).
        slots: every picture in reading order.
        spans: every part, and every frame with its timestamp, in reading order.
    """

    ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    slots: tuple[VisualSlot, ...]
    spans: tuple[Span, ...]

    @property
    def cost(self) -> Cost:
        """Tokens by kind."""
        visual = sum(slot.tokens for slot in self.slots)
        return Cost(text=len(self.ids) - visual, visual=visual)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Tokens of a sample: ``visual`` are picture tokens, ``text`` is everything else, markers included."""

    text: int
    visual: int

    @property
    def total(self) -> int:
        """Tokens in a packed sequence."""
        return self.text + self.visual


class _Writer:
    def __init__(self, tokenizer: Tokenizer, spec: VisualSpec) -> None:
        self.tokenizer, self.spec = tokenizer, spec
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.slots: list[VisualSlot] = []
        self.spans: list[Span] = []

    def put(self, ids: list[int], learned: bool) -> None:
        self.ids.extend(ids)
        self.labels.extend(ids if learned else [IGNORED] * len(ids))

    def put_special(self, token: str, learned: bool = False) -> None:
        self.put([self.tokenizer.special(token)], learned)

    def put_picture(self, visual: Visual) -> None:
        tokens = self.spec.tokens(visual.height, visual.width)
        self.put_special("<|vision_start|>")
        self.slots.append(VisualSlot(visual=visual, start=len(self.ids), tokens=tokens))
        self.put([self.tokenizer.special("<|image_pad|>")] * tokens, learned=False)
        self.put_special("<|vision_end|>")

    def put_part(self, part: Part, message: int, index: int, learned: bool) -> None:
        begin = len(self.ids)
        if part.kind == "text":
            self.put(self.tokenizer.encode(part.text or ""), learned)
        elif part.kind == "image":
            self.put_picture(part.visuals[0])
        else:
            for frame, visual in enumerate(part.visuals):
                start = len(self.ids)
                self.put(self.tokenizer.encode(timestamp(visual)), learned=False)
                self.put_picture(visual)
                self.spans.append(Span(message=message, part=index, frame=frame, start=start, end=len(self.ids)))
            return
        self.spans.append(Span(message=message, part=index, frame=None, start=begin, end=len(self.ids)))

    def put_message(self, message: Message, position: int) -> None:
        if message.role == "document":
            for index, part in enumerate(message.parts):
                self.put_part(part, position, index, learned=True)
            self.put_special("<|endoftext|>", learned=True)
            return
        learned = message.role == "assistant"
        self.put_special("<|im_start|>")
        self.put(self.tokenizer.encode(f"{message.role}\n"), learned=False)
        for index, part in enumerate(message.parts):
            self.put_part(part, position, index, learned)
        self.put_special("<|im_end|>", learned)
        self.put(self.tokenizer.encode("\n"), learned=False)


def timestamp(visual: Visual) -> str:
    """The text written before a frame: seconds from the start of the clip, to a tenth.

    Raises:
        ValueError: the picture has no time.
    """
    if visual.label_s is None:
        raise ValueError(f"frame {visual.media_id} has no label_s")
    return f"<{visual.label_s:.1f} seconds>"


def render(messages: tuple[Message, ...], tokenizer: Tokenizer, spec: VisualSpec) -> Rendered:
    """Renders a sample's messages. Parts are tokenised apart, so a prompt never merges with its response.

    Raises:
        ValueError: a picture's size is no multiple of `VisualSpec.unit`, or a frame has no time.
    """
    writer = _Writer(tokenizer, spec)
    for position, message in enumerate(messages):
        writer.put_message(message, position)
    return Rendered(
        ids=np.asarray(writer.ids, dtype=np.int32),
        labels=np.asarray(writer.labels, dtype=np.int32),
        slots=tuple(writer.slots),
        spans=tuple(writer.spans),
    )


def render_prompt(messages: tuple[Message, ...], tokenizer: Tokenizer, spec: VisualSpec) -> Rendered:
    """Renders the turns so far and opens the assistant's: what generation starts from."""
    writer = _Writer(tokenizer, spec)
    for position, message in enumerate(messages):
        writer.put_message(message, position)
    writer.put_special("<|im_start|>")
    writer.put(tokenizer.encode("assistant\n"), learned=False)
    return Rendered(
        ids=np.asarray(writer.ids, dtype=np.int32),
        labels=np.full(len(writer.ids), IGNORED, dtype=np.int32),
        slots=tuple(writer.slots),
        spans=tuple(writer.spans),
    )
