"""The user's own judges: unsafe content, personal data, whatever a house must not train on. Off unless the recipe names them.

``curate.quality.hooks`` names functions as ``module:function``; the module must be importable wherever items are read. Each is
called once for every sample, with its words and a function that gives its pictures, and returns None to keep the sample or a
`Reason`:

    def no_faces(sample: Sample, pictures: Callable[[], list[Image.Image]]) -> Reason | None:
        found = [face for picture in pictures() for face in detector(picture)]
        return Reason("faces", f"{len(found)} faces") if found else None

A hook must be a function of its arguments alone: no clock, no network whose answer changes. What it depends on beyond its own
module's source (weights, word lists) is part of a corpus's fingerprint only when the module says so in ``VERSION``. A hook
that raises quarantines the item: data that a safety check could not check is not used.

`personal_data` is one such hook, for e-mail addresses, telephone numbers, bank accounts (IBAN, checked by ISO 7064) and card
numbers (checked by Luhn). Patterns find what is written in the usual forms and nothing else: names and addresses need a model.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from manifests.errors import UsageError
from manifests.fingerprint import sha256_bytes
from manifests.sample import Sample

Pictures = Callable[[], list[Image.Image]]


@dataclass(frozen=True)
class Reason:
    """Why a hook does not keep a sample: a short stable name, and what was found (not the thing itself)."""

    reason: str
    detail: str


Hook = Callable[[Sample, Pictures], Reason | None]


@lru_cache(maxsize=64)
def load_hook(name: str) -> Hook:
    """The function that ``module:function`` names.

    Raises:
        UsageError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"curate.quality.hooks names {name!r}, which cannot be loaded ({error}): put it on PYTHONPATH of every worker"
        ) from error
    if not callable(found):
        raise UsageError(f"curate.quality.hooks names {name!r}, which is {type(found).__name__}, not a function")
    return found


def hook_identity(name: str) -> dict[str, Any]:
    """What the answers of a hook depend on: its module's source and what the module calls its version."""
    module = importlib.import_module(load_hook(name).__module__)
    source = inspect.getsourcefile(module)
    digest = "" if source is None else sha256_bytes(Path(source).read_bytes())
    return {"name": name, "source": digest, "version": str(getattr(module, "VERSION", ""))}


def words_of(sample: Sample) -> str:
    """All words of a sample that come from its source: not the questions we ask."""
    return "\n".join(
        part.text
        for message in sample.messages
        for part in message.parts
        if part.text and (message.role != "user" or part.origin is not None)
    )


_PERSONAL = (
    ("e-mail address", re.compile(r"\b[\w.+-]{1,64}@(?!example\.)[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[A-Za-z]{2,24}\b")),
    ("telephone number", re.compile(r"(?<![\w.+-])\+\d{1,3}[ ()./-]{0,2}(?:\d[ ()./-]{0,2}){6,12}\d(?!\w)")),
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d.-])")


def personal_data(sample: Sample, pictures: Pictures) -> Reason | None:
    """Drops a sample that shows an e-mail address, a telephone number with its country, an IBAN or a card number."""
    words = words_of(sample)
    for name, pattern in _PERSONAL:
        if pattern.search(words):
            return Reason("personal_data", f"an {name} is in it" if name.startswith("e") else f"a {name} is in it")
    if any(_is_iban(match.group()) for match in _IBAN.finditer(words)):
        return Reason("personal_data", "an IBAN is in it")
    if any(_is_card(match.group()) for match in _CARD.finditer(words)):
        return Reason("personal_data", "a card number is in it")
    return None


def _is_iban(found: str) -> bool:
    """ISO 7064, mod 97-10: with the country at the end and letters as 10 to 35, the rest is 1."""
    plain = found.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def _is_card(found: str) -> bool:
    """Luhn: every second digit from the right doubled, the sum of digits is a multiple of ten."""
    digits = [int(sign) for sign in found if sign.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
