"""How much of the pair scoring's speed does the Beam job keep?

    python -m benchmarks.distill_throughput [--windows 4000] [--items 10000]

Prints one JSON line. Both sides cut, score, encode and write the same windows of
50 with the same code, once in a plain loop and once as a pipeline in this
process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.distill import ReadSequences, ShardWriter, WriteExamples, read_users
from beam_pipelines.running import run_pipeline
from kdsr_tf import schema
from kdsr_tf.artifacts import versions

MAX_LENGTH, STRIDE, DIM, NUM_DOMAINS, NUM_CODES = 50, 25, 128, 8, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=4_000)
    parser.add_argument("--items", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(folder, arguments.windows, arguments.items)
    print(json.dumps(result | {"versions": versions()}))


def measure(folder: str, num_windows: int, num_items: int) -> dict[str, float | int]:
    """Seconds and pairs per second of both sides, for one text teacher."""
    rng = np.random.default_rng(0)
    # 52 train items each: one train window and one validation window, both of 50.
    items = rng.integers(1, num_items + 1, (num_windows, MAX_LENGTH + 2), np.int32)
    table = {
        schema.USER_ID: [f"user{k:09d}" for k in range(num_windows)],
        schema.ITEMS: pa.array(list(items), pa.list_(pa.int32())),
        schema.NUM_TRAIN: pa.array(np.full(num_windows, MAX_LENGTH + 2, np.int32)),
    }
    sequences = os.path.join(folder, "sequences.parquet")
    pq.write_table(pa.table(table), sequences)
    np.save(os.path.join(folder, "present.npy"), np.arange(num_items + 1) > 0)
    codebook = rng.uniform(-1, 1, (NUM_CODES, NUM_DOMAINS)).astype(np.float32)
    np.save(os.path.join(folder, "codebook.npy"), codebook)
    vectors = np.lib.format.open_memmap(
        os.path.join(folder, "vectors.npy"), "w+", np.float32, (num_items + 1, DIM)
    )
    for start in range(0, num_items + 1, 10_000):
        part = vectors[start : start + 10_000]
        part[:] = rng.standard_normal(part.shape, np.float32)
    del vectors, part, items, table
    details = {
        "correlation": "cosine",
        "num_codes": NUM_CODES,
        "num_domains": NUM_DOMAINS,
        "score_scale": 1.0,
        "vector_scale": 1.0,
    }
    settings = {
        "num_shards": 4,
        "max_length": MAX_LENGTH,
        "stride": STRIDE,
        "teachers": {"text": (folder, details)},
    }
    plain = _seconds(lambda: _plain(sequences, os.path.join(folder, "plain"), settings))
    transform = WriteExamples(directory=os.path.join(folder, "beam"), **settings)
    counters = {}

    def run_beam() -> None:
        counters.update(
            run_pipeline(lambda p: p | ReadSequences([sequences]) | transform, title="distill")
        )

    beam = _seconds(run_beam)
    return {
        "windows": num_windows,
        "items": num_items,
        "pairs": counters["pairs"],
        "seconds": beam,
        "pairs_per_second_beam": counters["pairs"] / beam,
        "pairs_per_second_plain": counters["pairs"] / plain,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _plain(sequences: str, directory: str, settings: dict) -> None:
    """The writer over all users, as one shard per quarter, without Beam."""
    writer = ShardWriter(directory, **settings)
    writer.setup()
    users = list(read_users(sequences))
    for shard in range(settings["num_shards"]):
        part = users[shard :: settings["num_shards"]]
        for _ in writer.process((shard, {"users": part})):
            pass


def _seconds(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
