"""How steps grow with the catalogue and with the length of windows, and what serving costs.

    python -m benchmarks.scale [--markdown] [--parts catalogue length inference]

Every configuration runs in a process of its own and gives one JSON line. Items are
drawn as 1/rank, windows are full, the model is SASRec with texts and distillation.

- `catalogue`: a training step for every number of items, length and batch size, with
  its floors: `floor_cpu_seconds`, the operations of `benchmarks.floor` over the rate of a
  large product, and `floor_bytes_seconds`, the bytes an update must move (Adam reads and
  writes a weight and its two moments) over the bandwidth of a large copy. Beyond
  `--full-up-to` items a target is compared with `--negatives` drawn ones, once with every row
  of the tables updated and once with those alone that a step reads (`train.lazy_tables`).
- `length`: steps with and without distillation in turns, per length and number of pairs:
  the ratio as measured (median of the ratios of a turn) and as counted, and the operations of
  the scores of pairs and of their codes over those of attention.
- `inference`: `user_vectors` of a student trained with, and one without distillation, in
  turns: the median ratio, which is to be 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.processes import alone, peak_rss_bytes
from kdsr_tf import schema

DIM, LAYERS, CODES, PAIRS = 128, 2, 100, 128
ITEMS = 12_101
WARM_UP = 3
COPY_FLOATS = 2**26
ADAM_BYTES = 24
"""Bytes read and written per weight: itself and two moments, float32."""


def make_batch(windows: int, length: int, num_items: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Full windows of items drawn as 1/rank, with random records of texts."""
    rng = np.random.default_rng(seed)
    share = np.cumsum(1 / np.arange(1, num_items + 1))
    items = 1 + np.searchsorted(share, rng.uniform(0, share[-1], (windows, length + 1)))
    items = items.astype(np.int32)
    pairs = (windows, schema.num_pairs(length))
    return {
        schema.ITEMS: items[:, :-1],
        schema.TARGET: items[:, 1:],
        schema.present_key("text"): np.ones((windows, length), np.uint8),
        schema.scores_key("text"): rng.uniform(-1, 1, pairs).astype(schema.SCORE_DTYPE),
        schema.codes_key("text"): rng.integers(0, CODES, pairs).astype(schema.code_dtype(CODES)),
    }


def make_model(
    num_items: int,
    length: int,
    distils: bool,
    pairs: int | None,
    negatives: int | None = None,
    lazy: bool = False,
):
    """A compiled `KDSR`; without distillation its student has the same tables."""
    from kdsr_tf.methods.kdsr import KDSR
    from kdsr_tf.methods.student import Student
    from kdsr_tf.training.rates import grouped_adam, variable_groups

    student = Student(num_items, DIM, length, num_layers=LAYERS, modalities=("text",))
    model = KDSR(
        student,
        CODES,
        modalities=("text",) if distils else (),
        pairs_per_window=pairs,
        negatives=negatives,
    )
    tables = [v for v in student.tables.row_variables().values() if v.trainable and lazy]
    optimizer = grouped_adam(variable_groups(model), 1e-3, slow_start_steps=1000, lazy=tables)
    model.compile(optimizer=optimizer)
    return model


def in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds and processor seconds `(repeats, 2)` of calls that take turns, after warm-up."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(WARM_UP + repeats):
        for name, call in calls.items():
            started = time.perf_counter(), time.process_time()
            call()
            ended = time.perf_counter(), time.process_time()
            taken[name].append((ended[0] - started[0], ended[1] - started[1]))
    return {name: np.array(values[WARM_UP:]) for name, values in taken.items()}


def bandwidth() -> float:
    """Bytes per second, read and written, of a copy that no cache holds."""
    source = np.ones(COPY_FLOATS, np.float32)
    copy = np.empty_like(source)
    taken = []
    for _ in range(7):
        started = time.perf_counter()
        np.copyto(copy, source)
        taken.append(time.perf_counter() - started)
    return 2 * source.nbytes / float(np.median(taken[1:]))


def measure_catalogue(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """One training step."""
    import tensorflow as tf

    from benchmarks import floor
    from kdsr_tf.processors import limit_threads

    limit_threads(tf)
    model = make_model(
        case["items"], case["length"], True, PAIRS, case["negatives"], case["lazy_tables"]
    )
    batch = make_batch(case["batch_size"], case["length"], case["items"])
    rate, cpu_rate = floor.matmul_rate()
    (taken,) = in_turns({"step": lambda: model.train_on_batch(batch)}, repeats).values()
    seconds, cpu_seconds = np.median(taken, axis=0)
    # Before the copy that measures the bandwidth, which is not the model's.
    memory = peak_rss_bytes()
    work = sum(floor.operations(model, floor.count([batch], model)).values())
    weights = moved = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    if case["lazy_tables"]:
        read = len(np.union1d(batch[schema.ITEMS], batch[schema.TARGET])) + case["negatives"]
        for table in model.student.tables.row_variables().values():
            moved -= table.trainable * (table.shape[0] - min(read, table.shape[0])) * DIM
    return {
        "step_seconds": round(float(seconds), 3),
        "step_cpu_seconds": round(float(cpu_seconds), 3),
        "floor_seconds": round(work / rate, 3),
        "floor_cpu_seconds": round(work / cpu_rate, 3),
        "floor_bytes_seconds": round(ADAM_BYTES * moved / bandwidth(), 3),
        "targets_per_second": round(case["batch_size"] * case["length"] / seconds),
        "peak_rss_bytes": memory,
        "weights_bytes": 4 * weights,
        "gflop": round(work / 1e9, 2),
    }


def measure_length(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Steps with and without distillation."""
    import tensorflow as tf

    from benchmarks import floor
    from kdsr_tf.processors import limit_threads

    limit_threads(tf)
    length, windows = case["length"], case["batch_size"]
    batch = make_batch(windows, length, case["items"])
    models = {name: make_model(case["items"], length, name == "on", case["pairs"])
              for name in ("on", "off")}  # fmt: skip
    calls = {name: lambda m=model: m.train_on_batch(batch) for name, model in models.items()}
    taken = in_turns(calls, repeats)
    work = {
        name: floor.operations(model, floor.count([batch], model)) for name, model in models.items()
    }
    pairs = floor.count([batch], models["on"]).pairs["text"]
    # Forward: scores and mixture of every head take 2 L^2 d each, per layer.
    attention = windows * LAYERS * 4.0 * length**2 * DIM
    wall, cpu = np.median(taken["on"] / taken["off"], axis=0)
    return {
        "step_cpu_seconds_on": round(float(np.median(taken["on"][:, 1])), 3),
        "step_cpu_seconds_off": round(float(np.median(taken["off"][:, 1])), 3),
        "ratio": round(float(wall), 3),
        "cpu_ratio": round(float(cpu), 3),
        "counted_ratio": round(sum(work["on"].values()) / sum(work["off"].values()), 3),
        "gflop_on": round(sum(work["on"].values()) / 1e9, 2),
        "gflop_off": round(sum(work["off"].values()) / 1e9, 2),
        "scores_over_attention": round(2.0 * pairs * DIM / attention, 4),
        "codes_over_attention": round(2.0 * pairs * DIM * (DIM + CODES) / attention, 2),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def measure_inference(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """`user_vectors` of two students, each trained for some steps."""
    import tensorflow as tf

    histories = make_batch(case["batch_size"], case["length"], case["items"], seed=1)[schema.ITEMS]
    batch = make_batch(16, case["length"], case["items"])
    calls = {}
    for name in ("on", "off"):
        model = make_model(case["items"], case["length"], name == "on", PAIRS)
        for _ in range(WARM_UP):
            model.train_on_batch(batch)
        spec = tf.TensorSpec([None, None], tf.int32)
        encode = tf.function(model.student.user_vectors, input_signature=[spec])
        calls[name] = lambda encode=encode: encode(histories).numpy()
    taken = in_turns(calls, repeats)
    wall, cpu = np.median(taken["on"] / taken["off"], axis=0)
    return {
        "ms_on": round(1e3 * float(np.median(taken["on"][:, 0])), 2),
        "ms_off": round(1e3 * float(np.median(taken["off"][:, 0])), 2),
        "cpu_ms_on": round(1e3 * float(np.median(taken["on"][:, 1])), 2),
        "cpu_ms_off": round(1e3 * float(np.median(taken["off"][:, 1])), 2),
        "ratio": round(float(wall), 3),
        "cpu_ratio": round(float(cpu), 3),
        "peak_rss_bytes": peak_rss_bytes(),
    }


MEASURES = {
    "catalogue": measure_catalogue,
    "length": measure_length,
    "inference": measure_inference,
}


def cases(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The configurations of every part."""
    catalogue = [
        {
            "items": items,
            "length": length,
            "batch_size": size,
            "negatives": arguments.negatives if items > arguments.full_up_to else None,
            "lazy_tables": lazy,
        }
        for items, length, size, lazy in itertools.product(
            arguments.items, arguments.lengths, arguments.batch_sizes, (False, True)
        )
        if items > arguments.full_up_to or not lazy
    ]
    length = [
        {"items": ITEMS, "length": length, "batch_size": arguments.pair_windows, "pairs": pairs}
        for length, pairs in itertools.product(arguments.pair_lengths, (PAIRS, None))
    ]
    inference = [
        {"items": ITEMS, "length": 50, "batch_size": size} for size in arguments.request_sizes
    ]
    return {"catalogue": catalogue, "length": length, "inference": inference}


def row_of_table(row: Mapping[str, Any], first: bool) -> str:
    """A configuration as a row of a Markdown table, the first one below its header."""
    names = [name for name in row if name not in ("part", "versions")]
    line = " | ".join(_shown(row[name]) for name in names)
    header = f"\n| {' | '.join(names)} |\n{'| --- ' * len(names)}|\n" if first else ""
    return f"{header}| {line} |"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "all" if value is None else f"{value:,}"


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--full-up-to", type=int, default=20_000, metavar="ITEMS")
    parser.add_argument("--negatives", type=int, default=1_024)
    parser.add_argument("--pair-lengths", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--pair-windows", type=int, default=16)
    parser.add_argument("--request-sizes", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--markdown", action="store_true", help="tables in place of JSON")
    arguments = parser.parse_args()
    from kdsr_tf.artifacts import versions

    for part, configurations in cases(arguments).items():
        if part not in arguments.parts:
            continue
        for number, case in enumerate(configurations):
            found = alone(MEASURES[part], case, arguments.repeats)
            row = {"part": part, **case, **found, "versions": versions()}
            shown = row_of_table(row, number == 0) if arguments.markdown else json.dumps(row)
            print(shown, flush=True)


if __name__ == "__main__":
    main()
