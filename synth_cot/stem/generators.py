"""Which of `reasoning_gym`'s generators are asked, with which settings, and how an answer of each is derived and compared.

Chosen: generators that are fast, whose problems are short, and for which we write out the steps a careful person would take.
Left out though easy: ``isomorphic_strings`` (its problems depend on the process's string hash seed) and ``time_intervals``
(on today's date). Settings keep numbers small enough that those steps stay short. Seeds are a function of the recipe's seed
and the generator's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from manifests.fingerprint import sha256_bytes, unit_hash, value_id
from synth_cot.derivation import Derivation
from synth_cot.known import Known, Problem, Source
from synth_cot.stem import arithmetic, numbers, sequences, words

LICENCE = "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A generator as we use it.

    Attributes:
        derive: steps and answer from the problem's question and metadata; it never reads the generator's answer.
        verifier: what compares an answer with the generator's.
        capability: what its problems teach.
        settings: of the generator.
    """

    derive: Callable[[dict[str, Any]], Derivation]
    verifier: str
    capability: str
    settings: dict[str, Any] = field(default_factory=dict)


GENERATORS: dict[str, Generator] = {
    "base_conversion": Generator(derive=numbers.base_conversion, verifier="text", capability="arithmetic"),
    "basic_arithmetic": Generator(
        derive=arithmetic.basic_arithmetic, verifier="math", capability="arithmetic", settings={"max_terms": 5, "max_digits": 3}
    ),
    "chain_sum": Generator(derive=arithmetic.chain_sum, verifier="math", capability="arithmetic"),
    "count_bits": Generator(derive=numbers.count_bits, verifier="count", capability="arithmetic", settings={"max_n": 4095}),
    "count_primes": Generator(
        derive=numbers.count_primes, verifier="count", capability="number_theory", settings={"max_n": 80}
    ),
    "decimal_chain_sum": Generator(
        derive=arithmetic.chain_sum, verifier="math", capability="arithmetic", settings={"max_terms": 4, "max_digits": 3}
    ),
    "fraction_simplification": Generator(
        derive=numbers.fraction_simplification, verifier="math", capability="number_theory", settings={"styles": ("plain",)}
    ),
    "gcd": Generator(derive=numbers.greatest_common_divisor, verifier="math", capability="number_theory"),
    "lcm": Generator(derive=numbers.least_common_multiple, verifier="math", capability="number_theory"),
    "leg_counting": Generator(
        derive=arithmetic.leg_counting, verifier="count", capability="arithmetic", settings={"max_animals": 6}
    ),
    "letter_counting": Generator(derive=words.letter_counting, verifier="count", capability="counting"),
    "number_filtering": Generator(derive=sequences.number_filtering, verifier="order", capability="algorithms"),
    "number_sorting": Generator(derive=sequences.number_sorting, verifier="order", capability="algorithms"),
    "prime_factorization": Generator(derive=numbers.prime_factorization, verifier="order", capability="number_theory"),
    "products": Generator(derive=arithmetic.products, verifier="math", capability="arithmetic", settings={"max_digits": 4}),
    "simple_equations": Generator(derive=arithmetic.simple_equations, verifier="math", capability="algebra"),
    "spell_backward": Generator(derive=words.spell_backward, verifier="text", capability="algorithms"),
    "word_sorting": Generator(derive=sequences.word_sorting, verifier="order", capability="algorithms"),
}


def problems(generator: str, seed: int, count: int, heldout_share: float) -> list[Known]:
    """The first problems of a generator, each a source of its own; one that comes up again is the same source.

    Args:
        seed: of the recipe.
        count: how many.
        heldout_share: the share of problems on the held-out side, by hash of the problem.
    """
    if count == 0:
        return []
    import reasoning_gym

    start = int(unit_hash(seed, generator) * 2**31)
    settings = GENERATORS[generator].settings
    dataset = reasoning_gym.create_dataset(generator, seed=start, size=count, **settings)
    known = []
    for index in range(count):
        problem = Problem(place="", generator=generator, entry=dataset[index])
        # A problem is its text: the same text twice is one source, so it can never stand on both sides of the split.
        source_id = value_id({"generator": generator, "question": problem.question})
        source = Source(
            source_id=source_id,
            source=f"reasoning-gym/{generator}/{start}/{index}",
            split="heldout" if unit_hash(seed, source_id) < heldout_share else "train",
            licence=LICENCE,
            duplicate_cluster=source_id,
        )
        known.append(Known(source=source, payload={}, subjects=(problem,)))
    return known


def gym_score(problem: Problem, answer: str) -> float:
    """What `reasoning_gym`'s own scorer says of an answer, 0 to 1."""
    return float(_scorer(problem.generator)(answer, problem.entry))


@cache
def _scorer(generator: str) -> Callable[[str, dict[str, Any]], float]:
    """The scorer of a generator; making one can load a word list, so it is made once a process."""
    import reasoning_gym

    scorer: Callable[[str, dict[str, Any]], float] = reasoning_gym.get_score_answer_fn(generator)
    return scorer


def source_row(known: Known) -> dict[str, Any]:
    """The row of a problem in ``sources``, before its samples are counted."""
    import importlib.metadata

    (problem,) = known.subjects
    assert isinstance(problem, Problem)
    text = problem.question.encode()
    return {
        "source_id": known.source.source_id,
        "source": known.source.source,
        "modality": "text",
        "bytes": len(text),
        "sha256": sha256_bytes(text),
        "attached": [],
        "licence": known.source.licence,
        "came_from": f"reasoning-gym {importlib.metadata.version('reasoning-gym')}",
        "status": "filtered",
        "samples": 0,
        "tokens": 0,
        "duplicate_cluster": known.source.duplicate_cluster,
        "split": known.source.split,
    }
