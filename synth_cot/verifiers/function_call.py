"""Function calls: the right functions with the right arguments.

The truth is one of

- a list of calls ``{"name": ..., "arguments": {...}}`` (or one call): every argument as it is given;
- a list in BFCL's form ``{"name": {"argument": [accepted, ...]}}``, where ``""`` among the accepted means: may be left out.
  Texts then compare as BFCL compares them, without case, spaces and ``,./-_*^``;
- ``{"calls": either of these, "ordered": bool, "functions": [descriptions]}``, with JSON-schema descriptions as BFCL and
  OpenAI write them. They give types, defaults (an argument left out equals its default) and the order of positional arguments.

Calls match in any order unless ``ordered``. Short of equality the score is the best matching of calls (in order: the best
alignment) over the larger number of calls; a pair scores the share of its arguments that are right, 0 with another name. An
empty list of calls asks for none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synth_cot.verifiers.answer_format import final_answer
from synth_cot.verifiers.calls import Call, NotACallError, looks_like_a_call, read_calls
from synth_cot.verifiers.verdict import Verdict

_LOOSE = re.compile(r"[ ,./\-_*^]")
_MOST = 200
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "float": (int, float), "number": (int, float), "double": (int, float),
    "boolean": (bool,), "array": (list,), "tuple": (list,), "dict": (dict,), "object": (dict,),
}  # fmt: skip


@dataclass(frozen=True)
class _Accepted:
    """What an argument may be: one of ``values``; ``optional`` whether it may be left out; ``loose`` how texts compare."""

    values: Sequence[Any]
    optional: bool = False
    loose: bool = False


@dataclass(frozen=True)
class _Wanted:
    """A true call; ``types`` and ``defaults`` come from the function's description, where there is one."""

    name: str
    arguments: Mapping[str, _Accepted]
    types: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Truth:
    calls: Sequence[_Wanted]
    ordered: bool
    parameters: Mapping[str, Sequence[str]]


def same(given: Any, wanted: Any, loose: bool = False) -> bool:
    """Whether two argument values are equal: numbers by value, a boolean never equals a number, texts to the letter."""
    if isinstance(given, bool) or isinstance(wanted, bool):
        return given is wanted
    if isinstance(given, int | float) and isinstance(wanted, int | float):
        return given == wanted
    if isinstance(given, str) and isinstance(wanted, str):
        return _plain(given) == _plain(wanted) if loose else given == wanted
    if isinstance(given, list | tuple) and isinstance(wanted, list | tuple):
        return len(given) == len(wanted) and all(same(a, b, loose) for a, b in zip(given, wanted, strict=True))
    if isinstance(given, dict) and isinstance(wanted, dict):
        if loose:  # BFCL: the values of a dictionary are lists of accepted ones
            return set(given) <= set(wanted) and all(
                any(same(given[key], value, loose) for value in values) if key in given else "" in values
                for key, values in ((key, value if isinstance(value, list) else [value]) for key, value in wanted.items())
            )
        return given.keys() == wanted.keys() and all(same(given[key], wanted[key]) for key in wanted)
    return given is None and wanted is None


def _plain(text: str) -> str:
    return _LOOSE.sub("", text).lower().replace("'", '"')


def _truth(value: Any) -> _Truth:
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"the truth {value!r} is no JSON") from error
    ordered, described = False, []
    if isinstance(value, dict) and "calls" in value:
        ordered, described = bool(value.get("ordered", False)), value.get("functions", [])
        value = value["calls"]
    schemas = {one["name"]: one for one in (inner.get("function", inner) for inner in described)}
    calls = [_wanted(one, schemas) for one in ([value] if isinstance(value, dict) else value)]
    order = {name: list(schema.get("parameters", {}).get("properties", {})) for name, schema in schemas.items()}
    return _Truth(calls, ordered, order)


def _wanted(value: Any, schemas: Mapping[str, Any]) -> _Wanted:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        arguments = value.get("arguments", value.get("parameters")) or {}
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        name, accepted = value["name"], {key: _Accepted([one]) for key, one in arguments.items()}
    elif isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), dict):
        ((name, arguments),) = value.items()
        if not all(isinstance(values, list) for values in arguments.values()):
            raise ValueError(f"the accepted values of {name} are no lists")
        accepted = {
            key: _Accepted([one for one in values if one != ""], "" in values, True) for key, values in arguments.items()
        }
        # "" alone means that the argument may be left out, or be the empty text.
        accepted = {key: one if one.values else _Accepted([""], True, True) for key, one in accepted.items()}
    else:
        raise ValueError(f"the true call {value!r} is in no known form")
    properties = schemas.get(name, {}).get("parameters", {}).get("properties", {})
    return _Wanted(
        name=name, arguments=accepted,
        types={key: str(one.get("type", "any")) for key, one in properties.items()},
        defaults={key: one["default"] for key, one in properties.items() if "default" in one},
    )  # fmt: skip


def _typed(given: Any, kind: str) -> bool:
    known = _TYPES.get(kind.lower())
    if known is None:
        return True
    return isinstance(given, known) and (isinstance(given, bool) == (bool in known))


def _pair(given: Call, wanted: _Wanted) -> tuple[float, str]:
    """The share of arguments that are right, and what is wrong with the first that is not."""
    if given.name != wanted.name:
        return 0.0, f"{given.name} is not {wanted.name}"
    wrong = []
    for key, value in given.arguments.items():
        if key not in wanted.arguments:
            if key not in wanted.defaults or not same(value, wanted.defaults[key]):
                wrong.append(f"{wanted.name} has no argument {key} here")
        elif not any(same(value, one, wanted.arguments[key].loose) for one in wanted.arguments[key].values):
            wrong.append(f"{key} of {wanted.name} is {json.dumps(value, ensure_ascii=False)[:60]}")
        elif not _typed(value, wanted.types.get(key, "any")) and not any(
            # What the truth itself gives is of the right type: null for a text, say.
            type(value) is type(one) and same(value, one, wanted.arguments[key].loose)
            for one in wanted.arguments[key].values
        ):
            wrong.append(f"{key} of {wanted.name} is of type {type(value).__name__}, not {wanted.types[key]}")
    for key, accepted in wanted.arguments.items():
        if key not in given.arguments and not accepted.optional:
            fallback = key in wanted.defaults and any(
                same(wanted.defaults[key], one, accepted.loose) for one in accepted.values
            )
            if not fallback:
                wrong.append(f"{wanted.name} lacks {key}")
    names = set(given.arguments) | set(wanted.arguments)
    if not wrong:
        return 1.0, "equal"
    return max(0.0, 1 - len(wrong) / len(names)), wrong[0]


def _best(scores: list[list[float]], ordered: bool) -> list[tuple[int, int]]:
    """Which call answers which true one: the matching, or in order the alignment, whose scores have the largest sum."""
    if not ordered:
        from scipy.optimize import linear_sum_assignment

        rows, columns = linear_sum_assignment(np.array(scores), maximize=True)
        return list(zip(rows.tolist(), columns.tolist(), strict=True))
    height, width = len(scores), len(scores[0])
    best = [[0.0] * (width + 1) for _ in range(height + 1)]
    for row in range(height - 1, -1, -1):
        for column in range(width - 1, -1, -1):
            taken = scores[row][column] + best[row + 1][column + 1]
            best[row][column] = max(taken, best[row + 1][column], best[row][column + 1])
    pairs, row, column = [], 0, 0
    while row < height and column < width:
        if best[row][column] == scores[row][column] + best[row + 1][column + 1]:
            pairs.append((row, column))
            row, column = row + 1, column + 1
        elif best[row][column] == best[row + 1][column]:
            row += 1
        else:
            column += 1
    return pairs


@dataclass(frozen=True)
class FunctionCallVerifier:
    """1 for the same calls, else the share of calls and arguments that are right."""

    name: str = "function_call"
    version: str = "1"
    needs: str = "nothing"

    def score(self, prediction: str, truth: Any) -> Verdict:
        """See `Verifier.score`; the truth is a list of calls or its JSON, as the module says."""
        wanted = _truth(truth)
        answer = final_answer(prediction)
        if answer is None:
            return Verdict(0.0, "malformed response")
        try:
            given = read_calls(answer, wanted.parameters)
        except NotACallError as error:
            if not wanted.calls and not looks_like_a_call(answer):
                return Verdict(1.0, "no call, as asked")
            return Verdict(0.0, str(error))
        if len(given) > _MOST:
            return Verdict(0.0, f"{len(given)} calls are more than {_MOST}")
        if not given or not wanted.calls:
            right = not given and not wanted.calls
            return Verdict(float(right), "no call, as asked" if right else f"{len(given)} calls for {len(wanted.calls)}")
        judged = [[_pair(one, other) for other in wanted.calls] for one in given]
        scores = [[score for score, _ in row] for row in judged]
        pairs = _best(scores, wanted.ordered)
        longest = max(len(given), len(wanted.calls))
        score = math.fsum(scores[row][column] for row, column in pairs) / longest
        if len(given) == len(wanted.calls) == len(pairs) and all(scores[row][column] == 1.0 for row, column in pairs):
            return Verdict(1.0, "equal")
        wrong = [judged[row][column][1] for row, column in pairs if scores[row][column] < 1.0]
        counts = f"{len(given)} calls for {len(wanted.calls)}" if len(given) != len(wanted.calls) else "another order"
        return Verdict(min(score, math.nextafter(1.0, 0.0)), wrong[0] if wrong else counts)


VERIFIER = FunctionCallVerifier()
