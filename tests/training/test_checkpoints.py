import os

import keras
import numpy as np
import pytest

from kdsr_tf.errors import TrainingError
from kdsr_tf.training.checkpoints import (
    Checkpointing,
    Checkpoints,
    State,
    all_variables,
    restore_variables,
)


def make_state(epoch, step=0):
    return State(
        epoch=epoch,
        step=step,
        finished=epoch == 9,
        variables=[np.full((2, 3), epoch, np.float32), np.array(step, np.int64)],
        callbacks={
            "log": ({"rows": [{"loss": 0.1 * epoch}]}, [np.arange(epoch)]),
            "other": ({}, []),
        },
    )


def assert_same(state, other):
    assert (state.epoch, state.step, state.finished) == (other.epoch, other.step, other.finished)
    for value, expected in zip(state.variables, other.variables, strict=True):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    assert state.callbacks.keys() == other.callbacks.keys()
    for name, (values, arrays) in other.callbacks.items():
        assert state.callbacks[name][0] == values
        for array, expected in zip(state.callbacks[name][1], arrays, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    checkpoints = Checkpoints(str(tmp_path / "all" / "one"))
    assert checkpoints.latest() is None
    for epoch, step in ((0, 5), (0, 10), (1, 0), (1, 5)):
        checkpoints.save(make_state(epoch, step))
    assert_same(checkpoints.latest(), make_state(1, 5))
    assert sorted(os.listdir(tmp_path / "all" / "one")) == [
        "epoch-00001-step-00000000.npz",
        "epoch-00001-step-00000005.npz",
    ]
    checkpoints.delete()
    assert not (tmp_path / "all").exists()


def test_unfinished_and_damaged_files_are_passed_over(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(make_state(1))
    (tmp_path / "epoch-00002-step-00000000.npz").write_bytes(b"PK torn")
    (tmp_path / "epoch-00003-step-00000000.npz.partial").write_bytes(b"PK")
    assert_same(checkpoints.latest(), make_state(1))


def test_a_folder_may_have_any_name(tmp_path):
    """A checkpoint that is saved and not found would train for ever."""
    checkpoints = Checkpoints(str(tmp_path / "shop [2026] *"))
    for epoch in (1, 2, 3):
        checkpoints.save(make_state(epoch))
    assert_same(checkpoints.latest(), make_state(3))
    assert len(os.listdir(checkpoints.directory)) == 2


def test_object_stores(tmp_path):
    checkpoints = Checkpoints("memory://kdsr-test/checkpoints")
    for epoch in (7, 8, 9):
        checkpoints.save(make_state(epoch))
    assert_same(checkpoints.latest(), make_state(9))
    checkpoints.delete()
    assert checkpoints.latest() is None


def make_model(units=2):
    model = keras.Sequential([keras.layers.Dense(units), keras.layers.Dropout(0.5, seed=1)])
    model.compile(optimizer=keras.optimizers.Adam(), loss="mse")
    model.build((None, 3))
    model.optimizer.build(model.trainable_variables)
    return model


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    model, checkpoints = make_model(), Checkpoints(str(tmp_path))
    saving = Checkpointing(checkpoints, [], epochs=5, steps=4, every_steps=2)
    saving.set_model(model)
    saving.on_epoch_begin(0)
    for batch in range(4):
        saving.on_train_batch_end(batch)
    assert checkpoints.latest().step == 2
    model.layers[0].kernel.assign(np.full((3, 2), np.nan))
    with pytest.raises(TrainingError, match=r"kernel` is no longer finite at epoch 1, .*kept in"):
        saving.on_epoch_end(0)
    good = checkpoints.latest()
    assert (good.epoch, good.step) == (0, 2)
    restore_variables(model, good)
    assert np.isfinite(model.layers[0].kernel).all()


def test_every_variable_of_the_next_step_is_held():
    names = [variable.path for variable in all_variables(make_model())]
    for part in ("kernel", "seed_generator_state", "loss", "momentum", "velocity", "iteration"):
        assert any(part in name for name in names), (part, names)
    with pytest.raises(TrainingError, match="another version of the model"):
        restore_variables(make_model(), make_state(0))
