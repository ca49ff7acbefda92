"""Recall against queries per second of the exported indexes, beside what they are made of.

    python -m benchmarks.retrieval [--items 10000 100000] [--markdown]
    python -m benchmarks.retrieval --items 1000000 --rounds 3

For each catalogue size a ScaNN index and an exact one are made by `kdsr_tf.export.indexes`,
saved, loaded again, and asked for the items an export retrieves (K and what it overfetches).
Beside the first stands the `scann` package on the same vectors with the same parameters, beside
the second a NumPy product with `argpartition`. After a smaller index come the parameters that the
export starts from, and they grow as the export lets them, until the recall lies half-way between
`--recall-floor` and 1; the last ones are what is published. Contestants take turns, and figures
are medians over rounds. Each pair has a process of its own, so a million items of 128 dimensions
need no more memory than one of them does (`peak_gib`).

Vectors are made up in the manner of item tables: clusters of 50 items on average, whose sizes
fall off like popularity and in which items scatter half as far as clusters do, with lengths of
their own; a query is a mean of four items of one or two clusters, with noise.

Prints one JSON line per size: `recall_at_k`, `queries_per_second` and `queries_per_second_bare`
of the published parameters, all parameters tried under `curve`, and `exact`. What is being done
is said on the standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
from scann import scann_ops_pybind

from benchmarks.processes import alone, peak_rss_bytes
from kdsr_tf.artifacts import versions
from kdsr_tf.console import console
from kdsr_tf.export.index_parameters import IndexParameters, choose_parameters, enlarge
from kdsr_tf.export.indexes import Index, exact_index, scann_index

ITEMS_PER_CLUSTER = 50
SCATTER = 0.5
QUERY_ITEMS = 4
TRAINING_ITERATIONS = 12
DIMENSIONS_PER_BLOCK = 2
QUERIES_PER_CHUNK = 64
ROWS_PER_CHUNK = 65_536

Search = Callable[[np.ndarray], np.ndarray]


def make_vectors(num_items: int, dim: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Item vectors `(num_items, dim)` and the cluster of each, in no order."""
    num_clusters = max(num_items // ITEMS_PER_CLUSTER, 2)
    weights = 1 / np.arange(1, num_clusters + 1) ** 0.5
    clusters = rng.choice(num_clusters, num_items, p=weights / weights.sum())
    centres = rng.standard_normal((num_clusters, dim), np.float32)
    vectors = rng.standard_normal((num_items, dim), np.float32)
    for start in range(0, num_items, ROWS_PER_CHUNK):
        chunk = slice(start, start + ROWS_PER_CHUNK)
        vectors[chunk] = centres[clusters[chunk]] + SCATTER * vectors[chunk]
    vectors *= rng.lognormal(0, 0.2, (num_items, 1)).astype(np.float32)
    return vectors, clusters


def make_queries(
    vectors: np.ndarray, clusters: np.ndarray, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Queries `(number, dim)`."""
    order = np.argsort(clusters, kind="stable")
    place = rng.integers(0, len(order), (number, 2)).repeat(QUERY_ITEMS // 2, axis=1)
    near = np.clip(place + rng.integers(-10, 11, place.shape), 0, len(order) - 1)
    queries = vectors[order[near]].mean(axis=1)
    return (queries + 0.2 * rng.standard_normal(queries.shape)).astype(np.float32)


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """True rows `(queries, k)`, in no order."""
    starts = range(0, len(queries), QUERIES_PER_CHUNK)
    chunks = (queries[start : start + QUERIES_PER_CHUNK] @ vectors.T for start in starts)
    return np.concatenate([np.argpartition(chunk, -k)[:, -k:] for chunk in chunks])


def exported(index: Index, dim: int) -> Search:
    """The search of an index that was saved and loaded again."""

    class Searcher(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.index = index

        @tf.function(input_signature=[tf.TensorSpec((None, dim), tf.float32)])
        def search(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self.index.search(queries)

    with tempfile.TemporaryDirectory() as folder:
        options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
        tf.saved_model.save(Searcher(), folder, options=options)
        loaded = tf.saved_model.load(folder)
    # As a server calls it: the graph itself, not the Python function that looks for one.
    [search] = loaded.search.concrete_functions
    return lambda queries: search(tf.constant(queries))[1].numpy() - 1


def bare_scann(vectors: np.ndarray, retrieve: int, parameters: IndexParameters) -> Search:
    """The `scann` package, with the settings the TFRS layer gives it."""
    builder = scann_ops_pybind.builder(vectors, retrieve, "dot_product")
    if parameters.num_leaves:
        builder = builder.tree(
            num_leaves=parameters.num_leaves,
            num_leaves_to_search=parameters.num_leaves_to_search,
            training_iterations=TRAINING_ITERATIONS,
        )
    if parameters.num_reordering_candidates < len(vectors):
        builder = builder.score_ah(dimensions_per_block=DIMENSIONS_PER_BLOCK)
        builder = builder.reorder(parameters.num_reordering_candidates)
    else:
        builder = builder.score_brute_force()
    searcher = builder.build()
    return lambda queries: searcher.search_batched_parallel(queries)[0]


def numpy_search(vectors: np.ndarray, retrieve: int) -> Search:
    """A matrix product, `argpartition`, and a sort of what is left."""

    def search(queries: np.ndarray) -> np.ndarray:
        scores = queries @ vectors.T
        rows = np.argpartition(scores, -retrieve)[:, -retrieve:]
        found = np.take_along_axis(scores, rows, axis=1)
        return np.take_along_axis(rows, np.argsort(-found), axis=1)

    return search


def race(
    contestants: Sequence[Search], queries: np.ndarray, batch_size: int, rounds: int
) -> np.ndarray:
    """Queries per second of each, by the clock and by processor time: medians `(n, 2)`."""
    batches = [queries[i : i + batch_size] for i in range(0, len(queries), batch_size)]
    taken = np.zeros((rounds, len(contestants), 2))
    for search in contestants:
        search(batches[0])
    for number in range(rounds):
        for contestant, search in enumerate(contestants):
            started = time.perf_counter(), time.process_time()
            for batch in batches:
                search(batch)
            ended = time.perf_counter(), time.process_time()
            taken[number, contestant] = np.subtract(ended, started)
    return len(queries) / np.median(taken, axis=0)


def compare(rates: np.ndarray, other: str) -> dict[str, float]:
    """Figures of the first contestant beside those of the second."""
    (wall, cpu), (other_wall, other_cpu) = rates
    return {
        "queries_per_second": round(wall, 1),
        f"queries_per_second_{other}": round(other_wall, 1),
        "ratio": round(wall / other_wall, 3),
        "cpu_ratio": round(cpu / other_cpu, 3),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Where the arrays of one catalogue size are, and how they are searched."""

    folder: str
    num_items: int
    dim: int
    k: int
    retrieve: int
    queries: int
    batch_size: int
    rounds: int

    def save(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            np.save(os.path.join(self.folder, f"{name}.npy"), array)

    def load(self, name: str) -> np.ndarray:
        return np.load(os.path.join(self.folder, f"{name}.npy"))

    def say(self, words: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')} {self.num_items:,} items: {words}")


def make(work: Work) -> None:
    """Vectors, queries and their true best rows, in the folder."""
    work.say("vectors, queries and their true best")
    rng = np.random.default_rng(work.num_items)
    vectors, clusters = make_vectors(work.num_items, work.dim, rng)
    queries = make_queries(vectors, clusters, work.queries, rng)
    work.save(vectors=vectors, queries=queries, truth=nearest(vectors, queries, work.k))


def race_scann(work: Work, parameters: IndexParameters) -> dict[str, float]:
    """The exported ScaNN index and `scann`; the line of one point of the curve."""
    settings = dataclasses.asdict(parameters)
    work.say("scann " + "/".join(map(str, settings.values())))
    vectors, queries = work.load("vectors"), work.load("queries")
    ours = exported(scann_index(vectors, work.retrieve, parameters), work.dim)
    bare = bare_scann(vectors, work.retrieve, parameters)
    work.say("built; racing")
    found = ours(queries)[:, : work.k]
    pairs = zip(work.load("truth"), found, strict=True)
    recall = float(np.mean([np.isin(true, rows).mean() for true, rows in pairs]))
    figures = compare(race((ours, bare), queries, work.batch_size, work.rounds), "bare")
    work.say(f"recall {recall:.4f}, {figures['queries_per_second']:,} queries/s")
    return {"recall_at_k": round(recall, 4), **figures, **settings, "peak_gib": peak_gib()}


def race_exact(work: Work) -> dict[str, float]:
    """The exported exact index and NumPy."""
    work.say("exact")
    vectors, queries = work.load("vectors"), work.load("queries")
    contestants = (
        exported(exact_index(vectors, work.retrieve), work.dim),
        numpy_search(vectors, work.retrieve),
    )
    figures = compare(race(contestants, queries, work.batch_size, work.rounds), "numpy")
    return {**figures, "peak_gib": peak_gib()}


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return round(peak_rss_bytes() / 2**30, 2)


def smaller(parameters: IndexParameters, work: Work) -> IndexParameters:
    """Less work per search, or the same where nothing can be left out."""
    if parameters.num_leaves:
        leaves = max(parameters.num_leaves_to_search // 2, 1)
        return dataclasses.replace(parameters, num_leaves_to_search=leaves)
    if parameters.num_reordering_candidates == work.num_items:
        return parameters
    return dataclasses.replace(parameters, num_reordering_candidates=work.retrieve)


def measure(num_items: int, arguments: argparse.Namespace) -> dict:
    """The line of one catalogue size."""
    settings = {
        name: vars(arguments)[name] for name in ("dim", "k", "queries", "batch_size", "rounds")
    }
    retrieve = min(arguments.retrieve, num_items)
    parameters = choose_parameters(num_items, retrieve)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(folder=folder, num_items=num_items, retrieve=retrieve, **settings)
        alone(make, work)
        curve = []
        if (less := smaller(parameters, work)) != parameters:
            curve.append(alone(race_scann, work, less))
        while True:
            curve.append(alone(race_scann, work, parameters))
            larger = enlarge(parameters, parameters.num_leaves, num_items)
            if curve[-1]["recall_at_k"] >= (1 + arguments.recall_floor) / 2:
                break
            if larger == parameters:
                break
            parameters = larger
        exact = alone(race_exact, work)
    return {
        "items": num_items,
        **curve[-1],
        "exact": exact,
        "curve": curve,
        **settings,
        "retrieve": retrieve,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(),
    }


def markdown(line: dict) -> str:
    """Rows of a table for docs/performance.md."""
    rows = [
        f"| {line['items']:,} | scann {point['num_leaves']}/{point['num_leaves_to_search']}"
        f"/{point['num_reordering_candidates']} | {point['recall_at_k']:.3f} "
        f"| {point['queries_per_second']:,.0f} | {point['queries_per_second_bare']:,.0f} "
        f"| {point['ratio']:.2f} | {point['cpu_ratio']:.2f} |"
        for point in line["curve"]
    ]
    exact = line["exact"]
    rows.append(
        f"| {line['items']:,} | exact | 1.000 | {exact['queries_per_second']:,.0f} "
        f"| {exact['queries_per_second_numpy']:,.0f} | {exact['ratio']:.2f} "
        f"| {exact['cpu_ratio']:.2f} |"
    )
    return "\n".join(rows)


HEADER = """\
| items | index | recall@k | queries/s | bare | ratio | ratio by processor time |
|---|---|---|---|---|---|---|"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--retrieve", type=int, default=300, help="items the index returns")
    parser.add_argument("--queries", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--recall-floor", type=float, default=0.99)
    parser.add_argument("--markdown", action="store_true", help="a table instead of JSON")
    arguments = parser.parse_args(argv)
    if arguments.markdown:
        print(HEADER)
    for num_items in arguments.items:
        line = measure(num_items, arguments)
        print(markdown(line) if arguments.markdown else json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
