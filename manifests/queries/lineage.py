"""Questions about where things came from: of a sample, of a source, of a span of trained tokens, of a picture.

The ids that one table gives and the next is asked for go through a list (``SELECT unnest(ids) FROM (SELECT list(...) ...)``):
DuckDB then knows that they are few, and passes them to the files as a filter. As a plain subquery it took them for many and
read all of `samples`: 2 s of processor time instead of 0.2.
"""

from __future__ import annotations

from manifests.queries.question import RECIPE, Parameter, Question

_NAMES = """
    SELECT source_id, min(source) AS source FROM sources
    WHERE source_id IN (SELECT unnest(ids) FROM (SELECT list(DISTINCT source_id) AS ids FROM {spans})) GROUP BY source_id"""

LINEAGE = (
    Question(
        name="lineage-of-sample",
        asks="a sample's parts with their source seconds, pages and boxes, then the sequences that hold it",
        sql=f"""
WITH parts AS MATERIALIZED (
    SELECT message, part, min(token_start) AS token_start, max(token_end) AS token_end, source_id, min(start_s) AS start_s,
           max(end_s) AS end_s, page, box, count(frame) AS frames
    FROM lineage WHERE sample_id = $sample_id GROUP BY message, part, source_id, page, box
), names AS ({_NAMES.format(spans="parts")}
), rows AS (
    SELECT 1 AS kind, 'message ' || message || ' part ' || part AS what, token_start, token_end,
           coalesce(source, source_id) AS source, start_s, end_s, page, box, nullif(frames, 0) AS frames, NULL AS position
    FROM parts LEFT JOIN names USING (source_id)
    UNION ALL
    SELECT 2, recipe || ' stage ' || stage || ' ' || split, token_start, token_end, NULL, NULL, NULL, NULL, NULL, NULL, position
    FROM segments WHERE sample_id = $sample_id
)
SELECT * EXCLUDE (kind) FROM rows ORDER BY kind, position NULLS FIRST, token_start, token_end, what, source, page""",
        parameters=(Parameter(name="sample_id", meaning="the sample", required=True),),
    ),
    Question(
        name="lineage-of-source",
        asks="the samples made of a source, and the sequences that hold each",
        sql="""
WITH wanted AS (
    SELECT unnest(ids) AS source_id
    FROM (SELECT list(DISTINCT source_id) AS ids FROM sources WHERE source_id = $source OR source = $source)
), spans AS MATERIALIZED (
    SELECT sample_id, min(start_s) AS start_s, max(end_s) AS end_s, min(page) AS first_page, max(page) AS last_page,
           count(*) OVER () AS of_samples
    FROM lineage WHERE source_id IN (SELECT source_id FROM wanted) GROUP BY sample_id ORDER BY sample_id LIMIT $limit
), made AS MATERIALIZED (
    SELECT unnest(ids) AS sample_id FROM (SELECT list(sample_id) AS ids FROM spans)
), placed AS (
    SELECT sample_id, list(recipe || '/' || stage || '/' || split || '/' || position ORDER BY recipe, stage, split, position)
           AS sequences
    FROM segments WHERE sample_id IN (SELECT sample_id FROM made) GROUP BY sample_id
), described AS (
    SELECT sample_id, task, split, total_tokens FROM samples WHERE sample_id IN (SELECT sample_id FROM made)
)
SELECT sample_id, task, split, total_tokens, start_s, end_s, first_page, last_page, coalesce(len(sequences), 0) AS placed,
       sequences, of_samples
FROM described JOIN spans USING (sample_id) LEFT JOIN placed USING (sample_id) ORDER BY start_s, first_page, sample_id""",
        parameters=(
            Parameter(name="source", meaning="path or source_id of the source", required=True),
            Parameter(name="limit", meaning="samples at most, the smallest ids", kind=int, default=100),
        ),
    ),
    Question(
        name="lineage-of-span",
        asks="where tokens of a packed sequence came from: source and second, page or box of each span",
        sql=f"""
WITH held AS MATERIALIZED (
    SELECT sample_id, token_start AS base FROM segments
    WHERE stage = $stage AND position = $position AND split = $split AND token_end > $from AND token_start < $to
      AND ($recipe IS NULL OR recipe = $recipe)
), spans AS MATERIALIZED (
    SELECT base + l.token_start AS token_start, base + l.token_end AS token_end, l.* EXCLUDE (token_start, token_end)
    FROM held JOIN (
        SELECT * FROM lineage
        WHERE sample_id IN (SELECT unnest(ids) FROM (SELECT list(DISTINCT sample_id) AS ids FROM held))
    ) l USING (sample_id)
    WHERE base + l.token_end > $from AND base + l.token_start < $to
), names AS ({_NAMES.format(spans="spans")}
)
SELECT token_start, token_end, coalesce(source, source_id) AS source, start_s, end_s, page, box, frame, media_id, sample_id
FROM spans LEFT JOIN names USING (source_id) ORDER BY token_start, token_end, message, part, frame, source""",
        parameters=(
            Parameter(name="stage", meaning="0 to 3", kind=int, required=True),
            Parameter(name="position", meaning="the sequence's place in its stage", kind=int, required=True),
            Parameter(name="from", meaning="first token of the span", kind=int, default=0),
            Parameter(name="to", meaning="one past its last token", kind=int, default=2**31 - 1),
            Parameter(name="split", meaning="train or heldout", default="train"),
            RECIPE,
        ),
    ),
    Question(
        name="lineage-of-picture",
        asks="where a stored picture lies, and the samples that show it",
        sql=f"""
WITH shown AS MATERIALIZED (
    SELECT DISTINCT sample_id, source_id, start_s, page FROM lineage WHERE media_id = $media_id
), names AS ({_NAMES.format(spans="shown")}
)
SELECT sample_id, coalesce(source, shown.source_id) AS source, start_s, page, shard, "offset", length, height, width
FROM shown LEFT JOIN names USING (source_id) CROSS JOIN (SELECT * EXCLUDE (source_id) FROM media WHERE media_id = $media_id)
ORDER BY sample_id, start_s, page""",
        parameters=(Parameter(name="media_id", meaning="the picture", required=True),),
    ),
)
