"""A live server with more to do than it can, and with bytes that mean nothing."""

from __future__ import annotations

import asyncio
import collections
import re
import shutil
import socket
import threading
import urllib.request
from unittest import mock

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving import crowding
from serving.async_client import AsyncClient
from serving.client import Client
from serving.grpc_services import GrpcServices
from serving.health import MOST_WATCHES
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


def test_a_connection_has_few_calls_at_once_so_that_few_are_before_those_of_others(
    folder, monkeypatch
):
    read = collections.Counter()
    received = GrpcServices._received

    async def counted_received(services, context):
        read[context.peer()] += 1
        return await received(services, context)

    monkeypatch.setattr(GrpcServices, "_received", counted_received)
    ended = threading.Event()
    with (
        running(folder, max_batch_size=70) as server,
        grpc.insecure_channel(server.target) as channel,
        Client(server.target, oracle.MODEL, timeout_seconds=120) as other,
    ):
        call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        never = [call.future(iter(ended.wait, True), timeout=120) for _ in range(100)]
        wait_for(lambda: read.total() == 70)
        assert other.recommend([["item001"]], k=1)
        assert sorted(read.values()) == [1, 70] and not any(call.done() for call in never)
        ended.set()


def test_a_connection_that_stays_at_its_limit_is_refused_counted_and_never_cancelled(
    folder, monkeypatch
):
    monkeypatch.setattr(crowding, "_PAUSE_SECONDS", 1e9)
    # A batch is never full: calls wait for the time, and the connection reaches its limit.
    waits = {"max_batch_size": 65, "batch_timeout_ms": 500, "queue_rows": 70}
    with running(folder, **waits) as server, predictions(server.target) as stub:
        calls = [stub.Predict.future(predict_request(), timeout=120) for _ in range(600)]
        codes = collections.Counter(call.code() for call in calls)
        counts = {s: counted(server, "requests", status=s) for s in ("OK", "UNAVAILABLE")}
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert counts == {status: codes[grpc.StatusCode[status]] for status in counts}


@pytest.mark.parametrize("protocol", ["target", "rest_url"])
def test_clients_try_again_what_a_full_queue_refuses(folder, protocol):
    async def burst(target):
        async with AsyncClient(target, oracle.MODEL, timeout_seconds=120) as client:
            calls = (client.recommend([["item001"]], k=1) for _ in range(80))
            return await asyncio.gather(*calls)

    # A batch waits for more rows than the queue holds: it is full, however fast the machine is.
    with running(folder, queue_rows=20, max_batch_size=64, batch_timeout_ms=200) as server:
        answers = asyncio.run(burst(getattr(server, protocol)))
        assert counted(server, "requests", status="UNAVAILABLE") > 0
    assert len(answers) == 80
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


def test_a_connection_has_few_watches_and_they_take_no_place_in_the_queue(folder):
    async def watch_and_ask(target):
        async with (
            grpc.aio.insecure_channel(target) as channel,
            AsyncClient(target, oracle.MODEL, timeout_seconds=120) as client,
        ):
            stub = health_pb2_grpc.HealthStub(channel)
            watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(300)]
            first = await asyncio.gather(*(w.read() for w in watches), return_exceptions=True)
            return first, await client.recommend([["item001"]], k=1)

    with running(folder, queue_rows=1) as server:
        first, [[best]] = asyncio.run(watch_and_ask(server.target))
    refused = [answer for answer in first if isinstance(answer, grpc.RpcError)]
    assert {error.code() for error in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert len(first) - len(refused) == MOST_WATCHES
    assert best.item_id


def test_who_watches_is_told_of_the_end_and_does_not_hold_it_up(folder):
    state = health_pb2.HealthCheckResponse
    services = {"": state.SERVING, "tensorflow.serving.ModelService": state.SERVING}
    services["no such"] = state.SERVICE_UNKNOWN
    with (
        running(folder, drain_seconds=1e6) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        requests = [health_pb2.HealthCheckRequest(service=name) for name in services]
        watches = [stub.Watch(request, timeout=120) for request in requests]
        assert [next(watch).status for watch in watches] == list(services.values())
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(requests[-1])
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        server.stop()
        last = [next(watch).status for watch in watches]
        assert last == [state.NOT_SERVING, state.NOT_SERVING, state.SERVICE_UNKNOWN]
        for watch in watches:
            with pytest.raises(grpc.RpcError):
                next(watch)
            assert watch.code() == grpc.StatusCode.UNAVAILABLE


def test_who_has_gone_before_a_refusal_leaves_no_traceback():
    async def abort(*_):
        raise grpc.aio.InternalError

    context = mock.Mock(abort=abort, peer=lambda: "a")
    services = GrpcServices(None, None, crowding.Crowding(2, 2), None, 1.0)
    [handler] = [h for h in services.handlers() if h.service_name().endswith("ModelService")]
    details = mock.Mock(method="/tensorflow.serving.ModelService/HandleReloadConfigRequest")
    call = handler.service(details).stream_unary
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call(None, context))


@pytest.mark.parametrize(
    "method",
    [
        "/tensorflow.serving.PredictionService/NoSuch",
        "/tensorflow.serving.SessionService/SessionRun",
        "/no.such.Service/Predict",
        "//",
        "/",
    ],
)
def test_unknown_methods_are_unimplemented_without_a_traceback(short_queue, method, caplog):
    with grpc.insecure_channel(short_queue.target) as channel:
        calls = (
            channel.unary_unary(method).future(b"", timeout=120),
            channel.stream_stream(method)(iter([b""] * 3), timeout=120),
        )
        for call in calls:
            assert call.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not caplog.records


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
