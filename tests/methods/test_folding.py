"""Folded and re-rowed students answer as the student they come from."""

import numpy as np
import pytest

from kdsr_tf.backbones.catalogue import BACKBONES
from kdsr_tf.backbones.sasrec import SASRec
from kdsr_tf.items.materialised_items import MaterialisedItems
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.methods.folding import fold
from kdsr_tf.methods.student import Student
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.scoring.sum_scorer import SumScorer
from tests.nearness import assert_near

HISTORIES = np.array([[3, 5, 8, 2], [7, 7, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]], "int32")
FOLDING = ("gru4rec", "mmsrec", "sasrec", "sasrm", "sr_gnn")


def random_student(backbone, tables="tuned", **options):
    student = Student(
        8, 8, 4, backbone, modalities=("image", "text"), modality_tables=tables, **options
    )
    rng = np.random.default_rng(0)
    for weight in student.weights:
        weight.assign(rng.normal(scale=0.5, size=weight.shape))
    for modality in student.modalities:
        present = np.arange(9) % 3 > 0
        student.set_modality_vectors(modality, rng.normal(size=(9, 8)), present)
    return student


@pytest.mark.parametrize("backbone", FOLDING)
def test_a_folded_student_has_one_table_and_the_same_user_vectors(backbone):
    student = random_student(backbone, "frozen" if backbone == "sasrm" else "tuned")
    folded = fold(student)
    assert list(folded.item_encoder.row_variables()) == ["ids"]
    assert not any("fusion" in weight.path for weight in folded.weights)
    np.testing.assert_allclose(
        folded.user_vectors(HISTORIES), student.user_vectors(HISTORIES), atol=1e-5
    )


def test_only_those_fold_whose_features_enter_once():
    assert tuple(key for key, backbone in BACKBONES.items() if backbone.folded) == FOLDING
    student = random_student("mmsr")
    assert fold(student) is student
    ids = Student(8, 8, 4)
    assert fold(ids) is ids


def test_sources_without_ids_fold_with_the_first_in_their_place():
    rng = np.random.default_rng(0)
    vectors = {source: rng.normal(size=(9, 8)).astype("float32") for source in ("item", "text")}
    recommender = Recommender(
        MaterialisedItems.of(("item", "text"), vectors),
        SASRec(8, 4, modalities=("text",), seed=1),
        PredictionHead(8, seed=2),
        SumScorer(8, ("item",)),
        4,
    )
    folded = fold(recommender)
    assert list(folded.item_encoder.row_variables()) == ["ids"]
    assert_near(folded.user_vectors(HISTORIES), recommender.user_vectors(HISTORIES), 1e-5)


@pytest.mark.parametrize("tied, last_item", [(False, False), (True, True), (False, True)])
def test_a_student_with_a_fused_output_folds_too(tied, last_item):
    student = random_student(
        "sasrec", tied=tied, output="fused", logit_scale=9.0, last_item=last_item
    )
    folded = fold(student)
    vectors = np.asarray(folded.user_vectors(HISTORIES))
    expected = (vectors @ np.asarray(student.item_vectors()).T)[:, 1:]
    assert_near(student.scores(HISTORIES)[:, 1:], expected, 1e-4)
    assert len(folded.weights) < len(student.weights)


@pytest.mark.parametrize("backbone", ["sasrec", "mmsr"])
@pytest.mark.parametrize("options", [{}, {"tied": False, "output": "fused", "last_item": True}])
def test_items_in_another_order_with_a_copy_of_one(backbone, options):
    student = random_student(backbone, **options)
    order = np.array([0, 5, 3, 1, 8, 2, 4, 7, 6, 3])
    other = student.served(rows=order)
    place = np.argsort(order[:9])
    scores = np.asarray(other.scores(place[HISTORIES].astype("int32")))
    assert_near(scores, np.asarray(student.scores(HISTORIES))[:, order])
