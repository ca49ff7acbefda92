"""A student saved before a recommender had parts recommends the same."""

from __future__ import annotations

import zipfile

import h5py
import numpy as np
import pytest

from kdsr_tf.methods.student_file import is_earlier, read_earlier, read_student
from tests.models.batches import make_student

HISTORIES = np.array([[3, 5, 2, 0], [1, 0, 0, 0]], "int32")
THEN = {
    "item_encoder": "layers/item_tables",
    "layers/sum_scorer/_projections/dense": "layers/dense",
    "layers/sum_scorer/_projections/dense_1": "layers/dense_1",
    "layers/sum_scorer/last_item_term": "last_item_term",
}


def as_then(student, folder):
    """The file as version 0.1 wrote it."""
    now, then = folder / "now.keras", folder / "then.keras"
    student.save(now)
    with zipfile.ZipFile(now) as source, zipfile.ZipFile(then, "w") as target:
        weights = source.extract("model.weights.h5", folder)
        with h5py.File(weights, "r+") as held:
            for name, before in THEN.items():
                if name in held:
                    held.move(name, before)
        target.write(weights, "model.weights.h5")
        config = source.read("config.json").replace(b'"last_item"', b'"first_order"')
        target.writestr("config.json", config)
        target.writestr("metadata.json", source.read("metadata.json"))
    return str(now), str(then)


@pytest.mark.parametrize(
    "options",
    [{}, {"output": "fused"}, {"output": "fused", "logit_scale": 9.0, "last_item": True}],
    ids=["ids", "fused", "all parts"],
)
def test_a_student_without_parts_recommends_the_same(tmp_path, options):
    student = make_student(seed=3, tied=False, **options)
    now, then = as_then(student, tmp_path)
    assert (is_earlier(now), is_earlier(then)) == (False, True)
    read = read_earlier(then)
    np.testing.assert_array_equal(read.scores(HISTORIES), student.scores(HISTORIES))
    assert read.get_config() == student.get_config()
    assert read_student(then, "sasrec").get_config() == student.get_config()
