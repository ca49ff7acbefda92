"""A live server with more to do than it can, and with bytes that mean nothing."""

from __future__ import annotations

import asyncio
import collections
import re
import shutil
import socket
import threading
import urllib.request

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.async_client import AsyncClient
from serving.server import _WATCH_SECONDS
from tests.export import oracle
from tests.serving.live import ask, predict_request, predictions, running, wait_for

PREDICT = f"/v1/models/{oracle.MODEL}:predict"
PAGE = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    shutil.copytree(f"{models}/good/exact", folder / "1")
    return folder


def counted(server, name, **labels):
    """The sum of a counter over all labels not given."""
    pattern = re.compile(rf"kdsr_serving_{name}_total\{{(.*)\}} (.*)")
    found = 0.0
    for line in ask(server.rest_url, PAGE)[1].splitlines():
        match = pattern.fullmatch(line)
        if match and all(f'{key}="{value}"' in match[1] for key, value in labels.items()):
            found += float(match[2])
    return found


@pytest.fixture
def short_queue(folder):
    with running(folder, queue_rows=200, max_batch_size=8, idle_seconds=1.0) as server:
        yield server


def test_overload_is_unavailable_with_a_hint_counted_and_never_cancelled(folder):
    """More calls at once than gRPC's own backlog of 3,000, which it answers with CANCELLED."""
    number = 3500
    # A batch waits for more rows than the queue holds: it is full, however fast the machine is.
    waits = {"max_batch_size": 256, "batch_timeout_ms": 2000, "idle_seconds": 1.0}
    with running(folder, queue_rows=200, **waits) as server, predictions(server.target) as stub:
        request = predict_request()
        calls = [stub.Predict.future(request, timeout=120) for _ in range(number)]
        codes = collections.Counter(call.code() for call in calls)
        counts = {s: counted(server, "requests", status=s) for s in ("OK", "UNAVAILABLE")}
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert codes.total() == number
    refused = next(call for call in calls if call.code() == grpc.StatusCode.UNAVAILABLE)
    hints = dict(refused.trailing_metadata())
    assert 500 <= int(hints["grpc-retry-pushback-ms"]) <= 1500
    assert counts == {status: codes[grpc.StatusCode[status]] for status in counts}


@pytest.mark.parametrize("protocol", ["target", "rest_url"])
def test_clients_try_again_what_a_full_queue_refuses(short_queue, protocol):
    async def burst():
        async with AsyncClient(
            getattr(short_queue, protocol), oracle.MODEL, timeout_seconds=120
        ) as client:
            calls = (client.recommend([["item001"]], k=1) for _ in range(260))
            return await asyncio.gather(*calls)

    answers = asyncio.run(burst())
    assert len(answers) == 260
    assert len({row[0].item_id for [row] in answers}) == 1


def test_rest_says_when_to_come_again(folder):
    with (
        running(folder, queue_rows=1, batch_timeout_ms=2000, max_batch_size=8) as server,
        predictions(server.target) as stub,
    ):
        waiting = stub.Predict.future(predict_request(), timeout=120)
        wait_for(lambda: 'queue_rows{model_name="shop"} 1.0' in ask(server.rest_url, PAGE)[1])
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(server.rest_url + PREDICT, b'{"instances": [["item001"]]}')
        assert caught.value.code == 503
        assert caught.value.headers["retry-after"] in ("1", "2")
        assert waiting.code() == grpc.StatusCode.OK


def test_calls_of_other_services_take_no_place_in_the_queue(short_queue):
    """300 that watch its health, where 200 rows may wait."""

    async def watch_and_ask():
        async with (
            grpc.aio.insecure_channel(short_queue.target) as channel,
            AsyncClient(short_queue.target, oracle.MODEL, timeout_seconds=1) as client,
        ):
            stub = health_pb2_grpc.HealthStub(channel)
            watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(300)]
            await asyncio.gather(*(watch.read() for watch in watches))
            await asyncio.sleep(5 * _WATCH_SECONDS)  # The server looks how many calls there are.
            return await client.recommend([["item001"]], k=1)

    [[first]] = asyncio.run(watch_and_ask())
    assert first.item_id


def test_malformed_messages_are_internal_counted_and_logged_once(short_queue, caplog):
    with grpc.insecure_channel(short_queue.target) as channel:
        for method in ("PredictionService/Predict", "ModelService/GetModelStatus"):
            call = channel.unary_unary(f"/tensorflow.serving.{method}")
            for _ in range(10):
                with pytest.raises(grpc.RpcError) as caught:
                    call(b"\xff\xff\xff", timeout=120)
                assert caught.value.code() == grpc.StatusCode.INTERNAL
                assert "The request is no" in caught.value.details()
    assert counted(short_queue, "malformed_requests", protocol="grpc") == 20
    assert counted(short_queue, "requests", protocol="grpc", status="INTERNAL") == 10
    assert [r for r in caplog.records if r.exc_info] == []
    assert len([r for r in caplog.records if "malformed" in r.getMessage()]) == 1


def test_what_a_request_declares_is_bounded(short_queue):
    candidates = np.array([["item001"]], "S")
    request = predict_request(
        signature="score", inputs={"history": candidates, "candidates": candidates}
    )
    request.inputs["candidates"].tensor_shape.dim[1].size = 1 << 19
    with predictions(short_queue.target) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request, timeout=120)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "524288 elements" in caught.value.details()
    wide = {"inputs": {"history": [[""] * 70_000]}}
    status, answer = ask(short_queue.rest_url, PREDICT, wide)
    assert (status, answer["error"]) == (
        400,
        "A row has 70000 strings; at most 65536 are taken.",
    )
    many = {"inputs": {"history": [[""] * 600_000]}}
    status, answer = ask(short_queue.rest_url, PREDICT, many)
    assert status == 400 and "more than 524288 elements" in answer["error"]


def test_silent_connections_and_requests_that_never_come_end(folder):
    with running(folder, idle_seconds=0.5, rest_timeout_seconds=0.5) as server:
        for address in (server.target, server.rest_url.partition("//")[2]):
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=120) as silent:
                while silent.recv(1000):  # gRPC sends its settings first
                    pass
        with grpc.insecure_channel(server.target) as channel:
            never = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
            ended = threading.Event()
            call = never.future((b"" for _ in range(1) if not ended.wait()), timeout=120)
            assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert "did not arrive within 0.5 s" in call.details()
            ended.set()
