"""Takes a method of computed items through every stage; run in a process of its own.

    TF_USE_LEGACY_KERAS=1 python tests/methods/computed_path.py FOLDER METHOD

METHOD is `dense` (tests/methods/dense_items.py) or `iisan`. Prints what was found as one line of
JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys

import numpy as np
import tensorflow as tf

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras  # noqa: E402

from kdsr_tf import stage_frame, stages  # noqa: E402
from kdsr_tf.config import Config, load_config  # noqa: E402
from kdsr_tf.config.serving_sections import ServeConfig  # noqa: E402
from kdsr_tf.evaluation.evaluate import evaluate  # noqa: E402
from kdsr_tf.export.publish import export  # noqa: E402
from kdsr_tf.items.computed_items import ComputedItems  # noqa: E402
from kdsr_tf.items.side_items import SideItems  # noqa: E402
from kdsr_tf.methods.registry import build_model  # noqa: E402
from kdsr_tf.methods.served import read_extended, read_served  # noqa: E402
from kdsr_tf.methods.training_inputs import (  # noqa: E402
    TrainingInputs,
    read_training_inputs,
)
from kdsr_tf.models.recommender import Recommender  # noqa: E402
from kdsr_tf.models.training_model import TrainingModel  # noqa: E402
from kdsr_tf.teacher.feature_files import Features, States  # noqa: E402
from kdsr_tf.training import distributed  # noqa: E402
from kdsr_tf.training.callbacks import FiniteLosses  # noqa: E402
from kdsr_tf.training.fit import train  # noqa: E402
from kdsr_tf.training.warm_start import WarmStart  # noqa: E402
from serving.client import Client  # noqa: E402
from serving.server import Server  # noqa: E402
from tests import factories  # noqa: E402
from tests.methods import dense_items  # noqa: E402

OVERRIDES = (
    "encode.text.dim=24",
    "model.dim=8",
    "model.dropout=0",
    "windows.max_length=10",
    "windows.stride=10",
    "train.epochs=2",
    "train.batch_size=16",
    "train.checkpoint_steps=1",
    "train.learning_rate=0.01",
    "export.k=10",
    "serve.model_name=shop",
)
OF_METHOD = {
    "dense": ("model.method=dense",),
    "iisan": (
        "model.method=iisan",
        "encode.text.states.groups=2",
        "encode.image.encoder=embedded",
        "encode.image.states.groups=1",
        "model.num_layers=1",
        "model.pooling=last",
        "side.hidden=4",
        "side.learning_rate=0.005",
        "side.modality_dropout=0.2",
    ),
}
SIZE, NUM_ITEMS = 24, 40
NEW = ["new1", "new2", "no-vector"]


class Stopped(Exception):
    """Training was stopped from outside."""


def weights_of(config: Config) -> list[np.ndarray]:
    path = os.path.join(stages.location(config, "student"), "student.keras")
    return keras.saving.load_model(path, compile=False).get_weights()


def resumed(config: Config, folder: str) -> bool:
    """Whether a training that was stopped within an epoch ends with the same weights."""
    copy = os.path.join(folder, "resumed")
    shutil.copytree(config.workdir, copy)
    other = configured(copy, config.model.method)
    train(config)

    steps = iter(range(3))

    def stop(self, batch, logs=None):
        if next(steps, None) is None:
            raise Stopped

    kept, FiniteLosses.on_train_batch_end = FiniteLosses.on_train_batch_end, stop
    with contextlib.suppress(Stopped):
        train(other)
    FiniteLosses.on_train_batch_end = kept
    found = os.listdir(f"{stages.location(other, 'student')}.checkpoints")
    train(other)
    same = map(np.array_equal, weights_of(config), weights_of(other))
    return bool(found) and all(same)


def two_replicas(config: Config, read: TrainingInputs) -> float:
    """Largest difference of a variable after the steps of one replica and of two."""
    rng = np.random.default_rng(0)
    content = read.content
    items = rng.integers(1, NUM_ITEMS + 1, (12, 6)).astype("int32")
    rows = [{"items": items[k : k + 6, :-1], "target": items[k : k + 6, 1:]} for k in (0, 6)]
    rows = [batch | content.of_batch(batch["items"], batch["target"]) for batch in rows]
    kinds = {k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in rows[0].items()}
    batches = tf.data.Dataset.from_generator(lambda: rows, output_signature=kinds)

    def made(**options) -> TrainingModel:
        model = build_model(config, read)
        model.read_content_from(content)
        # Not Adam, which divides by the gradient: rounding would grow to a share of the rate.
        model.compile(keras.optimizers.SGD(0.1), **options)
        model.optimizer.build(model.trainable_variables)
        return model

    one = made(run_eagerly=True)
    logs = one.fit(batches, validation_data=batches, verbose=0).history
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        two = made()
    log = keras.callbacks.History()
    distributed.fit(
        two,
        batches,
        epochs=1,
        initial_epoch=0,
        steps_per_epoch=2,
        callbacks=[log],
        validation_data=batches,
        validation_steps=2,
    )
    pairs = zip(one.trainable_variables, two.trainable_variables, strict=True)
    worst = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
    for name, values in logs.items():
        np.testing.assert_allclose(log.history[name], values, rtol=1e-4, err_msg=name)
    return worst


def configured(folder: str, method: str, *more: str) -> Config:
    return load_config(overrides=[*OVERRIDES, *OF_METHOD[method], *more], workdir=folder)


def exported(config: Config, served: Recommender) -> dict[str, list]:
    """Shapes of what the exact variant holds of the student, and of its parts but the items."""
    folder = stages.location(config, "serving_model")
    stored = tf.train.list_variables(os.path.join(folder, "exact", "1", "variables", "variables"))
    weights = (w for part in (served.backbone, served.head, served.scorer) for w in part.weights)
    return {
        "stored": sorted(
            shape
            for name, shape in stored
            if name.startswith("student_variables/") and "seed_generator" not in name
        ),
        "parts": sorted(list(w.shape) for w in weights if "seed_generator" not in w.path),
    }


def answers(config: Config, histories: list[list[str]]) -> dict[str, list]:
    """What both variants recommend, asked over gRPC."""
    found = {}
    for variant in ("exact", "scann"):
        folder = os.path.join(stages.location(config, "serving_model"), variant)
        options = ServeConfig(model_name="shop", grpc_port=0, rest_port=None)
        server = Server(folder, options)
        server.start()
        try:
            with Client(server.target, "shop") as client:
                found[variant] = client.recommend(histories, k=10)
        finally:
            server.stop()
    return found


def main(folder: str, method: str) -> dict:
    dense_items.register()
    config = configured(os.path.join(folder, "work"), method)
    factories.write_workdir(config)
    outcomes: dict = {"artifacts": sorted(os.listdir(config.workdir))}
    outcomes["resumed"] = resumed(config, folder)
    read = read_training_inputs(config, stage_frame.read_inputs(config, "student"))
    outcomes["replicas_differ"] = two_replicas(config, read)
    with open(
        os.path.join(stages.location(config, "student"), "history.csv"), encoding="utf-8"
    ) as file:
        outcomes["columns"] = file.readline().strip().split(",")
    outcomes["evaluated"] = evaluate(config).details["metrics"]
    outcomes["checks"] = export(config).counts["checks"]
    served = read_served(config)
    outcomes["exported"] = exported(config, served)
    vectors = np.asarray(served.item_vectors())
    file = os.path.join(stages.location(config, "student"), "student.keras")
    encoder = keras.saving.load_model(file, compile=False).item_encoder
    features = content_of(config, NUM_ITEMS)
    expected = by_hand(encoder, features)
    outcomes["served_is_the_layer"] = bool(np.allclose(vectors[1:], expected[1:], atol=1e-5))
    scores = np.array(served.scores(np.array([[3, 1, 4]], "int32")))[0]
    scores[[3, 1, 4]] = -np.inf
    outcomes["best"] = [f"item{k:04d}" for k in np.argsort(-scores)[:10]]
    outcomes["answers"] = answers(config, [["item0003", "item0001", "item0004"]])
    outcomes["new"] = new_items(folder, method, encoder, vectors)
    start = WarmStart(stages.location(config, "student"), [f"item{k:04d}" for k in (3, 9)])
    fresh = build_model(configured(config.workdir, method, "seed=7"), read).recommender
    before = np.asarray(fresh.served(read.content).item_vectors())
    start.apply(fresh)
    after = np.asarray(fresh.served(read.content).item_vectors())
    outcomes["warm"] = bool(np.array_equal(after, vectors)) and not np.allclose(before, vectors)
    np.savez(os.path.join(folder, "content.npz"), **features)
    np.savez(
        os.path.join(folder, "expected.npz"),
        vectors=vectors,
        users=np.asarray(served.user_vectors(np.array([[3, 1, 4, 0]], "int32"))),
    )
    return outcomes


def by_hand(encoder: ComputedItems, features: dict[str, np.ndarray]) -> np.ndarray:
    """The vectors of items, from the files of the encoders."""
    if isinstance(encoder, SideItems):
        names = list(encoder.network.sizes)
        states = {m: features[f"{m}_states"] for m in names}
        return np.asarray(
            encoder.network(states, {m: features[f"{m}_present"] for m in names})["item"]
        )
    kernel, bias = map(np.asarray, encoder.weights)
    return features["text"] @ kernel + bias


def content_of(config: Config, num_items: int, *more: str) -> dict[str, np.ndarray]:
    """What the files say of items, zeros for items that they lack."""
    found = {}
    for m in config.needs.content + config.needs.states:
        folder = stages.location(config, f"features/{m}")
        of_states = m in config.needs.states
        sizes = factories.STATE_SIZES[m] if of_states else [SIZE]
        rows = np.zeros((num_items + 1, sum(sizes)), "float16" if of_states else "float32")
        present = np.zeros(num_items + 1, bool)
        for place in (folder, *(os.path.join(other, m) for other in more)):
            files = States(place, sizes) if of_states else Features(place, SIZE)
            for items, values in files.batches():
                rows[items], present[items] = values, True
        found |= {f"{m}_states" if of_states else m: rows, f"{m}_present": present}
    return found


def new_items(folder: str, method: str, encoder: ComputedItems, before: np.ndarray) -> dict:
    """An export with items that training never saw."""
    path = os.path.join(folder, "new.jsonl")
    other = configured(os.path.join(folder, "work"), method, f"export.add_items={path}")
    factories.write_new_items(other, NEW, without=1)
    extended = read_extended(other)
    added = stages.location(other, stages.NEW_ITEMS)
    expected = by_hand(encoder, content_of(other, NUM_ITEMS + 3, added))[NUM_ITEMS + 1 : -1]
    vectors = np.asarray(extended.recommender.item_vectors())
    manifest = export(other)
    found = answers(other, [["new1", "item0003"]])
    return {
        "ids": extended.new_ids,
        "exact_rows": bool(np.allclose(vectors[NUM_ITEMS + 1 :], expected, atol=1e-5)),
        "others_stay": bool(np.array_equal(vectors[: NUM_ITEMS + 1], before)),
        "items": manifest.counts["items"],
        "found": {v: [item for item, _ in row[0]] for v, row in found.items()},
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:]), default=float))
