"""Which texts are worth learning from: long enough, printable, in words, not one phrase over and over. Keep, or a reason.

Of a whole source (`keep`): length, characters that print, repetition by compression and by lines.

Of every sample of prose (`judge_text`), rules known from MassiveText (Rae et al. 2021, "Gopher", table A1) and C4 (Raffel et
al. 2020, section 2.2), each with a name that ``curate.quality.text_rules`` may leave out:

- ``repetition``: the most frequent run of 2, 3 or 4 words covers more than 70 % of the characters (Gopher: 20 to 16); more than
  40 % of the lines were there before (Gopher: 30).
- ``symbols``: more than one hash or ellipsis for ten words, or 30 % of lines that end in an ellipsis (Gopher).
- ``no_words``: fewer than 60 % of the words and numbers have a letter (Gopher: 80), or they are on average shorter than 3 or
  longer than 10 letters (Gopher).
- ``filler``: "lorem ipsum", or nothing but notices that ask for JavaScript or cookies (C4).

Limits are wider than Gopher's, which are made for whole web pages: a piece of a manual with its examples, a history full of
dates, a list of alike entries are good, and reach 31 %, 30 % and 63 %. Left out on purpose: C4's rules that every line must end
in punctuation and that a text with a curly bracket is no text would drop manuals and lists; Gopher's stop words and its 90 %
of bullets would drop tables of contents and other languages than English.
Rules count words, so texts of scripts without spaces are judged for repetition of lines and filler only; code never is.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator

from manifests.curate_spec import QualitySpec
from manifests.sample import Sample
from pipelines.hooks import words_of
from pipelines.items import Filtered
from pipelines.quality import Refusal

CONTROL_SHARE_MAX = 0.02
COMPRESSED_SHARE_MIN = 0.06
REPEATED_SHARE_MAX = 0.6
REPEATED_LINE_MIN = 12
PROSE_TASKS = ("document.text", "document.long", "text.plain")
WORDS_MIN = 50
RUNS = (2, 3, 4)
RUN_SHARE_MAX = 0.7
LINES_REPEATED_MAX = 0.4
SYMBOLS_MAX = 0.1
ELLIPSES_MAX = 0.3
LETTERED_MIN = 0.6
WORD_LENGTHS = (3.0, 10.0)
_SYMBOL = re.compile(r"#+|\.\.\.|…")
_NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_NOTICE = re.compile(r"\b(javascript|cookies?)\b", re.IGNORECASE)


def quality(words: str) -> dict[str, float]:
    """Scores of a text: share of characters that do not print, share of it in repeated lines, compressed size over size."""
    if not words:
        return {"unprintable_share": 0.0, "repeated_share": 0.0, "compressed_share": 1.0}
    bad = sum(
        (not character.isprintable() and character not in "\n\t\r\f\u200b\u00ad") or character == "\ufffd"
        for character in words
    )
    lines = [line.strip() for line in words.splitlines()]
    lines = [line for line in lines if len(line) >= REPEATED_LINE_MIN]
    total = sum(len(line) for line in lines)
    repeated = sum(len(line) * (count - 1) for line, count in Counter(lines).items())
    data = words.encode("utf-8", "replace")
    return {
        "unprintable_share": round(bad / len(words), 4),
        "repeated_share": round(repeated / total, 4) if total else 0.0,
        "compressed_share": round(len(zlib.compress(data, 6)) / len(data), 4),
    }


def keep(words: str, tokens: int, tokens_min: int) -> dict[str, float]:
    """The scores of a text that is kept.

    Raises:
        Filtered: it is too short, does not print, or repeats itself.
    """
    if tokens < tokens_min:
        raise Filtered("too_short", f"{tokens} tokens are fewer than curate.text_tokens_min={tokens_min}")
    scores = quality(words)
    if scores["unprintable_share"] > CONTROL_SHARE_MAX:
        share = scores["unprintable_share"]
        raise Filtered("non_printable", f"{share:.1%} of its characters do not print; {CONTROL_SHARE_MAX:.0%} are allowed")
    if len(words) > 2_000 and scores["compressed_share"] < COMPRESSED_SHARE_MIN:
        detail = f"it compresses to {scores['compressed_share']:.1%} of its size; {COMPRESSED_SHARE_MIN:.0%} are the least"
        raise Filtered("repetition", detail)
    if len(words) > 2_000 and scores["repeated_share"] > REPEATED_SHARE_MAX:
        detail = f"{scores['repeated_share']:.1%} of it are lines that it already had; {REPEATED_SHARE_MAX:.0%} are allowed"
        raise Filtered("repetition", detail)
    return scores


def judge_text(sample: Sample, spec: QualitySpec) -> Refusal | None:
    """A sample of prose by the rules that the recipe names; samples of anything else are kept."""
    if sample.task not in PROSE_TASKS:
        return None
    for rule, detail in _broken(words_of(sample)):
        if rule in spec.text_rules:
            return Refusal(stage="text", reason=rule, detail=detail)
    return None


def _broken(text: str) -> Iterator[tuple[str, str]]:
    """The rules that a text breaks, each with what was measured."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "lorem ipsum" in text.lower():
        yield "filler", "it says lorem ipsum"
    if lines and all(_NOTICE.search(line) for line in lines):
        yield "filler", "every line is about JavaScript or cookies"
    long_lines = [line for line in lines if len(line) >= REPEATED_LINE_MIN]
    again = len(long_lines) - len(set(long_lines))
    if len(long_lines) >= 10 and again > LINES_REPEATED_MAX * len(long_lines):
        yield "repetition", f"{again} of {len(long_lines)} lines were there before; {LINES_REPEATED_MAX:.0%} are allowed"
    words = text.split()
    if len(words) < WORDS_MIN or len(_NO_SPACES.findall(text)) > 0.2 * len(text):
        return
    characters = sum(map(len, words))
    # Rows of dots that lead to a page number, and bars of tables, are no words.
    told = [word for word in words if any(sign.isalnum() for sign in word)]
    for length in RUNS:
        runs = Counter(zip(*(told[start:] for start in range(length)), strict=False))
        run, count = max(runs.items(), key=lambda item: (item[1] * sum(map(len, item[0])), item[0]), default=((), 0))
        share = count * sum(map(len, run)) / characters
        if count > 1 and share > RUN_SHARE_MAX:
            yield "repetition", f"{' '.join(run)[:60]!r} is {share:.0%} of it; {RUN_SHARE_MAX:.0%} are allowed"
    symbols = len(_SYMBOL.findall(text))
    if symbols > SYMBOLS_MAX * len(words):
        yield "symbols", f"{symbols} hashes or ellipses among {len(words)} words; one in {1 / SYMBOLS_MAX:.0f} is allowed"
    open_ends = sum(line.endswith(("...", "…")) for line in lines)
    if open_ends > ELLIPSES_MAX * len(lines):
        yield "symbols", f"{open_ends} of {len(lines)} lines end in an ellipsis; {ELLIPSES_MAX:.0%} are allowed"
    lettered = sum(any(sign.isalpha() for sign in word) for word in told)
    if lettered < LETTERED_MIN * len(told) or not told:
        yield "no_words", f"{lettered} of {len(told)} words and numbers have a letter; {LETTERED_MIN:.0%} are the least"
    mean = characters / len(words)
    if not WORD_LENGTHS[0] <= mean <= WORD_LENGTHS[1]:
        yield (
            "no_words",
            f"its words are {mean:.1f} characters long on average; {WORD_LENGTHS[0]:g} to {WORD_LENGTHS[1]:g} are allowed",
        )
