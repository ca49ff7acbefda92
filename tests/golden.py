"""What a model computes, as hashes: a guard for moves of code that should change nothing.

    TF_USE_LEGACY_KERAS=1 python -m tests.golden WORKDIR [CASE ...]

Takes the working directory of a demo (`kdsr demo --items 60 --users 120`), builds the models of
`CASES` from it, makes three training steps with each, exports one, and prints a hash per case of
all weights, of the item vectors, of the user vectors and of the exported answers. The names of
weights do not count. On one machine the hashes before and after a move are equal; between
machines only `summary` is comparable, because sums differ in their last bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import sys
import tempfile

import numpy as np

STEPS = 3
CASES = {
    "configured": (),
    "sums": ("model.output=ids", "model.logit_scale=null", "model.first_order=false"),
    "drawn": ("train.negatives=20", "train.negative_distribution=popularity"),
    "compiled": ("train.jit_compile=true", "model.tied=false"),
    "prefixes": ("model.backbone=mmsr", "distillation.pairs_per_window=6"),
    "auxiliary": ("model.backbone=mmsrec", "distillation.enabled=false"),
    "ids": ("model.backbone=gru4rec", "model.modality_tables=off", "model.output=ids"),
}
"""Overrides of a configuration by name: one composition of parts each."""


def trained(workdir: str, overrides: tuple[str, ...]):
    """The training model of a demo's configuration after `STEPS` steps, and its losses."""
    import keras

    from kdsr_tf import artifacts, stages
    from kdsr_tf.config import load_config
    from kdsr_tf.methods.training_inputs import read_training_inputs
    from kdsr_tf.training.devices import set_up
    from kdsr_tf.training.run import Run

    ids_only = any(override.endswith("modality_tables=off") for override in overrides)
    own = ("model.first_order=false", "distillation.enabled=false") if ids_only else ()
    path = os.path.join(workdir, "config.yaml")
    config = load_config(path, overrides=[*overrides, *own], workdir=workdir)
    inputs = {
        name: artifacts.read_manifest(stages.location(config, name), written_by="a stage")
        for name in (f"teacher/{modality}" for modality in config.modalities)
    }
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, read_training_inputs(config, inputs), folder, set_up(config))
        model = run.compiled()
        batches = run.examples.train_batches(16, 1, seed=0)
        losses = [
            model.train_on_batch(batch, return_dict=True)
            for batch in itertools.islice(batches, STEPS)
        ]
    keras.backend.clear_session()
    return model, {name: float(value) for name, value in losses[-1].items()}


def arrays(model) -> dict[str, list[np.ndarray]]:
    """Weights, item vectors, and user vectors of made-up histories."""
    student = model.student
    rng = np.random.default_rng(0)
    histories = rng.integers(1, student.num_items + 1, (8, 6)).astype("int32")
    histories[:4, 4:] = 0
    return {
        "weights": [np.asarray(weight) for weight in model.weights],
        "items": [np.asarray(student.item_vectors())],
        "users": [np.asarray(student.user_vectors(histories))],
    }


def digest(values: list[np.ndarray]) -> str:
    """A hash of arrays that does not depend on their order."""
    parts = sorted(hashlib.sha256(np.ascontiguousarray(value)).hexdigest() for value in values)
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def summary(model, losses: dict[str, float]) -> dict[str, float]:
    """Losses of the last step, and the length of all weights, item and user vectors."""
    lengths = {
        name: float(np.sqrt(sum(np.square(value, dtype="f8").sum() for value in values)))
        for name, values in arrays(model).items()
    }
    return losses | lengths


def exported_answers(workdir: str) -> list[np.ndarray]:
    """Answers of the exact variant, exported anew from the demo's student."""
    import tensorflow as tf

    from kdsr_tf.config import load_config
    from kdsr_tf.export.exported import read_exported, similarity_vectors
    from kdsr_tf.export.saved_models import save_variants

    config = load_config(os.path.join(workdir, "config.yaml"), workdir=workdir)
    with tempfile.TemporaryDirectory() as build:
        exported = read_exported(config, build)
        exported = dataclasses.replace(exported, histories=exported.histories[:16])
        similar = similarity_vectors(exported.student, config.export.similar_items_space)
        users = np.asarray(exported.student.user_vectors(_padded(exported.histories)))
        save_variants(config, build, exported, similar, users)
        served = tf.saved_model.load(os.path.join(build, "exact")).signatures["serving_default"]
        history = exported.item_ids[_padded(exported.histories) - 1].astype(object)
        history[_padded(exported.histories) == 0] = ""
        answers = served(history=tf.constant(history.tolist()))
        values = [answers[name].numpy() for name in sorted(answers)]
    return [value.astype("S") if value.dtype == object else value for value in values]


def _padded(rows: list[np.ndarray], length: int = 8) -> np.ndarray:
    padded = np.zeros((len(rows), length), np.int32)
    for number, row in enumerate(rows):
        padded[number, : len(row[-length:])] = row[-length:]
    return padded


def main(workdir: str, *cases: str) -> None:
    for name in cases or CASES:
        model, losses = trained(workdir, CASES[name])
        found = {kind: digest(values) for kind, values in arrays(model).items()}
        print(name, *(f"{k}={v}" for k, v in found.items()), f"loss={losses['loss']!r}")
    if not cases:
        print("exported", f"answers={digest(exported_answers(workdir))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
