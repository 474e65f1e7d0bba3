"""Recomputes the answer of every synthesised sample from what the corpus knows, with none of this project's code.

    python tests/synth_cot/recompute_answers.py CORPUS

It reads Parquet through DuckDB: the question as the model reads it, the annotation of its source, the pages and tables of
curated samples. STEM problems are solved from their own words. Things of drawn pictures and films are found by the names that
the question uses, options by their letters. Prints a line per task and every answer that differs; exits with 1 if one does.
"""

from __future__ import annotations

import ast
import json
import math
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import sympy

Row = dict[str, Any]


# ---- problems in words ------------------------------------------------------------------------------------------------


def exact(expression: str) -> Fraction:
    """An expression in exact arithmetic, through sympy's own parser."""
    value = sympy.Rational(sympy.sympify(expression.strip(), rational=True))
    return Fraction(int(value.p), int(value.q))


def numbers(text: str) -> list[int]:
    return [int(one) for one in re.findall(r"\d+", text)]


def solve(question: str) -> str:
    equation = question.split(": ", 1)[1]
    left, right = equation.split("=")
    (name,) = set(re.findall(r"[a-z]", equation))
    (root,) = sympy.solve(sympy.sympify(left) - sympy.sympify(right), sympy.Symbol(name))
    return str(root)


def convert(question: str) -> str:
    base = r"(?:base-(\d+)|(binary|hexadecimal))"
    found = re.search(rf"convert the {base} number (\w+) to {base}", question)
    assert found is not None
    bases = [int(found[a] or {"binary": 2, "hexadecimal": 16}[found[b]]) for a, b in ((1, 2), (4, 5))]
    value, out = int(found[3], bases[0]), ""
    while value:
        value, digit = divmod(value, bases[1])
        out = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + out
    return out


def keep(question: str) -> str:
    found = re.search(r"(Keep|Remove) all numbers (smaller|larger) than (\S+) in this list: (\[.*\])", question)
    assert found is not None
    hit = [(Fraction(one) < Fraction(found[3])) == (found[2] == "smaller") for one in ast.literal_eval(found[4])]
    return str([one for one, is_hit in zip(ast.literal_eval(found[4]), hit, strict=True) if is_hit == (found[1] == "Keep")])


def legs(question: str) -> str:
    """A second table of legs, by groups."""
    groups = {0: "snake slug jelly worm leech", 2: "chicken bird human duck", 5: "starfish", 8: "spider scorpion",
              10: "crab lobster shrimp", 14: "woodlouse",
              6: "insect ant butterfly beetle bee wasp grasshopper cricket cockroach mantis firefly"}  # fmt: skip
    total = 0
    for count, animal in re.findall(r"(\d+) ([a-z ]+)", question.split("if you have")[1]):
        names = [(len(name), amount) for amount, group in groups.items() for name in group.split() if name in animal]
        total += int(count) * (max(names)[1] if names and "elephant" not in animal else 4)
    return str(total)


STEM: dict[str, Callable[[str], str]] = {
    "base_conversion": convert,
    "basic_arithmetic": lambda q: str(exact(q.removeprefix("Calculate ").removesuffix("."))),
    "chain_sum": lambda q: str(exact(q.split(": ")[1].removesuffix("="))),
    "count_bits": lambda q: str(numbers(q)[-1].bit_count()),
    "count_primes": lambda q: str(len(list(sympy.primerange(numbers(q)[0], numbers(q)[1] + 1)))),
    "decimal_chain_sum": lambda q: str(exact(q.split(": ")[1].removesuffix("="))),
    "fraction_simplification": lambda q: str(Fraction(*numbers(q)[:2])),
    "gcd": lambda q: str(math.gcd(*numbers(q))),
    "lcm": lambda q: str(math.lcm(*numbers(q))),
    "leg_counting": legs,
    "letter_counting": lambda q: str(q.split('text: "')[1].lower().count(q.split('"')[1])),
    "number_filtering": keep,
    "number_sorting": lambda q: str(
        sorted(re.findall(r"-?\d+(?:\.\d+)?", q.splitlines()[0]), key=Fraction, reverse="descending" in q.splitlines()[0])
    ),
    "prime_factorization": lambda q: " × ".join(
        str(prime) for prime, power in sorted(sympy.factorint(numbers(q)[0]).items()) for _ in range(power)
    ),
    "products": lambda q: str(math.prod(numbers(q))),
    "simple_equations": solve,
    "spell_backward": lambda q: "".join(reversed(q.rsplit(": ", 1)[1])),
    "word_sorting": lambda q: ", ".join(
        sorted(q.rsplit(": ", 1)[1].strip().split(", "), reverse="sort these words in descending" in q)
    ),
}


# ---- what is drawn ----------------------------------------------------------------------------------------------------


def box(pixels: list[float], shown: Row) -> list[int]:
    return [
        round(Fraction(str(side)) * 1000 / size)
        for side, size in zip(pixels, [shown["width"], shown["height"]] * 2, strict=True)
    ]


def optioned(prompt: str) -> dict[str, str]:
    """The options of a question by letter."""
    listed = re.search(r"A\) .*?(?= Answer with the letter)", prompt, re.S)
    assert listed is not None
    found = re.split(r" ?\b([A-E])\) ", " " + listed[0])
    return {letter: text.strip().rstrip(".") for letter, text in zip(found[1::2], found[2::2], strict=True)}


def kind_of(thing: Row) -> str:
    return f"{thing['colour']} {thing['shape']}"


def spoken_groups(prompt: str, things: list[Row]) -> list[int]:
    """How many things each group has that a question names, in the order of the words."""
    plurals = {"circle": "circles", "square": "squares", "triangle": "triangles", "star": "stars", "diamond": "diamonds",
               "cross": "crosses", "": "things"}  # fmt: skip
    pattern = r"\b(?:(red|blue|green|yellow|purple|orange|black|white) )?(" + "|".join(plurals.values()) + r")\b"
    singular = {many: one for one, many in plurals.items()}
    return [
        sum((not colour or thing["colour"] == colour) and singular[many] in ("", thing["shape"]) for thing in things)
        for colour, many in re.findall(pattern, prompt)
    ]


def image(task: str, prompt: str, payload: Row, ask: Row) -> Any:
    things = payload["things"]
    if task == "count":
        (count,) = spoken_groups(prompt, things)
        return count
    if task == "difference":
        one, other = spoken_groups(prompt, things)
        return abs(one - other)
    if task == "locate":
        (thing,) = (thing for thing in things if f"the {kind_of(thing)}" in prompt)
        return [box(thing["box"], payload)]
    edges = {
        letter: next(thing["box"] for thing in things if f"the {kind_of(thing)}" == words)
        for letter, words in optioned(prompt).items()
    }
    side = 0 if "left" in prompt else 1
    return min(edges, key=lambda letter: edges[letter][side])


def pair(task: str, prompt: str, payload: Row, ask: Row) -> Any:
    def seen(side: str) -> set[tuple[str, str, tuple[float, ...]]]:
        return {(thing["colour"], thing["shape"], tuple(thing["box"])) for thing in payload[side]["things"]}

    gone, new = sorted(seen("before") - seen("after")), sorted(seen("after") - seen("before"))
    changes: list[tuple[str, list[float]]] = []

    def cell(place: tuple[float, ...]) -> tuple[int, int]:
        return int(place[0] // 44), int(place[1] // 42)

    for colour, shape, place in gone:
        heir = next((one for one in new if cell(one[2]) == cell(place) and one[1] == shape), None)
        if heir is None:
            changes.append(("removed", list(place)))
            continue
        new.remove(heir)
        hull = [min(place[0], heir[2][0]), min(place[1], heir[2][1]), max(place[2], heir[2][2]), max(place[3], heir[2][3])]
        changes.append(("changed its colour" if heir[0] != colour else "changed its size", hull))
    changes += [("added", list(place)) for _, _, place in new]
    if task == "count":
        return len(changes)
    boxes = [box(hull, payload["after"]) for _, hull in changes]
    if task == "locate":
        return boxes
    asked = json.loads("[" + re.search(r"region \[([^\]]*)\]", prompt)[1] + "]")  # type: ignore[index]
    what = changes[boxes.index(asked)][0]
    return next(letter for letter, words in optioned(prompt).items() if what in words)


def film(task: str, prompt: str, payload: Row, ask: Row) -> Any:
    """Looks at the middle of every frame's time."""
    rate, duration = payload["fps_grid"], payload["duration_s"]
    moments = [(point + 0.5) / rate for point in range(round(duration * rate))]
    shown = {one["name"]: [any(a < moment < b for a, b in one["spans"]) for moment in moments] for one in payload["presences"]}

    def runs(frames: list[bool]) -> list[list[float]]:
        edges = [
            point
            for point in range(len(frames) + 1)
            if (point < len(frames) and frames[point]) != (point > 0 and frames[point - 1])
        ]
        return [[start / rate, end / rate] for start, end in zip(edges[::2], edges[1::2], strict=True)]

    named = [name for name in shown if f"the {name}" in prompt.casefold()]
    if task == "count":
        return len(runs(shown[named[0]]))
    if task == "intervals":
        return runs(shown[named[0]])
    if task in ("together", "meet"):
        one, other = named
        both = runs([a and b for a, b in zip(shown[one], shown[other], strict=True)])
        return both if task == "together" else "A" if both else "B"
    if task == "visible":
        moment = float(re.search(r"at ([\d.]+) seconds", prompt)[1])  # type: ignore[index]
        return sum(frames[round(moment * rate)] for frames in shown.values())
    if task == "sequence":
        listed = re.search(r": ([^.]*)\.", prompt)[1].split(", ")  # type: ignore[index]
        return sorted(listed, key=lambda name: shown[name].index(True))
    options = {letter: shown[words.removeprefix("the ")] for letter, words in optioned(prompt).items()}
    if task == "longest":
        return max(options, key=lambda letter: sum(options[letter]))
    first = re.search(r"first|before", prompt) is not None
    return (
        min(options, key=lambda letter: options[letter].index(True))
        if first
        else max(options, key=lambda letter: max(point for point, here in enumerate(options[letter]) if here))
    )


def table(task: str, prompt: str, payload: Row, ask: Row) -> Any:
    columns, rows = payload["columns"], payload["rows"]
    quoted = re.findall(r"“([^”]*)”", prompt)
    if task == "cell":
        row = next(row for row in rows if row[0] in quoted)
        column = next(n for n, name in enumerate(columns) if n and name in quoted)
        return row[column]
    column = columns.index(quoted[0])
    values = {row[0]: int(row[column]) for row in rows}
    if task == "sum":
        return sum(values.values())
    lowest = re.search(r"smallest|lowest", prompt) is not None
    return (min if lowest else max)(values, key=lambda name: values[name])


# ---- what curation knows ----------------------------------------------------------------------------------------------


def gui(task: str, prompt: str, payload: Row, ask: Row) -> Any:
    screen = payload["steps"][int(ask["place"])] if ask["place"] else payload
    elements = {one["id"]: one for one in screen["elements"]}
    chosen = [elements[one] for one in ask["ids"]]
    words = [" ".join(one["text"].split()) for one in chosen]
    if task == "count":
        return Counter(one["role"] for one in screen["elements"])[ask["value"]]
    if task in ("locate", "compare", "order"):
        assert all(f"“{text}”" in prompt for text in words), "the question names other controls"
    if task == "locate":
        return [box(chosen[0]["box"], screen)]
    if task == "read":
        assert str(box(chosen[0]["box"], screen)) in prompt, "the question names another box"
        return words[0]
    if task == "order":
        side = 1 if "top to bottom" in prompt else 0
        return [" ".join(one["text"].split()) for one in sorted(chosen, key=lambda one: one["box"][side])]
    measure: Callable[[list[float]], float] = {
        "larger": lambda b: (b[0] - b[2]) * (b[3] - b[1]), "further left": lambda b: b[0], "higher up": lambda b: b[1],
    }[ask["value"]]  # fmt: skip
    return "A" if measure(chosen[0]["box"]) < measure(chosen[1]["box"]) else "B"


def tenth(seconds: float) -> float:
    return math.floor(Fraction(str(seconds)) * 10 + Fraction(1, 2)) / 10


def video(task: str, prompt: str, payload: Row, ask: Row) -> Any:
    if task == "count":
        return len(payload["shots"])
    start = ask["start_s"]
    scenes = {" ".join(scene["text"].split()): (scene["start"], scene["end"]) for scene in payload["scenes"]}
    if task == "interval":
        (text,) = (text for text in scenes if f"“{text}”" in prompt)
        return [[tenth(float(Fraction(str(edge)) - Fraction(str(start)))) for edge in scenes[text]]]
    options = {
        letter: next(span for text, span in scenes.items() if words == text.rstrip(".") or words == text)
        for letter, words in optioned_scenes(prompt, list(scenes)).items()
    }
    if task == "at":
        moment = float(re.search(r"([\d.]+) seconds", prompt)[1]) + start  # type: ignore[index]
        return min(options, key=lambda letter: abs(moment - sum(options[letter]) / 2))
    if task == "next":
        quoted = next(text for text in scenes if f"“{text}”" in prompt)
        after = "after" in prompt.split("“")[0] or "follows" in prompt.split("“")[0]
        begin, end = scenes[quoted]
        return min(options, key=lambda letter: abs(options[letter][0] - end) if after else abs(options[letter][1] - begin))
    if task == "duration":
        return max(options, key=lambda letter: options[letter][1] - options[letter][0])
    last = re.search(r"later|last", prompt.split(" A) ")[0]) is not None
    return (max if last else min)(options, key=lambda letter: options[letter][0])


def optioned_scenes(prompt: str, texts: list[str]) -> dict[str, str]:
    """Options that are descriptions: a description may hold anything, so it is looked for, not split."""
    return {letter: text for letter in "ABCDE" for text in texts if f" {letter}) {text}" in prompt}


def document(task: str, prompt: str, pages: dict[int, str], ask: Row) -> Any:
    run = {int(number): " ".join(pages[int(number)].split()) for number in ask["ids"]}
    quoted = re.findall(r"“([^”]*)”", prompt)
    if task == "mentions":
        pattern = re.compile(rf"(?<!\w){re.escape(quoted[0])}(?!\w)", re.I)
        return [str(number) for number, text in sorted(run.items()) if pattern.search(text)]
    starts = [next(number for number, text in run.items() if text.casefold().startswith(line.casefold())) for line in quoted]
    return starts[0] if task == "page" else "AB"[starts.index(min(starts))]


# ---- comparing --------------------------------------------------------------------------------------------------------


def plain(text: Any) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", str(text)).casefold())
    return " ".join(folded.split())


def sequence(value: Any) -> list[Any]:
    pieces = value if isinstance(value, list) else re.split(r"\s*[,×]\s*", str(value).strip("[] "))
    return [number_or_text(piece) for piece in pieces if str(piece).strip()]


def number_or_text(piece: Any) -> Any:
    bare = plain(piece).strip("'\"")
    try:
        return Fraction(bare)
    except ValueError:
        return bare


def same(given: str, truth: Any, verifier: str) -> bool:
    if verifier in ("boxes", "intervals"):
        return sorted(json.loads(given)) == sorted([list(map(float, one)) for one in truth])
    if verifier == "order":
        return sequence(given) == sequence(truth)
    if verifier in ("math", "count"):
        return Fraction(given) == Fraction(str(truth))
    return plain(given) == plain(truth)


class Source:
    """What a corpus knows of its sources, besides the samples that are checked."""

    def __init__(self, corpus: Path) -> None:
        sql = duckdb.connect()
        self.samples = sql.execute(
            "SELECT sample_id, task, source_ids, messages, reasoning FROM read_parquet(?, hive_partitioning=false) "
            "WHERE origin = 'synthesize' ORDER BY sample_id",
            [f"{corpus}/samples/**/*.parquet"],
        ).fetchall()
        self.payloads = {
            source_id: json.loads(payload)
            for source_id, payload in sql.execute(
                "SELECT source_id, payload FROM read_parquet(?, hive_partitioning=false)",
                [f"{corpus}/annotations/**/*.parquet"],
            ).fetchall()
        }
        self.pages: dict[str, dict[int, str]] = defaultdict(dict)
        self.tables: dict[str, Row] = {}
        curated = sql.execute(
            "SELECT task, messages FROM read_parquet(?, hive_partitioning=false) "
            "WHERE origin = 'curate' AND modality = 'document'",
            [f"{corpus}/samples/**/*.parquet"],
        ).fetchall()
        for task, messages in curated:
            parts = [part for message in messages for part in message["parts"]]
            by_page: dict[tuple[str, int], str] = defaultdict(str)
            for part in parts:
                origin = part["origin"]
                if part["text"] is not None and origin and origin["page"] is not None:
                    by_page[origin["source_id"], origin["page"]] += part["text"]
            for (source_id, page), words in by_page.items():
                if (len(words), words) > (len(self.pages[source_id].get(page, "")), self.pages[source_id].get(page, "")):
                    self.pages[source_id][page] = words
            if task == "document.table":
                lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in parts[-1]["text"].splitlines()]
                self.tables[parts[0]["visuals"][0]["media_id"]] = {"columns": lines[0], "rows": lines[2:]}


def truth_of(source: Source, task: str, source_id: str, user: Row, ask: Row) -> Any:
    prompt = user["parts"][-1]["text"]
    group, _, kind = task.removeprefix("reason.").partition(".")
    if group == "stem":
        return STEM[kind](prompt.removesuffix(" Answer directly, without reasoning.").strip())
    if group == "document":
        return document(kind, prompt, source.pages[source_id], ask)
    if group == "table":
        media_id = user["parts"][0]["visuals"][0]["media_id"]
        return table(kind, prompt, source.tables.get(media_id) or source.payloads[source_id], ask)
    work = {"gui": gui, "video": video, "image": image, "pair": pair, "film": film}[group]
    return work(kind, prompt, source.payloads[source_id], ask)


def recompute(corpus: Path) -> tuple[Counter[str], list[str]]:
    """How many answers of each task were recomputed, and what is wrong."""
    source, done, wrong = Source(corpus), Counter[str](), []
    for sample_id, task, source_ids, messages, reasoning in source.samples:
        if task.startswith("query."):  # a user's own question: its truth is in the user's file alone
            continue
        evidence = json.loads(reasoning["evidence"])
        response = messages[-1]["parts"][0]["text"]
        found = re.fullmatch(r"(?:<think>.*</think>\s*)?<answer>(.*)</answer>", response, re.S)
        answer = found[1] if found else "?"
        clues = re.search(r"\s*(\[\[.*\]\])$", answer) if evidence["ask"]["clues"] else None
        if clues is not None:
            answer = answer[: clues.start()]
            spans = {tuple(tenth(float(Fraction(str(e)) - Fraction(str(evidence["ask"]["start_s"])))) for e in span)
                     for span in evidence["intervals"]}  # fmt: skip
            if sorted(map(list, spans)) != sorted(json.loads(clues[1])):
                wrong.append(f"{task} {sample_id}: clues {clues[1]} are not {sorted(spans)}")
        elif evidence["ask"]["clues"]:
            wrong.append(f"{task} {sample_id}: clues are missing")
        try:
            truth = truth_of(source, task, source_ids[0], messages[0], evidence["ask"])
            right = same(answer, truth, reasoning["verifier"])
        except Exception as error:
            truth, right = f"{type(error).__name__}: {error}", False
        done[task] += 1
        if not right:
            wrong.append(f"{task} {sample_id}: {answer[:100]!r} is not {str(truth)[:100]!r}")
    return done, wrong


def main() -> None:
    """Prints what was found and exits with 1 if anything is wrong."""
    done, wrong = recompute(Path(sys.argv[1]))
    for task, count in sorted(done.items()):
        print(f"{count:6,} {task}")
    total = sum(done.values())
    print(
        f"{total:,} answers over {len(done)} tasks recomputed, {len(wrong)} wrong: {1 - len(wrong) / max(1, total):.2%} right"
    )
    for line in wrong[:20]:
        print(f"  {line}")
    sys.exit(bool(wrong) or not total)


if __name__ == "__main__":
    main()
