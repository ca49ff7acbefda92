"""A method whose items are computed goes the whole way, without a table."""

import json
import os

import numpy as np
import pytest
from keras import ops

from kdsr_tf.backbones.sasrec import SASRec
from kdsr_tf.items.computed_items import ComputedItems
from kdsr_tf.items.content import Content, ContentSpec
from kdsr_tf.items.known_items import NO_ITEM, EncodedItems
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.objectives.next_item import NextItem
from kdsr_tf.objectives.objective import Objective, Term
from kdsr_tf.scoring.scorer import Scorer
from tests.export.fixtures import run_python
from tests.methods import dense_items
from tests.nearness import assert_near

JAX = """
import sys, keras, numpy as np
from kdsr_tf.items.content import Content
from kdsr_tf.methods import registry
from tests.methods import dense_items
student, content, found = sys.argv[1:]
made = keras.saving.load_model(student, compile=False)
served = made.served(Content(dict(np.load(content))))
users = served.user_vectors(np.array([[3, 1, 4, 0]], "int32"))
np.savez(found, vectors=np.asarray(served.item_vectors()), users=np.asarray(users))
"""


@pytest.fixture(scope="module", params=["dense", "iisan"])
def method(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, method):
    return str(tmp_path_factory.mktemp(method))


@pytest.fixture(scope="module")
def outcomes(folder, method):
    program = os.path.join(os.path.dirname(__file__), "computed_path.py")
    return json.loads(run_python(program, folder, method).splitlines()[-1])


def test_no_stage_runs_for_a_table(outcomes, method):
    rows = {"dense": "content", "iisan": "states"}[method]
    assert outcomes["artifacts"] == sorted(["features", "sequences", rows, "windows"])


def test_training_resumes_and_two_replicas_take_the_steps_of_one(outcomes):
    assert outcomes["resumed"]
    assert outcomes["replicas_differ"] < 1e-5
    assert {"loss", "next_item", "val_hr_20", "val_next_item"} <= set(outcomes["columns"])


def test_what_is_served_was_computed_for_every_item(outcomes):
    assert outcomes["served_is_the_layer"] and outcomes["warm"]
    assert 0 <= outcomes["evaluated"]["hr_20"] <= 100 and outcomes["checks"] > 60
    for variant in ("exact", "scann"):
        assert [item for item, _ in outcomes["answers"][variant][0]] == outcomes["best"]


def test_what_is_exported_is_a_sequential_student_with_one_table(outcomes):
    found = outcomes["exported"]
    assert len(found["parts"]) > 10
    assert found["stored"] == sorted([*found["parts"], [41, 8]])


def test_a_new_item_gets_the_row_that_training_would_have_given_it(outcomes):
    new = outcomes["new"]
    assert new["ids"] == ["new1", "new2"] and new["items"] == 42
    assert new["exact_rows"] and new["others_stay"]
    for items in new["found"].values():
        assert len(items) == 10 and "new1" not in items and "no-vector" not in items


def test_jax_computes_the_same(outcomes, folder, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    student = os.path.join(folder, "work", "student", "student.keras")
    content, made = (os.path.join(folder, name) for name in ("content.npz", "found.npz"))
    run_python("-c", JAX, student, content, made)
    expected = np.load(os.path.join(folder, "expected.npz"))
    for name, values in np.load(made).items():
        assert_near(values, expected[name], 1e-5, err_msg=name)


def test_a_batch_brings_the_content_of_each_item_once():
    rows = np.arange(20, dtype="float32")[:, None]
    content = Content({"text": rows})
    items, targets = np.array([[7, 3, 0], [3, 0, 0]]), np.array([[3, 19, 0], [7, 0, 0]])
    found = content.of_batch(items, targets)
    assert found["batch_items"].tolist() == [0, 3, 7, 19]
    assert found["content_text"].ravel().tolist() == [0, 3, 7, 19]
    found = content.of_batch(np.arange(1, 17), np.arange(1, 17), round_up=True)
    assert found["batch_items"].tolist() == [*range(17), NO_ITEM]
    assert found["content_text"][17:].tolist() == [[0]]


def test_an_item_that_the_batch_lacks_is_not_read_as_another():
    held = EncodedItems({"items": np.array([0, 3, 7, NO_ITEM], "int32"), "text": np.eye(4)})
    assert np.asarray(held.rows_of(np.array([[7, 0], [5, 9]]))).tolist() == [[2, 0], [4, 4]]
    with pytest.raises(Exception, match=r"indices\[1\] = 4"):
        held(np.array([3, 5]))


def test_compiled_steps_see_no_item_where_the_batch_is_filled_up():
    made = dense_items.recommender(30, 4, 8, 5)
    rng = np.random.default_rng(0)
    text = rng.normal(size=(31, 4)).astype("float32")
    content = Content({"text": text, "text_present": np.arange(31) > 0})
    model = TrainingModel(made, [NextItem()])
    items = rng.integers(1, 30, (4, 6)).astype("int32")
    batch = {"items": items[:, :-1], "target": items[:, 1:]}
    exact = model(batch | content.of_batch(*batch.values()), training=True)["terms"]
    index = {"target_index": np.arange(20, dtype="int32")}
    filled = content.of_batch(*batch.values(), round_up=True)
    assert (filled["batch_items"] == NO_ITEM).any()
    compiled = model(batch | index | filled, training=True)["terms"]
    assert_near(compiled["next_item"].total, exact["next_item"].total, 1e-6)
    assert float(exact["next_item"].count) == 20


def test_what_cannot_be_computed_is_refused_with_the_remedy():
    made = dense_items.recommender(30, 4, 8, 5)
    with pytest.raises(ValueError, match=r"computed by items. Ask `served\(content\)`"):
        made.user_vectors(np.array([[3]]))
    with pytest.raises(ValueError, match="no probability is spread over all"):
        TrainingModel(made, [NextItem(label_smoothing=0.1)])
    model = TrainingModel(made, [NextItem()])
    items = np.array([[3, 5]])
    with pytest.raises(ValueError, match="lacks: batch_items, content_text, content_text_present"):
        model({"items": items, "target": items}, training=True)
    with pytest.raises(ValueError, match=r"Call `read_content_from\(content\)`"):
        model.encode_catalogue()
    with pytest.raises(ValueError, match="from content of all items"):
        made.served(Content({"text": np.zeros((31, 5), "float32")}))


class MeanLength(Objective):
    """An objective without layers: the mean square of the vectors of the batch's items."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.default_weights = {"length": 0.5}

    def terms(self, step, recommender):
        known = step.known.catalogue(("item",))
        real = ops.cast((known["items"] != 0) & (known["items"] != NO_ITEM), "float32")
        squares = ops.mean(ops.square(known["item"]), axis=1)
        return {"length": Term(ops.sum(squares * real), ops.sum(real))}, {}


def test_an_objective_of_ones_own_needs_no_layer_and_sees_each_item_of_the_batch_once():
    made = dense_items.recommender(30, 4, 8, 5)
    rng = np.random.default_rng(0)
    text = rng.normal(size=(31, 4)).astype("float32")
    content = Content({"text": text, "text_present": np.arange(31) > 0})
    model = TrainingModel(made, [NextItem(), MeanLength()])
    assert model.term_weights == {"next_item": 1.0, "length": 0.5}
    batch = {"items": np.array([[3, 5, 0]]), "target": np.array([[5, 3, 0]])}
    filled = content.of_batch(*batch.values()) | {"target_index": np.arange(3, dtype="int32")}
    total, count = model(batch | filled, training=True)["terms"]["length"]
    kernel, bias = map(np.asarray, made.item_encoder.weights)
    assert int(count) == 2
    assert_near(total, np.square(text[[3, 5]] @ kernel + bias).mean(axis=1).sum(), 1e-5)


class AsTheyAre(ComputedItems):
    """The vectors of texts, without a weight."""

    sources = ("item",)
    num_items = 30

    def content_spec(self):
        return {"text": ContentSpec((4,), "float32")}

    def call(self, items, content, training=None):
        return {"items": items, "item": content["text"]}


class Products(Scorer):
    """Products of what the head says and the vectors of items, without a weight."""

    dim, sources = 4, ("item",)

    def item_vectors(self, vectors):
        return vectors["item"]

    def user_vectors(self, representations, last, training=None):
        return representations


def test_parts_without_weights_need_no_build():
    made = Recommender(AsTheyAre(), SASRec(4, 5), PredictionHead(4), Products(), 5)
    text = np.random.default_rng(0).normal(size=(31, 4)).astype("float32")
    served = made.served(Content({"text": text}))
    assert np.array_equal(np.asarray(served.item_vectors())[1:], text[1:])
    assert not np.asarray(served.item_vectors())[0].any()
