"""What a named question is, and how words given for its parameters become values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from manifests.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A value that a question takes.

    Attributes:
        kind: `str` or `int`.
        default: what it is when nothing is given; None leaves the choice open. A ``required`` one has no default.
    """

    name: str
    meaning: str
    kind: type[str] | type[int] = str
    default: str | int | None = None
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """A named question.

    Attributes:
        asks: what it answers, in one line.
        sql: one SELECT; every parameter stands in it as ``$name``.
    """

    name: str
    asks: str
    sql: str
    parameters: tuple[Parameter, ...] = ()


RECIPE = Parameter(name="recipe", meaning="only this recipe's plan")
LIMIT = Parameter(name="limit", meaning="rows at most", kind=int, default=20)


def named(name: str, questions: Mapping[str, Question]) -> Question:
    """The question of that name.

    Raises:
        UsageError: there is none; the message says the nearest.
    """
    if name not in questions:
        raise UsageError(f"no question is named {name!r}{_nearest(name, questions)}; `--named` alone lists them")
    return questions[name]


def values_of(question: Question, given: Mapping[str, str | int]) -> dict[str, str | int | None]:
    """A value for each parameter of a question.

    Raises:
        UsageError: a name that it does not take, a value of the wrong kind, or a missing one that it needs.
    """
    known = {parameter.name: parameter for parameter in question.parameters}
    for name in given:
        if name not in known:
            takes = ", ".join(known) or "nothing"
            raise UsageError(f"{question.name} takes no parameter {name!r}{_nearest(name, known)}; it takes {takes}")
    values: dict[str, str | int | None] = {}
    for name, parameter in known.items():
        if name not in given:
            if parameter.required:
                raise UsageError(f"{question.name} needs --param {name}=...: {parameter.meaning}")
            values[name] = parameter.default
            continue
        try:
            values[name] = parameter.kind(given[name])
        except ValueError:
            raise UsageError(f"{question.name}: parameter {name} is a whole number, not {given[name]!r}") from None
    return values


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f" (nearest: {near[0]})" if near else ""
