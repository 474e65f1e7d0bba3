"""One peer's loader over one kind of material, in the peers' own environment; `loader_vs_peers.py` starts it.

    python loader_peers.py prepare FOLDER             write MDS shards and Energon's index beside the tars
    python loader_peers.py SIDE SETTING FOLDER TOKENS WORKERS

Each peer as its documentation sets it up, and nothing it does not need: no shuffling, no padding, no compression, no batch
dimension. Energon packs on-line, with its buffer and best fit decreasing. MosaicML Streaming and WebDataset have no packing:
they hand over as many samples at a time as fill 8,192 tokens on average. Everybody's worker processes decode, resize and cut
patches; floats are made in the process that trains, as with ours. Prints one JSON line.
"""

from __future__ import annotations

import bisect
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from PIL import Image

CONTEXT = 8_192
PATCH = 14
BUFFER = 512
"""Samples that Energon packs at a time."""
END = "<|endoftext|>"

Encoded = dict[str, Any]


def encode(fields: dict[str, Any], setting: str, tokenizer: tokenizers.Tokenizer | None) -> Encoded:
    """One sample as arrays: ids, labels, and of pictures patches and grid."""
    if setting == "tokenise":
        assert tokenizer is not None
        ids = np.array(
            [
                *tokenizer.encode_batch_fast([fields["txt"].decode()], add_special_tokens=False)[0].ids,
                tokenizer.token_to_id(END),
            ]
        )
        ids = ids.astype(np.int32)
    else:
        ids = np.frombuffer(fields["ids"], dtype=np.int32)
    if setting != "pictures":
        return {"ids": ids, "labels": ids}
    size = json.loads(fields["json"])
    patches, grid = cut(fields["jpg"], size["height"], size["width"])
    return {"ids": ids, "labels": np.frombuffer(fields["labels"], dtype=np.int32), "patches": patches, "grid": grid}


def cut(data: bytes, height: int, width: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Patches of a picture at the size it is shown, uint8 [P, 588]; as trainer.media and trainer.packed_arrays make them."""
    with Image.open(io.BytesIO(data)) as stored:
        picture = stored.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    rows, columns = height // PATCH, width // PATCH
    pixels = np.asarray(picture).reshape(rows, PATCH, columns, PATCH, 3).transpose(0, 2, 4, 1, 3)
    return pixels.reshape(rows * columns, -1), (1, rows, columns)


def joined(samples: list[Encoded]) -> dict[str, torch.Tensor]:
    """Samples end to end, as our batches are."""
    ids = np.concatenate([sample["ids"] for sample in samples]).astype(np.int64)
    labels = np.concatenate([sample["labels"] for sample in samples]).astype(np.int64)
    ends = np.cumsum([len(sample["ids"]) for sample in samples])
    starts = np.concatenate(([0], ends))
    labels[starts[:-1]] = -100
    batch = {
        "input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels),
        "cu_seqlens": torch.from_numpy(starts.astype(np.int32)),
    }  # fmt: skip
    if "patches" in samples[0]:
        batch["pixel_values"] = torch.from_numpy(np.concatenate([sample["patches"] for sample in samples]))
        batch["image_grid_thw"] = torch.tensor([sample["grid"] for sample in samples])
    return batch


def best_fit(samples: list[Encoded]) -> list[list[Encoded]]:
    """Best fit decreasing; each pick is a bisection."""
    rooms: list[tuple[int, int]] = []
    bins: list[list[Encoded]] = []
    for sample in sorted(samples, key=lambda one: -len(one["ids"])):
        size = len(sample["ids"])
        place = bisect.bisect_left(rooms, (size, -1))
        if place < len(rooms):
            room, number = rooms.pop(place)
        else:
            room, number = CONTEXT, len(bins)
            bins.append([])
        bins[number].append(sample)
        bisect.insort(rooms, (room - size, number))
    return bins


def encoder(setting: str, folder: Path) -> Any:
    """A function from stored fields to a sample; the tokenizer is loaded where it is used."""
    loaded: list[tokenizers.Tokenizer | None] = []

    def run(fields: dict[str, Any]) -> Encoded:
        if not loaded:
            loaded.append(tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")) if setting == "tokenise" else None)
            if loaded[0] is not None:
                loaded[0].encode_special_tokens = True
        return encode(fields, setting, loaded[0])

    return run


def streaming(setting: str, folder: Path, workers: int, a_batch: int) -> Iterator[Any]:
    """MosaicML Streaming."""
    from streaming import StreamingDataset

    class Samples(StreamingDataset):
        def __init__(self) -> None:
            super().__init__(local=str(folder / "mds"), shuffle=False, batch_size=a_batch)
            self.encode = encoder(setting, folder)

        def __getitem__(self, at: int) -> Encoded:
            return self.encode(super().__getitem__(at))

    loader = torch.utils.data.DataLoader(
        Samples(), batch_size=a_batch, num_workers=workers, collate_fn=joined, persistent_workers=True
    )
    while True:
        yield from loader


def webdataset(setting: str, folder: Path, workers: int, a_batch: int) -> Iterator[Any]:
    """WebDataset."""
    import webdataset as wds

    urls = [str(path) for path in sorted((folder / "tars").glob("*.tar"))]
    samples = wds.WebDataset(urls, shardshuffle=False).repeat().map(encoder(setting, folder))
    batches = samples.batched(a_batch, collation_fn=joined)
    yield from wds.WebLoader(batches, batch_size=None, num_workers=workers)


def energon(setting: str, folder: Path, workers: int) -> Iterator[Any]:
    """Energon with packing."""
    from megatron.energon import Cooker, DefaultTaskEncoder, WorkerConfig, get_loader, get_train_dataset, stateless
    from megatron.energon.flavors.crude import CrudeSample
    from megatron.energon.task_encoder.cooking import basic_sample_keys

    make = encoder(setting, folder)

    @stateless
    def cook(sample: CrudeSample) -> dict[str, Any]:
        return {**basic_sample_keys(sample), **make(sample)}

    class Packing(DefaultTaskEncoder):
        cookers = (Cooker(cook),)
        decoder = None

        def select_samples_to_pack(self, samples: list[Any]) -> list[list[Any]]:
            return best_fit(samples)

        @stateless
        def pack_selected_samples(self, samples: list[Any]) -> Any:
            return joined(samples)

    dataset = get_train_dataset(
        folder / "tars", worker_config=WorkerConfig(rank=0, world_size=1, num_workers=workers), batch_size=None,
        shuffle_buffer_size=None, max_samples_per_sequence=None, packing_buffer_size=BUFFER, task_encoder=Packing(),
    )  # fmt: skip
    yield from get_loader(dataset)


def processor_s() -> float:
    """Processor seconds of all processes of this session so far: it is started in one of its own, and workers stay in it."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        if int(fields[3]) == os.getsid(0):
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure(batches: Iterable[Any], tokens: int) -> dict[str, Any]:
    """Reads so many tokens; rate and processor time are those of the last nine tenths."""
    begun = time.perf_counter()
    first = mark = None
    read = marked = count = 0
    spent = 0.0
    for batch in batches:
        pixels = batch.get("pixel_values")
        if pixels is not None:
            pixels.float().div_(255.0).sub_(0.5).div_(0.5)
        count += 1
        read += len(batch["input_ids"])
        now = time.perf_counter()
        first = first or now - begun
        if mark is None and read >= tokens / 10:
            mark, marked, spent = now, read, processor_s()
        if read >= tokens:
            break
    assert mark is not None
    return {
        "cpu": (processor_s() - spent) / ((read - marked) / 1e6),
        "rate": (read - marked) / (time.perf_counter() - mark), "first_s": first, "fill": read / (count * CONTEXT),
        "tokens": read,
    }  # fmt: skip


def prepare(folder: Path) -> None:
    """MDS shards of the same samples, and Energon's index."""
    from streaming import MDSWriter

    tars = sorted((folder / "tars").glob("*.tar"))
    with tarfile.open(tars[0]) as archive:
        kinds = sorted({info.name.rsplit(".", 1)[1] for info in archive.getmembers()})
    with MDSWriter(out=str(folder / "mds"), columns=dict.fromkeys(kinds, "bytes")) as out:
        for path in tars:
            fields: dict[str, bytes] = {}
            with tarfile.open(path) as archive:
                for info in archive:
                    stream = archive.extractfile(info)
                    assert stream is not None
                    fields[info.name.rsplit(".", 1)[1]] = stream.read()
                    if len(fields) == len(kinds):
                        out.write(fields)
                        fields = {}
    tool = [str(Path(sys.executable).parent / "energon"), "prepare", str(folder / "tars"), "--non-interactive"]
    tool += ["--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset", "--num-workers", "2", "--no-progress"]
    subprocess.run(tool, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
        return
    side, setting, folder, tokens, workers = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    about = json.loads((folder / "about.json").read_text())
    a_batch = max(1, round(CONTEXT * about["samples"] / about["tokens"]))
    if side == "energon":
        batches = energon(setting, folder, workers)
    else:
        batches = {"streaming": streaming, "webdataset": webdataset}[side](setting, folder, workers, a_batch)
    print(json.dumps(measure(batches, tokens)), flush=True)


if __name__ == "__main__":
    main()
