"""The tables of a corpus: every column with its type, unit and meaning. Parquet files carry these descriptions as metadata.

Versioning: `VERSION` is written into every file and into the record of the step that wrote it. Whoever adds, renames or removes
a column adds a line to `manifests.migration.CHANGES` under the version that is not released yet; a change of meaning is a
removal and an addition. Readers open every older version through those lines, and refuse a newer one.
"""

from __future__ import annotations

import pyarrow as pa

VERSION = 2


def _column(name: str, kind: pa.DataType, meaning: str, *, null: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={"meaning": meaning})


def _schema(table: str, *columns: pa.Field) -> pa.Schema:
    return pa.schema(columns, metadata={"longreel.table": table, "longreel.version": str(VERSION)})


_VISUAL = pa.struct(
    [
        _column("media_id", pa.string(), "the stored picture, a row of media"),
        _column("height", pa.int32(), "pixels as shown"),
        _column("width", pa.int32(), "pixels as shown"),
        _column("time_s", pa.float64(), "second of the source video", null=True),
        _column("label_s", pa.float64(), "second that the text before the frame says", null=True),
    ]
)
_ORIGIN = pa.struct(
    [
        _column("source_id", pa.string(), "the source"),
        _column("start_s", pa.float64(), "from second", null=True),
        _column("end_s", pa.float64(), "to second", null=True),
        _column("page", pa.int32(), "1-based page", null=True),
        _column("box", pa.list_(pa.float64()), "x0, y0, x1, y1 in pixels of the source picture", null=True),
    ]
)
_PART = pa.struct(
    [
        _column("kind", pa.string(), "text, image or video"),
        _column("text", pa.string(), "the words of a text part", null=True),
        _column("visuals", pa.list_(_VISUAL), "the picture, or the frames in order", null=True),
        _column("origin", _ORIGIN, "where it came from; null for what this project wrote", null=True),
    ]
)
_MESSAGE = pa.struct(
    [
        _column("role", pa.string(), "system, user or assistant"),
        _column("parts", pa.list_(_PART), "its parts in order"),
    ]
)
_REASONING = pa.struct(
    [
        _column("teacher", pa.string(), "who wrote the answer"),
        _column("verifier", pa.string(), "what checked it"),
        _column("verifier_version", pa.string(), "of the verifier"),
        _column("truth", pa.string(), "the known answer"),
        _column("score", pa.float64(), "0 to 1"),
        _column("evidence", pa.string(), "JSON: intervals, boxes and pages that the answer rests on"),
        _column("cost_usd", pa.float64(), "what the answer cost"),
    ]
)


SOURCES = _schema(
    "sources",
    _column("source_id", pa.string(), "first 32 hex digits of SHA-256 of the source's bytes and its attached files"),
    _column(
        "source",
        pa.string(),
        "path relative to the input it was found under, or the name of a generator and its problem",
    ),
    _column("modality", pa.string(), "video, document, image, gui, trace, text; unknown when unreadable"),
    _column("bytes", pa.int64(), "size in bytes, attached files included"),
    _column("sha256", pa.string(), "SHA-256 of the source's own bytes", null=True),
    _column("attached", pa.list_(pa.string()), "paths of sidecar files that belong to it"),
    _column("licence", pa.string(), "SPDX identifier, or 'unknown'"),
    _column("came_from", pa.string(), "where the file came from, as the inputs' SOURCES.json says", null=True),
    _column("status", pa.string(), "used, filtered or quarantined: each input has exactly one"),
    _column("samples", pa.int64(), "samples kept that the same step made of it"),
    _column("tokens", pa.int64(), "total_tokens of these samples", null=True),
    _column("duplicate_cluster", pa.string(), "smallest source_id among its exact and near-duplicates", null=True),
    _column("split", pa.string(), "train or heldout", null=True),
)
SAMPLES = _schema(
    "samples",
    _column("sample_id", pa.string(), "first 32 hex digits of the hash of task and content"),
    _column("origin", pa.string(), "the step that made it: curate or synthesize"),
    _column("task", pa.string(), "dotted task name, e.g. video.caption, gui.locate, stem.chain_sum"),
    _column("capabilities", pa.list_(pa.string()), "what it teaches"),
    _column("modality", pa.string(), "video, document, image, gui or text"),
    _column("split", pa.string(), "train or heldout; all pieces of one duplicate cluster are on one side"),
    _column("source_ids", pa.list_(pa.string()), "every source it draws on"),
    _column("messages", pa.list_(_MESSAGE), "chat turns of ordered text and media parts; see manifests/sample.py"),
    _column("text_tokens", pa.int32(), "tokens that are not pictures, chat markers included"),
    _column("visual_tokens", pa.int32(), "picture tokens"),
    _column("total_tokens", pa.int32(), "text_tokens + visual_tokens: its length in a packed sequence"),
    _column("learned_tokens", pa.int32(), "tokens that carry next-token loss"),
    _column("context_bucket", pa.string(), "32k, 64k or 256k: the smallest that holds it under the recipe's edges"),
    _column("duration_bucket", pa.string(), "15s, 15min or 2h; null without video", null=True),
    _column("duration_s", pa.float64(), "seconds of video", null=True),
    _column("quality", pa.map_(pa.string(), pa.float64()), "scores by name, rounded to 4 decimals"),
    _column("duplicate_cluster", pa.string(), "of its sources"),
    _column("licence", pa.string(), "SPDX identifiers of its sources, joined by AND"),
    pa.field("reasoning", _REASONING, metadata={"meaning": "teacher, verifier, truth and evidence of a verified sample"}),
    _column("fingerprint", pa.string(), "of the code and configuration that made it"),
)
MEDIA = _schema(
    "media",
    _column("media_id", pa.string(), "first 32 hex digits of sha256"),
    _column("shard", pa.string(), "tar file, relative to the corpus"),
    _column("offset", pa.int64(), "first byte of the picture in the shard"),
    _column("length", pa.int64(), "bytes of the picture"),
    _column("sha256", pa.string(), "SHA-256 of the picture's bytes"),
    _column("extension", pa.string(), "jpg or png"),
    _column("height", pa.int32(), "stored pixels"),
    _column("width", pa.int32(), "stored pixels"),
    _column("source_id", pa.string(), "the source it was first taken from (smallest source_id); lineage has all"),
)
LINEAGE = _schema(
    "lineage",
    _column("sample_id", pa.string(), "the sample"),
    _column("message", pa.int32(), "index of the turn"),
    _column("part", pa.int32(), "index of the part in the turn"),
    _column("frame", pa.int32(), "index of the frame in a video part", null=True),
    _column("token_start", pa.int32(), "first token of the span within the sample"),
    _column("token_end", pa.int32(), "one past its last token"),
    _column("source_id", pa.string(), "where it came from; null for text this project wrote", null=True),
    _column("start_s", pa.float64(), "seconds in the source video", null=True),
    _column("end_s", pa.float64(), "seconds in the source video", null=True),
    _column("page", pa.int32(), "1-based page of the source document; the line of a .jsonl, the file of a tree", null=True),
    _column("box", pa.list_(pa.float64()), "x0, y0, x1, y1 in pixels of the source picture", null=True),
    _column("media_id", pa.string(), "the stored picture", null=True),
)
QUARANTINE = _schema(
    "quarantine",
    _column("source", pa.string(), "path relative to the input it was found under"),
    _column("source_id", pa.string(), "identity of its bytes; null when they could not be read", null=True),
    _column("stage", pa.string(), "probe, decode, extract, check or limit: where it failed"),
    _column("reason", pa.string(), "short name, stable across versions"),
    _column("detail", pa.string(), "what exactly was wrong"),
)
DROPPED = _schema(
    "dropped",
    _column("source", pa.string(), "path of the source"),
    _column("source_id", pa.string(), "identity of the source"),
    _column("sample_id", pa.string(), "the sample that was dropped; null when the whole source was", null=True),
    _column("task", pa.string(), "task of the dropped sample", null=True),
    _column("stage", pa.string(), "filter, duplicates, licence, bucket or verify"),
    _column("reason", pa.string(), "short name, stable across versions"),
    _column("detail", pa.string(), "what was compared with what"),
)
ANNOTATIONS = _schema(
    "annotations",
    _column("source_id", pa.string(), "the source that is described"),
    _column("source", pa.string(), "its path"),
    _column(
        "kind",
        pa.string(),
        "gui, trace, video, document, image, pasted, tree; drawn by synthesize: shapes, edits, events, table",
    ),
    _column("split", pa.string(), "train or heldout, as its samples"),
    _column("licence", pa.string(), "SPDX identifier"),
    _column("duplicate_cluster", pa.string(), "as its samples"),
    _column("payload", pa.string(), "JSON of known truth, by kind; see docs/design.md"),
)
STAGES = _schema(
    "stages",
    _column("recipe", pa.string(), "the recipe that planned it"),
    _column("stage", pa.int32(), "0 to 3"),
    _column("name", pa.string(), "name of the stage"),
    _column("context", pa.int32(), "tokens of a packed sequence, at most"),
    _column("visual_budget", pa.int32(), "visual tokens of a packed sequence, at most"),
    _column("sequences", pa.int64(), "packed training sequences"),
    _column("heldout_sequences", pa.int64(), "packed held-out sequences"),
    _column("segments", pa.int64(), "samples placed in training sequences, repeats counted"),
    _column("tokens", pa.int64(), "training tokens placed"),
    _column("visual_tokens", pa.int64(), "visual tokens placed"),
    _column("learned_tokens", pa.int64(), "tokens with next-token loss placed"),
    _column("fill", pa.float64(), "tokens / (sequences * context), rounded to 6 decimals"),
    _column("steps", pa.int64(), "optimiser steps"),
    _column("shortfall", pa.string(), "JSON: tokens wanted and placed for each ingredient of the mixture"),
    _column("kept_sequences", pa.int64(), "training sequences kept from a previous plan", null=True),
    _column("bound", pa.int64(), "the fewest sequences that any packing needs (Martello and Toth's L2)", null=True),
    _column("longest", pa.int32(), "tokens of the longest sample placed", null=True),
    _column("visible_pairs", pa.int64(), "query-key pairs of dense attention, one pass over all sequences", null=True),
    _column("read_pairs", pa.int64(), "query-key pairs that sparse attention reads, at most top-k a query", null=True),
    _column("flops", pa.float64(), "operations of the decoder's forward pass over all sequences", null=True),
    _column("distinct_samples", pa.int64(), "samples placed, repeats not counted", null=True),
    _column("distinct_sources", pa.int64(), "first sources of these samples", null=True),
    _column("top_sources", pa.string(), "JSON: the 100 sources that give the most tokens", null=True),
    _column("unevenness", pa.string(), "JSON: dearest over mean of steps and of ranks, planned and shuffled", null=True),
    _column("specification", pa.string(), "JSON: the whole recipe; all the trainer needs"),
    _column("fingerprint", pa.string(), "of the code, recipe and corpus that planned it"),
)
SEQUENCES = _schema(
    "sequences",
    _column("recipe", pa.string(), "the recipe that planned it"),
    _column("stage", pa.int32(), "0 to 3"),
    _column("split", pa.string(), "train or heldout"),
    _column("position", pa.int64(), "place in the global order of its stage and split, from 0"),
    _column("sequence_id", pa.string(), "hash of stage and the samples in order"),
    _column("segments", pa.int32(), "samples in it"),
    _column("tokens", pa.int32(), "sum of its samples' total_tokens"),
    _column("visual_tokens", pa.int32(), "sum of its samples' visual_tokens"),
    _column("learned_tokens", pa.int32(), "sum of its samples' learned_tokens"),
    _column("capacity", pa.int32(), "context of the stage"),
    _column("attention_cost", pa.int64(), "query-key pairs scored and attended under the DSA cost model"),
    _column("flops", pa.float64(), "operations of the decoder's forward pass, averaged over the stage's phases", null=True),
)
SEGMENTS = _schema(
    "segments",
    _column("recipe", pa.string(), "the recipe that planned it"),
    _column("stage", pa.int32(), "0 to 3"),
    _column("split", pa.string(), "train or heldout"),
    _column("position", pa.int64(), "its sequence's place in the global order"),
    _column("segment", pa.int32(), "place in the sequence, from 0"),
    _column("sequence_id", pa.string(), "its sequence"),
    _column("sample_id", pa.string(), "the sample"),
    _column("epoch", pa.int32(), "how many times the sample was placed before, in this stage"),
    _column("token_start", pa.int32(), "first token in the sequence"),
    _column("token_end", pa.int32(), "one past its last token"),
    _column("visual_tokens", pa.int32(), "picture tokens among them"),
)
REQUESTS = _schema(
    "requests",
    _column("request_id", pa.string(), "hash of everything the answer depends on; equal requests are asked once"),
    _column("teacher", pa.string(), "its name in the recipe"),
    _column("model", pa.string(), "the name by which the endpoint knows the model"),
    _column("revision", pa.string(), "of the model, as the recipe says"),
    _column("purpose", pa.string(), "answer, masked (asked again with the evidence hidden) or review"),
    _column("task", pa.string(), "task of the question"),
    _column("source_id", pa.string(), "source of the question"),
    _column("sample_id", pa.string(), "the sample that the question gave; null when it gave none", null=True),
    _column("sample", pa.int32(), "which of several responses to one question, from 0"),
    _column("prompt_tokens", pa.int64(), "as the server counted them", null=True),
    _column("completion_tokens", pa.int64(), "as the server counted them", null=True),
    _column("seconds", pa.float64(), "the call took, waits before it not counted"),
    _column("usd", pa.float64(), "US dollars by the teacher's prices when it was asked, failed calls included"),
    _column("response", pa.string(), "what was answered", null=True),
    _column(
        "outcome",
        pa.string(),
        "accepted, right (not the one kept), rejected, refused or failed (no answer, for good or for now); "
        "of masked: changed, unchanged; of review: sound, flawed",
    ),
    _column("reason", pa.string(), "short name of why it was rejected or refused", null=True),
    _column("detail", pa.string(), "what exactly was wrong", null=True),
)
COSTS = _schema(
    "costs",
    _column("task", pa.string(), "task"),
    _column("teacher", pa.string(), "name, model and revision of the teacher, as in reasoning.teacher of its samples"),
    _column("questions", pa.int64(), "questions that it answered, or was asked"),
    _column("accepted", pa.int64(), "samples that stand in the corpus"),
    _column("requests", pa.int64(), "requests made for them, masked questions and reviews included"),
    _column("prompt_tokens", pa.int64(), "of these requests"),
    _column("completion_tokens", pa.int64(), "of these requests"),
    _column("seconds", pa.float64(), "of these requests"),
    _column("usd", pa.float64(), "of these requests, US dollars"),
    _column("usd_per_accepted", pa.float64(), "usd / accepted; null when nothing was accepted", null=True),
    _column("tokens_per_accepted", pa.float64(), "(prompt_tokens + completion_tokens) / accepted", null=True),
    _column("seconds_per_accepted", pa.float64(), "seconds / accepted", null=True),
    _column("pass_rate", pa.float64(), "mean share of right responses to a question; null where one was enough", null=True),
)
RUNS = _schema(
    "runs",
    _column("step", pa.string(), "curate, synthesize, plan, train"),
    _column("recipe", pa.string(), "recipe"),
    _column("started", pa.string(), "UTC, ISO 8601"),
    _column("seconds", pa.float64(), "wall time"),
    _column("fingerprint", pa.string(), "of code, configuration and inputs"),
    _column("outcome", pa.string(), "done, unchanged or failed"),
    _column("counts", pa.string(), "JSON: figures of the step"),
)

TABLES: dict[str, pa.Schema] = {
    "samples": SAMPLES,
    "media": MEDIA,
    "sequences": SEQUENCES,
    "segments": SEGMENTS,
    "stages": STAGES,
    "quarantine": QUARANTINE,
    "dropped": DROPPED,
    "lineage": LINEAGE,
    "sources": SOURCES,
    "annotations": ANNOTATIONS,
    "requests": REQUESTS,
    "costs": COSTS,
    "runs": RUNS,
}

ABOUT: dict[str, str] = {
    "samples": "One training example a row. A file holds a range of ids of its partition, in their order.",
    "media": "One stored picture a row, and where it lies in which shard.",
    "sequences": "One packed sequence a row, in training order.",
    "segments": "One sample in one packed sequence a row, in training order.",
    "stages": "One planned stage a row: its figures, and the whole recipe.",
    "quarantine": "One input that could not be read a row.",
    "dropped": "One source or sample that was not wanted a row, with the reason.",
    "lineage": "One part of a sample, or one frame of it, a row: which tokens it is, and where it came from. By sample_id.",
    "sources": "One input a row, whatever became of it.",
    "annotations": "What is known for certain about a source, a row for each kind.",
    "requests": "One request to a teacher that is a model a row, and what became of its answer.",
    "costs": "What the questions of one task cost with one teacher a row.",
    "runs": "The log: one run of a step a row. The only table with wall-clock times.",
}
"""What a row of each table is."""
