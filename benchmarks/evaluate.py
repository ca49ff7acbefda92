"""Test points that `kdsr evaluate` ranks per second, beside their floor.

    python -m benchmarks.evaluate --workdir FOLDER
    python -m benchmarks.evaluate --source FOLDER [--workdir FOLDER] [--backbone sasrec]
        [--set KEY=VALUE]

Ranks all items for every test point, with the trained student of `--workdir` or, given
`--source`, with an untrained one of the same size (its inputs are made as in
`benchmarks.train_epoch`). Prints one JSON line. `plain_test_points_per_second` and
`unequal_ranks` are of the same student where every one of the first `--plain` points has
a window of its own and batches are padded to their longest window. The floor is that of
`benchmarks.floor`, forward only: windows that must be encoded, at their real positions,
and all items' scores, over the rate of a large product.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import floor, train_epoch
from benchmarks.processes import peak_rss_bytes
from kdsr_tf import artifacts, stages
from kdsr_tf.config import Config, load_config
from kdsr_tf.evaluation import rank_metrics
from kdsr_tf.evaluation.evaluate import rank
from kdsr_tf.evaluation.evaluation_inputs import Windows, read_catalogue, read_windows
from kdsr_tf.evaluation.ranker import Ranker, pad, parts, shared_passes
from kdsr_tf.methods.configured_kdsr import build_student
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.served import read_served
from kdsr_tf.methods.student import Student

POINTS_AT_ONCE = 8_192


def test_windows(config: Config) -> Iterator[Windows]:
    """The windows of all test points."""
    return read_windows(stages.location(config, stages.windows_of(config)), "test", POINTS_AT_ONCE)


def operations(student: Student, config: Config) -> tuple[float | None, floor.Counts]:
    """Operations of the matrix products of one evaluation, and what they were counted from."""
    counts = floor.Counts()
    for batch in test_windows(config):
        counts.targets += len(batch.items)
        encoded = np.arange(len(batch.items))
        if student.backbone.causal:
            encoded = np.unique(shared_passes(batch.items))
        lengths = np.array([len(batch.items[window]) for window in encoded])
        counts.windows += len(lengths)
        counts.positions += int(lengths.sum())
        counts.squares += int((lengths**2).sum())
    try:
        # A training step is counted as three forward passes.
        return sum(floor.operations(KDSR(student, modalities=()), counts).values()) / 3, counts
    except SystemExit:
        return None, counts


def plain_ranks(ranker: Ranker, student: Student, config: Config, points: int) -> np.ndarray:
    """Ranks of the first test points, a window each, encoded in their order."""
    spec = tf.TensorSpec([None, None], tf.int32)
    encode = tf.function(student.user_vectors, input_signature=[spec])
    rows = (
        (r, t[-1]) for w in test_windows(config) for r, t in zip(w.items, w.targets, strict=True)
    )
    histories, targets = zip(*itertools.islice(rows, points), strict=True)
    targets, ranks = np.array(targets), []
    for part in parts(len(targets), ranker.rows_at_once):
        scores = ranker.scores(encode(pad(histories[part])).numpy())
        ranks.append(rank_metrics.pessimistic_ranks(scores, targets[part]))
    return np.concatenate(ranks)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, seconds and processor seconds of a call."""
    started = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - started[0], time.process_time() - started[1]


def measure(config: Config, trained: bool, plain: int) -> dict[str, Any]:
    """The numbers of the module's docstring."""
    catalogue = read_catalogue(config)
    student = read_served(config) if trained else build_student(config, len(catalogue))
    rate, cpu_rate = floor.matmul_rate()
    ranker = Ranker(student, config.evaluate.batch_size)
    ranker.vectors([np.array([1, 2], np.int32)])  # builds the graph
    examples = artifacts.read_manifest(
        stages.location(config, stages.windows_of(config)), written_by="distill"
    )
    found, seconds, cpu_seconds = timed(lambda: rank(config, ranker, catalogue, examples))
    memory = peak_rss_bytes()
    ranks, plain_seconds, plain_cpu_seconds = timed(
        lambda: plain_ranks(ranker, student, config, plain)
    )
    work, counts = operations(student, config)
    points = len(found.ranks)
    return {
        "test_points_per_second": round(points / seconds),
        "test_points_per_cpu_second": round(points / cpu_seconds),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "floor_seconds": work and round(work / rate, 2),
        "floor_cpu_seconds": work and round(work / cpu_rate, 2),
        "cpu_times_floor": work and round(cpu_seconds * cpu_rate / work, 2),
        "plain_test_points_per_second": round(len(ranks) / plain_seconds),
        "plain_test_points_per_cpu_second": round(len(ranks) / plain_cpu_seconds),
        "unequal_ranks": int(np.count_nonzero(ranks != found.ranks[: len(ranks)])),
        "compared_ranks": len(ranks),
        "peak_rss_bytes": memory,
        "gflops_of_a_large_product": round(rate / 1e9, 1),
        "test_points": points,
        "windows_encoded": counts.windows,
        "positions_encoded": counts.positions,
        "items": len(catalogue),
        "parameters": student.count_params(),
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="a folder in the source format; the student is untrained")
    parser.add_argument("--workdir", help="of a trained student, or where inputs are kept")
    parser.add_argument("--backbone", default="sasrec", help="of an untrained student")
    parser.add_argument("--plain", type=int, default=4_096, help="points ranked the plain way too")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if not (arguments.source or arguments.workdir):
        parser.error("give --source, --workdir or both")
    with tempfile.TemporaryDirectory() as scratch:
        workdir = arguments.workdir or scratch
        if arguments.source:
            overrides = [f"source.path={arguments.source}", f"model.backbone={arguments.backbone}"]
            overrides += ["encode.text={}", *arguments.set]
            config = load_config(overrides=overrides, workdir=workdir)
            train_epoch.make_inputs(config)
        else:
            path = os.path.join(workdir, "config.yaml")
            config = load_config(path, arguments.set, workdir=workdir)
        result = measure(config, trained=not arguments.source, plain=arguments.plain)
    settings = {
        "trained": not arguments.source,
        "modalities": list(config.modalities),
        "max_length": config.windows.max_length,
        "model": config.model.model_dump(),
        "batch_size": config.evaluate.batch_size,
    }
    print(json.dumps({**result, **settings, "versions": artifacts.versions()}))


if __name__ == "__main__":
    main()
