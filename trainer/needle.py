"""Needle in a haystack: one thing to find in a long text or film, its place, the question, and the answers to choose from.

    text    real held-out text, and somewhere in it a sentence with a code; the code is asked for
    video   real held-out frames with their true times, and over one of them a large coloured shape is drawn; which one is asked

Decided here: prompts are messages, rendered by `manifests.rendering` like every sample, so that tokens are of the kind that was
trained. Everything follows from (seed, case): where the haystack begins, the needle, the answers and their order. The answers
are drawn alike and the right one is any of them with equal chance, so a reader that has seen nothing is right once in as many
times as there are answers. Where the held-out material is shorter than the haystack it comes again, and the case says so.

Lengths are tokens of the whole prompt, at most; a depth is the share of the haystack that lies before the needle.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from manifests.errors import UsageError
from manifests.fingerprint import value_id
from manifests.rendering import Rendered, render, render_prompt, timestamp
from manifests.require import require
from manifests.sample import Message, Part, Visual, text
from trainer.needle_pool import NeedlePool

Kind = Literal["text", "video"]
KINDS: tuple[Kind, ...] = ("text", "video")
COLOURS = {
    "red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 70, 220), "yellow": (240, 210, 20), "purple": (140, 40, 170),
    "white": (255, 255, 255),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "diamond")
_PLACES = ("harbour", "library", "orchard", "station", "museum", "garden", "tower", "bakery", "theatre", "workshop")
_KINDS_OF_PLACE = ("old", "northern", "quiet", "stone", "little", "royal", "floating", "hidden")
_PLANTED = "planted"


@dataclass(frozen=True, kw_only=True)
class NeedleSpec:
    """Which cases there are.

    Attributes:
        kinds: of haystacks. lengths: tokens. depths: shares, 0 to 1. repeats: cases of each kind, length and depth.
        answers: to choose from, the right one among them: chance is 1 / answers.
        seed: what everything is drawn from.
    """

    lengths: tuple[int, ...]
    kinds: tuple[Kind, ...] = KINDS
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    repeats: int = 4
    answers: int = 8
    seed: int = 17

    def __post_init__(self) -> None:
        for name in ("kinds", "lengths", "depths"):
            values: tuple[object, ...] = getattr(self, name)
            require(bool(values) and len(set(values)) == len(values), f"needle: {name}={values} must be different ones")
        require(set(self.kinds) <= set(KINDS), f"needle: kinds={self.kinds} must be of {KINDS}")
        require(min(self.lengths) > 0, f"needle: lengths={self.lengths} must be above 0")
        require(all(0 <= depth <= 1 for depth in self.depths), f"needle: depths={self.depths} must lie in [0, 1]")
        require(self.repeats > 0, f"needle: repeats={self.repeats} must be above 0")
        most = len(COLOURS) * len(SHAPES)
        require(2 <= self.answers <= most, f"needle: answers={self.answers} must be 2 to {most}")

    def cases(self) -> list[NeedleCase]:
        """All of them, short ones first."""
        return [
            NeedleCase(kind=kind, length=length, depth=depth, repeat=repeat)
            for kind in self.kinds
            for length in sorted(self.lengths)
            for depth in self.depths
            for repeat in range(self.repeats)
        ]


@dataclass(frozen=True, kw_only=True)
class NeedleCase:
    """One question."""

    kind: Kind
    length: int
    depth: float
    repeat: int

    @property
    def name(self) -> str:
        """Unlike any other case's of a run."""
        return f"{self.kind}-{self.length}-{self.depth:g}-{self.repeat}"


@dataclass(frozen=True, kw_only=True)
class Haystack:
    """A case, built.

    Attributes:
        prompt: the user's turn and the opened turn of the assistant.
        pictures: uint8 [H, W, 3], one a slot of the prompt.
        answers: the texts to choose from. tokens: what each of them, and the end of the turn, adds to the prompt.
        right: which of them is right.
        verifier: name of the verifier that decides on a written answer.
        before: share of the haystack's tokens that lies before the needle.
        repeated: whether material comes more than once.
    """

    prompt: Rendered
    pictures: tuple[NDArray[np.uint8], ...]
    answers: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    right: int
    verifier: str
    before: float
    repeated: bool


class _Needle:
    """What is asked: the answers, the right one, and the question."""

    def __init__(self, case: NeedleCase, spec: NeedleSpec) -> None:
        # A string seeds the same generator everywhere.
        self.chance = random.Random(value_id([spec.seed, case.kind, case.length, case.depth, case.repeat]))
        self.right = self.chance.randrange(spec.answers)
        if case.kind == "text":
            place = f"{self.chance.choice(_KINDS_OF_PLACE)} {self.chance.choice(_PLACES)}"
            self.answers = tuple(map(str, self.chance.sample(range(10_000, 100_000), spec.answers)))
            self.sentence = f"\nThe access code of the {place} is {self.answers[self.right]}.\n"
            self.question = f"\n\nWhat is the access code of the {place}? Answer with the code alone."
            self.verifier = "count"
        else:
            named = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
            self.answers = tuple(self.chance.sample(named, spec.answers))
            self.sentence = ""
            self.question = "Over one frame a large coloured shape is drawn. Which? Answer with colour and shape alone."
            self.verifier = "text"


def build(case: NeedleCase, spec: NeedleSpec, pool: NeedlePool) -> Haystack:
    """The haystack of a case.

    Raises:
        UsageError: the corpus has no held-out material of this kind, or the length holds no haystack.
    """
    needle = _Needle(case, spec)
    make = _text_haystack if case.kind == "text" else _video_haystack
    parts, pictures, before, repeated = make(case, needle, pool)
    messages = (Message(role="user", parts=tuple(parts)),)
    prompt = render_prompt(messages, pool.tokenizer, pool.visual)
    return Haystack(
        prompt=prompt,
        pictures=tuple(pictures),
        answers=needle.answers,
        tokens=tuple(_answer_tokens(messages, prompt, answer, pool) for answer in needle.answers),
        right=needle.right,
        verifier=needle.verifier,
        before=before,
        repeated=repeated,
    )


def _answer_tokens(messages: tuple[Message, ...], prompt: Rendered, answer: str, pool: NeedlePool) -> tuple[int, ...]:
    whole = render((*messages, Message(role="assistant", parts=(text(answer),))), pool.tokenizer, pool.visual)
    added = whole.ids[len(prompt.ids) :]
    return tuple(int(token) for token in added[whole.labels[len(prompt.ids) :] >= 0])


def _room(case: NeedleCase, needle: _Needle, pool: NeedlePool) -> int:
    """Tokens that are left for the haystack: the length without question, needle and markers, and the longest answer."""
    frame = (Message(role="user", parts=(text(needle.sentence), text(needle.question))),)
    prompt = render_prompt(frame, pool.tokenizer, pool.visual)
    answer = max(len(_answer_tokens(frame, prompt, each, pool)) for each in needle.answers)
    return case.length - len(prompt.ids) - answer


def _too_short(case: NeedleCase, room: int) -> UsageError:
    return UsageError(f"a {case.kind} haystack of {case.length} tokens has no room ({room} tokens) beside its question")


def _text_haystack(
    case: NeedleCase, needle: _Needle, pool: NeedlePool
) -> tuple[list[Part], list[NDArray[np.uint8]], float, bool]:
    if not pool.pieces:
        raise UsageError("the corpus has no held-out documents without pictures to hide a needle in")
    room, first = _room(case, needle, pool), needle.chance.randrange(len(pool.pieces))
    # An answer that stands in the text could be read there.
    sound = [piece for piece in pool.pieces if not any(code in piece.text for code in needle.answers)]
    texts: list[str] = []
    tokens: list[int] = []
    total = 0
    while sound and (piece := sound[(first + len(texts)) % len(sound)]).tokens <= room - total:
        texts.append(piece.text)
        tokens.append(piece.tokens)
        total += piece.tokens
    if not texts:
        raise _too_short(case, room)
    cut = _nearest(tokens, case.depth)
    parts = [text(each) for each in texts]
    parts.insert(cut, text(needle.sentence))
    return [*parts, text(needle.question)], [], sum(tokens[:cut]) / sum(tokens), len(texts) > len(sound)


def _nearest(tokens: Sequence[int], depth: float) -> int:
    """How many of the pieces come nearest to that share of all their tokens."""
    sums = np.concatenate([[0], np.cumsum(tokens)])
    return int(np.abs(sums - depth * sums[-1]).argmin())


def _video_haystack(
    case: NeedleCase, needle: _Needle, pool: NeedlePool
) -> tuple[list[Part], list[NDArray[np.uint8]], float, bool]:
    if not pool.videos:
        raise UsageError("the corpus has no held-out videos to hide a needle in")
    room, start = _room(case, needle, pool), needle.chance.randrange(len(pool.videos))
    shown: list[list[Visual]] = []
    tokens: list[int] = []
    total = 0
    while True:
        video = pool.videos[(start + len(shown)) % len(pool.videos)]
        frames: list[Visual] = []
        for second, media_id in video.frames:
            frame = Visual(media_id=media_id, height=video.height, width=video.width, time_s=second, label_s=second)
            cost = pool.visual.tokens(video.height, video.width) + len(pool.tokenizer.encode(timestamp(frame))) + 2
            if total + cost > room:
                break
            frames.append(frame)
            tokens.append(cost)
            total += cost
        if frames:
            shown.append(frames)
        if len(frames) < len(video.frames):
            break
    if not tokens:
        raise _too_short(case, room)
    at = round(case.depth * (len(tokens) - 1))
    pictures = [pool.picture(frame.media_id, frame.height, frame.width) for frames in shown for frame in frames]
    pictures[at] = drawn_over(pictures[at], needle.answers[needle.right])
    parts: list[Part] = []
    place = 0
    for frames in shown:
        if place <= at < place + len(frames):
            frames[at - place] = replace(frames[at - place], media_id=_PLANTED)
        parts.append(Part(kind="video", visuals=tuple(frames)))
        place += len(frames)
    return [*parts, text(needle.question)], pictures, sum(tokens[:at]) / sum(tokens), len(shown) > len(pool.videos)


def drawn_over(picture: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """A picture with a shape, e.g. ``red circle``, over the middle two thirds of its shorter side, rimmed in black."""
    colour, shape = name.split()
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    height, width = picture.shape[:2]
    half, x, y = min(height, width) / 3, width / 2, height / 2
    fill, rim = COLOURS[colour], (0, 0, 0)
    if shape == "circle":
        pen.ellipse((x - half, y - half, x + half, y + half), fill=fill, outline=rim, width=2)
    elif shape == "square":
        pen.rectangle((x - half, y - half, x + half, y + half), fill=fill, outline=rim, width=2)
    elif shape == "triangle":
        pen.polygon([(x, y - half), (x + half, y + half), (x - half, y + half)], fill=fill, outline=rim, width=2)
    else:
        pen.polygon([(x, y - half), (x + half, y), (x, y + half), (x - half, y)], fill=fill, outline=rim, width=2)
    return np.array(canvas, dtype=np.uint8)
