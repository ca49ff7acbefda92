"""Time and memory of `teach` for growing catalogues.

    python -m benchmarks.teach [--items 250000 1000000] [--size 768] [--set KEY=VALUE]

Every catalogue is taught in a process of its own; its features are written before,
in parts, as `encode` writes them. Prints one JSON line with, per catalogue, `items`,
`seconds` and `peak_rss_bytes`, and what the report says about the codes.
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

from benchmarks.processes import alone, peak_rss_bytes
from kdsr_tf import artifacts, schema, stage_frame, stages
from kdsr_tf.artifacts import versions
from kdsr_tf.config import Config, load_config

ITEMS_PER_FILE = 100_000
GROUPS = 500


def write_inputs(config: Config, num_items: int, size: int) -> None:
    """`sequences/` and `features/text/` of a made-up catalogue of grouped items."""
    rng = np.random.default_rng(0)
    external = dict.fromkeys(stages.artifact_of(config, "features/text").inputs, "0" * 16)
    sequences = stage_frame.new_manifest(config, "sequences", {}, external)
    with artifacts.committing(stages.location(config, "sequences"), sequences) as folder:
        items = pa.table({schema.ITEM: np.arange(1, num_items + 1, dtype=np.int32)})
        pq.write_table(items, os.path.join(folder, "items.parquet"))
        pairs = rng.integers(1, num_items + 1, (config.prepare.pair_sample_size, 2), np.int32)
        # Half of the pairs lie in one group, as neighbours in a sequence often do.
        pairs[::2, 1] = (pairs[::2, 0] + GROUPS - 1) % num_items + 1
        pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
        table = pa.table({"first": pairs[:, 0], "second": pairs[:, 1]})
        pq.write_table(table, os.path.join(folder, "pairs.parquet"))
    features = stage_frame.new_manifest(config, "features/text", {"sequences": sequences}, external)
    features.details = {"size": size}
    centres = rng.normal(size=(GROUPS, size)).astype(np.float32)
    starts = range(0, num_items, ITEMS_PER_FILE)
    with artifacts.committing(stages.location(config, "features/text"), features) as folder:
        for number, start in enumerate(starts):
            items = np.arange(start + 1, min(start + ITEMS_PER_FILE, num_items) + 1, dtype=np.int32)
            vectors = rng.standard_normal((len(items), size), np.float32)
            vectors += centres[items % GROUPS]
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size)
            pq.write_table(
                pa.table({schema.ITEM: items, schema.VECTOR: column}),
                os.path.join(folder, f"vectors-{number:05d}-of-{len(starts):05d}.parquet"),
                compression="zstd",
            )


def run_teach(config: Config) -> dict[str, Any]:
    """One run of `teach`, measured inside its own process."""
    from kdsr_tf.teacher.teach import teach

    started = time.perf_counter()
    (manifest,) = teach(config)
    details = ("unexplained_variance", "used_share", "perplexity", "quantisation_error")
    return {
        "items": manifest.counts["items"],
        "seconds": round(time.perf_counter() - started, 1),
        "peak_rss_bytes": peak_rss_bytes(),
        **{name: manifest.details[name] for name in (*details, "error_over_kmeans")},
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folder", help="for the features, about 4·items·size bytes")
    arguments = parser.parse_args()
    runs = []
    for num_items in arguments.items:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            config = load_config(
                overrides=["encode.text={}", *arguments.set], workdir=os.path.join(folder, "work")
            )
            # A process each: a peak is remembered for as long as its process lives.
            for function, rest in ((write_inputs, (num_items, arguments.size)), (run_teach, ())):
                result = alone(function, config, *rest)
            runs.append(result)
    print(json.dumps({"size": arguments.size, "runs": runs, "versions": versions()}))


if __name__ == "__main__":
    main()
