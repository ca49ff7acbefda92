"""Time of an epoch of training beside its floor.

    python -m benchmarks.train_epoch --source FOLDER [--backbone sasrec] [--distillation on]
        [--text-preset FOLDER] [--modalities text image] [--workdir FOLDER] [--steps N]
        [--set KEY=VALUE]

Runs `prepare` to `distill` on the source in processes of their own (skipped where
`--workdir` holds their results), then some epochs of the training steps that `kdsr train`
takes, without its checkpoints and validation. Prints one JSON line with medians over
the epochs after the first: `seconds_per_epoch`, `cpu_seconds_per_epoch`,
`examples_per_second` (targets), `floor_seconds` and `floor_cpu_seconds` (see
`benchmarks.floor`), `input_idle_share` (share of the time that steps wait for their
batch), and `peak_rss_bytes` of this process. With `--steps N` an epoch has its first N batches
only, a random part of it, and so have all numbers; `steps_of_epoch` says how many there are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import tempfile
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import floor
from kdsr_tf import artifacts, stage_frame
from kdsr_tf.config import Config, load_config
from kdsr_tf.methods.training_inputs import read_training_inputs
from kdsr_tf.runs import plan
from kdsr_tf.runs.seeded_runs import run_inputs
from kdsr_tf.training.devices import set_up
from kdsr_tf.training.run import Run

INPUT_STAGES = ("prepare", "encode", "teach", "distill")


class Epochs(keras.callbacks.Callback):
    """Seconds, processor seconds and waiting of every epoch, and the matmul rate around it."""

    def __init__(self, waited: tf.Variable) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._waited = waited

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._rates = np.array(floor.matmul_rate())
        self._started = self._now()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds, cpu_seconds, waited = self._now() - self._started
        # Half of the rate from each side: the speed of a shared machine drifts.
        rate, cpu_rate = (self._rates + floor.matmul_rate()) / 2
        self.rows.append(
            {
                "rate": rate,
                "cpu_rate": cpu_rate,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "waited": waited,
                "operations": seconds * rate,
                "cpu_operations": cpu_seconds * cpu_rate,
            }
        )

    def _now(self) -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time(), float(self._waited.numpy())])


def timed(batches: tf.data.Dataset, waited: tf.Variable) -> tf.data.Dataset:
    """The same batches; the time that their consumer waits for them is added up."""
    asked = tf.data.Dataset.counter().map(lambda _: tf.timestamp())

    def add(asked_at: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([waited.assign_add(tf.timestamp() - asked_at)]):
            return {name: tf.identity(value) for name, value in batch.items()}

    # Both parts of `zip` and `add` run in turn in the consumer's thread, nothing ahead.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    return tf.data.Dataset.zip((asked, batches)).map(add).with_options(options)


def make_inputs(config: Config) -> None:
    """Run every stage before training that is not up to date."""
    run_inputs(config, plan.external_fingerprints(config), ())


def measure(config: Config, epochs: int, steps: int | None = None) -> dict[str, Any]:
    """Train for one epoch and then some, and compare with the floor.

    Args:
        config: With a workdir that holds the results of every stage before training.
        epochs: Epochs after the first.
        steps: Batches of every epoch, > 0; None takes all.
    """
    inputs = stage_frame.read_inputs(config, "student")
    strategy = set_up(config)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, read_training_inputs(config, inputs), folder, strategy)
        model = run.compiled()
    train = config.train
    steps = min(steps or run.steps(), run.steps())
    # Every epoch of a part is the same part, so that the floor counts what is computed.
    parts = 1 if steps < run.steps() else 1 + epochs
    batches = run.examples.train_batches(train.batch_size, parts, 0)
    counts = floor.count(batches.take(steps), model)
    waited = tf.Variable(0.0, dtype=tf.float64)
    clock = Epochs(waited)
    model.fit(
        timed(batches.take(steps).repeat() if parts == 1 else batches, waited),
        epochs=1 + epochs,
        steps_per_epoch=steps,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    median = {name: np.median([row[name] for row in clock.rows[1:]]) for name in clock.rows[0]}
    work = floor.operations(model, counts)
    total = sum(work.values())
    return {
        "seconds_per_epoch": round(median["seconds"], 2),
        "floor_seconds": round(total / median["rate"], 2),
        "times_floor": round(median["operations"] / total, 2),
        "cpu_seconds_per_epoch": round(median["cpu_seconds"], 2),
        "floor_cpu_seconds": round(total / median["cpu_rate"], 2),
        "cpu_times_floor": round(median["cpu_operations"] / total, 2),
        "examples_per_second": round(counts.targets / median["seconds"]),
        "input_idle_share": round(median["waited"] / median["seconds"], 4),
        "peak_rss_bytes": peak_bytes,
        "first_epoch_seconds": round(clock.rows[0]["seconds"], 2),
        "gflops_of_a_large_product": round(median["rate"] / 1e9, 1),
        "floor_gflop": {part: round(value / 1e9, 1) for part, value in work.items()},
        "items": inputs["sequences"].counts["items"],
        "steps": steps,
        "steps_of_epoch": run.steps(),
        **dataclasses.asdict(counts),
    }


def configuration(arguments: argparse.Namespace, workdir: str) -> Config:
    """Defaults, the configuration file if there is one, and the command line."""
    overrides = [
        f"source.path={arguments.source}",
        f"model.backbone={arguments.backbone}",
        f"distillation.enabled={arguments.distillation == 'on'}",
    ]
    if arguments.config is None:
        overrides += [f"encode.{modality}={{}}" for modality in arguments.modalities]
    if arguments.text_preset:
        overrides += [
            "encode.text.encoder=keras_hub",
            f"encode.text.preset={arguments.text_preset}",
            "encode.text.max_tokens=64",
        ]
    return load_config(arguments.config, [*overrides, *arguments.set], workdir=workdir)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="a folder in the source format")
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--distillation", choices=("on", "off"), default="on")
    parser.add_argument("--modalities", nargs="+", default=["text"])
    parser.add_argument("--text-preset", help="Keras Hub preset; default: the embedded encoder")
    parser.add_argument("--config", help="YAML file that says how to encode; default: none")
    parser.add_argument("--workdir", help="kept after the run; default: a temporary one")
    parser.add_argument("--epochs", type=int, default=3, help="after the first")
    parser.add_argument("--steps", type=int, help="of every epoch; default: all of them")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        config = configuration(arguments, arguments.workdir or scratch)
        make_inputs(config)
        result = measure(config, arguments.epochs, arguments.steps)
    settings = {
        "backbone": arguments.backbone,
        "distillation": arguments.distillation,
        "modalities": list(config.modalities),
        "model": config.model.model_dump(),
        "batch_size": config.train.batch_size,
        "pairs_per_window": config.distillation.pairs_per_window,
    }
    print(json.dumps({**result, **settings, "versions": artifacts.versions()}))


if __name__ == "__main__":
    main()
