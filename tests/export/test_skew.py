"""Served answers beside the student's: equal ones, tampered ones, and other students'."""

from __future__ import annotations

import json
import os

import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from kdsr_tf import schema
from kdsr_tf.errors import InputError
from kdsr_tf.export.deployment import example_requests
from kdsr_tf.export.skew import measure, read_log
from tests.export import oracle
from tests.export.fixtures import run_python

_DRIVER = os.path.join(os.path.dirname(__file__), "compare_served.py")


def answered(signatures, request):
    inputs = {key: tf.constant(tf.make_ndarray(t)) for key, t in request.inputs.items()}
    outputs = signatures[request.model_spec.signature_name](**inputs)
    response = predict_pb2.PredictResponse(model_spec=request.model_spec)
    for key, value in outputs.items():
        response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
    return prediction_log_pb2.PredictLog(request=request, response=response)


@pytest.fixture(scope="module")
def logs(models):
    signatures = tf.saved_model.load(f"{models}/good/exact").signatures
    batches = (oracle.histories(12), [["no such item"], [*oracle.ITEM_IDS[:390]]])
    return [
        answered(signatures, request)
        for batch in batches
        for request in example_requests(oracle.MODEL, batch)
    ]


@pytest.fixture(scope="module")
def reference():
    return oracle.reference()


def test_the_same_answers_have_no_skew(logs, reference):
    found = measure(logs, reference, tolerance=1e-4)
    assert [skew.signature for skew in found] == list(schema.SERVING_SIGNATURES)
    for skew in found:
        assert (skew.rows, skew.equal, skew.recall) == (14, 14, 1.0)
        assert 0 <= skew.mean_difference <= skew.max_difference < 1e-5


def tampered(log, key, change):
    copy = prediction_log_pb2.PredictLog.FromString(log.SerializeToString())
    values = tf.make_ndarray(copy.response.outputs[key]).copy()
    copy.response.outputs[key].CopyFrom(tf.make_tensor_proto(change(values)))
    return copy


def double_first(values):
    values[0] *= 2
    return values


def replace_best(values):
    values[0, 0] = b"item400"
    return values


@pytest.mark.parametrize(
    ("signature", "key", "change", "field"),
    [
        ("serving_default", "scores", double_first, "max_difference"),
        ("recommend_with_seen", "items", replace_best, "recall"),
        ("similar_items", "items", replace_best, "recall"),
        ("embed", "embedding", double_first, "max_difference"),
        ("score", "scores", double_first, "max_difference"),
    ],
)
def test_a_tampered_answer_is_found(logs, reference, signature, key, change, field):
    [log] = [log for log in logs[:5] if log.request.model_spec.signature_name == signature]
    [good] = measure([log], reference, tolerance=1e-4)
    [bad] = measure([tampered(log, key, change)], reference, tolerance=1e-4)
    assert bad.equal == good.equal - 1 == 11
    if field == "recall":
        assert bad.recall == pytest.approx(1 - 1 / (12 * oracle.K))
    else:
        assert bad.max_difference > 0.01 > good.max_difference
        assert bad.mean_difference > 10 * good.mean_difference


def test_a_log_is_read_and_other_files_are_refused(tmp_path, logs):
    path = str(tmp_path / "log")
    with tf.io.TFRecordWriter(path) as writer:
        for log in logs[:2]:
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())
        writer.write(prediction_log_pb2.PredictionLog().SerializeToString())
    assert list(read_log([path])) == logs[:2]
    with open(path, "ab") as file:
        file.write(b"and this is no record")
    with pytest.raises(InputError, match="cannot be read as TFRecords"):
        list(read_log([path]))
    with pytest.raises(InputError, match="no such"):
        list(read_log([str(tmp_path / "no such")]))


@pytest.mark.slow
def test_the_command(workdir):
    """A live server that admits clients with a certificate, a log, another version, another
    student."""
    outcomes = json.loads(run_python(_DRIVER, str(workdir)).splitlines()[-1])
    for name in ("live", "log"):
        status, said = outcomes[name]
        assert status == 0, said
        found = {entry["signature"]: entry for entry in json.loads(said.splitlines()[-1])}
        assert set(found) == set(schema.SERVING_SIGNATURES)
        assert all(entry["equal"] == entry["rows"] > 0 for entry in found.values())
    for name, words in (
        ("tampered", "serving_default: what is served is not what the student answers"),
        ("other version", "Version 7 was served"),
        ("other student", "Version 1 was exported from another student"),
        ("other model", "no answer of the model 'other'"),
        ("nobody", "UNAVAILABLE"),
        ("stranger", "UNAVAILABLE"),
    ):
        status, said = outcomes[name]
        assert status == 2 and words in said, (name, said)
