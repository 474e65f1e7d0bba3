"""The form of a mathematical answer: a scalar with its unit, a list, set or interval, an equation, a matrix.

A text is an answer only when all of it is: prose, two answers, or a number lost in a sentence are none. Dropped are ``$``,
``\\( \\)``, ``\\boxed``, bold, a final full stop, "the answer is", and ``x =`` before a value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from synth_cot.verifiers import scalars

_LONGEST = 1_000
_LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?(?:the\s+)?(?:final\s+)?(?:answer|result|solution|value)\s*(?:is|=|:)\s*:?\s*", re.I
)
_LABEL = re.compile(r"(?:\\text\s*\{[^{}]*\}|\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([a-z]\))?)\s*(?:=|:|\\in\b|∈)(?!=)\s*")
_RELATION = re.compile(r"\\leq?(?![a-z])|\\geq?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=|>=|≤|≥|<|>")
_RELATIONS = {"\\le": "<=", "\\leq": "<=", "≤": "<=", "\\ge": ">=", "\\geq": ">=", "≥": ">=", "\\lt": "<", "\\gt": ">"}
_MATRIX = re.compile(r"\\begin\s*\{([pbBvV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\s*\{\1\}", re.S)
_WORD = re.compile(r"[A-Za-z]{2,}")
# Units of one kind convert; a number of Fractions makes the base unit. Degrees are only degrees: pi is not 180 of them.
_UNITS: dict[str, tuple[str, Fraction]] = {
    name: (kind, Fraction(factor))
    for kind, units in {
        "length": {"mm": "1/1000", "cm": "1/100", "dm": "1/10", "m": "1", "km": "1000", "in": "254/10000", "ft": "3048/10000",
                   "yd": "9144/10000", "mi": "1609344/1000"},
        "mass": {"mg": "1/1000", "g": "1", "kg": "1000", "lb": "45359237/100000", "oz": "28349523125/1000000000"},
        "time": {"ms": "1/1000", "s": "1", "min": "60", "h": "3600", "day": "86400", "week": "604800"},
        "volume": {"ml": "1/1000", "l": "1"},
        "speed": {"m/s": "1", "km/h": "10/36", "mph": "44704/100000"},
        "angle": {"degree": "1"}, "money": {"cent": "1/100", "dollar": "1"}, "euro": {"euro": "1"}, "share": {"%": "1/100"},
        "plain": {"unit": "1"},
    }.items()
    for name, factor in units.items()
}  # fmt: skip
_ALIASES = {
    "millimeter": "mm", "centimeter": "cm", "meter": "m", "kilometer": "km", "millimetre": "mm", "centimetre": "cm",
    "metre": "m", "kilometre": "km", "inch": "in", "inches": "in", "foot": "ft", "feet": "ft", "yard": "yd", "mile": "mi",
    "milligram": "mg", "gram": "g", "kilogram": "kg", "pound": "lb", "ounce": "oz", "sec": "s", "second": "s", "minute":
    "min", "hr": "h", "hour": "h", "milliliter": "ml", "liter": "l", "litre": "l", "mL": "ml", "L": "l", "kmh": "km/h",
    "kph": "km/h", "deg": "degree", "°": "degree", "percent": "%", "per cent": "%", "usd": "dollar", "$": "dollar", "€":
    "euro", "square unit": "unit",
}  # fmt: skip
_UNIT = re.compile(
    r"(?P<number>.*?[\d)}.])\s*(?:\\?(?P<sign>%|°)|\^\s*\{?\s*\\circ\s*\}?"
    r"|(?:\s|\\[ ,;]|~)*\\(?:text|mathrm|mbox|textrm)\s*\{\s*(?P<typeset>[^{}]*?)\s*\}(?P<typeset_power>\^\{?[23]\}?|[²³])?"
    r"|(?:\s|\\[ ,;]|~)+(?P<word>(?:square |cubic |sq\.? |cu\.? )?[A-Za-z]+(?:/[a-z]+)?)(?P<power>\^\{?[23]\}?|[²³])?"
    r"|(?P<close>[a-z]{2,}(?:/[a-z]+)?|[a-zA-Z]/[a-z])(?P<close_power>\^\{?[23]\}?|[²³])?)",
    re.S,
)


@dataclass(frozen=True)
class Form:
    """An answer.

    Attributes:
        kind: ``scalar``, ``list`` (ordered, in its brackets), ``set`` (in any order), ``equation``.
        text: of a scalar.
        unit: of a scalar: its kind and the factor to the base unit; the name of one that is not known.
        parts: of the others.
        brackets: of a list, opening and closing.
    """

    kind: str
    text: str = ""
    unit: tuple[str, Fraction] | str | None = None
    parts: tuple[Form, ...] = ()
    brackets: str = ""


def read(text: str) -> Form | None:
    """The form of an answer; None when the text is not an answer and nothing else."""
    return None if len(text) > _LONGEST else _form(strip(text), 0)


def strip(text: str) -> str:
    """An answer without what only presents it."""
    before = None
    while before != text:
        before = text
        text = text.strip().strip("*").strip()
        text = re.sub(r"(?<=[\w)}\]$%])\s*\.$", "", text)
        text = _LEAD.sub("", text, count=1) if _LEAD.match(text) else text
        for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("`", "`"), ('"', '"')):
            inner = text[len(opening) : -len(closing)]
            if (
                len(text) > len(opening + closing)
                and text.startswith(opening)
                and text.endswith(closing)
                and opening not in inner
            ):
                text = inner
        if boxed := re.fullmatch(r"\\boxed\s*\{(.*)\}", text, re.S):
            text = boxed[1]
        text = re.sub(r"\\(?:displaystyle|dfrac(?=\b))", lambda match: "" if "style" in match[0] else r"\frac", text)
    return text


def _form(text: str, depth: int) -> Form | None:
    text = text.strip()
    if not text or depth > 4:
        return None
    if matrix := _MATRIX.fullmatch(text):
        rows = [row.split("&") for row in re.split(r"\\\\", matrix[2].strip()) if row.strip()]
        return _list([_list([_form(cell, depth + 1) for cell in row], "[]") for row in rows], "[]")
    if (label := _LABEL.match(text)) and not re.search(r"[=<>]", text[label.end() :]) and len(text) > label.end():
        return _form(text[label.end() :], depth + 1)
    pieces = _split(text, r"\\cup(?![a-z])|∪|\bor\b|\\text\s*\{\s*or\s*\}|\\lor\b")
    if len(pieces) > 1:
        return _set([_form(piece, depth + 1) for piece in pieces])
    relations = _RELATION.findall(text)
    if relations and "=" not in _RELATION.sub("", text):
        return _interval(_RELATION.split(text), [_RELATIONS.get(one, one) for one in relations])
    if "=" in text:
        sides = text.split("=")
        return Form("equation", parts=tuple(Form("scalar", side.strip()) for side in sides)) if len(sides) == 2 else None
    if enclosed := re.fullmatch(r"\\?\{(.*?)\\?\}|\\left\s*\\\{(.*)\\right\s*\\\}", text, re.S):
        inner = enclosed[1] if enclosed[1] is not None else enclosed[2]
        return _set([_form(piece, depth + 1) for piece in _split(inner, ",|;")]) if inner.strip() else Form("set")
    if text in (r"\emptyset", r"\varnothing", "∅", r"\{\}"):
        return Form("set")
    bare = re.sub(r"\\left(?![a-z])|\\right(?![a-z])", "", text).strip()
    if bare[0] in "([" and bare[-1] in ")]" and len(pieces := _split(bare[1:-1], ",|;")) > 1 and _balanced(bare[1:-1]):
        return _list([_form(piece, depth + 1) for piece in pieces], bare[0] + bare[-1])
    if bare[0] == "[" and bare[-1] == "]" and _balanced(bare[1:-1]) and bare[1:-1].strip():
        return _list([_form(bare[1:-1], depth + 1)], "[]")
    if not re.fullmatch(r"[^,]*\d{1,3}(?:,\d{3})+(?!\d)[^,]*", text) and len(pieces := _split(text, r",|;|\band\b")) > 1:
        return _set([_form(piece, depth + 1) for piece in pieces])
    return _scalar(text)


def _scalar(text: str) -> Form | None:
    if both := re.fullmatch(r"(?:\\pm|±|\+/-|\+-)\s*(.+)", text, re.S):
        one, other = _scalar(both[1]), _scalar(f"-({both[1]})")
        return _set([one, other])
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.replace("{,}", ""))
    unit: tuple[str, Fraction] | str | None = None
    if currency := re.fullmatch(r"(-?)\s*(?:\\\$|\$|€)\s*(\d.*)", text, re.S):
        text, unit = currency[1] + currency[2], _UNITS["euro" if "€" in text else "dollar"]
    elif found := _UNIT.fullmatch(text):
        name = found["sign"] or found["typeset"] or found["word"] or found["close"]
        power = found["typeset_power"] or found["power"] or found["close_power"] or ""
        unit = _unit("degree" if name is None else name, power)
        known = not isinstance(unit, str)
        # A bare word behind a number is a unit only when it is known as one: "5 wrong" is no answer.
        if known or (found["typeset"] and name):
            text = found["number"]
        else:
            unit = None
    return Form("scalar", text.strip(), unit) if _mathematical(text) else None


def _unit(name: str, power: str) -> tuple[str, Fraction] | str:
    plain = name.strip().removesuffix(".")
    digits = re.sub(r"[^23²³]", "", power).replace("²", "2").replace("³", "3")
    for word, meant in (("square ", "2"), ("cubic ", "3"), ("sq. ", "2"), ("cu. ", "3"), ("sq ", "2"), ("cu ", "3")):
        if plain.startswith(word):
            plain, digits = plain[len(word) :], meant
    for candidate in (plain, plain.lower(), plain.lower().removesuffix("s"), plain.lower().removesuffix("es")):
        known = _UNITS.get(_ALIASES.get(candidate, candidate))
        if known is not None:
            kind, factor = known
            return (kind, factor) if not digits else (f"{kind}^{digits}", factor ** int(digits))
    return f"{plain.lower().removesuffix('s')}{digits}"


def _mathematical(text: str) -> bool:
    """Whether a text has no words but those of mathematics."""
    words = _WORD.findall(re.sub(r"\\[A-Za-z]+", " ", re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}", " words ", text)))
    return all(word in (*scalars.FUNCTIONS, *scalars.CONSTANTS) or _letters(word) for word in words) and bool(text.strip())


def _letters(word: str) -> bool:
    """A product of symbols such as ``xy`` or ``abc``: short, and no syllable."""
    return len(word) <= 3 and (len(set(word.lower()) & set("aeiou")) == 0 or word in ("ab", "abc", "bi", "ai", "xi", "yi"))


def _interval(sides: Sequence[str], relations: Sequence[str]) -> Form | None:
    """``x < 3`` and ``1 <= x < 3`` as intervals; other inequalities are not read."""
    if any(one[0] != relations[0][0] for one in relations):
        return None
    if relations[0][0] == ">":
        sides, relations = sides[::-1], ["<" + one[1:] for one in relations[::-1]]
    names = [place for place, side in enumerate(sides) if re.fullmatch(r"\s*\\?[A-Za-z]+\s*", side)]
    if len(names) != 1 or len(sides) > 3:
        return None
    place = names[0]
    low = _scalar(sides[place - 1].strip()) if place else Form("scalar", "-infinity")
    high = _scalar(sides[place + 1].strip()) if place + 1 < len(sides) else Form("scalar", "infinity")
    if low is None or high is None or (place == 1 and len(sides) == 2 and len(relations) != 1):
        return None
    opening = "[" if place and "=" in relations[place - 1] else "("
    closing = "]" if place < len(relations) and "=" in relations[place] else ")"
    return Form("list", parts=(low, high), brackets=opening + closing)


def _split(text: str, separator: str) -> list[str]:
    """The pieces of a text between separators that stand in no brackets."""
    pieces, depth, start = [], 0, 0
    for match in re.finditer(rf"(?P<open>[(\[{{])|(?P<close>[)\]}}])|(?P<between>{separator})", text):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif depth == 0:
            pieces.append(text[start : match.start()])
            start = match.end()
    return [*pieces, text[start:]]


def _balanced(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if depth < 0:
            return False
    return depth == 0


def _set(parts: Sequence[Form | None]) -> Form | None:
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    # A set in a set is the same set: x = 1 or x = 2 or 3.
    flat = [inner for part in found for inner in (part.parts if part.kind == "set" else (part,))]
    return Form("set", parts=tuple(flat))


def _list(parts: Sequence[Form | None], brackets: str) -> Form | None:
    found = [part for part in parts if part is not None]
    return Form("list", parts=tuple(found), brackets=brackets) if len(found) == len(parts) else None
