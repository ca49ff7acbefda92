"""Steps that move only the rows of the item tables that they have read."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdsr_tf.config import Config
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.training.rates import grouped_adam, variable_groups
from tests.models.batches import NUM_CODES, NUM_ITEMS, make_batch, make_student
from tests.nearness import assert_near

RATE = 0.01


def embeddings(model):
    rows = model.recommender.item_encoder.row_variables().values()
    return [variable for variable in rows if variable.trainable]


def make_model(
    lazy=True, negatives=3, clip_norm=None, run_eagerly=True, modalities=("image", "text")
):
    student = make_student(modalities=modalities, dropout=0.0, output="fused", tied=False)
    model = KDSR(student, NUM_CODES, negatives=negatives)
    tables = embeddings(model)
    optimizer = grouped_adam(
        variable_groups(model), RATE, clip_norm=clip_norm, lazy=tables if lazy else ()
    )
    model.compile(optimizer=optimizer, run_eagerly=run_eagerly)
    return model


def short_batch():
    """One window of two items, so that most rows of the tables are read by nobody."""
    batch = make_batch(2, modalities=("image", "text"))
    batch["items"][:] = batch["target"][:] = 0
    batch["items"][0, :2], batch["target"][0, :2] = (3, 5), (5, 3)
    return batch


def tables_of(model):
    return {v.name: np.array(v) for v in embeddings(model)}


def test_updates_are_adam_of_the_rows_that_have_a_gradient():
    model = make_model()
    variable = model.student.tables.id_table
    optimizer, expected = model.optimizer, np.array(variable)
    first, second = np.zeros_like(expected), np.zeros_like(expected)
    rng = np.random.default_rng(0)
    for step in range(1, 4):
        rows = rng.integers(1, NUM_ITEMS + 1, 5)  # may repeat
        values = rng.normal(size=(5, expected.shape[1])).astype("float32")
        optimizer.apply([tf.IndexedSlices(values, rows, expected.shape)], [variable])
        dense = np.zeros_like(expected)
        np.add.at(dense, rows, values)
        norm = float(optimizer.gradient_norms["rest"])
        assert norm == pytest.approx(np.linalg.norm(dense), rel=1e-5)
        touched = np.unique(rows)
        first[touched] = 0.9 * first[touched] + 0.1 * dense[touched]
        second[touched] = 0.999 * second[touched] + 0.001 * dense[touched] ** 2
        rate = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        change = rate * first / (np.sqrt(second) + 1e-7)
        expected[touched] -= change[touched]
        assert_near(variable, expected)


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_the_first_step_is_that_of_adam(clip_norm):
    batch = make_batch(modalities=("text",))
    lazy, plain = (
        make_model(is_lazy, clip_norm=clip_norm, run_eagerly=not is_lazy, modalities=("text",))
        for is_lazy in (True, False)
    )
    logs = [model.train_on_batch(batch, return_dict=True) for model in (lazy, plain)]
    for name, value in logs[0].items():
        assert value == pytest.approx(logs[1][name], rel=1e-4), name
    for variable, other in zip(lazy.trainable_variables, plain.trainable_variables, strict=True):
        assert_near(variable, other, 1e-4, err_msg=variable.path)


def test_rows_that_no_step_reads_stay_where_adam_would_move_them():
    moved = {}
    for lazy in (True, False):
        model = make_model(lazy, negatives=1)
        model.train_on_batch(make_batch(modalities=("image", "text")))
        before = tables_of(model)
        model.train_on_batch(short_batch())
        after = tables_of(model)
        moved[lazy] = {
            name: set(np.flatnonzero((after[name] != table).any(axis=1)))
            for name, table in before.items()
        }
    for name, rows in moved[True].items():
        assert {3, 5} <= rows and len(rows) <= 3, name  # two items, one negative
        assert len(moved[False][name]) > 5, name


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_a_gradient_that_is_no_number_moves_nothing(clip_norm):
    model = make_model(clip_norm=clip_norm)
    batch = short_batch()
    model.train_on_batch(batch)
    batch["text_scores"][:] = np.nan
    before = [np.array(v) for v in model.trainable_variables]
    model.train_on_batch(batch)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, old, err_msg=variable.path)
    batch["text_scores"][:] = 0.5
    model.train_on_batch(batch)
    for variable in model.trainable_variables:
        assert np.isfinite(variable).all(), variable.path


def test_gradients_of_whole_tables_are_those_of_adam():
    batch = make_batch(modalities=("image", "text"))
    lazy, plain = make_model(True, negatives=None), make_model(False, negatives=None)
    for _ in range(3):
        for model in (lazy, plain):
            model.train_on_batch(batch)
    for variable, other in zip(lazy.trainable_variables, plain.trainable_variables, strict=True):
        assert_near(variable, other, 1e-4, err_msg=variable.path)


def test_the_optimizer_survives_saving(tmp_path):
    model = make_model()
    batch = make_batch(modalities=("image", "text"))
    model.train_on_batch(batch)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config()["lazy_paths"] == model.optimizer.get_config()["lazy_paths"]
    for variable, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(variable, other, err_msg=variable.path)


@pytest.mark.parametrize("arguments", [{"weight_decay": 0.1}, {"accumulation_steps": 2}])
def test_what_moves_every_row_is_refused(arguments):
    model = KDSR(make_student(), NUM_CODES, negatives=3)
    with pytest.raises(ValueError, match="Lazy tables need TensorFlow, no weight decay"):
        grouped_adam(variable_groups(model), RATE, lazy=embeddings(model), **arguments)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({}, "train.negatives=None"),
        ({"negatives": 5, "weight_decay": {"rest": 0.1}}, "train.weight_decay="),
        ({"negatives": 5, "jit_compile": True}, "train.jit_compile=True"),
        ({"negatives": 5, "precision": "mixed_float16"}, "train.precision=mixed_float16"),
    ],
)
def test_configurations_that_cannot_be_lazy_name_the_key(overrides, key):
    with pytest.raises(ValueError, match=key):
        Config.model_validate({"train": {"lazy_tables": True, **overrides}})
    Config.model_validate({"train": {"lazy_tables": True, "negatives": 5}})
