"""Both variants, reloaded in a process that did not build them, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import scann  # noqa: F401  (registers the index's operations)
import tensorflow as tf

from tests.export import oracle


@pytest.fixture(scope="module", params=["exact", "scann"])
def signatures(request, models):
    model = tf.saved_model.load(f"{models}/good/{request.param}")
    yield model.signatures


def ask(signatures, name, batch, **more):
    length = max([1, *map(len, batch)])
    rows = [row + [""] * (length - len(row)) for row in batch]
    history = tf.constant(np.array(rows, object).reshape(-1, length), tf.string)
    return {key: value.numpy() for key, value in signatures[name](history=history, **more).items()}


def ids(items):
    return [[item.decode() for item in row] for row in items]


@pytest.mark.parametrize("name", ["serving_default", "recommend_with_seen"])
def test_rankings_are_those_of_brute_force(signatures, name):
    batch = oracle.histories()
    found = ask(signatures, name, batch)
    for row, history in enumerate(batch):
        excluded = history if name == "serving_default" else []
        items, scores = oracle.ranking(oracle.scores(history), excluded)
        assert ids(found["items"])[row] == items
        np.testing.assert_allclose(found["scores"][row], scores, **oracle.TOLERANCE)
    assert found["items"].shape == found["scores"].shape == (len(batch), oracle.K)
    assert found["scores"].dtype == np.float32


def test_a_ranking_does_not_depend_on_its_batch(signatures):
    batch = oracle.histories()
    together = ask(signatures, "serving_default", batch)
    alone = ask(signatures, "serving_default", batch[3:4])
    assert ids(together["items"])[3] == ids(alone["items"])[0]


def test_empty_strings_and_unknown_ids_are_ignored_wherever_they_stand(signatures):
    plain = ["item010", "item020", "item030"]
    mixed = ["", "item010", "", "no such", "item020", "\xff\x00", "", "item030", "", ""]
    found = ask(signatures, "serving_default", [plain, mixed])
    np.testing.assert_array_equal(found["items"][0], found["items"][1])
    np.testing.assert_array_equal(found["scores"][0], found["scores"][1])


def joined_as_tf_serving_does(requests):
    """One batch of several tensors: each is padded with its own first element."""
    length = max(request.shape[1] for request in requests)
    widths = (((0, 0), (0, length - request.shape[1])) for request in requests)
    return np.concatenate(
        [
            np.pad(request, width, constant_values=request.flat[0])
            for request, width in zip(requests, widths, strict=True)
        ]
    )


def test_a_batch_joined_by_tf_serving_answers_as_its_requests_alone(signatures):
    """Clients send a leading "", so the padding is ignored."""
    rng = np.random.default_rng(6)
    histories, candidates = [], []
    for rows, length, width in ((2, 3, 9), (1, 12, 4), (3, 1, 1)):
        for made, size in ((histories, length), (candidates, width)):
            items = rng.choice(oracle.ITEM_IDS[:-1], (rows, size)).astype(object)
            made.append(np.pad(items, ((0, 0), (1, 0)), constant_values=""))
    for name in ("serving_default", "recommend_with_seen", "embed", "score"):
        more = [{"candidates": rows} if name == "score" else {} for rows in candidates]
        alone = [
            signatures[name](history=tf.constant(history), **extra)
            for history, extra in zip(histories, more, strict=True)
        ]
        extra = {"candidates": joined_as_tf_serving_does(candidates)} if name == "score" else {}
        together = signatures[name](
            history=tf.constant(joined_as_tf_serving_does(histories)), **extra
        )
        for key, values in together.items():
            start = 0
            for answer in alone:
                expected = answer[key].numpy()
                rows = values.numpy()[start : start + len(expected), : expected.shape[1]]
                if expected.dtype == object:
                    np.testing.assert_array_equal(rows, expected)
                else:
                    np.testing.assert_allclose(rows, expected, **oracle.TOLERANCE)
                start += len(expected)


@pytest.mark.parametrize("history", [[], [""], ["no such", "item999"]])
def test_without_known_items_the_popular_ones_are_ranked(signatures, history):
    found = ask(signatures, "serving_default", [history, ["item001"]])
    items, scores = oracle.ranking(oracle.popularity())
    assert ids(found["items"])[0] == items
    np.testing.assert_allclose(found["scores"][0], scores, rtol=1e-5)


def test_a_vector_of_nan_gives_the_popular_items_that_are_not_in_the_history(signatures):
    popular, _ = oracle.ranking(oracle.popularity())
    history = [*popular[:3], oracle.POISON]
    found = ask(signatures, "serving_default", [history, ["item001"]])
    items, scores = oracle.ranking(oracle.popularity(), history)
    assert ids(found["items"])[0] == items
    np.testing.assert_allclose(found["scores"][0], scores, rtol=1e-5)
    alone = ask(signatures, "serving_default", [["item001"]])
    np.testing.assert_array_equal(found["items"][1], alone["items"][0])
    assert not ask(signatures, "embed", [history])["embedding"].any()


def test_the_true_best_200_never_come_back(signatures):
    """More than the overfetch holds, at scores of 1e7; the last items alone are encoded."""
    last = oracle.ITEM_IDS[: oracle.MAX_LENGTH]
    best, values = oracle.ranking(oracle.scores(last), k=200)
    history = [*best, *last]
    assert values[0] > 1e7 and oracle.ranking(oracle.scores(history), k=200)[0] == best
    found = ask(signatures, "serving_default", [history])
    items, scores = oracle.ranking(oracle.scores(history), history)
    assert ids(found["items"])[0] == items
    np.testing.assert_allclose(found["scores"][0], scores, **oracle.TOLERANCE)


def test_a_history_of_500_is_encoded_by_its_end_and_excluded_whole(signatures):
    history = np.random.default_rng(5).choice(oracle.ITEM_IDS[:350], 500).tolist()
    found = ask(signatures, "serving_default", [history])
    items, _ = oracle.ranking(oracle.scores(history), history)
    assert ids(found["items"])[0] == items


def test_an_exhausted_catalogue_ends_with_empty_ids(signatures):
    history = oracle.ITEM_IDS[:2:-1]
    found = ask(signatures, "serving_default", [history, oracle.ITEM_IDS])
    items, scores = oracle.ranking(oracle.scores(history), history)
    assert items[3:] == [""] * (oracle.K - 3)
    assert ids(found["items"]) == [items, [""] * oracle.K]
    np.testing.assert_allclose(found["scores"][0], scores, **oracle.TOLERANCE)
    assert np.isneginf(found["scores"][1]).all()


@pytest.mark.parametrize("name", ["serving_default", "recommend_with_seen", "embed"])
@pytest.mark.parametrize("shape", [(0, 3), (0, 0)])
def test_an_empty_batch_gives_an_empty_answer(signatures, name, shape):
    found = signatures[name](history=tf.zeros(shape, tf.string))
    width = oracle.DIM if name == "embed" else oracle.K
    assert {value.shape for value in found.values()} == {(0, width)}


def test_embed_gives_the_user_vector(signatures):
    batch = [*oracle.histories(10), []]
    found = ask(signatures, "embed", batch)["embedding"]
    np.testing.assert_allclose(found, oracle.user_vectors(batch), rtol=1e-5, atol=0.1)


def test_scores_are_those_of_the_ranking(signatures):
    candidates = ["item001", "no such", "item050", ""]
    batch = [["item007", "item008"], []]
    found = ask(signatures, "score", batch, candidates=tf.constant([candidates] * 2))["scores"]
    for row, history in enumerate(batch):
        scores = oracle.scores(history)
        np.testing.assert_allclose(found[row][[0, 2]], scores[[0, 49]], **oracle.TOLERANCE)
    assert np.isneginf(found[:, [1, 3]]).all()


def test_score_refuses_unequal_batches(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match="same number of rows"):
        ask(signatures, "score", [["item001"]], candidates=tf.constant([["item001"]] * 2))


def test_similar_items_are_the_nearest_by_cosine(signatures):
    asked = ["item001", "item200", "no such", ""]
    found = signatures["similar_items"](item_id=tf.constant(asked))
    unit = oracle.unit_rows(oracle.table()[1:])
    for row, item in enumerate(asked[:2]):
        items, scores = oracle.ranking(unit @ unit[oracle.indices([item])[0] - 1], [item])
        assert ids(found["items"].numpy())[row] == items
        np.testing.assert_allclose(found["scores"][row], scores, rtol=1e-4, atol=1e-6)
    assert ids(found["items"].numpy())[2:] == [[""] * oracle.K] * 2
