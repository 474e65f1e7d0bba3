"""Questions about a plan: its stages, mixture against target, fill, balance, repeats."""

from __future__ import annotations

from manifests.queries.question import RECIPE, Parameter, Question

PLANNED = (
    Question(
        name="stages",
        asks="the planned stages: sequences, tokens, fill, steps",
        sql="""
SELECT recipe, stage, name, context, sequences, heldout_sequences, segments, tokens,
       round(visual_tokens / greatest(tokens, 1), 4) AS visual_share, fill, steps
FROM stages WHERE $recipe IS NULL OR recipe = $recipe ORDER BY recipe, stage""",
        parameters=(RECIPE,),
    ),
    Question(
        name="mixture",
        asks="the mixture against its target: tokens wanted and placed, what is missing, epochs",
        sql="""
WITH parts AS (
    SELECT recipe, stage, unnest(from_json(shortfall->'$.ingredients',
        '[{"task": "VARCHAR", "wanted": "BIGINT", "placed": "BIGINT", "available": "BIGINT", "epochs": "DOUBLE"}]')) AS part
    FROM stages WHERE $recipe IS NULL OR recipe = $recipe
)
SELECT recipe, stage, part.task AS ingredient, part.wanted AS wanted, part.placed AS placed,
       round(part.wanted / greatest(sum(part.wanted) OVER each_stage, 1), 4) AS target_share,
       round(part.placed / greatest(sum(part.placed) OVER each_stage, 1), 4) AS share,
       greatest(part.wanted - part.placed, 0) AS missing, part.available AS available, part.epochs AS epochs
FROM parts WINDOW each_stage AS (PARTITION BY recipe, stage) ORDER BY recipe, stage, target_share DESC, ingredient""",
        parameters=(RECIPE,),
    ),
    Question(
        name="left-out",
        asks="training samples that a stage does not use, by reason",
        sql="""
WITH parts AS (
    SELECT recipe, stage, unnest(map_entries(from_json(shortfall->'$.left_out', '"MAP(VARCHAR, BIGINT)"'))) AS part
    FROM stages WHERE $recipe IS NULL OR recipe = $recipe
)
SELECT recipe, stage, part.key AS reason, part.value AS samples FROM parts WHERE part.value > 0
ORDER BY recipe, stage, samples DESC, reason""",
        parameters=(RECIPE,),
    ),
    Question(
        name="fill",
        asks="how full the packed sequences are",
        sql="""
SELECT recipe, stage, split, count(*) AS sequences, round(sum(tokens) / sum(capacity), 6) AS fill,
       round(min(tokens / capacity), 4) AS emptiest, count(*) FILTER (tokens < 0.5 * capacity) AS below_50,
       count(*) FILTER (tokens < 0.9 * capacity) AS below_90, count(*) FILTER (tokens >= 0.99 * capacity) AS from_99,
       round(sum(segments) / count(*), 1) AS samples_each
FROM sequences WHERE $recipe IS NULL OR recipe = $recipe GROUP BY recipe, stage, split ORDER BY recipe, stage, split DESC""",
        parameters=(RECIPE,),
    ),
    Question(
        name="balance",
        asks="how even the optimiser steps are: the costliest step over the mean step",
        sql="""
WITH steps AS (
    SELECT q.recipe, q.stage, q.position // p.per_step AS step, sum(q.attention_cost) AS attention, sum(q.tokens) AS tokens,
           sum(q.flops) AS flops, sum(q.visual_tokens) AS visual, count(*) AS sequences, any_value(p.per_step) AS per_step
    FROM sequences q JOIN (
        SELECT recipe, stage,
               CAST(json_extract_string(specification, '$.stages[' || stage || '].sequences_per_step') AS INTEGER) AS per_step
        FROM stages WHERE $recipe IS NULL OR recipe = $recipe
    ) p USING (recipe, stage) WHERE q.split = 'train' GROUP BY q.recipe, q.stage, step
)
SELECT recipe, stage, any_value(per_step) AS sequences_a_step, count(*) AS steps,
       round(max(flops) / avg(flops), 4) AS flops_max_over_mean,
       round(max(attention) / avg(attention), 4) AS attention_max_over_mean,
       round(max(tokens) / avg(tokens), 4) AS tokens_max_over_mean,
       round(max(visual) / greatest(avg(visual), 1), 4) AS visual_max_over_mean
FROM steps WHERE sequences = per_step GROUP BY recipe, stage ORDER BY recipe, stage""",
        parameters=(RECIPE,),
    ),
    Question(
        name="repeats",
        asks="how often samples come again within a stage",
        sql="""
WITH placed AS (
    SELECT recipe, stage, epoch, count(*) AS samples, sum(token_end - token_start) AS tokens
    FROM segments WHERE split = 'train' AND ($recipe IS NULL OR recipe = $recipe) GROUP BY recipe, stage, epoch
)
SELECT recipe, stage, epoch + 1 AS time_placed, samples, tokens,
       round(samples / max(samples) OVER (PARTITION BY recipe, stage), 4) AS share_of_distinct
FROM placed ORDER BY recipe, stage, epoch""",
        parameters=(RECIPE,),
    ),
    Question(
        name="stage-sources",
        asks="the sources that give a stage the most tokens, and their share of it",
        sql="""
WITH parts AS (
    SELECT recipe, stage, tokens AS stage_tokens,
           unnest(from_json(top_sources, '[{"source_id": "VARCHAR", "tokens": "BIGINT"}]')) AS part
    FROM stages WHERE ($recipe IS NULL OR recipe = $recipe) AND ($stage IS NULL OR stage = $stage)
), ranked AS (
    SELECT recipe, stage, part.source_id AS source_id, part.tokens AS tokens, part.tokens / greatest(stage_tokens, 1) AS share
    FROM parts QUALIFY row_number() OVER (PARTITION BY recipe, stage ORDER BY part.tokens DESC, part.source_id) <= $limit
)
SELECT recipe, stage, min(source) AS source, tokens, round(share, 6) AS share, source_id
FROM ranked LEFT JOIN (
    SELECT source_id, source FROM sources
    WHERE source_id IN (SELECT unnest(ids) FROM (SELECT list(DISTINCT source_id) AS ids FROM ranked))
) USING (source_id) GROUP BY ALL ORDER BY recipe, stage, tokens DESC, source_id""",
        parameters=(
            RECIPE,
            Parameter(name="stage", meaning="only this stage", kind=int),
            Parameter(name="limit", meaning="sources of a stage at most, up to 100", kind=int, default=10),
        ),
    ),
)
