"""Accumulated gradients of equal batches are those of the joint batch."""

import numpy as np

from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.training.rates import grouped_adam, variable_groups
from tests.models.batches import NUM_CODES, make_batch, make_student
from tests.nearness import assert_near


def make_model(**arguments):
    model = KDSR(make_student(modalities=("text",), dropout=0.0), NUM_CODES)
    optimizer = grouped_adam(variable_groups(model), 0.05, clip_norm=0.5, **arguments)
    model.compile(optimizer=optimizer, run_eagerly=True)
    return model


def test_one_update_of_two_batches_is_that_of_the_joint_batch():
    batch = make_batch(6, modalities=("text",))
    for name in ("items", "target"):  # equally many targets in both halves
        batch[name][3:] = np.where(batch[name][:3] > 0, batch[name][3:] % 7 + 1, 0)
    halves = [{k: v[rows] for k, v in batch.items()} for rows in (slice(3), slice(3, 6))]
    joint, split = make_model(), make_model(accumulation_steps=2)
    joint.train_on_batch(batch)
    start = [np.array(v) for v in split.trainable_variables]
    split.train_on_batch(halves[0])
    for variable, before in zip(split.trainable_variables, start, strict=True):
        np.testing.assert_array_equal(variable, before)
    split.train_on_batch(halves[1])
    for variable, other in zip(split.trainable_variables, joint.trainable_variables, strict=True):
        assert_near(variable, other, 1e-4, err_msg=variable.path)
    assert not all(
        np.array_equal(v, b) for v, b in zip(split.trainable_variables, start, strict=True)
    )
