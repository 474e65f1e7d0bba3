"""The families of questions: one module each, with ``TASK``, ``candidates`` and ``build`` (`synth_cot.question.Family`).

A family computes the truth from the annotation and refuses, with a reason, what has no single answer or needs no looking.
"""

from __future__ import annotations

import importlib
from functools import cache

from synth_cot.question import Family

_MODULES = (
    "document_mentions",
    "document_order",
    "document_page",
    "film_count",
    "film_intervals",
    "film_longest",
    "film_meet",
    "film_order",
    "film_sequence",
    "film_together",
    "film_visible",
    "gui_compare",
    "gui_count",
    "gui_locate",
    "gui_order",
    "gui_read",
    "image_count",
    "image_difference",
    "image_locate",
    "image_relation",
    "pair_count",
    "pair_kind",
    "pair_locate",
    "stem",
    "table_cell",
    "table_most",
    "table_sum",
    "user_query",
    "video_at",
    "video_count",
    "video_duration",
    "video_interval",
    "video_next",
    "video_order",
)


@cache
def families() -> tuple[Family, ...]:
    """Every family, in a fixed order."""
    return tuple(importlib.import_module(f"synth_cot.questions.{module}") for module in _MODULES)
