"""Questions about what came in: inputs, buckets, tasks, what was dropped and why, copies, licences, splits, costs."""

from __future__ import annotations

from manifests.queries.question import LIMIT, Parameter, Question

INTAKE = (
    Question(
        name="inputs",
        asks="inputs by modality and what became of them",
        sql="""
SELECT modality, status, count(*) AS inputs, sum(bytes) AS bytes, sum(samples) AS samples, sum(tokens) AS tokens
FROM sources GROUP BY ALL ORDER BY ALL""",
    ),
    Question(
        name="buckets",
        asks="samples, tokens and hours of video by context and duration bucket",
        sql="""
SELECT context_bucket, duration_bucket, count(*) AS samples, sum(total_tokens) AS tokens,
       round(sum(visual_tokens) / greatest(sum(total_tokens), 1), 4) AS visual_share,
       round(sum(duration_s) / 3600, 2) AS video_hours
FROM samples GROUP BY ALL ORDER BY max(total_tokens), duration_bucket""",
    ),
    Question(
        name="tasks",
        asks="samples and tokens by task, the largest first",
        sql="""
SELECT task, origin, count(*) AS samples, sum(total_tokens) AS tokens,
       round(sum(total_tokens) / sum(sum(total_tokens)) OVER (), 4) AS share, round(avg(total_tokens)) AS mean_tokens
FROM samples GROUP BY ALL ORDER BY tokens DESC, task, origin""",
    ),
    Question(
        name="drops",
        asks="what was dropped, by stage and reason, with an example",
        sql="""
SELECT stage, reason, count(*) AS dropped, count(*) FILTER (task IS NULL) AS whole_sources,
       min(source) AS example, arg_min(detail, source) AS detail
FROM dropped GROUP BY ALL ORDER BY count(*) DESC, stage, reason""",
    ),
    Question(
        name="quarantine",
        asks="inputs that could not be read, by stage and reason, with an example",
        sql="""
SELECT stage, reason, count(*) AS inputs, round(count(*) / (SELECT count(*) FROM sources), 4) AS share_of_inputs,
       min(source) AS example, arg_min(detail, source) AS detail
FROM quarantine GROUP BY ALL ORDER BY inputs DESC, stage, reason""",
    ),
    Question(
        name="duplicates",
        asks="clusters of copies, the largest first: what is kept and how many are not",
        sql="""
WITH clusters AS (SELECT DISTINCT duplicate_cluster FROM sources WHERE duplicate_cluster <> source_id)
SELECT duplicate_cluster, modality, split, count(*) AS sources, count(*) FILTER (status = 'used') AS kept,
       min(source) FILTER (status = 'used') AS kept_source, min(source) FILTER (status <> 'used') AS example_dropped
FROM sources WHERE duplicate_cluster IN (SELECT duplicate_cluster FROM clusters)
GROUP BY ALL ORDER BY sources DESC, duplicate_cluster LIMIT $limit""",
        parameters=(LIMIT,),
    ),
    Question(
        name="licences",
        asks="samples and tokens by licence",
        sql="""
SELECT licence, count(*) AS samples, sum(total_tokens) AS tokens,
       round(sum(total_tokens) / sum(sum(total_tokens)) OVER (), 4) AS share
FROM samples GROUP BY ALL ORDER BY tokens DESC, licence""",
    ),
    Question(
        name="splits",
        asks="train against held-out by modality",
        sql="""
SELECT modality, count(*) FILTER (split = 'train') AS train, count(*) FILTER (split = 'heldout') AS heldout,
       coalesce(sum(total_tokens) FILTER (split = 'train'), 0) AS train_tokens,
       coalesce(sum(total_tokens) FILTER (split = 'heldout'), 0) AS heldout_tokens,
       round(heldout_tokens / greatest(train_tokens + heldout_tokens, 1), 4) AS heldout_share
FROM samples GROUP BY modality ORDER BY modality""",
    ),
    Question(
        name="longest",
        asks="the longest samples",
        sql="""
WITH top AS (
    SELECT sample_id, task, split, total_tokens, visual_tokens, round(duration_s, 1) AS seconds, source_ids[1] AS source_id
    FROM samples WHERE $task IS NULL OR task = $task ORDER BY total_tokens DESC, sample_id LIMIT $limit
)
SELECT sample_id, task, top.split, total_tokens, visual_tokens, seconds, min(source) AS source
FROM top LEFT JOIN sources USING (source_id) GROUP BY ALL ORDER BY total_tokens DESC, sample_id""",
        parameters=(Parameter(name="task", meaning="only this task"), LIMIT),
    ),
    Question(
        name="top-sources",
        asks="the sources that give the most tokens, and their share of the corpus",
        sql="""
SELECT source, modality, split, samples, tokens, round(tokens / (SELECT sum(tokens) FROM sources), 6) AS share, source_id
FROM sources WHERE samples > 0 ORDER BY tokens DESC, samples DESC, source_id LIMIT $limit""",
        parameters=(LIMIT,),
    ),
    Question(
        name="cost",
        asks="what an accepted reasoning sample cost, by task and teacher",
        sql="""
WITH kept AS (
    SELECT task, reasoning.teacher AS teacher, count(*) AS accepted, sum(reasoning.cost_usd) AS usd
    FROM samples WHERE reasoning IS NOT NULL GROUP BY ALL
)
SELECT task, teacher, coalesce(c.accepted, k.accepted) AS kept, questions, requests,
       round(coalesce(c.usd, k.usd), 6) AS cost_usd, round(coalesce(c.usd, k.usd) / nullif(kept, 0), 6) AS usd_each,
       round(tokens_per_accepted) AS tokens_each, round(seconds_per_accepted, 3) AS seconds_each,
       round(pass_rate, 4) AS pass_rate
FROM kept k FULL JOIN costs c USING (task, teacher) ORDER BY cost_usd DESC, task, teacher""",
    ),
    Question(
        name="runs",
        asks="the log: which step ran when, for how long, and how it ended",
        sql="""
SELECT started, step, recipe, round(seconds, 1) AS seconds, outcome FROM runs ORDER BY started DESC, step LIMIT $limit""",
        parameters=(LIMIT,),
    ),
)
