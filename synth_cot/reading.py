"""What there is to ask about: annotated sources with the texts and tables of curated samples, problems, drawings, queries."""

from __future__ import annotations

from typing import Any

from manifests.catalog import Catalog
from manifests.corpus import Corpus
from manifests.progress import Progress, silent
from manifests.recipe import Recipe
from synth_cot.known import from_annotation
from synth_cot.made.sources import planned
from synth_cot.query_files import read_query_files
from synth_cot.stem.generators import GENERATORS, problems
from synth_cot.work import Item


def read_items(corpus: Corpus, recipe: Recipe, progress: Progress = silent) -> list[Item]:
    """Every annotated source in the order of identifiers, every problem in the order of generators, what is drawn, queries.

    Raises:
        UsageError: a file of questions is not one.
    """
    catalog = Catalog(corpus.folder)
    query = "SELECT * FROM annotations ORDER BY source_id, kind"
    rows = catalog.sql(query).to_arrow_table().to_pylist()
    documents = any(row["kind"] == "document" for row in rows)
    texts, tables = (_page_texts(catalog), _tables(catalog)) if documents else ({}, {})
    forms = recipe.curate.video_forms
    items: list[Item] = [
        from_annotation(row, forms, texts.get(row["source_id"], {}), tables.get(row["source_id"], ()))
        if row["kind"] == "document"
        else from_annotation(row, forms, {})
        for row in rows
    ]
    for done, generator in enumerate(sorted(GENERATORS)):
        progress("problems", done, len(GENERATORS), generator)
        items += problems(generator, recipe.synth.seed, recipe.synth.stem_problems, recipe.curate.heldout_share)
    return items + list(planned(recipe)) + read_query_files(recipe)


def read_stored_sizes(corpus: Corpus) -> dict[str, tuple[int, int]]:
    """Height and width in pixels of every stored picture, by media_id."""
    rows = Catalog(corpus.folder).sql("SELECT media_id, height, width FROM media").fetchall()
    return {media_id: (height, width) for media_id, height, width in rows}


def _page_texts(catalog: Catalog) -> dict[str, dict[int, str]]:
    """The text of every page by source: the longest that any curated sample holds for it."""
    query = """
        WITH turns AS (
            SELECT sample_id, unnest(messages) AS turn, generate_subscripts(messages, 1) AS m FROM samples
            WHERE origin = 'curate' AND modality = 'document'
        ), parts AS (
            SELECT sample_id, m, unnest(turn.parts) AS part, generate_subscripts(turn.parts, 1) AS p FROM turns
        ), pages AS (
            SELECT part.origin.source_id AS source_id, part.origin.page AS page,
                   string_agg(part.text, '' ORDER BY m, p) AS words
            FROM parts WHERE part.kind = 'text' AND part.origin.page IS NOT NULL
            GROUP BY sample_id, part.origin.source_id, part.origin.page
        )
        SELECT source_id, page, words FROM pages ORDER BY source_id, page, length(words), words
    """
    texts: dict[str, dict[int, str]] = {}
    for source_id, page, text in catalog.sql(query).fetchall():
        texts.setdefault(source_id, {})[page] = text
    return texts


def _tables(catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    """The tables that curated samples show, by source: the picture, its place, and the cells of the Markdown beside it."""
    query = """
        SELECT source_ids[1] AS source_id, messages[1].parts[1].visuals[1].media_id AS media_id,
               messages[1].parts[1].origin.page AS page, messages[1].parts[1].origin.box AS area,
               messages[2].parts[1].text AS words
        FROM samples WHERE origin = 'curate' AND task = 'document.table' AND messages[1].parts[1].kind = 'image'
        ORDER BY source_id, sample_id
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    for source_id, media_id, page, area, words in catalog.sql(query).fetchall():
        lines = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in words.splitlines()]
        columns, rows = lines[0], lines[2:]
        if rows and all(len(row) == len(columns) for row in rows):
            table = {"media_id": media_id, "page": page, "area": area, "columns": columns, "rows": rows}
            tables.setdefault(source_id, []).append(table)
    return tables
