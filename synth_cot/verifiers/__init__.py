"""What a right answer is: one object for each kind of answer, with a version. Pure: no input or output, no randomness.

The same objects filter samples here, and reward and evaluate later: `get("count").score("7", "7")`. A prediction may be the
bare answer or a whole response with ``<answer>`` tags. Each module is loaded when its verifier is first asked for, so that
importing this package costs nothing.
"""

from __future__ import annotations

import importlib

from synth_cot.verifiers.verdict import Verdict, Verifier

__all__ = ["NAMES", "Verdict", "Verifier", "get"]

_MODULES = {
    "boxes": "boxes",
    "code": "program",
    "count": "count",
    "format": "answer_format",
    "function_call": "function_call",
    "intervals": "intervals",
    "math": "mathematics",
    "option": "option",
    "order": "order",
    "text": "plain_text",
}
NAMES: tuple[str, ...] = tuple(sorted(_MODULES))


def get(name: str) -> Verifier:
    """The verifier of that name.

    Raises:
        KeyError: there is none; the message lists those there are.
    """
    if name not in _MODULES:
        raise KeyError(f"no verifier {name!r}: one of {', '.join(NAMES)}")
    verifier: Verifier = importlib.import_module(f"synth_cot.verifiers.{_MODULES[name]}").VERIFIER
    return verifier
