"""Which language a text is in: py3langid (97 languages, its model in the package, no network, the same answer every time).

A classifier always names some language, so it is asked only about what is long enough, and its answer only drops a text when
it is certain. Programs, tables and boxes of controls are no language and are not judged.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from manifests.curate_spec import QualitySpec
from manifests.sample import Sample
from pipelines.hooks import words_of
from pipelines.quality import Refusal

LETTERS_MIN = 40
JUDGED_CHARACTERS = 4_000
JUDGED_TASKS = ("document.", "text.", "image.caption", "image.interleaved", "video.caption", "video.dense", "video.interleaved")
# What code, addresses and markup say is not said in a language.
_NO_WORDS = re.compile(r"```.*?```|`[^`\n]*`|https?://\S+|<[^>\n]{1,200}>|[\d_|#*=\[\](){}]+", re.DOTALL)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=256)
def language_of(words: str) -> tuple[str, float] | None:
    """ISO 639-1 code and probability of a text's language; None when it is too short to tell."""
    plain = " ".join(_NO_WORDS.sub(" ", words[:JUDGED_CHARACTERS]).split())
    # A sign of a script without spaces says as much as several letters.
    weight = sum((1 if sign < "\u3000" else 4) for sign in plain if sign.isalpha())
    if weight < LETTERS_MIN:
        return None
    code, certainty = _identifier().classify(plain)
    return str(code), round(float(certainty), 4)


def judge_language(sample: Sample, spec: QualitySpec) -> tuple[dict[str, float], Refusal | None]:
    """The score ``language.CODE`` of a sample in words, and why it is dropped when that language is not wanted."""
    found = language_of(words_of(sample)) if sample.task.startswith(JUDGED_TASKS) else None
    if found is None:
        return {}, None
    code, certainty = found
    score = {f"language.{code}": certainty}
    if not spec.languages or code in spec.languages or certainty < spec.language_certainty_min:
        return score, None
    detail = f"it is {code} ({certainty:.0%}), not one of curate.quality.languages={','.join(spec.languages)}"
    return score, Refusal(stage="language", reason="language", detail=detail)
