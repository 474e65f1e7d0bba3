"""Derivations about letters: counting them and reversing them."""

from __future__ import annotations

import re
from typing import Any

from synth_cot.derivation import Derivation


def letter_counting(entry: dict[str, Any]) -> Derivation:
    """Word by word, then the sum. The text is read from the question."""
    letter, text = entry["metadata"]["target_letter"], re.search(r'in the text: "(.*)"\?', entry["question"], re.S)
    if text is None:
        raise ValueError(f"no text in {entry['question']!r}")
    counts, steps = [], []
    for word in text[1].split():
        count = word.lower().count(letter.lower())
        if count:
            counts.append(count)
            steps.append(f"“{letter}” in “{word}”: {count}")
    total = sum(counts)
    steps = steps or [f"“{letter}” in “{text[1]}”: 0"]
    check = f"adding up: {' + '.join(map(str, counts))} = {total}" if counts else "no word holds it: 0 = 0"
    plan = f"Go word by word, count “{letter}” in each, and add; words without it are left out."
    return Derivation(plan=plan, steps=tuple(steps), check=check, answer=str(total))


def spell_backward(entry: dict[str, Any]) -> Derivation:
    """Letter by letter from the end; the check compares the ends."""
    word = entry["metadata"]["word"]
    steps = [f"letter {place} of “{word}” is “{word[place - 1]}”" for place in range(len(word), 0, -1)]
    check = f"the word has {len(word)} letters, and so has the result: {len(word)} = {len(word[::-1])}"
    return Derivation(plan="Read the letters from the last to the first.", steps=tuple(steps), check=check, answer=word[::-1])
