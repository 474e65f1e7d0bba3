"""Ready questions about a corpus: named, with parameters, each one SELECT over the views of `manifests.catalog`.

A question reads few columns, or looks up ids whose Bloom filters spare it the rest, so that it answers within a second on ten
million samples (`benchmarks/named_queries.py`). Figures that a plan counted are read from `stages`, not counted again.
"""

from __future__ import annotations

from manifests.queries.intake import INTAKE
from manifests.queries.lineage import LINEAGE
from manifests.queries.planned import PLANNED
from manifests.queries.question import Parameter, Question, named, values_of

QUESTIONS: dict[str, Question] = {question.name: question for question in (*INTAKE, *PLANNED, *LINEAGE)}
"""By name, in the order of the road: what came in, what was planned, where it came from."""

__all__ = ["QUESTIONS", "Parameter", "Question", "named", "values_of"]
