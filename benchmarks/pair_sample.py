"""Does a codebook learnt from a sample of pairs do what one of all N x N pairs does?

    kdsr teach --config FILE --workdir DIR
    python -m benchmarks.pair_sample --workdir DIR [--modality text] [--passes 3]

The teacher learns its codewords from pairs of items that meet in a train sequence;
the paper takes all N x N pairs. Both codebooks are learnt here from the same condensed
vectors by k-means: `sequences` from nine tenths of the pair sample, `all` from as many
uniform pairs and then from every pair i < j, streamed in blocks, by `--passes` steps of
Lloyd's algorithm. Prints one JSON line. `on_sequences` and `on_uniform` judge both by
pairs neither has learnt from as pairs of that kind: the tenth kept out of the sample, and
uniform pairs of another seed. `agreement` compares the codes that `sequences` and another
codebook give to the same pairs: adjusted mutual information (0 is chance, 1 equal up to
names), and the share of pairs with equal codes under the best one-to-one renaming. Clouds
without clusters can be divided in many equally good ways, so `another_seed`, learnt from
the same nine tenths, says what agreement to expect.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import scipy.optimize
import sklearn.metrics

from kdsr_tf import artifacts, schema, stages
from kdsr_tf.artifacts import versions
from kdsr_tf.config import load_config
from kdsr_tf.console import progress
from kdsr_tf.teacher import pair_correlations
from kdsr_tf.teacher.codebook import learn_codebook
from kdsr_tf.teacher.quality import describe_codebook

HELD_OUT = 0.1
PAIRS_PER_BLOCK = 200_000
JUDGED = ("quantisation_error", "unexplained_share", "used_share", "perplexity")


class Vectors:
    """Condensed vectors of the items that have the modality, and their correlations.

    Args:
        folder: Committed `teacher/<modality>/`.
        details: `details` of its manifest.
    """

    def __init__(self, folder: str, details: dict[str, Any]):
        self._present = np.load(os.path.join(folder, "present.npy"))
        self._rows = np.load(os.path.join(folder, "vectors.npy"))
        self.items = np.flatnonzero(self._present)
        self._kind, self._domains = details["correlation"], details["num_domains"]
        self._scale = np.float32(details["vector_scale"])

    def of_pairs(self, pairs: np.ndarray) -> np.ndarray:
        """Correlation vectors `(pairs, domains)` of item pairs `(pairs, 2)`."""
        parts = np.array_split(pairs, max(1, len(pairs) // PAIRS_PER_BLOCK))
        return np.concatenate([self._correlate(*self._rows[part.T]) for part in parts])

    def of_all_pairs(self) -> Iterator[np.ndarray]:
        """Correlation vectors of every pair i < j of items with the modality, in blocks."""
        rows = self._rows[self.items]
        step = max(1, PAIRS_PER_BLOCK // len(rows))
        for start in range(0, len(rows) - 1, step):
            block = self._correlate(rows[start : start + step, None], rows[None, start:])
            later = np.arange(start, len(rows)) > np.arange(start, start + len(block))[:, None]
            yield block[later]

    def known(self, pairs: np.ndarray) -> np.ndarray:
        """The pairs whose items both have the modality."""
        return pairs[self._present[pairs].all(1)]

    def uniform(self, count: int, seed: int) -> np.ndarray:
        """Random pairs of two different items `(count, 2)`."""
        rng = np.random.default_rng([seed, 17])
        first = rng.integers(0, len(self.items), count)
        second = (first + rng.integers(1, len(self.items), count)) % len(self.items)
        return self.items[np.stack([first, second], axis=1)]

    def _correlate(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (
            pair_correlations.correlation_vectors(first, second, self._domains, self._kind)
            / self._scale
        )


def lloyd(vectors: Vectors, codebook: np.ndarray, passes: int) -> tuple[np.ndarray, int]:
    """Codewords moved to the mean of the pairs that chose them, over all pairs; and their number.

    A codeword that no pair chose stays.
    """
    num_pairs = len(vectors.items) * (len(vectors.items) - 1) // 2
    with progress("all pairs", total=passes * num_pairs) as bar:
        for _ in range(passes):
            counts = np.zeros(len(codebook))
            sums = np.zeros(codebook.shape)
            for block in vectors.of_all_pairs():
                codes = pair_correlations.nearest_codes(block, codebook)
                counts += np.bincount(codes, minlength=len(codebook))
                for domain, column in enumerate(block.T):
                    sums[:, domain] += np.bincount(codes, column, len(codebook))
                bar.advance(len(block))
            chosen = counts > 0
            codebook[chosen] = (sums[chosen] / counts[chosen, None]).astype(np.float32)
    return codebook, num_pairs


def judge(
    profiles: np.ndarray, pairs: np.ndarray, codebooks: dict[str, np.ndarray]
) -> dict[str, Any]:
    """What every codebook makes of some pairs, and how far the codes agree with the first's."""
    found: dict[str, Any] = {"pairs": len(pairs)}
    codes = {}
    for name, codebook in codebooks.items():
        codes[name] = pair_correlations.nearest_codes(profiles, codebook)
        described = describe_codebook(profiles, codes[name], codebook, pairs)
        found[name] = {key: round(described[key], 4) for key in JUDGED}
    first, *others = codes
    found["agreement"] = {name: _agreement(codes[first], codes[name]) for name in others}
    return found


def _agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    table = sklearn.metrics.cluster.contingency_matrix(first, second)
    rows, columns = scipy.optimize.linear_sum_assignment(-table)
    return {
        "mutual_information": round(sklearn.metrics.adjusted_mutual_info_score(first, second), 4),
        "equal_codes": round(float(table[rows, columns].sum() / len(first)), 4),
    }


def main() -> None:
    """Parse the command line, learn both codebooks, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="after `kdsr teach`; a local folder")
    parser.add_argument("--config", help="the YAML file of the run; default: the folder's own")
    parser.add_argument("--modality", choices=schema.MODALITIES, default="text")
    parser.add_argument("--passes", type=int, default=3, help="over all pairs")
    arguments = parser.parse_args()
    path = arguments.config or os.path.join(arguments.workdir, "config.yaml")
    config = load_config(path, workdir=arguments.workdir)
    folder = stages.location(config, f"teacher/{arguments.modality}")
    manifest = artifacts.read_manifest(folder, written_by="teach")
    vectors = Vectors(folder, manifest.details)
    table = pq.read_table(os.path.join(stages.location(config, "sequences"), "pairs.parquet"))
    sample = vectors.known(np.stack([column.to_numpy() for column in table.columns], axis=1))
    num_held_out = int(HELD_OUT * len(sample))
    # The sample is in the order of a hash: its end is any part of it.
    learnt, held_out = sample[:-num_held_out], sample[-num_held_out:]
    started = time.perf_counter()
    num_codes, seed, codebooks = config.teach.num_codes, config.seed, {}
    profiles = vectors.of_pairs(learnt)
    codebooks["sequences"] = learn_codebook(profiles, num_codes, "kmeans", seed)
    seconds_sequences = time.perf_counter() - started
    codebooks["another_seed"] = learn_codebook(profiles, num_codes, "kmeans", seed + 1)
    started = time.perf_counter()
    profiles = vectors.of_pairs(vectors.uniform(len(learnt), seed))
    begun = learn_codebook(profiles, num_codes, "kmeans", seed)
    codebooks["all"], num_pairs = lloyd(vectors, begun, arguments.passes)
    seconds_all = time.perf_counter() - started
    others = vectors.uniform(len(held_out), seed + 1)
    result = {
        "modality": arguments.modality,
        "items": len(vectors.items),
        "sampled_pairs": len(learnt),
        "all_pairs": num_pairs,
        "passes": arguments.passes,
        "seconds_sequences": round(seconds_sequences, 1),
        "seconds_all": round(seconds_all, 1),
        "on_sequences": judge(vectors.of_pairs(held_out), held_out, codebooks),
        "on_uniform": judge(vectors.of_pairs(others), others, codebooks),
        "versions": versions(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
