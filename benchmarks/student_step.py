"""What distillation adds to a training step.

    python -m benchmarks.student_step [--backbone sasrec] [--items 12101] [--pairs 128 all]
    python -m benchmarks.student_step --examples FOLDER --batch-size 512 [--write batch.npz]
    KERAS_BACKEND=jax python -m benchmarks.student_step --batch batch.npz

One model without distillation and one per entry of `--pairs` take their steps in
turns, so that whatever else runs on the machine slows all of them alike. Batches
are made up, with windows that are full and both modalities, or one of the first epoch of an
`examples/` folder, which `--write` leaves in an .npz file for machines without TensorFlow
(`--batch`). Prints one JSON line: per model the
medians of `seconds` and `cpu_seconds` per step, and both over those of the model without
distillation. TensorFlow has its own number of threads, unless `TF_NUM_INTRAOP_THREADS` says
otherwise.
"""

from __future__ import annotations

import argparse
import json
import time

import keras
import numpy as np

from kdsr_tf import schema
from kdsr_tf.artifacts import versions
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.student import Student
from kdsr_tf.training.rates import grouped_adam, variable_groups

OFF = "off"


def make_batch(batch_size: int, length: int, num_items: int, num_codes: int) -> dict:
    """Full windows with random records and a target at every position."""
    rng = np.random.default_rng(0)
    items = rng.integers(1, num_items + 1, (batch_size, length + 1)).astype(np.int32)
    batch = {schema.ITEMS: items[:, :-1], schema.TARGET: items[:, 1:]}
    pairs = (batch_size, schema.num_pairs(length))
    for modality in schema.MODALITIES:
        batch[schema.present_key(modality)] = np.ones((batch_size, length), np.uint8)
        batch[schema.scores_key(modality)] = rng.uniform(-1, 1, pairs).astype(schema.SCORE_DTYPE)
        codes = rng.integers(0, num_codes, pairs)
        batch[schema.codes_key(modality)] = codes.astype(schema.code_dtype(num_codes))
    return batch


def read_batch(arguments: argparse.Namespace) -> dict:
    """A batch of the first epoch of `--examples`."""
    from kdsr_tf.data.examples import Examples

    examples = Examples(arguments.examples, arguments.length, arguments.modalities)
    batches = examples.train_batches(arguments.batch_size, 1, 0, first_step=arguments.number)
    return next(batches.as_numpy_iterator())


def make_model(arguments: argparse.Namespace, batch: dict, pairs: str) -> KDSR:
    """A compiled model for such batches; `pairs` is a number, `all` or `off`."""
    modalities = [m for m in schema.MODALITIES if schema.present_key(m) in batch]
    length = batch[schema.ITEMS].shape[1]
    student = Student(
        arguments.items, arguments.dim, length, arguments.backbone, modalities=modalities
    )
    model = KDSR(
        student,
        arguments.codes,
        modalities=() if pairs == OFF else modalities,
        pairs_per_window=int(pairs) if pairs.isdigit() else None,
        negatives=arguments.negatives,
    )
    optimizer = grouped_adam(variable_groups(model), 1e-3, slow_start_steps=1000)
    model.compile(optimizer=optimizer, jit_compile=arguments.jit_compile)
    return model


def measure(models: dict[str, KDSR], batch: dict, steps: int) -> dict[str, dict[str, float]]:
    """Medians per model over steps taken in turns, the first three not counted."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(steps + 3):
        for name, model in models.items():
            started = time.perf_counter(), time.process_time()
            model.train_on_batch(batch)
            ended = time.perf_counter(), time.process_time()
            taken[name].append((ended[0] - started[0], ended[1] - started[1]))
    medians = {name: np.median(values[3:], axis=0) for name, values in taken.items()}
    return {
        name: {
            "seconds": round(float(seconds), 4),
            "cpu_seconds": round(float(cpu), 4),
            "seconds_ratio": round(float(seconds / medians[OFF][0]), 3),
            "cpu_ratio": round(float(cpu / medians[OFF][1]), 3),
        }
        for name, (seconds, cpu) in medians.items()
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--codes", type=int, default=100)
    parser.add_argument("--pairs", nargs="+", default=["128", "all"], help="numbers, or `all`")
    parser.add_argument("--negatives", type=int)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--batch", help=".npz file with the fields of a batch")
    parser.add_argument("--examples", help="folder that `kdsr distill` wrote")
    parser.add_argument("--modalities", nargs="+", default=["text"], help="of --examples")
    parser.add_argument("--number", type=int, default=0, help="of the batch of --examples")
    parser.add_argument("--write", help="save the batch as .npz")
    parser.add_argument("--jit-compile", action="store_true")
    arguments = parser.parse_args()
    if arguments.batch:
        batch = dict(np.load(arguments.batch))
    elif arguments.examples:
        batch = read_batch(arguments)
    else:
        batch = make_batch(arguments.batch_size, arguments.length, arguments.items, arguments.codes)
    if arguments.write:
        np.savez(arguments.write, **batch)
    models = {pairs: make_model(arguments, batch, pairs) for pairs in (OFF, *arguments.pairs)}
    result = {
        "backend": keras.backend.backend(),
        **vars(arguments),
        "pairs": measure(models, batch, arguments.steps),
        "versions": versions(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
