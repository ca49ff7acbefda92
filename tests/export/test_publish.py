"""`export` on a small working directory with a real student."""

from __future__ import annotations

import importlib
import json
import os
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import scann  # noqa: F401  (registers the index's operations)
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kdsr_tf import schema
from kdsr_tf.errors import KDSRError
from tests.export.fixtures import run_python
from tests.nearness import assert_near


def saved_model(path):
    with open(path / "saved_model.pb", "rb") as file:
        return saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]


def operations(graph):
    functions = (function.node_def for function in graph.graph_def.library.function)
    return {node.op for nodes in (graph.graph_def.node, *functions) for node in nodes}


@pytest.fixture
def outcomes(workdir):
    return json.loads((workdir / "outcomes.json").read_text())


def test_a_version_is_complete(workdir, outcomes):
    root = workdir / "serving_model"
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["counts"] == {
        "items": 40,
        "allowed_items": 40,
        "k": 30,
        "version": 1,
        "checks": 72,
    }
    assert manifest["details"]["scann: serving_default: recall@30"] == 1.0
    for variant in ("exact", "scann"):
        assert os.listdir(root / variant) == ["1"]
        version = root / variant / "1"
        artifact = json.loads((version / "manifest.json").read_text())["artifact"]
        assert artifact == f"serving_model/{variant}/1"
        assert "recall@30" in (version / "model_card.md").read_text()
        assert (version / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0
    assert 'name: "shop"' in (root / "tf_serving" / "models.config").read_text()
    assert sorted(os.listdir(root)) == ["exact", "manifest.json", "scann", "tf_serving"]


def test_signatures_are_the_public_api(workdir):
    for variant in ("exact", "scann"):
        found = {
            name: (
                {key: (tf.as_dtype(i.dtype).name, len(i.tensor_shape.dim)) for key, i in given},
                {key: (tf.as_dtype(o.dtype).name, len(o.tensor_shape.dim)) for key, o in out},
            )
            for name, given, out in (
                (name, definition.inputs.items(), definition.outputs.items())
                for name, definition in saved_model(
                    workdir / "serving_model" / variant / "1"
                ).signature_def.items()
                if not name.startswith("__")
            )
        }
        assert found == schema.SERVING_SIGNATURES


def test_the_exact_variant_uses_stock_operations_only(workdir):
    """Read in a process where nothing has registered ScaNN's operations."""
    names = sorted(operations(saved_model(workdir / "serving_model" / "exact" / "1")))
    code = (
        "from kdsr_tf import light_imports; light_imports.install()\n"
        "import json, sys, tensorflow\n"
        "from tensorflow.python.framework import op_def_registry\n"
        "print([n for n in json.loads(sys.argv[1]) if op_def_registry.get(n) is None])"
    )
    assert run_python("-c", code, json.dumps(names), python=sys.executable).strip() == "[]"
    assert "Scann>ScannTensorsToScann" not in names
    index = operations(saved_model(workdir / "serving_model" / "scann" / "1"))
    assert any(name.startswith("Scann>") for name in index)


def test_only_a_folded_student_is_inside(workdir):
    """One input table and what a backbone of ids has; no teacher, no tables of modalities."""
    import keras

    student = keras.saving.load_model(workdir / "student" / "student.keras")
    assert student.modalities
    names = (weight.path.partition("/")[2] for weight in student.weights)
    kept = {
        name.replace("/", "."): tuple(weight.shape)
        for name, weight in zip(names, student.weights, strict=True)
        if not name.startswith(("tables/", "backbone/fusion/", "scorer/output_"))
    }
    # One table for the way in, one for the last item's term.
    kept["items.ids"] = kept["items.scored_ids"] = tuple(student.tables.id_table.shape)
    for variant in ("exact", "scann"):
        prefix = str(workdir / "serving_model" / variant / "1" / "variables" / "variables")
        stored = dict(tf.train.list_variables(prefix))
        own = {
            name.split("/")[1].replace("..", "."): tuple(shape)
            for name, shape in stored.items()
            if name.startswith("student_variables/") and "seed_generator" not in name
        }
        assert own == kept
        others = [name for name in stored if not name.startswith("student_variables/")]
        parts = {name.split("/")[0] for name in others}
        assert parts == {
            "_CHECKPOINTABLE_OBJECT_GRAPH",
            "index",
            "item_ids",
            "popularity",
            "similar_index",
        }


def test_the_saved_model_ranks_as_the_student_does(workdir):
    import keras

    student = keras.saving.load_model(workdir / "student" / "student.keras")
    ids = np.array(pq.read_table(workdir / "sequences" / "items.parquet")["item_id"].to_pylist())
    items = np.array([[3, 1, 4, 0, 0, 0, 0, 0, 0, 0], [9, 9, 8, 7, 6, 5, 4, 3, 2, 1]], np.int32)
    scores = np.asarray(student.scores(items))[:, 1:]
    history = np.where(items > 0, ids[items - 1], "")
    for variant in ("exact", "scann"):
        model = tf.saved_model.load(str(workdir / "serving_model" / variant / "1"))
        found = model.signatures["recommend_with_seen"](history=tf.constant(history))
        order = np.argsort(-scores, axis=1)[:, :30]
        assert found["items"].numpy().astype(str).tolist() == ids[order].tolist()
        expected = np.take_along_axis(scores, order, axis=1)
        assert_near(found["scores"], expected)


def test_up_to_date_is_skipped_and_old_versions_are_dropped(outcomes):
    assert outcomes["again"] == outcomes["first"]
    assert outcomes["changed"]["counts"]["version"] == 3
    assert outcomes["listing"] == {"exact": ["2", "3"], "scann": ["2", "3"]}
    assert outcomes["leftovers"] == []


def test_denied_items_never_come_back_and_new_ones_do(outcomes):
    counts, details = outcomes["changed"]["counts"], outcomes["changed"]["details"]
    assert (counts["items"], counts["allowed_items"]) == (42, 39)
    assert details["deny_items"] == {"ids": 4, "unknown": 1}
    assert details["added_items"] == {"items": 2, "without_vectors": 1, "known_already": 0}
    assert "42 items are known, 39 may be recommended" in outcomes["card"]
    for answers in outcomes["answers"].values():
        # K is above what is left, so an answer holds all that may come back.
        everything = set(answers["with_seen"]) - {""}
        assert len(everything) == 39
        assert everything.isdisjoint(["item0001", "item0002", "new2", "no-vector"])
        assert set(answers["popular"]) - {""} == everything
        assert everything - set(answers["recommend"]) == {"new1", "item0009"}
        # One may ask what replaces a denied item.
        assert set(answers["similar_to_denied"]) - {""} == everything
        assert answers["scored"] == [False, False, False, True, False, False]


def test_a_float16_table_is_smaller_though_it_holds_more_items(outcomes):
    assert outcomes["bytes"]["3"] < 0.9 * outcomes["bytes"]["2"]


def test_after_a_rollback_only_the_same_inputs_are_up_to_date(outcomes):
    returned = outcomes["rolled_back"]
    assert returned["counts"]["version"] == 4
    assert returned["fingerprint"] == outcomes["first"]["fingerprint"]
    assert returned["fingerprint"] != outcomes["changed"]["fingerprint"]
    assert outcomes["after_rollback"] == returned
    answers = outcomes["rolled_back_answers"]["exact"]
    assert "item0001" in answers["popular"]
    assert len(answers["popular"]) == 30


def test_a_student_with_nan_is_not_published(outcomes):
    assert outcomes["refused"].startswith("GateError: The student has NaN")
    assert "text" in outcomes["refused"]
    assert outcomes["after_refusal"] == ["2", "3", "4"]


def test_without_legacy_keras_the_error_says_what_to_do(monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    monkeypatch.delitem(sys.modules, "kdsr_tf.export.indexes", raising=False)
    with pytest.raises(KDSRError, match="TF_USE_LEGACY_KERAS=1 before TensorFlow is"):
        importlib.import_module("kdsr_tf.export.indexes")
