"""Train stage: `examples/` and the teachers to `student/`."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq

from kdsr_tf import schema, sequences, stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import InputError
from kdsr_tf.methods.student_file import STUDENT_FILE
from kdsr_tf.methods.training_inputs import read_training_inputs
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.paths import copy_folder, local_folder
from kdsr_tf.stage_frame import StageFrame
from kdsr_tf.training import rates
from kdsr_tf.training.cluster import is_chief
from kdsr_tf.training.devices import set_up
from kdsr_tf.training.projector import write_projector
from kdsr_tf.training.run import TRAIN, VALIDATION, Run, num_parameters
from kdsr_tf.training.warm_start import WarmStart


def train(config: Config, warm_start: str | None = None) -> Manifest:
    """Fit the student, select its best epoch on validation, and commit it.

    A run that was killed goes on from its last checkpoint
    (`student.checkpoints/<fingerprint>/`) to the same weights, bit for bit.

    Args:
        config: The configuration.
        warm_start: Path of an earlier student to start from (see `WarmStart`);
            it is no part of the configuration, so that tomorrow's run may start from
            today's.

    Returns:
        Manifest of `student/`.

    Raises:
        MissingArtifactError: naming the stage to run first.
        ConfigError: for options that exclude each other, and for a student that
            training cannot start from.
        TrainingError: if a loss is no longer finite; the last good checkpoint is
            kept.
    """
    frame = StageFrame(config, "student")
    manifest, chief = frame.manifest, is_chief(config)
    strategy = set_up(config)
    items = sequences.read_items(stages.location(config, "sequences"))
    ids = items[schema.ITEM_ID].to_pylist()
    start = WarmStart(warm_start, ids, config.model.backbone) if warm_start else None
    checkpoints = (
        manifest.fingerprint if start is None else f"{manifest.fingerprint}-{start.digest}"
    )
    run = Run(
        config,
        read_training_inputs(config, frame.inputs),
        join(f"{frame.location}.checkpoints", checkpoints),
        strategy,
        start,
    )
    if not sum(map(run.examples.num_windows, run.learnt)):
        raise InputError(
            f"{stages.location(config, 'examples')} holds no train window, so there is nothing to "
            "learn from: no user has two train interactions. Run `kdsr prepare` again: it says "
            "what the split left."
        )
    with frame:
        if chief:
            target = frame.new_folder()
        model, rows, best = run.fit("select", config.train.epochs, run.learnt)
        said = advice(config, best)
        if said is not None and chief:
            console.print(said, style="yellow", markup=False)
        refit_rows = None
        if config.train.refit and best is not None:
            model, refit_rows, _ = run.fit("refit", best, (TRAIN, VALIDATION))
        manifest.counts = {
            "epochs": len(rows),
            "steps": len(rows) * run.steps(run.learnt),
            "train_windows": run.examples.num_windows(TRAIN),
            "validation_windows": run.examples.num_windows(VALIDATION),
            "parameters": num_parameters(model.trainable_variables),
        }
        manifest.details = _details(config, rows, best, refit_rows is not None, model)
        if start is not None:
            manifest.details["warm_start"] = start.details()
        if chief:
            _write_history(join(target, "history.csv"), rows)
            if refit_rows is not None:
                _write_history(join(target, "refit_history.csv"), refit_rows)
            with local_folder(target) as folder:
                # As it is served: with float32 arithmetic, under no strategy.
                model.recommender.in_float32().save(join(folder, STUDENT_FILE))
            with fsspec.open(join(target, sequences.ITEMS_FILE), "wb") as file:
                pq.write_table(items, file)
            with _said("The logs for TensorBoard are not all there"):
                filesystem, logs = fsspec.core.url_to_fs(run.logs)
                copy_folder(filesystem, logs, fsspec.core.url_to_fs(join(target, "logs"))[1])
                write_projector(run.served_items(model), items, join(target, "logs"))
    if chief:
        with _said(f"The checkpoints of this training stay in {run.checkpoints.directory}"):
            run.checkpoints.delete()
    return manifest


@contextlib.contextmanager
def _said(outcome: str) -> Iterator[None]:
    """Report what fails after the last epoch, where the student does not depend on it."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        console.print(f"Warning: {outcome}. {reason}.", style="yellow", markup=False)


def advice(config: Config, best: int | None) -> str | None:
    """What to say if training ended before the figure that selects stopped rising.

    `best` is the best epoch, from 1; None if there was nothing to select by.
    """
    if best != config.train.epochs:
        return None
    return (
        f"The best epoch is the last one (train.epochs={best}): {config.train.monitor} was still "
        f"rising, so more epochs may give a better student. Try --set train.epochs={2 * best}."
    )


def _details(
    config: Config,
    rows: list[dict[str, float]],
    best: int | None,
    refit: bool,
    model: TrainingModel,
) -> dict[str, Any]:
    chosen = rows[(best or len(rows)) - 1]
    selection = config.train.selection if best else "last epoch (nothing to select by)"
    oracle = [name for name in chosen if name.startswith(("test_hr_", "test_mrr_"))]
    return {
        "best_epoch": chosen["epoch"],
        "selection": selection,
        "refit": refit,
        "validation": {k: v for k, v in chosen.items() if k.startswith("val_")},
        # Each metric at its own best epoch, as published tables have it.
        "oracle": {name.removeprefix("test_"): max(row[name] for row in rows) for name in oracle},
        "retention": {k: v for k, v in chosen.items() if k.startswith("retention_")},
        "seconds_per_epoch": float(np.median([row["seconds"] for row in rows])),
        "weights": model.term_weights,
        "groups": {
            group: num_parameters(variables)
            for group, variables in rates.variable_groups(model).items()
        },
    }


def _write_history(path: str, rows: list[dict[str, float]]) -> None:
    with fsspec.open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
