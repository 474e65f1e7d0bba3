"""The forms in which a function call is written, read into one: JSON, ``<tool_call>`` blocks, and Python calls.

Nothing is evaluated. Python is parsed to a syntax tree, of which only calls of dotted names with literal arguments are read;
``true``, ``false`` and ``null`` are literals too. Positional arguments become named ones where a description of the function
says in which order its parameters come.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TOOL_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_FENCE = re.compile(r"```[a-z_]*\n(.*?)```", re.DOTALL)
_LOOKS_LIKE_A_CALL = re.compile(r"<tool_call|[{}]|\b[A-Za-z_][\w.]*\s*\(|```")
_NAMES = {"true": True, "false": False, "null": None, "none": None}
_LONGEST = 50_000


class NotACallError(ValueError):
    """A text that is no call in a form this module reads; the message says what is wrong."""


@dataclass(frozen=True)
class Call:
    """One call: the function's name and its arguments by name."""

    name: str
    arguments: Mapping[str, Any]


def looks_like_a_call(text: str) -> bool:
    """Whether a text tries to call something, well formed or not."""
    return _LOOKS_LIKE_A_CALL.search(text) is not None


def read_calls(text: str, parameters: Mapping[str, Sequence[str]]) -> list[Call]:
    """Every call of a text, in order.

    Args:
        parameters: the names of each described function's parameters, in order.

    Raises:
        NotACallError: the text is in none of the forms, holds a value that is no literal, or an argument twice.
    """
    if len(text) > _LONGEST:
        raise NotACallError(f"{len(text)} characters are more than {_LONGEST}")
    blocks = _TOOL_CALL.findall(text)
    if blocks:
        return [call for block in blocks for call in _read(block.strip(), parameters)]
    fenced = _FENCE.findall(text)
    return [call for block in fenced or [text] for call in _read(block.strip(), parameters)]


def _read(text: str, parameters: Mapping[str, Sequence[str]]) -> list[Call]:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except NotACallError:
        raise
    except (ValueError, RecursionError):
        return _python(text, parameters)
    return from_json(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise NotACallError("an argument is given twice")
    return dict(pairs)


def from_json(value: Any) -> list[Call]:
    """Calls from parsed JSON: OpenAI's form, ``{"name", "arguments"}``, ``{"name": {arguments}}``, or a list of these."""
    if isinstance(value, list):
        return [call for one in value for call in from_json(one)]
    if not isinstance(value, dict):
        raise NotACallError("not a call")
    if isinstance(value.get("tool_calls"), list):
        return from_json(value["tool_calls"])
    if isinstance(value.get("function"), dict):
        return from_json(value["function"])
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(value.get("name"), str):
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments, object_pairs_hook=_unique)
            except (ValueError, RecursionError) as error:
                raise NotACallError("the arguments are no JSON") from error
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise NotACallError("the arguments have no names")
        return [Call(value["name"], arguments)]
    if value and all(isinstance(inner, dict) for inner in value.values()):
        return [Call(name, inner) for name, inner in value.items()]
    raise NotACallError("a call needs a name and arguments")


def _python(text: str, parameters: Mapping[str, Sequence[str]]) -> list[Call]:
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotACallError("neither JSON nor a Python call") from error
    nodes: list[ast.expr] = []
    for statement in body:
        if not isinstance(statement, ast.Expr):
            raise NotACallError("a statement is no call")
        inner = statement.value
        nodes += inner.elts if isinstance(inner, ast.List | ast.Tuple) else [inner]
    return [_call(node, parameters) for node in nodes]


def _call(node: ast.expr, parameters: Mapping[str, Sequence[str]]) -> Call:
    if not isinstance(node, ast.Call):
        raise NotACallError("neither JSON nor a Python call")
    name = _dotted(node.func)
    order = parameters.get(name, ())
    if len(node.args) > len(order):
        raise NotACallError(f"{len(node.args)} positional arguments of {name}, whose parameters are not described" if not order
                       else f"{len(node.args)} positional arguments for {len(order)} parameters of {name}")  # fmt: skip
    pairs = [(order[place], _literal(value)) for place, value in enumerate(node.args)]
    for keyword in node.keywords:
        if keyword.arg is None:
            raise NotACallError("arguments by ** have no names")
        pairs.append((keyword.arg, _literal(keyword.value)))
    return Call(name, _unique(pairs))


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise NotACallError("what is called has no name")


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id.lower() in _NAMES:
        return _NAMES[node.id.lower()]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(inner) for inner in node.elts]
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise NotACallError("a value is no literal")
        return _unique(
            [(str(_literal(key)), _literal(value)) for key, value in zip(node.keys, node.values, strict=True) if key]
        )
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise NotACallError("a value is no literal") from error
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    raise NotACallError(f"a value of type {type(value).__name__} cannot be an argument")
