import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.student import Student
from kdsr_tf.training.warm_start import WarmStart
from tests.nearness import assert_near

OLD_IDS = ["a", "b", "c", "d", "e", "f"]
NEW_IDS = ["f", "new1", "a", "b", "new2", "c", "d"]  # e is gone


def make_student(num_items, vectors, seed=0, absent=(), **arguments):
    student = Student(
        num_items, dim=4, max_length=5, num_layers=1, num_heads=1, modalities=("text",),
        tied=False, seed=seed, **arguments,
    )  # fmt: skip
    student.set_modality_vectors("text", vectors, ~np.isin(np.arange(num_items + 1), absent))
    return student


def by_id(ids, rows):
    return dict(zip(ids, np.asarray(rows)[1:], strict=True))


@pytest.fixture(scope="module")
def vectors():
    return by_id(["pad", *OLD_IDS, "new1", "new2"], np.random.default_rng(0).normal(size=(10, 4)))


def stacked(vectors, ids, turn=None):
    rows = np.stack([np.zeros(4), *(vectors[i] for i in ids)])
    return rows if turn is None else rows @ turn


@pytest.fixture(scope="module")
def earlier(vectors, tmp_path_factory):
    """A `student/` whose weights are no longer those it started from."""
    student = make_student(6, stacked(vectors, OLD_IDS), seed=1)
    rng = np.random.default_rng(1)
    for variable in student.trainable_variables:
        variable.assign_add(rng.normal(scale=0.01, size=variable.shape))
    folder = tmp_path_factory.mktemp("earlier")
    student.save(folder / "student.keras")
    pq.write_table(pa.table({"item_id": OLD_IDS}), folder / "items.parquet")
    return student, str(folder)


def test_rows_are_kept_by_item_id_and_other_weights_copied(earlier, vectors):
    before, folder = earlier
    student = make_student(7, stacked(vectors, NEW_IDS))
    random = by_id(NEW_IDS, student.tables.id_table)
    start = WarmStart(f"{folder}/student.keras", NEW_IDS)
    start.apply(student)
    assert start.details()["known_items"] == 5
    for table, other in (
        (student.tables.id_table, before.tables.id_table),
        (student.tables.input_id_table, before.tables.input_id_table),
        (student.modality_table("text"), before.modality_table("text")),
    ):
        now, then = by_id(NEW_IDS, table), by_id(OLD_IDS, other)
        for item_id in "fabcd":
            np.testing.assert_array_equal(now[item_id], then[item_id])
    now = by_id(NEW_IDS, student.tables.id_table)
    np.testing.assert_array_equal(now["new1"], random["new1"])
    for layer in ("backbone", "head"):
        for value, expected in zip(
            getattr(student, layer).trainable_variables,
            getattr(before, layer).trainable_variables,
            strict=True,
        ):
            np.testing.assert_array_equal(value, expected)


def test_new_items_find_their_place_though_the_teacher_has_other_axes(earlier, vectors):
    _, folder = earlier
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))
    student = make_student(7, stacked(vectors, NEW_IDS, turn))
    WarmStart(folder, NEW_IDS).apply(student)
    table = by_id(NEW_IDS, student.modality_table("text"))
    for item_id in ("new1", "new2"):
        np.testing.assert_allclose(table[item_id], vectors[item_id], atol=0.05)


def test_an_item_that_has_gained_the_modality_starts_from_the_teacher(vectors, tmp_path):
    before = make_student(6, stacked(vectors, OLD_IDS), absent=[OLD_IDS.index("b") + 1])
    before.save(tmp_path / "student.keras")
    pq.write_table(pa.table({"item_id": OLD_IDS}), tmp_path / "items.parquet")
    student = make_student(7, stacked(vectors, NEW_IDS))
    WarmStart(str(tmp_path), NEW_IDS).apply(student)
    table = by_id(NEW_IDS, student.modality_table("text"))
    for item_id in NEW_IDS:
        assert_near(table[item_id], vectors[item_id])


def test_what_cannot_be_started_from(earlier, vectors, tmp_path):
    _, folder = earlier
    other = make_student(7, stacked(vectors, NEW_IDS), pooling="last")
    with pytest.raises(ConfigError, match=r"another kind\. `head/.* here: absent"):
        WarmStart(folder, NEW_IDS).apply(other)
    cosines = make_student(7, stacked(vectors, NEW_IDS), logit_scale=20.0)
    with pytest.raises(ConfigError, match=r"kind\. `logit_scale` there: None, here: 20\.0\."):
        WarmStart(folder, NEW_IDS).apply(cosines)
    with pytest.raises(ConfigError, match="no item of this catalogue is known"):
        WarmStart(folder, ["x", "y"])
    with pytest.raises(ConfigError, match=r"There is no .*student\.keras"):
        WarmStart(str(tmp_path), NEW_IDS)
    other.save(tmp_path / "student.keras")
    with pytest.raises(ConfigError, match=r"There is no .*items\.parquet"):
        WarmStart(str(tmp_path), NEW_IDS)
