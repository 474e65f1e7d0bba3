"""Plain values between processes that do not trust each other: JSON with a tag for what JSON lacks.

Only numbers, texts, bytes, None, lists, tuples, sets and dictionaries travel, as such: no code, no classes, no ``__eq__`` of
the other side. Anything else stays where it is and is named by a number.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_DEEPEST = 200


class TooLargeError(ValueError):
    """A message is larger than the limit."""


def pack(value: Any, keep: Callable[[Any], int] | None = None, depth: int = 0) -> Any:
    """A value as JSON. ``keep`` gives the number under which what cannot travel is kept.

    Raises:
        TypeError: it cannot travel and is not kept.
        ValueError: it is nested too deep.
    """
    if depth > _DEEPEST:
        raise ValueError(f"a value is nested more than {_DEEPEST} deep")
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if kind is int:
        return value if -(2**63) < value < 2**63 else {"int": hex(value)}
    for name, container in _SEQUENCES.items():
        if isinstance(value, container):
            return {name: [pack(inner, keep, depth + 1) for inner in container.__iter__(value)]}
    if isinstance(value, dict):
        return {"dict": [[pack(key, keep, depth + 1), pack(inner, keep, depth + 1)] for key, inner in dict.items(value)]}
    if isinstance(value, bool | int):
        return {"int": hex(int.__index__(value))}
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, str):
        return "".join(str.__iter__(value))
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if keep is None:
        raise TypeError(f"a value of type {kind.__name__} cannot be passed to a program")
    return {"handle": [keep(value), kind.__name__[:80], callable(value)]}


def unpack(packed: Any, handle: Callable[[int, str, bool], Any] | None = None) -> Any:
    """The inverse of `pack`; ``handle`` stands for what was kept on the other side.

    Raises:
        ValueError: it is no packed value.
    """
    if not isinstance(packed, dict):
        return packed
    if len(packed) != 1:
        raise ValueError("not a packed value")
    ((kind, inner),) = packed.items()
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](unpack(one, handle) for one in inner)
    if kind == "dict":
        return {unpack(key, handle): unpack(one, handle) for key, one in inner}
    if kind == "int":
        return int(inner, 16)
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind == "complex":
        return complex(*inner)
    if kind == "handle" and handle is not None:
        number, name, can_call = inner
        return handle(int(number), str(name), bool(can_call))
    raise ValueError("not a packed value")


def send(descriptor: int, message: Any, most: int) -> None:
    """Writes a message of JSON with its length before it.

    Raises:
        TooLargeError: it has more than ``most`` bytes; nothing was written.
    """
    data = json.dumps(message).encode()
    if len(data) > most:
        raise TooLargeError(f"{len(data)} bytes are more than {most}")
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(descriptor, data) :]


def receive(descriptor: int, most: int) -> Any:
    """Reads what `send` wrote.

    Raises:
        EOFError: the other side ended.
        TooLargeError: it announces more than ``most`` bytes.
        ValueError: it is no JSON, or nested too deep.
    """
    size = int.from_bytes(_exactly(descriptor, 4), "big")
    if size > most:
        raise TooLargeError(f"{size} bytes are more than {most}")
    data = _exactly(descriptor, size)
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _exactly(descriptor: int, size: int) -> bytes:
    pieces = []
    while size:
        piece = os.read(descriptor, min(size, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
