"""The contract of every backbone, tested through the student that holds it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kdsr_tf.backbones.catalogue import BACKBONES, create_backbone, own_options
from kdsr_tf.config.backbone_rules import BACKBONE_RULES
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.student import Student
from tests.models.batches import NUM_CODES, NUM_ITEMS, make_batch, repeated

DIM, LENGTH = 8, 6
MODALITIES = ("image", "text")
ITEMS = np.array([[3, 5, 2, 7, 3, 9], [4, 11, 6, 0, 0, 0]], "int32")
ALL = sorted(BACKBONES)
CAUSAL = [name for name in ALL if BACKBONES[name].causal]
NOT_CAUSAL = [name for name in ALL if not BACKBONES[name].causal]


def make_student(backbone: str, tables: str = "tuned", absent: float = 0.3, **arguments) -> Student:
    """A student, of two layers by default; half as many items lack a text as lack an image."""
    settings = {"num_layers": 2, "modalities": MODALITIES, "seed": 1} | arguments
    student = Student(NUM_ITEMS, DIM, LENGTH, backbone=backbone, modality_tables=tables, **settings)
    rng = np.random.default_rng(0)
    for modality, share in zip(student.modalities, (absent, absent / 2), strict=False):
        present = rng.random(NUM_ITEMS + 1) >= (1.0 if absent == 1 else share)
        student.set_modality_vectors(modality, rng.normal(size=(NUM_ITEMS + 1, DIM)), present)
    return student


@functools.cache
def shared(backbone: str) -> Student:
    """A student that no test changes."""
    return make_student(backbone)


def states_of(student: Student, items: np.ndarray) -> np.ndarray:
    """States of the backbone alone, without the prediction head."""
    return np.asarray(student.encode(student.tables(items))[0])


@functools.cache
def shared_states(backbone: str) -> np.ndarray:
    """What the shared student makes of `ITEMS`."""
    return states_of(shared(backbone), ITEMS)


def slow_but(quick: tuple[str, ...]) -> list:
    """All backbones, of which only some are tested by default."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in ALL]


@pytest.mark.parametrize("backbone", ALL)
def test_padding_changes_nothing(backbone):
    student = shared(backbone)
    short, padded = ITEMS[1:, :3], ITEMS[1:]
    np.testing.assert_allclose(
        states_of(student, padded)[:, :3], states_of(student, short), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        student.user_vectors(padded), student.user_vectors(short), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("backbone", ALL)
def test_the_embeddings_of_padding_are_not_read(backbone):
    student = shared(backbone)
    embeddings = dict(student.tables(ITEMS))
    real = np.asarray(ITEMS > 0)[..., None]
    before = np.asarray(student.backbone(embeddings))
    for name in ("ids", *student.modalities):
        embeddings[name] = np.where(real, np.asarray(embeddings[name]), np.float32(9.0))
    after = np.asarray(student.backbone(embeddings))
    np.testing.assert_allclose(after * real, before * real, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", CAUSAL)
def test_causal_backbones_do_not_see_the_future(backbone):
    student = shared(backbone)
    changed = ITEMS.copy()
    changed[0, 3:] = [12, 8, 10]
    before, after = shared_states(backbone)[0], states_of(student, changed)[0]
    np.testing.assert_array_equal(before[:3], after[:3])
    assert (np.abs(before[3:] - after[3:]).max(axis=-1) > 1e-4).all()


@pytest.mark.parametrize("backbone", NOT_CAUSAL)
def test_other_backbones_see_the_whole_history_at_once(backbone):
    student = shared(backbone)
    changed = ITEMS.copy()
    changed[0, -1] = 12
    before, after = shared_states(backbone)[0], states_of(student, changed)[0]
    assert np.abs(before[:-1] - after[:-1]).max() > 1e-4


@pytest.mark.parametrize("backbone", ALL)
def test_every_item_of_a_history_matters(backbone):
    student = shared(backbone)
    histories = np.repeat(ITEMS[:1], LENGTH + 1, axis=0)
    histories[np.arange(LENGTH), np.arange(LENGTH)] = 12
    vectors = np.asarray(student.user_vectors(histories))
    assert (np.abs(vectors[:-1] - vectors[-1]).max(axis=-1) > 1e-5).all()


@pytest.mark.parametrize("backbone", ALL)
def test_every_table_matters(backbone):
    student = make_student(backbone, num_layers=1)
    before = np.asarray(student.user_vectors(ITEMS))
    for modality in student.modalities:
        table = student.modality_table(modality)
        kept = np.asarray(table)
        table.assign(kept[::-1])
        assert np.abs(np.asarray(student.user_vectors(ITEMS)) - before).max() > 1e-4
        table.assign(kept)


@pytest.mark.parametrize(
    ("backbone", "tables"),
    [
        *((name, "off") for name in ALL if not BACKBONES[name].needs_modalities),
        *((name, "tuned") for name in ALL),
        ("sasrec", "frozen"),
        ("mmsr", "frozen"),
    ],
)
def test_one_step_moves_tuned_tables_and_no_frozen_one(backbone, tables):
    """The next item alone moves tuned tables; distillation moves no frozen one."""
    student = make_student(backbone, tables, num_layers=1)
    model = KDSR(student, NUM_CODES, modalities=student.modalities if tables == "frozen" else ())
    model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    before = {m: np.array(student.modality_table(m)) for m in student.modalities}
    assert np.isfinite(model.train_on_batch(make_batch())).all()
    for modality, table in before.items():
        moved = (np.asarray(student.modality_table(modality)) != table).any()
        assert moved == (tables == "tuned")


@pytest.mark.parametrize("backbone", ALL)
def test_a_modality_that_no_item_has_stays_finite(backbone):
    student = make_student(backbone, absent=1, num_layers=1)
    model = KDSR(student, NUM_CODES)
    model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    batch = make_batch()
    for modality in MODALITIES:
        batch[f"{modality}_present"][:] = 0
    assert np.isfinite(model.train_on_batch(batch)).all()
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("backbone", ALL)
def test_half_precision_stays_finite_and_near(backbone):
    full = shared(backbone)
    half = make_student(backbone, dtype="mixed_float16")
    half.set_weights(full.get_weights())
    states = states_of(half, ITEMS)
    assert states.dtype == "float16"
    assert np.isfinite(states).all()
    real = ITEMS > 0
    np.testing.assert_allclose(states[real], shared_states(backbone)[real], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("backbone", ALL)
def test_a_configuration_makes_the_same_layer(backbone):
    layer = shared(backbone).backbone
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is BACKBONES[backbone]
    assert copy.get_config() == layer.get_config()
    if not copy.built:
        copy.build()
    for mine, its in zip(layer.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("backbone", ALL)
def test_the_docstring_names_source_and_simplification(backbone):
    text = BACKBONES[backbone].__doc__
    assert "Reference:" in text
    assert "https://arxiv.org/abs/" in text
    assert "Simplified" in text


STEPS, BOUND = 60, 0.3


def planted(windows: int = 64, items: int = 40, length: int = 4) -> dict[str, np.ndarray]:
    """Windows that walk a ring of items, each with a stride of 1 or of 3.

    The stride shows only in the order of two items: whoever looks at one item, or at
    a bag of one stride's neighbours, is left with a loss of ln 2 = 0.69.
    """
    rng = np.random.default_rng(0)
    start, stride = rng.integers(items, size=(windows, 1)), rng.choice([1, 3], (windows, 1))
    walk = (start + stride * np.arange(length + 1)) % items + 1
    target = walk[:, 1:].copy()
    target[:, 0] = 0
    return {"items": walk[:, :-1].astype("int32"), "target": target.astype("int32")}


def as_prefixes(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One row per target: its whole history, and no other target."""
    windows, positions = np.nonzero(batch["target"])
    column = np.arange(batch["items"].shape[1])
    return {
        "items": batch["items"][windows] * (column <= positions[:, None]),
        "target": batch["target"][windows] * (column == positions[:, None]),
    }


@pytest.mark.parametrize("backbone", slow_but(("sasrec", "sr_gnn")))
def test_fits_a_planted_pattern(backbone):
    batch = planted()
    if not BACKBONES[backbone].causal:
        batch = as_prefixes(batch)
    rng = np.random.default_rng(0)
    student = Student(
        40,
        16,
        8,
        backbone,
        num_layers=1,
        dropout=0.0,
        modalities=("text",),
        modality_tables="frozen",
    )
    student.set_modality_vectors("text", rng.normal(size=(41, 16)), np.ones(41, bool))
    model = KDSR(student, modalities=())
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    model.fit(repeated(batch, STEPS), verbose=0)
    after = model.fit(repeated(batch, 1), verbose=0).history["next_item"][0]
    assert after < BOUND


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with every backbone's model, saved, and what it says of one batch."""
    folder = tmp_path_factory.mktemp("saved")
    batch = make_batch()
    np.savez(folder / "batch.npz", **batch)
    expected = {}
    for name in ALL:
        model = KDSR(make_student(name), NUM_CODES)
        model.save(folder / f"{name}.keras")
        expected[name] = outputs_of(model, batch)
    return folder, expected


def outputs_of(model: KDSR, batch: dict) -> dict:
    """Every loss and metric of a batch, and the scores."""
    model.compile(run_eagerly=True)
    outputs = model.test_on_batch(batch, return_dict=True)
    outputs["scores"] = model.student.scores(batch["items"])
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def check_same(found: dict, expected: dict, name: str, tolerance: float) -> None:
    """Every loss, metric and score within a tolerance."""
    assert set(found) == set(expected)
    for key, value in found.items():
        np.testing.assert_allclose(
            value, expected[key], rtol=tolerance, atol=tolerance / 10, err_msg=f"{name}: {key}"
        )


@pytest.mark.parametrize("backbone", ALL)
def test_round_trips_through_keras(saved, backbone):
    folder, expected = saved
    model = keras.saving.load_model(folder / f"{backbone}.keras")
    check_same(outputs_of(model, make_batch()), expected[backbone], backbone, 1e-6)


@pytest.mark.parametrize("backbone", slow_but(("sasrec", "mmsr")))
def test_a_saved_model_serves_the_same_scores(backbone, tmp_path):
    student, items = make_student(backbone, num_layers=1), make_batch()["items"]
    archive = keras.export.ExportArchive()
    archive.track(student)
    signature = keras.InputSpec(shape=(None, None), dtype="int32")
    archive.add_endpoint("serve", student.scores, [signature])
    archive.write_out(str(tmp_path), verbose=False)
    import tensorflow as tf  # the JAX process imports this module too

    served = tf.saved_model.load(str(tmp_path))
    for rows in (1, len(items)):
        np.testing.assert_allclose(
            served.serve(items[:rows]), student.scores(items[:rows]), rtol=1e-5, atol=1e-6
        )


JAX_PROGRAM = """
from kdsr_tf import light_imports; light_imports.install()
import sys
import keras
import numpy as np
from tests.backbones.test_backbones import outputs_of
folder, *names = sys.argv[1:]
batch = dict(np.load(f"{folder}/batch.npz"))
for name in names:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    np.savez(f"{folder}/{name}.npz", **outputs_of(model, batch))
"""


@pytest.mark.slow
def test_a_new_process_on_jax_agrees(saved):
    folder, expected = saved
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", JAX_PROGRAM, str(folder), *ALL]
    subprocess.run(command, env=environment, check=True)
    for name in ALL:
        with np.load(folder / f"{name}.npz") as found:
            check_same(dict(found), expected[name], name, 1e-4)


def test_configurations_know_the_same_backbones():
    assert set(BACKBONE_RULES) == set(BACKBONES)
    for name, rules in BACKBONE_RULES.items():
        assert set(rules.options) == own_options(name)
        assert rules.uses_heads == BACKBONES[name].uses_heads
        assert rules.needs_modalities == BACKBONES[name].needs_modalities


def test_unknown_names_and_options_list_the_valid_ones():
    with pytest.raises(ValueError, match=r"must be one of .*gru4rec.*sasrec"):
        create_backbone("bert", dim=4, max_length=3)
    with pytest.raises(ValueError, match="no option `width`"):
        create_backbone("sasrec", {"width": 3}, dim=4, max_length=3)


@pytest.mark.parametrize("backbone", [n for n in ALL if BACKBONES[n].needs_modalities])
def test_a_backbone_of_features_refuses_to_go_without(backbone):
    with pytest.raises(ValueError, match="needs modalities"):
        make_student(backbone, "off")
