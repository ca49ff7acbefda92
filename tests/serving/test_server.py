"""A live server and real gRPC clients."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kdsr_tf.errors import KDSRError
from serving.client import Client, QueryError
from serving.server import Server
from tests.export import oracle


@pytest.fixture
def versions(models, tmp_path):
    shutil.copytree(f"{models}/good/exact", tmp_path / "1")
    return tmp_path


@contextlib.contextmanager
def running(folder):
    server = Server(str(folder), oracle.MODEL, poll_seconds=0.05)
    server.start()
    try:
        yield server
    finally:
        server.stop(drain_seconds=1)


@pytest.fixture(scope="module", params=["exact", "scann"])
def target(models, request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(f"{models}/good/{request.param}", folder / "3")
    with running(folder) as server:
        yield server.target


@pytest.fixture
def client(target):
    with Client(target, oracle.MODEL) as client:
        yield client


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def expected(history, excluded=()):
    items, _ = oracle.ranking(oracle.scores(history), excluded)
    return [item for item in items if item]


def test_recommendations_are_those_of_brute_force(client):
    batch = [*oracle.histories(8), []]
    for with_seen in (False, True):
        found = client.recommend(batch, k=5, with_seen=with_seen)
        for history, row in zip(batch, found, strict=True):
            excluded = () if with_seen else history
            items, scores = oracle.ranking(oracle.scores(history), excluded, k=5)
            assert [recommendation.item_id for recommendation in row] == items
            np.testing.assert_allclose([r.score for r in row], scores, rtol=1e-5)


def test_the_other_signatures_answer(client):
    batch = oracle.histories(3)
    np.testing.assert_allclose(client.embed(batch), oracle.user_vectors(batch), rtol=1e-4, atol=1)
    assert client.recommend([], k=3) == []
    scores = client.score(batch, [["item001"], ["item002", "no such"], []])
    assert [len(row) for row in scores] == [1, 2, 0]
    np.testing.assert_allclose(scores[1][0], oracle.scores(batch[1])[1], rtol=1e-5)
    assert np.isneginf(scores[1][1])
    known, unknown = client.similar_items(["item001", "no such"], k=4)
    assert len(known) == 4 and unknown == []


def test_an_exhausted_catalogue_gives_a_short_answer(client):
    [left] = client.recommend([oracle.ITEM_IDS[2:]], k=10)
    assert sorted(item for item, _ in left) == oracle.ITEM_IDS[:2]


@pytest.mark.parametrize("k", [0, oracle.K + 1])
def test_k_out_of_range_is_refused_by_the_client(client, k):
    with pytest.raises(KDSRError, match="`k` must be"):
        client.recommend([["item001"]], k=k)


def predict_request(**changes):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = changes.get("name", oracle.MODEL)
    request.model_spec.signature_name = changes.get("signature", "")
    if "version" in changes:
        request.model_spec.version.value = changes["version"]
    if "label" in changes:
        request.model_spec.version_label = changes["label"]
    for key, value in changes.get("inputs", {"history": [["item001"]]}).items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(changes.get("outputs", ()))
    return request


def huge():
    request = predict_request()
    for dim in request.inputs["history"].tensor_shape.dim:
        dim.size = 1 << 30
    return request


def negative():
    request = predict_request()
    request.inputs["history"].tensor_shape.dim[0].size = -1
    return request


def contradictory():
    request = predict_request(inputs={"history": [["item001", "item002"]]})
    request.inputs["history"].string_val.append(b"item003")
    return request


_INVALID, _NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (predict_request(name=""), _INVALID, "name"),
        (predict_request(name="other"), _NOT_FOUND, "other"),
        (predict_request(version=99), _NOT_FOUND, "99"),
        (predict_request(label="canary"), _INVALID, "canary"),
        (predict_request(signature="no such"), _INVALID, "no such"),
        (predict_request(inputs={}), _INVALID, "Missing but required: {history}"),
        (predict_request(inputs={"history": [[1]]}), _INVALID, "must be string"),
        (predict_request(inputs={"history": ["item001"]}), _INVALID, "shape"),
        (predict_request(inputs={"history": "item001"}), _INVALID, "shape"),
        (predict_request(inputs={"history": [["a"]], "k": 3}), _INVALID, "Sent extra: {k}"),
        (predict_request(outputs=["no such"]), _INVALID, "no such"),
        (
            predict_request(
                signature="score", inputs={"history": [["a"]], "candidates": [["a"], ["b"]]}
            ),
            _INVALID,
            "same number of rows",
        ),
        (huge(), _INVALID, "elements"),
        (negative(), _INVALID, "negative"),
        (contradictory(), _INVALID, "history"),
        (
            predict_request(inputs={"history": [["x" * (17 << 20)]]}),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "",
        ),
    ],
)
def test_a_bad_request_gets_its_code_and_harms_nothing(target, request_, code, says):
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request_, timeout=10)
        assert caught.value.code() == code
        assert says in caught.value.details()
        good = predict_request(inputs={"history": [[b"\xff\xfe", b"item001"]]}, outputs=["items"])
        answer = stub.Predict(good, timeout=10)
        assert list(answer.outputs) == ["items"]
        assert (
            answer.outputs["items"].string_val[0].decode() == expected(["item001"], ["item001"])[0]
        )


def test_random_bytes_on_the_port_harm_nothing(target, client):
    host, port = target.split(":")
    for seed in range(5):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(np.random.default_rng(seed).bytes(4096))
    assert client.recommend([["item001"]], k=1)


def test_metadata_and_status_are_those_of_tf_serving(target):
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = oracle.MODEL
        answer = stub.GetModelMetadata(request)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        assert answer.model_spec.version.value == 3
        names = {"serving_default", "recommend_with_seen", "similar_items", "embed", "score"}
        assert names <= set(found.signature_def)
        request.metadata_field[:] = ["no such"]
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModelMetadata(request)
        assert caught.value.code() == _INVALID
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = oracle.MODEL
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        [entry] = models.GetModelStatus(status).model_version_status
        assert (entry.version, entry.state) == (
            3,
            get_model_status_pb2.ModelVersionStatus.AVAILABLE,
        )


def test_a_new_version_takes_over_without_a_failed_call(models, versions):
    with running(versions) as server, Client(server.target, oracle.MODEL) as client:
        before = client.recommend([["item001"]], k=5)
        answers, failures, stop = set(), [], threading.Event()

        def call():
            while not stop.is_set():
                try:
                    answers.add(tuple(client.recommend([["item001"]], k=5)[0]))
                except QueryError as error:
                    failures.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        shutil.copytree(f"{models}/next/exact", versions / "incoming")
        os.rename(versions / "incoming", versions / "2")
        wait_for(lambda: server.model.find(oracle.MODEL).version == 2)
        after = client.recommend([["item001"]], k=5)
        stop.set()
        caller.join()
        assert not failures
        assert after != before
        assert answers <= {tuple(before[0]), tuple(after[0])}


def test_a_corrupt_version_leaves_the_old_one_serving(versions):
    with running(versions) as server, Client(server.target, oracle.MODEL) as client:
        os.makedirs(versions / "incoming")
        (versions / "incoming" / "manifest.json").write_text("{}")
        (versions / "incoming" / "saved_model.pb").write_bytes(b"no model")
        os.rename(versions / "incoming", versions / "2")
        wait_for(lambda: len(server.model.statuses()) == 2)
        assert client.recommend([["item001"]], k=1)
        bad, good = server.model.statuses()
        assert (bad.version, bad.state, bool(bad.error)) == (2, "END", True)
        assert (good.version, good.state, good.error) == (1, "AVAILABLE", "")


def test_nothing_to_serve_names_the_remedy(tmp_path):
    with pytest.raises(KDSRError, match="kdsr export"):
        Server(str(tmp_path / "absent"), oracle.MODEL).start()


def test_a_taken_port_names_the_remedy(target, versions):
    port = int(target.split(":")[1])
    with pytest.raises(KDSRError, match="grpc_port"):
        Server(str(versions), oracle.MODEL, port=port)


def test_no_server_names_the_address():
    with (
        Client("127.0.0.1:9", oracle.MODEL, timeout_seconds=0.5) as client,
        pytest.raises(QueryError, match=r"127\.0\.0\.1:9") as caught,
    ):
        client.recommend([["item001"]])
    assert caught.value.code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )


_SERVE = """
import sys
from kdsr_tf.config import load_config
from serving.server import serve
serve(load_config(overrides=sys.argv[2:], workdir=sys.argv[1]))
"""


def test_a_server_at_a_given_port_leaves_the_address_of_another_alone(tmp_path):
    from kdsr_tf.config import load_config
    from serving.client import find_target
    from serving.server import _announced

    chosen, given = (
        load_config(overrides=[f"serve.grpc_port={port}"], workdir=str(tmp_path))
        for port in (0, 8501)
    )
    with _announced(chosen, "127.0.0.1:50001"):
        with _announced(given, "127.0.0.1:8501"):
            assert find_target(chosen) == "127.0.0.1:50001"
        assert find_target(chosen) == "127.0.0.1:50001"
        assert find_target(given) == "127.0.0.1:8501"
    assert not (tmp_path / "server.json").exists()


def test_serve_announces_its_port_and_ends_on_sigterm(models, tmp_path):
    from kdsr_tf.config import load_config
    from serving.client import find_target

    shutil.copytree(f"{models}/good/scann", tmp_path / "serving_model" / "scann" / "1")
    overrides = [f"serve.model_name={oracle.MODEL}", "serve.grpc_port=0"]
    config = load_config(overrides=overrides, workdir=str(tmp_path))
    with pytest.raises(KDSRError, match="kdsr serve"):
        find_target(config)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(tmp_path), *overrides],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    try:
        wait_for((tmp_path / "server.json").exists, seconds=60)
        target = find_target(config)
        assert json.loads((tmp_path / "server.json").read_text())["pid"] == process.pid
        with Client(target, oracle.MODEL) as client:
            client.wait_until_ready(10)
            found = client.recommend([["item001"]], k=3)
            assert [r.item_id for r in found[0]] == expected(["item001"], ["item001"])[:3]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert target in errors
    assert not (tmp_path / "server.json").exists()
