"""A synthetic corpus of any size, for benchmarks: every table, no pictures.

    python benchmarks/scale_corpus.py --samples 10000000 --out FOLDER

The layout is curation's: Hive partitions, files of one range of ids each, sorted. Ids are hashes of the row number, lengths are
lognormal by task (heavy tails, cut at the largest context), a tenth of the sources is held out, a source gives 1 to 60 samples,
two lineage rows a sample. Everything is a function of (seed, chunk), so equal arguments give equal bytes.
What is not real: texts are one of a hundred sentences, and no sample can be rendered.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curriculum.recipes import keye_vl_2
from manifests import files, schemas
from manifests.corpus import Corpus
from manifests.fingerprint import value_id

CHUNK = 1_000_000
SAMPLES_A_SOURCE = 20
HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One task: its share of the samples, median tokens and spread (sigma of the logarithm), and the visual part of them."""

    task: str
    modality: str
    share: float
    median: float
    sigma: float
    visual: float
    seconds: tuple[float, float] | None = None


KINDS = (
    Kind(task="image.caption", modality="image", share=0.22, median=420, sigma=0.7, visual=0.7),
    Kind(task="image.interleaved", modality="image", share=0.06, median=2_400, sigma=0.9, visual=0.6),
    Kind(task="video.caption", modality="video", share=0.12, median=3_800, sigma=0.7, visual=0.85, seconds=(3, 15)),
    Kind(task="video.interleaved", modality="video", share=0.03, median=14_000, sigma=0.9, visual=0.85, seconds=(15, 900)),
    Kind(task="video.dense", modality="video", share=0.02, median=45_000, sigma=0.8, visual=0.68, seconds=(900, 7200)),
    Kind(task="document.page", modality="document", share=0.15, median=1_900, sigma=0.6, visual=0.6),
    Kind(task="document.long", modality="document", share=0.04, median=26_000, sigma=1.0, visual=0.3),
    Kind(task="code.text", modality="document", share=0.08, median=1_500, sigma=1.1, visual=0.0),
    Kind(task="code.long", modality="document", share=0.02, median=40_000, sigma=0.9, visual=0.0),
    Kind(task="text.plain", modality="text", share=0.1, median=700, sigma=1.2, visual=0.0),
    Kind(task="gui.element", modality="gui", share=0.08, median=1_600, sigma=0.4, visual=0.9),
    Kind(task="reason.video.count", modality="video", share=0.04, median=5_000, sigma=0.8, visual=0.8, seconds=(3, 900)),
    Kind(task="stem.chain_sum", modality="text", share=0.04, median=260, sigma=0.5, visual=0.0),
)
TASKS = [kind.task for kind in KINDS]
SENTENCES = [f"Sentence {number} stands for the words that a real sample would have." for number in range(100)]
LICENCES = ["CC-BY-4.0", "CC0-1.0", "MIT", "Apache-2.0", "unknown"]


def hex_ids(numbers: NDArray[np.uint64], salt: int, high: NDArray[np.uint64] | None = None) -> pa.Array:
    """Ids of 32 hexadecimal digits, string [n]; with ``high`` their first 64 bits are given."""
    words = np.stack([mixed(numbers, salt) if high is None else high, mixed(numbers, salt + 1)], axis=1)
    data = words.astype(">u8").view(np.uint8).reshape(len(numbers), 16)
    digits = np.empty((len(numbers), 32), dtype=np.uint8)
    digits[:, 0::2], digits[:, 1::2] = HEX[data >> 4], HEX[data & 15]
    offsets = np.arange(0, 32 * len(numbers) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(digits.tobytes()))


def mixed(numbers: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """SplitMix64 of each number."""
    with np.errstate(over="ignore"):
        value = (numbers + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return value ^ (value >> np.uint64(31))


def chosen(words: list[str], codes: NDArray[Any]) -> pa.Array:
    """The word of each code, string [n]."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words)).cast(pa.string())


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The samples of one range of ids, sorted by id."""

    ids: pa.Array
    source: NDArray[np.uint64]
    kind: NDArray[np.int64]
    total: NDArray[np.int64]
    visual: NDArray[np.int64]
    seconds: NDArray[np.float64]
    split: pa.Array


def chunks(samples: int, seed: int) -> Iterator[Chunk]:
    """Chunk after chunk, rising in id."""
    sources = max(1, samples // SAMPLES_A_SOURCE)
    count = -(-samples // CHUNK)
    for number in range(count):
        size = min(CHUNK, samples - number * CHUNK)
        random = np.random.default_rng([seed, number])
        span = 2**64 // count
        high = np.sort(random.integers(0, span, size, dtype=np.uint64)) + np.uint64(number * span)
        rows = np.arange(number * CHUNK, number * CHUNK + size, dtype=np.uint64)
        kind = random.choice(len(KINDS), size=size, p=np.array([each.share for each in KINDS]))
        median, sigma, share = (np.array([getattr(each, name) for each in KINDS]) for name in ("median", "sigma", "visual"))
        total = np.exp(np.log(median[kind]) + sigma[kind] * random.standard_normal(size)).clip(24, 262_144).astype(np.int64)
        visual = (total * share[kind] * random.uniform(0.8, 1.0, size)).astype(np.int64).clip(0, 184_320)
        low, top = (np.array([each.seconds[end] if each.seconds else np.nan for each in KINDS]) for end in (0, 1))
        seconds = np.round(low[kind] + (top - low)[kind] * random.uniform(size=size), 3)
        # Few sources give many samples: the square of a uniform number leans towards the first.
        source = (random.uniform(size=size) ** 1.5 * sources).astype(np.uint64)
        heldout = mixed(source, 7) % np.uint64(10) == 0
        yield Chunk(
            ids=hex_ids(rows, 3, high), source=source, kind=kind, total=total, visual=visual, seconds=seconds,
            split=chosen(["train", "heldout"], heldout),
        )  # fmt: skip


def listed(values: pa.Array, kind: pa.DataType, each: int = 1) -> pa.ListArray:
    """Lists of type ``kind`` of ``each`` values in turn."""
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, each, dtype=np.int32)), values, type=kind)


def messages(chunk: Chunk) -> pa.Array:
    """A question and an answer a sample."""
    turns = 2 * len(chunk.ids)
    schema = schemas.SAMPLES.field("messages").type.value_type
    part = schema.field("parts").type.value_type
    text = chosen(SENTENCES, np.arange(turns) * 7919 % len(SENTENCES))
    nowhere = part.field("origin").type
    blank = [pa.repeat("", turns), *(pa.nulls(turns, field.type) for field in list(nowhere)[1:])]
    origin = pa.StructArray.from_arrays(blank, fields=list(nowhere), mask=pa.array(np.ones(turns, dtype=bool)))
    columns = [pa.repeat("text", turns), text, pa.nulls(turns, part.field("visuals").type), origin]
    parts = listed(pa.StructArray.from_arrays(columns, fields=list(part)), schema.field("parts").type)
    rows = pa.StructArray.from_arrays([chosen(["user", "assistant"], np.arange(turns) % 2), parts], fields=list(schema))
    return listed(rows, schemas.SAMPLES.field("messages").type, 2)


def reasoning(chunk: Chunk) -> pa.Array:
    """Teacher and verifier of verified samples; null for the others."""
    size, kind = len(chunk.ids), schemas.SAMPLES.field("reasoning").type
    values = {
        "teacher": chosen(["program/1", "endpoint/model-a", "endpoint/model-b"], chunk.total % 3),
        "verifier": pa.repeat("count", size), "verifier_version": pa.repeat("1", size), "truth": pa.repeat("4", size),
        "score": pa.array(np.ones(size)), "evidence": pa.repeat("[]", size),
        "cost_usd": pa.array(np.where(chunk.total % 3 == 0, 0.0, np.round(chunk.total * 2e-6, 6))),
    }  # fmt: skip
    verified = np.array([task.startswith(("reason.", "stem.")) for task in TASKS])[chunk.kind]
    return pa.StructArray.from_arrays([values[field.name] for field in kind], fields=list(kind), mask=pa.array(~verified))


def samples_table(chunk: Chunk) -> pa.Table:
    """Rows of ``samples``."""
    size, recipe = len(chunk.ids), keye_vl_2()
    source = hex_ids(chunk.source, 11)
    context = np.digitize(chunk.total, [recipe.buckets.context_32k, recipe.buckets.context_64k], right=True)
    duration = np.where(np.isnan(chunk.seconds), 3, np.digitize(chunk.seconds, [15.0, 900.0], right=True))
    length = chunk.seconds.copy()
    columns = {
        "sample_id": chunk.ids, "origin": pa.repeat("curate", size), "task": chosen(TASKS, chunk.kind),
        "capabilities": listed(chosen([kind.modality for kind in KINDS], chunk.kind), pa.list_(pa.string())),
        "modality": chosen([kind.modality for kind in KINDS], chunk.kind), "split": chunk.split,
        "source_ids": listed(source, pa.list_(pa.string())),
        "messages": messages(chunk), "text_tokens": pa.array(chunk.total - chunk.visual),
        "visual_tokens": pa.array(chunk.visual),
        "total_tokens": pa.array(chunk.total), "learned_tokens": pa.array(np.maximum(1, (chunk.total - chunk.visual) // 2)),
        "context_bucket": chosen(["32k", "64k", "256k"], context),
        "duration_bucket": pa.DictionaryArray.from_arrays(
            pa.array(duration.astype(np.int32), mask=duration == 3), pa.array(["15s", "15min", "2h"])).cast(pa.string()),
        "duration_s": pa.array(length, mask=np.isnan(length)),
        "quality": pa.MapArray.from_arrays(pa.array(np.arange(size + 1, dtype=np.int32)), pa.repeat("sharpness", size),
                                           pa.array(np.round(chunk.total % 997 / 997, 4))),
        "duplicate_cluster": source, "licence": chosen(LICENCES, (chunk.source % np.uint64(len(LICENCES))).astype(np.int64)),
        "reasoning": reasoning(chunk), "fingerprint": pa.repeat("synthetic", size),
    }  # fmt: skip
    return fitted("samples", columns)


def lineage_table(chunk: Chunk) -> pa.Table:
    """Two rows a sample: its words, which this project wrote, and what it shows, with a page or a second."""
    size = len(chunk.ids)
    twice = np.repeat(np.arange(size), 2)
    shown = np.tile([False, True], size)
    words = np.minimum(12, chunk.total)
    start, end = np.repeat(words, 2), np.repeat(chunk.total, 2)
    timed = shown & ~np.isnan(chunk.seconds[twice])
    paged = shown & (np.array([kind.modality == "document" for kind in KINDS])[chunk.kind[twice]])
    columns = {
        "sample_id": chunk.ids.take(pa.array(twice)), "message": pa.repeat(0, 2 * size),
        "part": pa.array(shown.astype(np.int32)),
        "frame": pa.nulls(2 * size, pa.int32()), "token_start": pa.array(np.where(shown, start, 0)),
        "token_end": pa.array(np.where(shown, end, start)),
        "source_id": hex_ids(chunk.source, 11).take(pa.array(twice, mask=~shown)),
        "start_s": pa.array(np.where(timed, 0.0, np.nan), mask=~timed), "end_s": pa.array(chunk.seconds[twice], mask=~timed),
        "page": pa.array(chunk.total[twice] % 40 + 1, mask=~paged), "box": pa.nulls(2 * size, pa.list_(pa.float64())),
        "media_id": pa.nulls(2 * size, pa.string()),
    }  # fmt: skip
    return fitted("lineage", columns)


def sources_table(given: NDArray[np.int64], tokens: NDArray[np.int64]) -> pa.Table:
    """A row for every source, as if all were used, with the samples and tokens that each gave."""
    count = len(given)
    rows = np.arange(count, dtype=np.uint64)
    ids = hex_ids(rows, 11)
    columns = {
        "source_id": ids, "source": pa.array([f"archive/{row // 1000:05d}/item-{row:09d}" for row in range(count)]),
        "modality": chosen(["video", "document", "image", "gui", "text"], rows.astype(np.int64) % 5),
        "bytes": pa.array(rows.astype(np.int64) * 1_000 + 1), "sha256": pa.nulls(count, pa.string()),
        "attached": pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, dtype=np.int32)), pa.array([], type=pa.string())),
        "licence": chosen(LICENCES, rows.astype(np.int64) % len(LICENCES)), "came_from": pa.nulls(count, pa.string()),
        "status": pa.repeat("used", count), "samples": pa.array(given), "tokens": pa.array(tokens),
        "duplicate_cluster": ids,
        "split": chosen(["train", "heldout"], mixed(rows, 7) % np.uint64(10) == 0),
    }  # fmt: skip
    table = fitted("sources", columns)
    return table.sort_by("source_id")


def lost_tables(count: int) -> dict[str, pa.Table]:
    """One quarantined and ten dropped rows for a hundred sources."""
    bad, dropped = np.arange(count // 100, dtype=np.uint64), np.arange(count // 10, dtype=np.uint64)
    quarantine = {
        "source": pa.array([f"archive/bad/{row:09d}" for row in bad.tolist()]), "source_id": hex_ids(bad, 17),
        "stage": chosen(["probe", "decode", "extract"], bad.astype(np.int64) % 3),
        "reason": chosen(["truncated", "encrypted", "time_limit"], bad.astype(np.int64) % 3),
        "detail": pa.repeat("synthetic", len(bad)),
    }  # fmt: skip
    drops = {
        "source": pa.array([f"archive/dropped/{row:09d}" for row in dropped.tolist()]), "source_id": hex_ids(dropped, 19),
        "sample_id": pa.nulls(len(dropped), pa.string()), "task": pa.nulls(len(dropped), pa.string()),
        "stage": chosen(["filter", "duplicates"], dropped.astype(np.int64) % 2),
        "reason": chosen(["too_short", "near_duplicate", "black", "no_words"], dropped.astype(np.int64) % 4),
        "detail": pa.repeat("synthetic", len(dropped)),
    }  # fmt: skip
    return {"quarantine": fitted("quarantine", quarantine), "dropped": fitted("dropped", drops)}


def fitted(name: str, columns: dict[str, pa.Array]) -> pa.Table:
    """The columns in the order and types of the table's schema; absent ones are null, unknown ones an error."""
    schema = schemas.TABLES[name]
    size = len(next(iter(columns.values())))
    unknown = set(columns) - set(schema.names)
    assert not unknown, unknown
    arrays = [columns.get(field.name, pa.nulls(size, field.type)) for field in schema]
    cast = [each if each.type == field.type else each.cast(field.type) for each, field in zip(arrays, schema, strict=True)]
    return pa.Table.from_arrays(cast, schema=schema)


def build(folder: Path, samples: int, seed: int = 1) -> None:
    """Writes the corpus; a record of step ``curate`` makes it one."""
    started = time.monotonic()
    corpus, parts = Corpus(folder), {}
    corpus.begin("curate")
    written = [corpus.write_identity(keye_vl_2())]

    def put(name: str, table: pa.Table, **partition: str | None) -> None:
        target = corpus.table(name, origin="curate", **partition)
        for at in range(0, max(1, len(table)), 250_000):
            number = parts[target] = parts.get(target, -1) + 1
            path = target / f"part-{number:05d}.parquet"
            files.write_rows(path, table.slice(at, 250_000), schemas.TABLES[name])
            written.append(path)

    count = max(1, samples // SAMPLES_A_SOURCE)
    given, tokens = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for number, chunk in enumerate(chunks(samples, seed)):
        given += np.bincount(chunk.source.astype(np.int64), minlength=count)
        tokens += np.bincount(chunk.source.astype(np.int64), weights=chunk.total, minlength=count).astype(np.int64)
        table = samples_table(chunk)
        for context in ("32k", "64k", "256k"):
            for duration in ("15s", "15min", "2h", None):
                same = (table["duration_bucket"].is_null() if duration is None
                        else pc.fill_null(pc.equal(table["duration_bucket"], duration), False))  # fmt: skip
                rows = table.filter(pc.and_(pc.equal(table["context_bucket"], context), same))
                if len(rows):
                    put("samples", rows, context_bucket=context, duration_bucket=duration)
        put("lineage", lineage_table(chunk))
        print(f"  {min(samples, (number + 1) * CHUNK):>12,} samples  {time.monotonic() - started:6.1f} s", flush=True)
    put("sources", sources_table(given, tokens))
    for name, table in lost_tables(count).items():
        put(name, table)
    for name in ("media", "annotations"):
        put(name, schemas.TABLES[name].empty_table())
    counts = {"inputs": count, "samples": samples, "synthetic": True}
    corpus.commit("curate", value_id([samples, seed, schemas.VERSION]), counts, written, [])
    print(f"{samples:,} samples in {folder}, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000, help="rows of the samples table (default 1,000,000)")
    parser.add_argument("--out", type=Path, required=True, help="the corpus folder to write")
    parser.add_argument("--seed", type=int, default=1)
    chosen_arguments = parser.parse_args()
    build(chosen_arguments.out, chosen_arguments.samples, chosen_arguments.seed)
