"""Does a model that learns from buckets recommend as well as one that learns from random batches?

    python -m benchmarks.fast_paths [--source FOLDER] [--backbone sasrec] [--seeds 3]
        [--epochs 3] [--workdir FOLDER] [--set KEY=VALUE]

Trains the same model twice per seed, from the same weights: the fast way (`kdsr train`:
batches of windows or prefixes of like length, without padding; sums of losses a chunk at a
time) and the plain way (random batches, every window padded to `max_length`, all its pairs,
masked). Prints
one JSON line: per metric on test, in %, the values of the seeds, their mean difference
fast - plain with the 95% interval of the mean over seeds (Student's t) and over users
(bootstrap, all seeds together); and the processor seconds of each way. Without `--source` the
demo's boutique is made.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from benchmarks import train_epoch
from kdsr_tf import artifacts, stage_frame, stages
from kdsr_tf.backbones.catalogue import BACKBONES
from kdsr_tf.config import Config, load_config
from kdsr_tf.data.examples import Examples
from kdsr_tf.evaluation import rank_metrics, resampling
from kdsr_tf.evaluation.evaluate import rank
from kdsr_tf.evaluation.item_catalogue import read_catalogue
from kdsr_tf.evaluation.ranker import Ranker
from kdsr_tf.evaluation.seeds import over_seeds
from kdsr_tf.evaluation.summary import Rankings
from kdsr_tf.methods.training_inputs import read_training_inputs
from kdsr_tf.training.devices import set_up
from kdsr_tf.training.run import TRAIN, Run

WAYS = ("fast", "plain")
MEASURED = ("hr", "mrr")


def train(config: Config, way: str) -> tuple[Rankings, float]:
    """Rankings of the test points after training one way, and its processor seconds."""
    inputs = stage_frame.read_inputs(config, "student")
    strategy = set_up(config)
    max_length = config.windows.max_length
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, read_training_inputs(config, inputs), folder, strategy)
        if way == "plain":
            # Steps compute all there is, masked, where the batch says where targets are.
            run.examples = Examples(
                stages.location(config, stages.windows_of(config)),
                max_length,
                config.modalities if config.distillation.enabled else (),
                prefixes=not BACKBONES[config.model.backbone].causal,
                few_shapes=True,
                lengths=[max_length],
            )
        started = time.process_time()
        model, _, _ = run.fit("select", config.train.epochs, (TRAIN,))
        spent = time.process_time() - started
    ranker = Ranker(model.student, config.evaluate.batch_size)
    found = rank(config, ranker, read_catalogue(config), inputs[stages.windows_of(config)])
    keras.backend.clear_session()
    return found, spent


def values_of(found: Rankings, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Per metric its value in % per test point."""
    return {
        f"{name}_{k}": 100 * rank_metrics.ACCURACY[name](found.ranks, k)
        for name in MEASURED
        for k in cutoffs
    }


def compare(config: Config, seeds: int) -> dict[str, Any]:
    """The numbers of the module's docstring."""
    values: dict[str, list[dict[str, np.ndarray]]] = {way: [] for way in WAYS}
    cpu_seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        seeded = config.model_copy(deep=True)
        seeded.train.seed = seed
        for way in WAYS:
            found, spent = train(seeded, way)
            values[way].append(values_of(found, config.evaluate.cutoffs))
            cpu_seconds[way].append(spent)
    _, users = np.unique(found.points.user_ids, return_inverse=True)
    differences = [
        {name: fast[name] - plain[name] for name in fast}
        for fast, plain in zip(*values.values(), strict=True)
    ]
    means = [{name: float(value.mean()) for name, value in row.items()} for row in differences]
    spreads = over_seeds(means)
    mean_points = [np.mean([row[name] for row in differences], axis=0) for name in means[0]]
    counts = np.bincount(users)[:, None]
    sums = resampling.user_sums(np.stack(mean_points, axis=1), users, len(counts))
    ends = resampling.percentile_interval(resampling.bootstrap_means(sums, counts, config.seed))
    intervals = dict(zip(means[0], np.stack(ends, axis=1).tolist(), strict=True))
    result = {
        name: {way: [round(float(row[name].mean()), 3) for row in values[way]] for way in WAYS}
        | {
            "difference": round(spread.mean, 3),
            "interval_over_seeds": [round(spread.low, 3), round(spread.high, 3)],
            "interval_over_users": [round(end, 3) for end in intervals[name]],
        }
        for name, spread in spreads.items()
    }
    seconds = {way: [round(spent, 1) for spent in cpu_seconds[way]] for way in WAYS}
    return {"metrics": result, "cpu_seconds": seconds, "test_points": len(users)}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="a folder in the source format; default: a boutique")
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--seeds", type=int, default=3, help="at least 2")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workdir", help="its inputs are kept; default: a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = arguments.source
        if source is None:
            from kdsr_tf.datasets.demo import generate

            source = os.path.join(scratch, "boutique")
            generate(source)
        overrides = [
            f"source.path={source}",
            f"model.backbone={arguments.backbone}",
            f"train.epochs={arguments.epochs}",
            "encode.text={}",
            *arguments.set,
        ]
        config = load_config(overrides=overrides, workdir=arguments.workdir or scratch)
        train_epoch.make_inputs(config)
        result = compare(config, arguments.seeds)
    settings = {
        "source": arguments.source or "boutique",
        "epochs": arguments.epochs,
        "model": config.model.model_dump(),
        "max_length": config.windows.max_length,
        "batch_size": config.train.batch_size,
        "pairs_per_window": config.distillation.pairs_per_window,
    }
    print(json.dumps({**result, **settings, "versions": artifacts.versions()}))


if __name__ == "__main__":
    main()
