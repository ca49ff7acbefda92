import keras
import numpy as np
import pytest

from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.student import Student
from tests.models.batches import DIM, LENGTH, NUM_CODES, NUM_ITEMS, make_student
from tests.nearness import assert_near

ITEMS = np.array([[3, 5, 2, 7, 1, 9], [4, 11, 6, 0, 0, 0], [0] * 6], "int32")


def test_scores_are_products_with_the_item_table():
    student = make_student()
    vectors = np.asarray(student.user_vectors(ITEMS))
    states = np.asarray(student(ITEMS))
    np.testing.assert_allclose(vectors[:2], states[[0, 1], [5, 2]], rtol=1e-5, atol=1e-6)
    scores = np.asarray(student.scores(ITEMS))
    assert np.isneginf(scores[:, 0]).all()
    expected = vectors @ np.asarray(student.item_vectors()).T
    np.testing.assert_allclose(scores[:, 1:], expected[:, 1:], rtol=1e-5, atol=1e-6)


def test_a_fused_output_adds_the_modalities_with_the_bias_of_absent_ones():
    student = make_student(output="fused", tied=False)
    rng = np.random.default_rng(0)
    for weight in student.weights:
        weight.assign(rng.normal(size=weight.shape))
    present = np.arange(NUM_ITEMS + 1) % 3 > 0
    student.set_modality_vectors("text", rng.normal(size=(NUM_ITEMS + 1, DIM)), present)
    weights = {weight.path.partition("/")[2]: np.asarray(weight) for weight in student.weights}
    expected = weights["tables/id_table"].copy()
    for modality in student.modalities:
        has = weights[f"tables/{modality}_present"][:, None]
        rows = weights[f"tables/{modality}_table"]
        rows = rows + (1 - has) * weights[f"tables/{modality}_absent_bias"]
        expected += rows @ weights[f"scorer/output_{modality}/kernel"]
    np.testing.assert_allclose(student.item_vectors(), expected, rtol=1e-4, atol=1e-4)
    some = np.array([[3, 1], [4, 4]])
    np.testing.assert_allclose(student.item_vectors_of(some), expected[some], rtol=1e-4, atol=1e-4)


def test_scores_are_scaled_cosines_and_an_empty_history_still_has_no_vector():
    plain, scaled = make_student(), make_student(logit_scale=20.0)
    for one, other in zip(plain.weights, scaled.weights, strict=True):
        other.assign(one)
    vectors, table = (
        np.asarray(part) for part in (plain.user_vectors(ITEMS), plain.item_vectors())
    )
    lengths = np.linalg.norm(vectors, axis=1)[:2, None] * np.linalg.norm(table, axis=1)
    expected = 20 * (vectors @ table.T)[:2] / lengths
    np.testing.assert_allclose(scaled.scores(ITEMS)[:2, 1:], expected[:, 1:], rtol=1e-4, atol=1e-4)
    assert (np.asarray(scaled.user_vectors(ITEMS))[2] == 0).all()


def test_the_last_item_alone_adds_what_is_like_it():
    """Without a backbone's word, items are scored by their cosine with a e_v + W m of the last."""
    student = make_student(output="fused", logit_scale=5.0, last_item=True)
    term = student.scorer.last_item_term
    term.gain.assign(1e6)
    ids, table = np.asarray(student.tables.id_table), np.asarray(student.item_vectors())
    last = np.asarray(student.scorer.folded(student.tables.catalogue(student.scorer.sources))[1])
    kernels = {m: np.asarray(student.scorer._projections[m].kernel) for m in student.modalities}
    features = sum(np.asarray(student.tables.catalogue((m,))[m]) @ k for m, k in kernels.items())
    np.testing.assert_allclose(last, features - 0.5 * ids, rtol=1e-4, atol=1e-5)
    ends = ITEMS[[0, 1], (ITEMS[:2] > 0).sum(axis=1) - 1]
    vectors = last[ends] / np.linalg.norm(last[ends], axis=1, keepdims=True)
    assert_near(student.scores(ITEMS)[:2, 1:], (vectors @ table.T)[:, 1:], 1e-4)
    assert (np.asarray(student.scores(ITEMS))[2, 1:] == 0).all()


def test_ids_enter_by_a_table_of_their_own_where_they_are_not_tied():
    student = make_student(tied=False)
    before = np.asarray(student(ITEMS)), np.asarray(student.item_vectors())
    student.tables.id_table.assign(np.ones((NUM_ITEMS + 1, DIM)))
    np.testing.assert_array_equal(student(ITEMS), before[0])
    student.tables.input_id_table.assign(np.ones((NUM_ITEMS + 1, DIM)))
    assert (np.asarray(student(ITEMS)) != before[0]).any()
    assert (np.asarray(student.item_vectors()) == 1).all()


def test_an_empty_history_scores_nothing_above_anything():
    scores = np.asarray(make_student().scores(ITEMS))[2]
    np.testing.assert_array_equal(scores[1:], np.zeros(NUM_ITEMS))


def test_histories_beyond_max_length_are_refused():
    with pytest.raises(ValueError, match=f"at most `max_length` = {LENGTH}"):
        make_student()(np.ones((1, LENGTH + 1), "int32"))


def test_same_seed_same_model_other_seed_other_model():
    one, same, other = (make_student(seed=seed) for seed in (1, 1, 2))
    for a, b in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.asarray(one.item_vectors()) != np.asarray(other.item_vectors())).any()


@pytest.mark.parametrize("tables", ["off", "frozen", "tuned"])
def test_round_trips_through_keras_without_anything_of_the_teacher(tables, tmp_path):
    student = make_student(
        modality_tables=tables,
        pooling="last_sum",
        short_term=3,
        tied=False,
        output="fused",
        logit_scale=10.0,
        last_item=True,
    )
    if tables != "off":
        KDSR(student, NUM_CODES)
    student.save(tmp_path / "student.keras")
    reloaded = keras.saving.load_model(tmp_path / "student.keras")
    assert isinstance(reloaded, Student)
    assert reloaded.get_config() == student.get_config()
    np.testing.assert_array_equal(reloaded.scores(ITEMS), student.scores(ITEMS))
    shapes = {v.shape for v in reloaded.weights}
    assert (DIM, NUM_CODES) not in shapes
    assert not [v.path for v in reloaded.weights if "head/" in v.path]
    trains = {v.name for v in reloaded.trainable_variables}
    assert ("text_table" in trains) == (tables == "tuned")
