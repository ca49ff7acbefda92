import keras
import numpy as np
import pytest

from kdsr_tf.losses.next_item_loss import NextItemLoss
from kdsr_tf.objectives.sampled_logits import SampledLogits
from tests.gradients import value_and_gradients
from tests.nearness import assert_near

RNG = np.random.default_rng(0)
NUM_ITEMS, DIM = 20, 6
ROWS = RNG.normal(size=(7, DIM)).astype("float32")
TABLE = RNG.normal(size=(NUM_ITEMS + 1, DIM)).astype("float32")
TARGETS = np.array([1, 20, 5, 5, 9, 0, 13], "int32")


def full(rows, table):
    return NextItemLoss()(TARGETS, keras.ops.matmul(rows, keras.ops.transpose(table[1:])))


def logits(layer, rows, table):
    return layer(rows, TARGETS, vectors_of=lambda items: keras.ops.take(table, items, axis=0))


def sampled(layer, rows, table):
    return NextItemLoss()((TARGETS > 0).astype("int32"), logits(layer, rows, table))


def test_all_items_as_negatives_give_the_full_softmax_and_its_gradient():
    layer = SampledLogits(NUM_ITEMS, NUM_ITEMS)
    items, probabilities = layer.draw()
    np.testing.assert_array_equal(np.sort(items), np.arange(1, NUM_ITEMS + 1))
    np.testing.assert_allclose(probabilities, 1 / NUM_ITEMS, rtol=1e-5)
    value, gradients = value_and_gradients(lambda *a: sampled(layer, *a), ROWS, TABLE)
    expected, expected_gradients = value_and_gradients(full, ROWS, TABLE)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_sum_of_exponentials_is_unbiased_and_gradients_agree(distribution):
    layer = SampledLogits(NUM_ITEMS, 8, distribution)
    layer.build()
    layer.set_popularity(np.arange(NUM_ITEMS + 1))
    sums, gradient = [], 0.0
    for _ in range(60):
        drawn = np.asarray(logits(layer, ROWS, TABLE), "f8")
        sums.append(np.exp(drawn - np.log(8)).sum(1))
        gradient = gradient + value_and_gradients(lambda r: sampled(layer, r, TABLE), ROWS)[1][0]
    expected = np.exp(ROWS.astype("f8") @ TABLE[1:].T.astype("f8")).sum(1)
    real = TARGETS > 0
    error = np.std(sums, axis=0) / np.sqrt(len(sums))
    assert (np.abs(np.mean(sums, axis=0) - expected)[real] < 4 * error[real]).all()
    truth = value_and_gradients(lambda r: full(r, TABLE), ROWS)[1][0]
    cosine = (gradient * truth).sum() / np.linalg.norm(gradient) / np.linalg.norm(truth)
    assert cosine > 0.95  # a log of an estimate: the bias falls with the number of negatives


def test_popular_items_are_drawn_as_often_as_their_probability_says():
    layer = SampledLogits(NUM_ITEMS, 5, "popularity")
    layer.build()
    counts = np.arange(NUM_ITEMS + 1)
    layer.set_popularity(counts)
    drawn = np.zeros(NUM_ITEMS + 1)
    chance = {}
    for _ in range(200):
        items, probabilities = (np.asarray(part) for part in layer.draw())
        np.add.at(drawn, items, 1)
        chance |= dict(zip(items.tolist(), probabilities.tolist(), strict=True))
    # Item 20 is first of 20: log(2) / log(21).
    assert chance[20] == pytest.approx(np.log(2) / np.log(21), rel=1e-5)
    assert sum(chance.values()) == pytest.approx(1.0, rel=1e-5)
    expected = np.array([1000 * chance[item] for item in range(1, NUM_ITEMS + 1)])
    assert (np.abs(drawn[1:] - expected) < 5 * np.sqrt(expected) + 1).all()


def test_the_target_is_no_negative_of_its_own():
    layer = SampledLogits(NUM_ITEMS, NUM_ITEMS)
    hits = np.asarray(logits(layer, ROWS, TABLE))[:, 1:] < -1e8
    np.testing.assert_array_equal(hits.sum(1), TARGETS > 0)


def test_draws_follow_the_seed():
    one, same, other = (SampledLogits(1000, 20, seed=seed) for seed in (1, 1, 2))
    first = np.asarray(one.draw()[0])
    np.testing.assert_array_equal(first, same.draw()[0])
    assert (first != np.asarray(other.draw()[0])).any()
    assert (first != np.asarray(one.draw()[0])).any()


@pytest.mark.parametrize(
    "arguments", [{"num_negatives": 0}, {"num_negatives": 21}, {"distribution": "zipf"}]
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        SampledLogits(**{"num_items": 20, "num_negatives": 5} | arguments)
