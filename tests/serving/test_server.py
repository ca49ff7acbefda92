"""Versions, batching and answers of a server, asked as any client of TF Serving asks."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
import shutil
import socket
import ssl
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from kdsr_tf.config import load_config
from kdsr_tf.errors import KDSRError
from serving.predictor import in_thread
from serving.server import Server
from tests.export import oracle
from tests.serving.certificates import write_certificates
from tests.serving.live import ask, options, predict_request, predictions, running, wait_for

CALLS = {
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
}
PREDICT = f"/v1/models/{oracle.MODEL}:predict"


def saved(models, folder, **versions):
    """A folder of versions: `v3="good/exact"`."""
    for version, name in versions.items():
        shutil.copytree(f"{models}/{name}", folder / version.removeprefix("v"))
    return folder


def appear(models, name, folder, version):
    shutil.copytree(f"{models}/{name}", folder / "incoming")
    os.rename(folder / "incoming", folder / str(version))


@pytest.fixture(scope="module")
def two(models, tmp_path_factory):
    """One server of two versions, ScaNN's the older."""
    folder = saved(models, tmp_path_factory.mktemp("two"), v3="good/scann", v4="next/exact")
    labels = {"stable": 3, "canary": 4, "gone": 9}
    with running(folder, num_versions=2, version_labels=labels) as server:
        yield server


def ranking(history, k=oracle.K):
    return oracle.ranking(oracle.scores(history), history, k)


def test_answers_are_those_of_brute_force_however_they_are_batched(two):
    histories = [*oracle.histories(24, longest=60), []]
    requests = [
        predict_request(label="stable", inputs={"history": np.array([row], "S")})
        for row in histories
        if row
    ]
    requests.append(predict_request(label="stable", inputs={"history": np.empty((1, 0), "S")}))
    with predictions(two.target) as stub, ThreadPoolExecutor(25) as threads:
        answers = list(threads.map(lambda request: stub.Predict(request, timeout=120), requests))
    for history, answer in zip(histories, answers, strict=True):
        items, scores = ranking(history)
        assert answer.model_spec.version.value == 3
        assert answer.model_spec.signature_name == "serving_default"
        assert [item.decode() for item in answer.outputs["items"].string_val] == items
        np.testing.assert_allclose(answer.outputs["scores"].float_val, scores, **oracle.TOLERANCE)
    page = ask(two.rest_url, "/monitoring/prometheus/metrics")[1]
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    batches = float(values['kdsr_serving_batch_rows_count{model_name="shop"}'])
    assert batches < float(values['kdsr_serving_batch_rows_sum{model_name="shop"}'])
    assert float(values['kdsr_serving_version_loaded{model_name="shop",version="3"}']) == 1
    counted = 'protocol="grpc",signature="serving_default",status="OK"'
    assert float(values[f'kdsr_serving_requests_total{{model_name="shop",{counted}}}']) == 25


def test_a_request_larger_than_a_batch_is_answered_whole_and_in_order(two):
    histories = [*oracle.histories(30, longest=5)] * 5
    padded = np.array([row + [""] * (5 - len(row)) for row in histories], object)
    candidates = np.array([[row[0], "no such"] for row in histories], object)
    with predictions(two.target) as stub:
        inputs = {"history": padded, "candidates": candidates}
        answer = stub.Predict(predict_request(label="stable", signature="score", inputs=inputs))
    scores = tf.make_ndarray(answer.outputs["scores"])
    expected = [oracle.scores(row)[oracle.indices(row[:1])[0] - 1] for row in histories]
    np.testing.assert_allclose(scores[:, 0], expected, **oracle.TOLERANCE)
    assert np.isneginf(scores[:, 1]).all()


def test_rest_answers_by_row_and_by_column_what_grpc_answers(two):
    path = f"/v1/models/{oracle.MODEL}/labels/stable:predict"
    items, scores = ranking(["item001", "item002"])
    encoded = {"b64": base64.b64encode(b"item001").decode()}
    status, found = ask(two.rest_url, path, {"instances": [["item001", "item002"]]})
    assert status == 200
    [row] = found["predictions"]
    assert row["items"] == items
    np.testing.assert_allclose(row["scores"], scores, **oracle.TOLERANCE)
    named = {"instances": [{"history": [encoded, "item002"]}], "signature_name": "serving_default"}
    assert ask(two.rest_url, path, named) == (200, found)
    for inputs in ([["item001", "item002"]], {"history": [["", encoded, "item002"]]}):
        status, by_column = ask(two.rest_url, path, {"inputs": inputs})
        assert status == 200 and by_column["outputs"]["items"] == [items]
    body = {"instances": [["item001"]], "signature_name": "embed"}
    [vector] = ask(two.rest_url, path, body)[1]["predictions"]
    np.testing.assert_allclose(vector, oracle.user_vectors([["item001"]])[0], rtol=1e-4)
    body = {
        "inputs": {"history": [["item001"]], "candidates": [["no such"]]},
        "signature_name": "score",
    }
    assert ask(two.rest_url, path, body)[1] == {"outputs": [[-np.inf]]}
    by_version = path.replace("labels/stable", "versions/3")
    assert ask(two.rest_url, by_version, named) == (200, found)


@pytest.mark.parametrize("method", CALLS)
def test_calls_with_examples_are_unimplemented_without_a_traceback(two, method, caplog):
    with grpc.insecure_channel(two.target) as channel:
        call = getattr(prediction_service_pb2_grpc.PredictionServiceStub(channel), method)
        with pytest.raises(grpc.RpcError) as error:
            call(CALLS[method]())
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not caplog.records


def test_metadata_and_status_are_those_of_tf_serving(two):
    signatures = {"serving_default", "recommend_with_seen", "similar_items", "embed", "score"}
    with grpc.insecure_channel(two.target) as channel:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = oracle.MODEL
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.GetModelMetadata(request)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        assert answer.model_spec.version.value == 4 and set(found.signature_def) == signatures
        for fields in ([], ["no such"]):
            request.metadata_field[:] = fields
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetModelMetadata(request)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = oracle.MODEL
        entries = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status)
        states = [(entry.version, entry.state) for entry in entries.model_version_status]
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        assert states == [(4, available), (3, available)]
        for service in ("", "tensorflow.serving.PredictionService"):
            health = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service)
            )
            assert health.status == health_pb2.HealthCheckResponse.SERVING
    model = f"/v1/models/{oracle.MODEL}"
    entry = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for suffix, versions in (("", "43"), ("/versions/3", "3"), ("/labels/canary", "4")):
        expected = [{"version": version, **entry} for version in versions]
        assert ask(two.rest_url, model + suffix) == (200, {"model_version_status": expected})
    for suffix, which in (("", "any versions"), ("/versions/3", "version 3")):
        error = {"error": f"Could not find {which} of model other"}
        assert ask(two.rest_url, f"/v1/models/other{suffix}") == (404, error)
    found = ask(two.rest_url, f"{model}/labels/stable/metadata")[1]
    assert found["model_spec"] == {"name": oracle.MODEL, "version": "3", "signature_name": ""}
    history = found["metadata"]["signature_def"]["signature_def"]["embed"]["inputs"]["history"]
    assert history["dtype"] == "DT_STRING"
    assert [dim["size"] for dim in history["tensor_shape"]["dim"]] == ["-1", "-1"]


def test_versions_take_over_without_a_failed_call_and_a_corrupt_one_does_not(models, tmp_path):
    folder = saved(models, tmp_path, v1="good/exact")
    with running(folder) as server, predictions(server.target) as stub:
        answers, failures, stop = set(), [], threading.Event()

        def call():
            while not stop.is_set():
                try:
                    answer = stub.Predict(predict_request(), timeout=120)
                    found = answer.outputs["items"].string_val[:5]
                    answers.add((answer.model_spec.version.value, *found))
                except grpc.RpcError as error:
                    failures.append(error)

        def statuses():
            found = ask(server.rest_url, f"/v1/models/{oracle.MODEL}")[1]["model_version_status"]
            return {int(s["version"]): (s["state"], s["status"]["error_message"]) for s in found}

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        appear(models, "next/exact", folder, 2)
        wait_for(lambda: statuses().get(1, [""])[0] == "END")
        os.makedirs(folder / "incoming")
        (folder / "incoming" / "manifest.json").write_text("{}")
        (folder / "incoming" / "saved_model.pb").write_bytes(b"no model")
        os.rename(folder / "incoming", folder / "3")
        wait_for(lambda: 3 in statuses() and statuses()[3][0] == "END")
        assert statuses()[3][1] and statuses()[2] == ("AVAILABLE", "")
        shutil.rmtree(folder / "2")
        wait_for(lambda: statuses()[1][0] == "AVAILABLE" and statuses()[2][0] == "END")
        stop.set()
        for caller in callers:
            caller.join()
        assert not failures
        assert sorted(version for version, *_ in answers) == [1, 2]


@pytest.mark.parametrize(("size", "apart"), [(100, False), (1 << 20, True)])
def test_work_on_much_leaves_the_event_loop_free(size, apart):
    worker = asyncio.run(in_thread(size, threading.get_ident))
    assert (worker != threading.get_ident()) == apart


def test_a_full_queue_refuses_and_what_nobody_waits_for_is_not_computed(models, tmp_path):
    folder = saved(models, tmp_path, v1="good/exact")
    with (
        running(folder, queue_rows=3, batch_timeout_ms=3000, max_batch_size=8) as server,
        predictions(server.target) as stub,
        ThreadPoolExecutor(4) as threads,
    ):

        def code(request, seconds=120):
            try:
                stub.Predict(request, timeout=seconds)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        three = predict_request(inputs={"history": [["item001"]] * 3})
        waiting = threads.submit(code, three)
        rows = 'kdsr_serving_queue_rows{model_name="shop"} 3.0'
        wait_for(lambda: rows in ask(server.rest_url, "/monitoring/prometheus/metrics")[1])
        assert code(predict_request()) == grpc.StatusCode.UNAVAILABLE
        no_rows = predict_request(inputs={"history": np.zeros((0, 1), "S1")})
        assert code(no_rows) == grpc.StatusCode.UNAVAILABLE
        assert ask(server.rest_url, PREDICT, {"instances": [["item001"]] * 3})[0] == 503
        # Another caller who wants less gets the place of the one who holds most.
        assert ask(server.rest_url, PREDICT, {"instances": [["item001"]]})[0] == 200
        assert waiting.result() == grpc.StatusCode.UNAVAILABLE
        four = predict_request(inputs={"history": [["item001"]] * 4})
        assert code(four) == grpc.StatusCode.INVALID_ARGUMENT
        assert code(three, seconds=0.1) == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_for(lambda: code(predict_request()) == grpc.StatusCode.OK)
        page = ask(server.rest_url, "/monitoring/prometheus/metrics")[1]
        assert 'kdsr_serving_batch_rows_sum{model_name="shop"} 2.0' in page


def test_rest_times_out_and_an_encrypted_server_wants_its_clients_certificate(models, tmp_path):
    folder = saved(models, tmp_path, v1="good/exact")
    files = write_certificates(tmp_path / "pem")
    paths = {
        "tls_certificate": files["certificate"],
        "tls_key": files["key"],
        "tls_client_ca": files["authority"],
    }
    slow = {"rest_timeout_seconds": 1, "batch_timeout_ms": 3000, "idle_seconds": 2}
    with running(folder, **paths, **slow) as server:
        assert server.rest_url.startswith("https://")
        anyone = ssl.create_default_context(cafile=files["authority"])
        known = ssl.create_default_context(cafile=files["authority"])
        known.load_cert_chain(files["certificate"], files["key"])
        url = f"{server.rest_url}/v1/models/{oracle.MODEL}"
        with urllib.request.urlopen(url, context=known) as answer:
            assert answer.status == 200
        with pytest.raises(OSError):
            urllib.request.urlopen(url, context=anyone)
        body = json.dumps({"instances": [["item001"]]}).encode()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}:predict", body, context=known)
        assert caught.value.code == 504
        host, _, port = server.rest_url.removeprefix("https://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=120) as silent:
            assert silent.recv(1) == b""  # without a handshake it is closed
        with socket.create_connection((host, int(port)), timeout=120) as plain:
            plain.sendall(b"\x16\x03\x01\x40\x00\x01")  # the beginning of a long handshake
            assert plain.recv(1) == b""
        for head in (b"", b"POST /v1/models", f"POST {PREDICT} HTTP/1.1\r\n".encode()):
            with (
                socket.create_connection((host, int(port)), timeout=120) as plain,
                known.wrap_socket(plain, server_hostname=host) as slow,
            ):
                slow.sendall(head)
                assert slow.recv(1) == b""
        with (
            socket.create_connection((host, int(port)), timeout=120) as plain,
            known.wrap_socket(plain, server_hostname=host) as slow,
        ):
            slow.sendall(f"POST {PREDICT} HTTP/1.1\r\nContent-Length: 99\r\n\r\n{{".encode())
            assert slow.recv(12) == b"HTTP/1.1 408"
        host, _, port = server.target.rpartition(":")
        known.set_alpn_protocols(["h2"])
        for head in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with (
                socket.create_connection((host, int(port)), timeout=120) as plain,
                known.wrap_socket(plain, server_hostname=host) as silent,
            ):
                silent.sendall(head)
                while silent.recv(1000):  # gRPC sends its settings first
                    pass
        pem = {name: pathlib.Path(path).read_bytes() for name, path in files.items()}
        for chain, served in (((pem["key"], pem["certificate"]), True), ((None, None), False)):
            credentials = grpc.ssl_channel_credentials(pem["authority"], *chain)
            with grpc.secure_channel(server.target, credentials) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                if served:
                    assert stub.Predict(predict_request(), timeout=120).outputs
                else:
                    with pytest.raises(grpc.RpcError):
                        stub.Predict(predict_request(), timeout=20)


def test_what_cannot_be_served_names_the_key_and_the_remedy(models, two, tmp_path):
    def start(folder=tmp_path / "absent", **changes):
        Server(str(folder), options(**changes)).start()

    with pytest.raises(KDSRError, match="kdsr export"):
        start()
    for key, address in (("grpc_port", two.target), ("rest_port", two.rest_url)):
        with pytest.raises(KDSRError, match=f"serve.{key}"):
            start(**{key: int(address.rsplit(":", 1)[1])})
    with socket.socket() as idle:  # bound, as by a server that still loads its model
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        idle.bind(("127.0.0.1", 0))
        port = idle.getsockname()[1]
        taken = Server(str(tmp_path), options(rest_port=port))
        taken.model.start = idle.listen
        with pytest.raises(KDSRError, match=r"serve\.rest_port"):
            taken.start()
    (tmp_path / "bad.pem").write_text("no certificate")
    bad = {"tls_certificate": str(tmp_path / "bad.pem"), "tls_key": str(tmp_path / "bad.pem")}
    with pytest.raises(KDSRError, match=r"serve\.tls_certificate"):
        start(**bad)
    for override in ("tls_key=k.pem", "tls_client_ca=ca.pem", "version_labels={stable: -1}"):
        with pytest.raises(KDSRError, match="serve"):
            load_config(overrides=[f"serve.{override}"])
