"""The loss among the items of a batch, against a loop over its slots."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kdsr_tf.items.content import Content
from kdsr_tf.items.known_items import NO_ITEM
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.objectives.in_batch_next_item import InBatchNextItem
from tests.methods import dense_items
from tests.models.batches import make_student
from tests.nearness import assert_near

NUM_ITEMS, LENGTH, SIZE = 30, 5, 4
WINDOWS = np.array(
    # The last number of a row is its last target. Repeats, items in several windows, padding.
    [[3, 5, 3, 7, 9, 5], [7, 5, 0, 0, 0, 0], [9, 11, 2, 12, 0, 0], [2, 2, 2, 2, 2, 2]]
)


def made_model(counts=None):
    rng = np.random.default_rng(0)
    text = rng.normal(size=(NUM_ITEMS + 1, SIZE)).astype("float32")
    content = Content({"text": text, "text_present": np.arange(NUM_ITEMS + 1) > 0})
    objective = InBatchNextItem(NUM_ITEMS, name="next_item")
    model = TrainingModel(dense_items.recommender(NUM_ITEMS, SIZE, 8, LENGTH), [objective])
    if counts is not None:
        objective.set_popularity(counts)
    return model, content


def batch_of(windows, without=()):
    """Items and targets; places in `without` have no loss."""
    items = windows[:, :-1].astype("int32")
    target = windows[:, 1:].astype("int32")
    items = np.where(target > 0, items, 0)
    for place in without:
        target[place] = 0
    return {"items": items, "target": target}


def of_slots(model, content, batch, counts):
    """The published loop: every target against all slots, one after the other."""
    served = model.recommender.served(content)
    vectors = np.asarray(served.item_vectors())
    users = np.asarray(served(batch["items"]))
    shares = counts / counts[1:].sum()
    windows = []
    for items, targets in zip(batch["items"], batch["target"], strict=True):
        held = [item for item in items if item]
        if held and targets[len(held) - 1]:
            held.append(targets[len(held) - 1])
        windows.append(held)
    losses = []
    for row, position in zip(*np.nonzero(batch["target"]), strict=True):
        user, target = users[row, position], batch["target"][row, position]
        own = user @ vectors[target] - np.log(shares[target])
        terms = [np.exp(own)]
        for window in windows:
            for item in window:
                if item not in windows[row]:
                    terms.append(np.exp(user @ vectors[item] - np.log(shares[item])))
        losses.append(np.log(sum(terms)) - own)
    return sum(losses), len(losses)


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(1).integers(1, 50, NUM_ITEMS + 1)


@pytest.mark.parametrize("without", [(), [(0, 4)], [(0, 1), (2, 0), (2, 2)]])
def test_it_is_the_loop_over_slots(counts, without):
    model, content = made_model(counts)
    batch = batch_of(WINDOWS, without)
    whole = batch | content.of_batch(batch["items"], batch["target"])
    total, count = model(whole, training=True)["terms"]["next_item"]
    expected, targets = of_slots(model, content, batch, counts)
    assert_near(total, expected, 1e-5)
    assert int(count) == targets


def test_compiled_steps_see_neither_empty_windows_nor_filled_places(counts):
    model, content = made_model(counts)
    batch = batch_of(WINDOWS)
    expected, _ = of_slots(model, content, batch, counts)
    padded = {name: np.pad(values, [[0, 3], [0, 0]]) for name, values in batch.items()}
    at = np.flatnonzero(padded["target"]).astype("int32")
    padded["target_index"] = np.pad(at, (0, 4), constant_values=-1)
    padded |= content.of_batch(padded["items"], padded["target"], round_up=True)
    assert (padded["batch_items"] == NO_ITEM).any()
    assert_near(model(padded, training=True)["terms"]["next_item"].total, expected, 1e-5)
    if keras.backend.backend() == "tensorflow":
        model.compile("sgd", jit_compile=True)
        logs = model.train_on_batch(padded, return_dict=True)
        assert_near(logs["next_item"], expected / len(at), 1e-5)


def test_a_user_alone_has_no_negative(counts):
    model, content = made_model(counts)
    batch = batch_of(WINDOWS[:1])
    whole = batch | content.of_batch(batch["items"], batch["target"])
    assert float(model(whole, training=True)["terms"]["next_item"].total) == 0.0


def test_an_item_that_never_comes_has_no_loss(counts):
    zero = counts.copy()
    zero[[11, 20]] = 0
    model, content = made_model(zero)
    for windows, finite in ((WINDOWS, False), (WINDOWS[[0, 1, 3]], True)):
        batch = batch_of(windows)
        whole = batch | content.of_batch(batch["items"], batch["target"])
        total = model(whole, training=True)["terms"]["next_item"].total
        assert np.isfinite(float(total)) == finite
    # A checkpoint is refused where a variable is not finite.
    assert all(np.isfinite(np.asarray(v)).all() for v in model.variables)
    objective = model.objectives[0]
    for wrong in (zero * 0, -zero, zero + np.inf):
        with pytest.raises(ValueError, match="`counts` must be"):
            objective.set_popularity(wrong)
    with pytest.raises(ValueError, match=r"`counts` must have shape \(31,\)"):
        objective.set_popularity(zero[1:])


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="see TrainingModel._scored_by")
def test_tests_compare_with_all_items(counts):
    model, content = made_model(counts)
    model.read_content_from(content)
    model.compile("sgd")
    batch = batch_of(WINDOWS)
    whole = batch | content.of_batch(batch["items"], batch["target"])
    logs = model.test_on_batch(whole, return_dict=True)
    assert {"hr_5", "hr_20", "mrr_5", "mrr_20", "next_item"} <= set(logs)
    served = model.recommender.served(content)
    vectors, users = np.asarray(served.item_vectors())[1:], np.asarray(served(batch["items"]))
    logits = users @ vectors.T
    picked = np.take_along_axis(logits, np.maximum(batch["target"] - 1, 0)[..., None], 2)[..., 0]
    loss = np.log(np.exp(logits).sum(-1)) - picked
    assert_near(logs["next_item"], loss[batch["target"] > 0].mean(), 1e-5)


def test_it_is_saved_without_what_it_was_set_to_and_refuses_tables():
    objective = InBatchNextItem(NUM_ITEMS, name="next_item")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    assert copy.get_config() == objective.get_config()
    with pytest.raises(ValueError, match="ItemTables, which looks vectors up"):
        TrainingModel(make_student(), [InBatchNextItem(12)])
