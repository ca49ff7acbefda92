"""One live server process: what it refuses, what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import psutil
import pytest

from serving.async_client import AsyncClient
from serving.client import Client, QueryError
from serving.starting import STARTING_FILE
from tests.export import oracle
from tests.serving.live import Process, ask, predict_request, predictions, wait_for

_INVALID, _NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
_MODEL = f"/v1/models/{oracle.MODEL}"
_PREDICT = f"{_MODEL}:predict"
_ROW = ["item001"]


@pytest.fixture(scope="module")
def live(models, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("work")
    shutil.copytree(f"{models}/good/exact", workdir / "serving_model" / "exact" / "1")
    slow = ("serve.rest_timeout_seconds=10", "serve.drain_seconds=120")
    process = Process(workdir, "serve.variant=exact", *slow)
    yield process
    process.process.kill()


@pytest.fixture
def target(live):
    return live.address["target"]


@pytest.fixture
def url(live):
    return live.address["rest_url"]


def assert_unharmed(live):
    """The process that was asked last is the one that now gives the right answer."""
    assert live.process.poll() is None
    expected = oracle.ranking(oracle.scores(_ROW), _ROW)[0]
    [row] = ask(live.address["rest_url"], _PREDICT, {"instances": [_ROW]})[1]["predictions"]
    assert row["items"] == expected
    with predictions(live.address["target"]) as stub:
        good = predict_request(inputs={"history": [[b"\xff\xfe", b"item001"]]}, outputs=["items"])
        answer = stub.Predict(good, timeout=120)
    assert list(answer.outputs) == ["items"]
    assert [item.decode() for item in answer.outputs["items"].string_val] == expected


def shaped(*sizes):
    request = predict_request()
    for dim, size in zip(request.inputs["history"].tensor_shape.dim, sizes, strict=True):
        dim.size = size
    return request


def contradictory():
    request = predict_request(inputs={"history": [["item001", "item002"]]})
    request.inputs["history"].string_val.append(b"item003")
    return request


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (predict_request(name=""), _INVALID, "name"),
        (predict_request(name="other"), _NOT_FOUND, "other"),
        (predict_request(version=99), _NOT_FOUND, "99"),
        (predict_request(label="canary"), _INVALID, "canary"),
        (predict_request(signature="no such"), _INVALID, "no such"),
        (predict_request(signature="__saved_model_init_op"), _INVALID, "not found"),
        (predict_request(inputs={}), _INVALID, "Missing but required: {history}"),
        (predict_request(inputs={"history": [[1]]}), _INVALID, "must be DT_STRING"),
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
        (shaped(1 << 30, 1 << 30), _INVALID, "elements"),
        (predict_request(inputs={"history": [["a"]], "x" * 20_000: 3}), _INVALID, "Sent extra"),
        (shaped(1 << 18, 1), _INVALID, "Send one for each"),
        (
            predict_request(inputs={"history": [["a"]] * 2049}),
            _INVALID,
            "larger than maximum",
        ),
        (shaped(-1, 1), _INVALID, "negative"),
        (contradictory(), _INVALID, "history"),
        (
            predict_request(inputs={"history": [["x" * (5 << 20)]]}),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "",
        ),
    ],
)
def test_grpc_refuses(live, target, request_, code, says):
    with predictions(target) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request_, timeout=120)
    assert caught.value.code() == code
    assert says in caught.value.details()
    assert_unharmed(live)


def _instances(*rows, **more):
    return {"instances": list(rows), **more}


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/models/other:predict", _instances(_ROW), 404, "Servable not found"),
        (f"{_MODEL}/versions/99:predict", _instances(_ROW), 404, "99"),
        (f"{_MODEL}/versions/{'9' * 5000}:predict", _instances(_ROW), 400, "Failed to convert"),
        (f"{_MODEL}/labels/canary:predict", _instances(_ROW), 400, "Unrecognized"),
        (f"{_MODEL}:classify", _instances(_ROW), 400, "Malformed request: POST"),
        (_PREDICT, None, 400, "Malformed request: GET"),
        (_MODEL, {}, 400, "Malformed request: POST"),
        ("/v1/models", None, 400, "Missing model name"),
        ("/v1/models/other", None, 404, "other"),
        (f"{_MODEL}/versions/99", None, 404, "Could not find version 99"),
        ("/", None, 404, "Not Found"),
        (_PREDICT, b"", 400, "The document is empty"),
        (_PREDICT, b"instances = 1", 400, "JSON Parse error"),
        (_PREDICT, b'{"instances": [["\xff\xfe"]]}', 400, "JSON Parse error"),
        (_PREDICT, b'{"instances": [["\\ud800"]]}', 400, "surrogate"),
        (_PREDICT, '{"instances": [["a"]]}'.encode("utf-16"), 400, "JSON Parse error"),
        (_PREDICT, b'{"instances": [["a"]], "signature_name": "\\ud800"}', 400, "surrogate"),
        (_PREDICT, b"[" * 100_000, 400, "JSON Parse error"),
        (_PREDICT, b'{"instances": ' + b"[" * 400 + b"]" * 400 + b"}", 400, "nested"),
        (_PREDICT, b"9" * 10_000, 400, "JSON Parse error"),
        (_PREDICT, [_ROW], 400, "Is not object"),
        (_PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (_PREDICT, _instances(_ROW, inputs=[]), 400, "only one of"),
        (_PREDICT, _instances(_ROW, signature_name=1), 400, "must be a string value"),
        (_PREDICT, _instances(_ROW, signature_name="none"), 400, '"none" not found'),
        (_PREDICT, _instances(), 400, "No values in 'instances'"),
        (_PREDICT, {"instances": "item001"}, 400, "list/array"),
        (_PREDICT, _instances("item001"), 400, "nested 2 deep"),
        (_PREDICT, _instances([1]), 400, "Type: Number is not of expected type: string"),
        (_PREDICT, _instances([None]), 400, "Type: Null"),
        (_PREDICT, _instances([{"b64": "?"}]), 400, "base64"),
        (_PREDICT, _instances([{"b64": "\u00e9"}]), 400, "base64"),
        (_PREDICT, _instances(["a"], ["a", "b"]), 400, "unexpected size: 2 expected size: 1"),
        (_PREDICT, _instances(["a"], {"history": ["a"]}), 400, "got object at item 1"),
        (_PREDICT, _instances({"no such": ["a"]}), 400, "keys must be equal to: history"),
        (_PREDICT, {"inputs": {"no such": [["a"]]}}, 400, "Missing named input: history"),
        (_PREDICT, _instances(_ROW, signature_name="score"), 400, "list of objects"),
        (
            _PREDICT,
            {
                "inputs": {"history": [["a"]], "candidates": [["a"], ["b"]]},
                "signature_name": "score",
            },
            400,
            "same number of rows",
        ),
        (_PREDICT, b'{"instances": [["' + b"x" * (5 << 20) + b'"]]}', 413, "larger than"),
    ],
)
def test_rest_refuses(live, url, path, body, status, says):
    found, answer = ask(url, path, body)
    assert (found, list(answer)) == (status, ["error"])
    assert says in answer["error"]
    assert_unharmed(live)


def test_methods_of_other_protocols_are_not_implemented(live, url):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=120)
    for path in (_PREDICT, "/", "/monitoring/prometheus/metrics"):
        connection.request("PROPFIND", path, b"{}")
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)) == (501, {"error": "Not Implemented"})
    assert_unharmed(live)


def test_refused_requests_are_counted(live, url):
    page = "/monitoring/prometheus/metrics"
    counted = 'protocol="rest",signature="",status="INVALID_ARGUMENT"'
    name = f'kdsr_serving_requests_total{{model_name="{oracle.MODEL}",{counted}}} '

    def count():
        lines = ask(url, page)[1].splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = count()
    ask(url, _PREDICT, b"no JSON")
    assert count() == before + 1


def test_random_bytes_and_bodies_that_never_end_harm_nothing(live, target, url):
    rest = urllib.parse.urlsplit(url).netloc
    head = f"POST {_PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    chunked = head.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked")
    with contextlib.ExitStack() as open_connections:

        def send(address, content):
            host, port = address.split(":")
            connection = socket.create_connection((host, int(port)), timeout=120)
            open_connections.enter_context(connection).sendall(content)
            return connection

        for seed in range(5):
            noise = np.random.default_rng(seed).bytes(4096)
            for address in (target, rest):
                send(address, noise)
            send(target, preface + noise)
        stalled = send(rest, head + b'{"inst')
        send(rest, b"POST / HT")
        endless = send(rest, chunked)
        with contextlib.suppress(OSError):
            for _ in range(6):
                endless.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        assert endless.recv(100).startswith(b"HTTP/1.1 413")
        assert_unharmed(live)
        for start in (b"GET /", b"GET / HTTP/1.1\r\nX: ", chunked + b"0\r\nX: "):
            long = send(rest, start)
            with pytest.raises(OSError):  # the server reads no more and closes
                for _ in range(64):
                    long.sendall(b"x" * (1 << 20))
        assert_unharmed(live)
        assert stalled.recv(100).startswith(b"HTTP/1.1 408")
        assert_unharmed(live)


def ask_often(live, times, threads=20):
    """Failures among requests of either protocol, from many callers at once."""
    histories = oracle.histories(16)
    with predictions(live.address["target"]) as stub, ThreadPoolExecutor(threads) as pool:

        def call(number):
            history = histories[number % len(histories)]
            if number % 8:
                request = predict_request(inputs={"history": np.array([history], "S")})
                found = [
                    b.decode()
                    for b in stub.Predict(request, timeout=120).outputs["items"].string_val
                ]
            else:
                answer = ask(live.address["rest_url"], _PREDICT, _instances(history))[1]
                found = answer["predictions"][0]["items"]
            return found == oracle.ranking(oracle.scores(history), history)[0]

        return times - sum(pool.map(call, range(times)))


def test_a_hundred_clients_at_once_get_their_own_answers(live):
    assert ask_often(live, times=400, threads=100) == 0


def memory(live):
    return psutil.Process(live.process.pid).memory_info().rss


@pytest.mark.parametrize(
    "times", [2_000, pytest.param(50_000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_memory_does_not_grow(live, times):
    ask_often(live, times=1_000)
    before = memory(live)
    assert ask_often(live, times=times) == 0
    assert memory(live) - before < 16 << 20


def test_a_swapped_out_version_leaves_memory(live, models, url):
    """Versions of one size, one after the other: memory is that of one of them."""
    folder = pathlib.Path(live.workdir) / "serving_model" / "exact"
    after = []
    for version in range(2, 6):
        shutil.copytree(f"{models}/good/exact", folder / "incoming")
        os.rename(folder / "incoming", folder / str(version))
        gone = {"version": str(version - 1), "state": "END"}
        wait_for(
            lambda gone=gone: any(
                gone.items() <= status.items()
                for status in ask(url, _MODEL)[1]["model_version_status"]
            )
        )
        after.append(memory(live))
    assert after[-1] - after[1] < 24 << 20


def test_a_killed_server_starts_again_and_one_that_is_told_to_stop_finishes_its_calls(live):
    port = live.address["target"].rpartition(":")[2]

    async def ask_before_and_after():
        """Clients that were connected find a server that takes the place of a killed one."""
        target = live.address["target"]
        with Client(target, oracle.MODEL, timeout_seconds=60) as client:
            async with AsyncClient(target, oracle.MODEL, timeout_seconds=60) as other:
                assert await other.recommend([_ROW]) == client.recommend([_ROW])
                live.end(signal.SIGKILL)
                with pytest.raises(QueryError) as caught:
                    client.recommend([_ROW])
                assert caught.value.code == grpc.StatusCode.UNAVAILABLE
                with pytest.raises(QueryError) as caught:
                    await other.recommend([_ROW])
                assert caught.value.code == grpc.StatusCode.UNAVAILABLE
                live.start(f"serve.grpc_port={port}")
                assert await other.recommend([_ROW]) == client.recommend([_ROW])

    asyncio.run(ask_before_and_after())
    assert_unharmed(live)
    address = pathlib.Path(live.workdir) / "server.json"
    assert json.loads(address.read_text())["pid"] == live.process.pid
    codes = []

    def call():
        with predictions(live.address["target"]) as stub:
            rows = [[f"item{number:03d}" for number in range(1, 31)]] * 2000
            try:
                stub.Predict(predict_request(inputs={"history": np.array(rows, "S")}), timeout=120)
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.append(error.code())

    caller = threading.Thread(target=call)
    caller.start()
    queued = 'kdsr_serving_queue_rows{model_name="shop"} 0.0'
    page = "/monitoring/prometheus/metrics"
    wait_for(lambda: queued not in ask(live.address["rest_url"], page)[1] or codes)
    messages = live.end(signal.SIGTERM)
    caller.join()
    assert codes == [grpc.StatusCode.OK]
    assert live.process.returncode == 0
    assert live.address["target"] in messages and live.address["rest_url"] in messages
    assert messages.index("Loading the newest version in") < messages.index("is served at")
    assert not address.exists() and not address.with_name(STARTING_FILE).exists()
