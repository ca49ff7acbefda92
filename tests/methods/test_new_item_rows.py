"""Rows of items that were never trained."""

import numpy as np
import pytest

from kdsr_tf.export.exported import similarity_vectors
from kdsr_tf.methods.new_item_rows import Condensed, with_new_items
from kdsr_tf.methods.student import Student

RNG = np.random.default_rng(0)
KNOWN = RNG.normal(size=(30, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def student() -> Student:
    """Its text rows are a linear map of m̃; item 30 has no text."""
    student = Student(30, 8, 4, modalities=("text",), seed=1)
    present = np.arange(31) < 30
    vectors = np.concatenate([np.zeros((1, 8)), KNOWN @ RNG.normal(size=(8, 8)) + 1])
    student.set_modality_vectors("text", vectors, present)
    return student


def condensed(new, present=None):
    present = np.ones(len(new), bool) if present is None else present
    return {"text": Condensed(KNOWN, np.arange(30) < 29, np.array(new, np.float32), present)}


def test_an_item_like_a_known_one_gets_its_modality_row_and_lies_near_it(student):
    larger = student.with_items(with_new_items(student.tables, condensed(KNOWN[[4, 11]])))
    assert larger.num_items == 32
    rows = {name: np.asarray(value) for name, value in larger.item_encoder.row_variables().items()}
    np.testing.assert_allclose(rows["text"][31:], rows["text"][[5, 12]], rtol=0.02, atol=0.02)
    assert rows["text_present"][31:].tolist() == [1, 1]
    units = KNOWN[:29] / np.linalg.norm(KNOWN[:29], axis=1, keepdims=True)
    nearest = np.argsort(-(units @ units[4]))[:5] + 1
    mean = rows["ids"][nearest].mean(axis=0)
    lengths = np.linalg.norm(rows["ids"], axis=1)
    expected = mean / np.linalg.norm(mean) * lengths[nearest].mean()
    np.testing.assert_allclose(rows["ids"][31], expected, rtol=1e-5)
    # What was there is as it was, and histories may hold new items.
    np.testing.assert_array_equal(rows["ids"][:31], np.asarray(student.tables.id_table))
    histories = np.array([[5, 31, 32, 0]], "int32")
    assert np.isfinite(np.asarray(larger.scores(histories))[:, 1:]).all()
    boosted = with_new_items(student.tables, condensed(KNOWN[[4]]), boost=2.0)
    np.testing.assert_allclose(np.asarray(boosted.id_table)[31], 2 * expected, rtol=1e-5)


def test_an_item_without_the_modality_gets_the_row_of_those_without_it(student):
    parts = condensed(KNOWN[:2], np.array([True, False]))
    parts["image"] = Condensed(KNOWN, np.ones(30, bool), KNOWN[:2], np.ones(2, bool))
    larger = student.with_items(with_new_items(student.tables, parts))
    rows = {name: np.asarray(value) for name, value in larger.item_encoder.row_variables().items()}
    assert rows["text_present"][31:].tolist() == [1, 0]
    np.testing.assert_allclose(rows["text"][32], rows["text"][30], rtol=1e-5)


def test_tables_of_modalities_are_not_needed():
    larger = with_new_items(Student(30, 8, 4).tables, condensed(KNOWN[:1]))
    assert larger.num_items == 31
    assert list(larger.row_variables()) == ["ids"]


def test_ids_that_are_not_tied_are_placed_in_both_tables_and_scored_ones_are_boosted():
    student = Student(30, 8, 4, tied=False)
    new = condensed(KNOWN[[4]])
    once, twice = (
        with_new_items(student.tables, new, boost).row_variables() for boost in (1.0, 2.0)
    )
    np.testing.assert_array_equal(once["input_ids"], twice["input_ids"])
    np.testing.assert_allclose(
        2 * np.asarray(once["ids"])[31], np.asarray(twice["ids"])[31], rtol=1e-5
    )
    for rows in once.values():
        lengths = np.linalg.norm(np.asarray(rows)[1:], axis=1)
        assert lengths[:30].min() < lengths[30] < lengths[:30].max()
    # Each follows the neighbours' rows of its own table.
    assert np.corrcoef(*(np.asarray(rows)[31] for rows in once.values()))[0, 1] < 0.99


def test_similar_items_are_alike_in_the_ids_that_score():
    student = Student(30, 8, 4, tied=False)
    ids = np.asarray(student.tables.id_table)[1:]
    found = similarity_vectors(student, "id")
    np.testing.assert_allclose(found, ids / np.linalg.norm(ids, axis=1, keepdims=True), rtol=1e-5)
