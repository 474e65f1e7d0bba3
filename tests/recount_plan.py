"""Every packed sequence of a plan, rendered again: do its tokens come to what the manifest says?

    python tests/recount_plan.py CORPUS --recipe keye_vl_2

Nothing is trained. Each sample is rendered from its messages by the trainer's own loader, each sequence is counted from its
samples, and both must equal their rows exactly. Prints a line a stage and split; exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from manifests.catalog import Catalog
from manifests.tokenizer import load_tokenizer
from trainer.loader import StageSequences
from trainer.stage_manifest import read_stages


def recount(corpus: Path, recipe_name: str) -> list[str]:
    """What differs: nothing, when the plan holds."""
    catalog = Catalog(corpus)
    problems: list[str] = []
    of_split = "recipe = ? AND stage = ? AND split = ?"
    for number, manifest in read_stages(catalog, recipe_name).items():
        picture = load_tokenizer(manifest.recipe.tokenizer).special("<|image_pad|>")
        longest = 0
        for split in ("train", "heldout"):
            sequences = StageSequences(catalog, manifest.recipe, stage=number, split=split)
            said = catalog.connection.execute(
                f"SELECT position, tokens, visual_tokens, segments FROM sequences WHERE {of_split} ORDER BY position",
                [recipe_name, number, split],
            ).fetchall()
            if len(said) != len(sequences):
                problems.append(f"stage {number}, {split}: {len(said)} rows for {len(sequences)} sequences")
            rendered: dict[str, tuple[int, int]] = {}
            for position, tokens, visual, segments in said:
                for segment in sequences.order(position).segments:
                    if segment.sample_id not in rendered:
                        ids = sequences.reader.render(segment).ids
                        rendered[segment.sample_id] = (len(ids), int((ids == picture).sum()))
                counted = [rendered[sample_id] for sample_id in sequences.sample_ids(position)]
                found = (sum(total for total, _ in counted), sum(seen for _, seen in counted), len(counted))
                longest = max(longest, found[0])
                if found != (tokens, visual, segments):
                    where = f"stage {number}, {split}, sequence {position}"
                    problems.append(f"{where}: {found} rendered, {(tokens, visual, segments)} said")
            print(f"stage {number} {split:<8} {len(said):>6,} sequences, {sum(row[1] for row in said):>12,} tokens rendered")
        print(f"stage {number} longest {longest:,} of {manifest.spec.context:,}")
    return problems


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--recipe", default="keye_vl_2")
    options = parser.parse_args()
    wrong = recount(options.corpus, options.recipe)
    print("\n".join(wrong[:20]) or "every sequence renders to what its manifest says")
    sys.exit(bool(wrong))
