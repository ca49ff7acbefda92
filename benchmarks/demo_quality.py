"""Do pictures and words help on the demo boutique, and do codes find its planted relation?

    python benchmarks/demo_quality.py --seeds 3

Every seed has a boutique, a teacher and students of its own. Two students are
trained per boutique with the demo's configuration, one on ids alone and one with
distillation, and one without ids with that of `kdsr demo --method iisan`; all may train
until validation stops them. Prints one JSON line:

- `hr_20_ids`, `hr_20_modalities`, `hr_20_iisan`: HR@20 on test in %, per seed;
- `relative_gain`: mean with modalities over mean on ids, minus 1;
- `<modality>_planted_in_top_codes`: share of the planted pairs (same colour, other
  shape) whose code is among the 10% of codes that planted pairs use most;
- `<modality>_random_in_top_codes`: the same for all pairs of different shapes, with
  the 10% of codes that those use most (even use would give 0.1);
- `<modality>_other_in_planted_codes`: share of the pairs that differ in colour and
  shape whose code is among the 10% of codes that planted pairs use most.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kdsr_tf import artifacts, schema, stages
from kdsr_tf.config import Config, load_config
from kdsr_tf.datasets.demo import generate
from kdsr_tf.evaluation.evaluation_inputs import read_catalogue
from kdsr_tf.teacher import pair_correlations

CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"
WITHOUT_IDS = CONFIG.with_name("demo_iisan.yaml")
UNTIL_STOPPED = ("train.epochs=80", "train.patience=6")
IDS_ONLY = (
    "encode.image=null",
    "encode.text=null",
    "model.modality_tables=off",
    "distillation.enabled=false",
    # Ids alone do better with less dropout than the demo's (tried: 0.4, 0.6).
    "model.dropout=0.4",
)


def run_stages(config: Config) -> float:
    """Run everything up to evaluation; HR@20 on test in %."""
    from beam_pipelines.distill import distill
    from beam_pipelines.encode import encode
    from beam_pipelines.prepare import prepare
    from kdsr_tf.evaluation.evaluate import evaluate
    from kdsr_tf.teacher.teach import teach
    from kdsr_tf.training.fit import train

    for stage in (prepare, encode, teach, distill, train):
        stage(config)
    return evaluate(config).details["metrics"]["hr_20"]


def concentration(config: Config, modality: str, share: float = 0.1) -> dict[str, float]:
    """How much of the planted and of other pairs the most used codes hold.

    Args:
        config: Configuration of a run whose teacher exists.
        modality: `image` or `text`.
        share: Share of the codes that counts as most used.

    Returns:
        `planted_in_top_codes`, `random_in_top_codes` and `other_in_planted_codes`.
    """
    folder = stages.location(config, f"teacher/{modality}")
    teacher = artifacts.read_manifest(folder, written_by="teach").details
    vectors, present, codebook = (
        np.load(os.path.join(folder, f"{stem}.npy")) for stem in ("vectors", "present", "codebook")
    )
    colour, shape = _attributes(config)
    first, second = np.triu_indices(len(present), k=1)
    kept = present[first] & present[second] & (shape[first] != shape[second])
    first, second = first[kept], second[kept]
    profiles = pair_correlations.correlation_vectors(
        vectors[first], vectors[second], teacher["num_domains"], teacher["correlation"]
    )
    codes = pair_correlations.nearest_codes(profiles / teacher["vector_scale"], codebook)

    counts = {
        "planted": np.bincount(codes[colour[first] == colour[second]], minlength=len(codebook)),
        "other": np.bincount(codes[colour[first] != colour[second]], minlength=len(codebook)),
    }
    counts["random"] = counts["planted"] + counts["other"]
    top = {name: np.argsort(-n)[: round(share * len(codebook))] for name, n in counts.items()}
    return {
        "planted_in_top_codes": _share(counts["planted"], top["planted"]),
        "random_in_top_codes": _share(counts["random"], top["random"]),
        "other_in_planted_codes": _share(counts["other"], top["planted"]),
    }


def _share(counts: np.ndarray, codes: np.ndarray) -> float:
    return float(counts[codes].sum() / counts.sum())


def _attributes(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Colour and shape of every item index."""
    with open(os.path.join(config.source.path, "items.jsonl"), encoding="utf-8") as file:
        rows = {row[schema.ITEM_ID]: row for row in map(json.loads, file)}
    rows[""] = {"colour": "", "shape": ""}
    ids = read_catalogue(config).item_ids
    return tuple(np.array([rows[item][key] for item in ids]) for key in ("colour", "shape"))


def measure(folder: str, seeds: int, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The numbers of the module's docstring.

    Args:
        folder: Where boutiques and runs are written.
        seeds: Number of seeds, from 0.
        overrides: Further `key=value` assignments for all students.
    """
    started = time.monotonic()
    result: dict[str, Any] = {"hr_20_ids": [], "hr_20_modalities": [], "hr_20_iisan": []}
    shares: dict[str, list[float]] = {}
    for seed in range(seeds):
        source = os.path.join(folder, f"boutique-{seed}")
        generate(source, seed=seed)
        common = (f"source.path={source}", f"seed={seed}", *UNTIL_STOPPED, *overrides)
        with_modalities = load_config(
            str(CONFIG), common, workdir=os.path.join(folder, f"modalities-{seed}")
        )
        ids = load_config(
            str(CONFIG), (*common, *IDS_ONLY), workdir=os.path.join(folder, f"ids-{seed}")
        )
        result["hr_20_modalities"].append(round(run_stages(with_modalities), 2))
        result["hr_20_ids"].append(round(run_stages(ids), 2))
        without_ids = load_config(
            str(WITHOUT_IDS), common, workdir=os.path.join(folder, f"iisan-{seed}")
        )
        result["hr_20_iisan"].append(round(run_stages(without_ids), 2))
        for modality in with_modalities.modalities:
            for name, value in concentration(with_modalities, modality).items():
                shares.setdefault(f"{modality}_{name}", []).append(value)
    gain = np.mean(result["hr_20_modalities"]) / np.mean(result["hr_20_ids"]) - 1
    result["relative_gain"] = round(float(gain), 3)
    result |= {name: round(float(np.mean(values)), 3) for name, values in shares.items()}
    result["seconds"] = round(time.monotonic() - started, 1)
    return result


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", help="kept after the run; default: a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or scratch
        print(json.dumps(measure(folder, arguments.seeds, tuple(arguments.set))))


if __name__ == "__main__":
    main()
