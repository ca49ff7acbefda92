"""What the compositions of parts compute: a guard for moves of code that should change nothing.

    python -m tests.golden            # on a made-up working directory: record golden.json anew
    python -m tests.golden WORKDIR    # on a demo's: print hashes, to compare before and after

Both build the models of `CASES` and make three training steps with each. Hashes are equal on one
machine only, because sums differ in their last bits between machines: `tests/test_golden.py`
compares losses and lengths with those of `golden.json`. Whoever changes what is computed records
it anew and says why.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import tempfile

import numpy as np

STEPS = 3
CASES = {
    "configured": (),
    "sums": ("model.output=ids", "model.logit_scale=null", "model.last_item=false"),
    "drawn": ("train.negatives=20", "train.negative_distribution=popularity"),
    "prefixes": ("model.backbone=mmsr", "distillation.pairs_per_window=6"),
    "auxiliary": ("model.backbone=mmsrec", "distillation.enabled=false"),
    "ids": (
        "model.backbone=gru4rec",
        "model.modality_tables=off",
        "model.output=ids",
        "model.last_item=false",
        "distillation.enabled=false",
    ),
    "compiled": ("train.jit_compile=true", "model.tied=false"),
}
"""Overrides of a configuration by name: one composition of parts each."""

RECORDED = os.path.join(os.path.dirname(__file__), "golden.json")
_OVERRIDES = (
    "encode.image.encoder=embedded",
    "encode.text.dim=24",
    "windows.max_length=10",
    "windows.stride=1",
    "model.dim=8",
    "model.num_layers=1",
    "model.output=fused",
    "model.logit_scale=20",
    "model.last_item=true",
    "teach.num_codes=8",
    "train.batch_size=16",
)


def made_up(workdir: str, case: str):
    """A configuration of a case, on a working directory whose artifacts are made up.

    Args:
        workdir: Folder to fill.
        case: Key of `CASES`.
    """
    from kdsr_tf.config import load_config
    from tests import factories

    config = load_config(overrides=[*_OVERRIDES, *CASES[case]], workdir=workdir)
    factories.write_workdir(config)
    return config


def trained(config):
    """The training model of a configuration after `STEPS` steps, and its last losses."""
    import keras

    from kdsr_tf import artifacts, stages
    from kdsr_tf.methods.training_inputs import read_training_inputs
    from kdsr_tf.training.devices import set_up
    from kdsr_tf.training.run import Run

    inputs = {
        name: artifacts.read_manifest(stages.location(config, name), written_by="a stage")
        for name in (f"teacher/{modality}" for modality in config.needs.teachers)
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
    recommender = model.recommender
    rng = np.random.default_rng(0)
    histories = rng.integers(1, recommender.num_items + 1, (8, 6)).astype("int32")
    histories[:4, 4:] = 0
    return {
        "weights": [np.asarray(weight) for weight in model.weights],
        "items": [np.asarray(recommender.item_vectors())],
        "users": [np.asarray(recommender.user_vectors(histories))],
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


def record() -> None:
    """Write what every case computes now, compiled or not."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    found = {}
    for case in CASES:
        if case != "compiled":
            with tempfile.TemporaryDirectory() as folder:
                found[case] = summary(*trained(made_up(folder, case)))
    with open(RECORDED, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


def main(workdir: str) -> None:
    """Print a hash per case of what a demo's working directory gives."""
    from kdsr_tf.config import load_config

    path = os.path.join(workdir, "config.yaml")
    for case, overrides in CASES.items():
        model, losses = trained(load_config(path, overrides=[*overrides], workdir=workdir))
        found = {kind: digest(values) for kind, values in arrays(model).items()}
        print(case, *(f"{k}={v}" for k, v in found.items()), f"loss={losses['loss']!r}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[1:] else record()
