"""How fast does `distill` score pairs, and what does it cost as data grow?

    python -m benchmarks.distill_throughput [--windows 4000] [--items 10000] [--join]
    python -m benchmarks.distill_throughput --scale [WINDOWS ...] [--join]

Prints one JSON line. `pairs_per_second_beam` and `pairs_per_second_plain` are the
same windows of 50, cut, scored, encoded and written by the same code, as a pipeline
in one process and in a plain loop. `--scale` gives `seconds` and `peak_rss_bytes` for
50k, 100k and 200k windows (or those given) over 1,000,000 items instead. A mapped
file counts as resident memory as far as its pages were touched. `--join` sends item
vectors through the join that replaces the mapped file when it is too large.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.distill import ShardWriter, write_examples
from beam_pipelines.running import run_pipeline
from benchmarks.processes import alone, peak_rss_bytes
from kdsr_tf import schema
from kdsr_tf.artifacts import versions
from kdsr_tf.sequences import shards

MAX_LENGTH, STRIDE, DIM, NUM_DOMAINS, NUM_CODES = 50, 25, 128, 8, 100
SCALE_WINDOWS, SCALE_ITEMS = (50_000, 100_000, 200_000), 1_000_000
# 52 train items each: one train window and one validation window, both of 50.
ITEMS_PER_USER, WINDOWS_PER_USER = MAX_LENGTH + 2, 2
USERS_PER_FILE = 1_000
VECTORS_PER_PART = 10_000


def write_teacher(folder: str, num_items: int) -> None:
    """A text teacher with random vectors and codewords."""
    rng = np.random.default_rng(0)
    np.save(os.path.join(folder, "present.npy"), np.arange(num_items + 1) > 0)
    codebook = rng.uniform(-1, 1, (NUM_CODES, NUM_DOMAINS)).astype(np.float32)
    np.save(os.path.join(folder, "codebook.npy"), codebook)
    vectors = np.lib.format.open_memmap(
        os.path.join(folder, "vectors.npy"), "w+", np.float32, (num_items + 1, DIM)
    )
    for start in range(0, num_items + 1, VECTORS_PER_PART):
        part = vectors[start : start + VECTORS_PER_PART]
        part[:] = rng.standard_normal(part.shape, np.float32)


def write_sequences(folder: str, num_users: int, num_items: int) -> None:
    """Users with random items, in files as `prepare` writes them."""
    rng = np.random.default_rng(1)
    columns = pa.schema(
        [
            (schema.USER_ID, pa.string()),
            (schema.ITEMS, pa.list_(pa.int32())),
            (schema.NUM_TRAIN, pa.int32()),
        ]
    )
    for number, start in enumerate(range(0, num_users, USERS_PER_FILE)):
        users = range(start, min(start + USERS_PER_FILE, num_users))
        items = rng.integers(1, num_items + 1, (len(users), ITEMS_PER_USER), np.int32)
        offsets = np.arange(0, items.size + 1, ITEMS_PER_USER, dtype=np.int32)
        row = (
            [f"user{user:09d}" for user in users],
            pa.ListArray.from_arrays(offsets, items.ravel()),
            np.full(len(users), ITEMS_PER_USER, np.int32),
        )
        path = os.path.join(folder, schema.SEQUENCE_FILES.replace("*", f"{number:05d}"))
        pq.write_table(pa.table(row, names=columns.names).cast(columns), path)


def writer_of(settings: dict[str, Any]) -> ShardWriter:
    """What writes the windows of the paths among the settings."""
    others = {name: value for name, value in settings.items() if name not in ("paths", "num_items")}
    return ShardWriter(num_shards=len(settings["paths"]), **others)


def run_beam(settings: dict[str, Any]) -> dict[str, float | int]:
    """The pipeline in this process."""
    writer, paths, num_items = writer_of(settings), settings["paths"], settings["num_items"]
    started = time.perf_counter()
    counters = run_pipeline(
        lambda pipeline: write_examples(pipeline, paths, writer, num_items), title="distill"
    )
    return {
        "windows": counters["train_windows"] + counters["validation_windows"],
        "pairs": counters["pairs"],
        "seconds": round(time.perf_counter() - started, 2),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def run_plain(settings: dict[str, Any]) -> float:
    """Seconds of a plain loop over the same files, vectors mapped."""
    paths = settings["paths"]
    started = time.perf_counter()
    writer = writer_of({**settings, "join_vectors": False})
    writer.setup()
    for shard, path in enumerate(paths):
        for _ in writer.process((shard, {"path": [path]})):
            pass
    return time.perf_counter() - started


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=4_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--scale", type=int, nargs="*", metavar="WINDOWS")
    parser.add_argument("--join", action="store_true")
    parser.add_argument("--folder", help="for what is written; about 1 GB for `--scale`")
    arguments = parser.parse_args()
    scale = arguments.scale is not None
    num_items = SCALE_ITEMS if scale else arguments.items
    sizes = (arguments.scale or SCALE_WINDOWS) if scale else [arguments.windows]
    details = {"correlation": "cosine", "num_codes": NUM_CODES, "num_domains": NUM_DOMAINS}
    details |= {"score_scale": 1.0, "vector_scale": 1.0}
    runs = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as teacher:
        alone(write_teacher, teacher, num_items)
        for num_windows in sizes:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                alone(write_sequences, folder, num_windows // WINDOWS_PER_USER, num_items)
                settings = {
                    "paths": shards(folder),
                    "directory": os.path.join(folder, "examples"),
                    "max_length": MAX_LENGTH,
                    "stride": STRIDE,
                    "teachers": {"text": (teacher, details)},
                    "num_items": num_items,
                    "join_vectors": arguments.join,
                }
                os.makedirs(settings["directory"])
                run = alone(run_beam, settings)
                run["pairs_per_second_beam"] = round(run["pairs"] / run["seconds"])
                if not scale:
                    plain = alone(run_plain, settings)
                    run["pairs_per_second_plain"] = round(run["pairs"] / plain)
                runs.append(run)
    result = {"runs": runs} if scale else runs[0]
    print(
        json.dumps({"items": num_items, "join": arguments.join, **result, "versions": versions()})
    )


if __name__ == "__main__":
    main()
