"""Retries, deadlines and encryption, against servers that fail as they are told."""

from __future__ import annotations

import asyncio
import socket

import grpc
import numpy as np
import pytest

from serving.async_client import AsyncClient
from serving.client import Client, QueryError, Tls
from tests.serving.certificates import write_certificates
from tests.serving.unreliable import ANSWER, Plan, grpc_server, http_server

_Code = grpc.StatusCode


@pytest.fixture(params=[Client, AsyncClient], ids=["threads", "asyncio"])
def embed(request):
    """Calls `embed` once or more over one client of either kind."""

    def ask(target, times=1, **options):
        async def run():
            async with AsyncClient(target, **options) as client:
                return [await client.embed([["a"]]) for _ in range(times)][-1]

        if request.param is AsyncClient:
            return asyncio.run(run())
        with Client(target, **options) as client:
            return [client.embed([["a"]]) for _ in range(times)][-1]

    return ask


@pytest.fixture(params=[grpc_server, http_server], ids=["gRPC", "REST"])
def server(request):
    return request.param


def test_an_unavailable_server_is_asked_again_over_the_same_connection(server, embed):
    plan = Plan(failures=2)
    with server(plan) as target:
        np.testing.assert_array_equal(embed(target, times=3), ANSWER)
    assert plan.calls == 5
    assert len(plan.peers) == 1


@pytest.mark.parametrize("hint", ["60", "soon"])
def test_a_server_says_when_to_come_again(embed, hint):
    """A call whose deadline is before that time fails without a second attempt."""
    plan = Plan(failures=1, retry_after=hint)
    with http_server(plan) as target:
        if hint == "soon":
            np.testing.assert_array_equal(embed(target), ANSWER)
        else:
            with pytest.raises(QueryError, match="on purpose") as caught:
                embed(target, timeout_seconds=20)
            assert caught.value.code is _Code.UNAVAILABLE
            assert caught.value.retry_seconds == 60
    assert plan.calls == (2 if hint == "soon" else 1)


def test_servers_behind_one_name_share_the_calls(embed):
    first, second = Plan(), Plan()
    with grpc_server(first) as one, grpc_server(second) as other:
        embed(f"ipv4:{one},{other}", times=20)
    assert first.calls + second.calls == 20
    assert min(first.calls, second.calls) > 5


def test_attempts_are_bounded(server, embed):
    plan = Plan(failures=100)
    with server(plan) as target, pytest.raises(QueryError, match="on purpose") as caught:
        embed(target)
    assert caught.value.code is _Code.UNAVAILABLE
    assert plan.calls == 4


@pytest.mark.parametrize(
    "code",
    [_Code.INVALID_ARGUMENT, _Code.NOT_FOUND, _Code.INTERNAL, _Code.RESOURCE_EXHAUSTED],
    ids=lambda code: code.name,
)
def test_no_other_failure_is_tried_again(server, embed, code):
    plan = Plan(failures=1, code=code)
    with server(plan) as target, pytest.raises(QueryError, match="on purpose") as caught:
        embed(target)
    assert caught.value.code is code
    assert plan.calls == 1


def test_the_deadline_ends_a_call_however_the_server_hangs(server, embed):
    plan = Plan(hangs=True)
    with server(plan) as target, pytest.raises(QueryError, match=r"0\.2 s") as caught:
        embed(target, timeout_seconds=0.2)
    assert caught.value.code is _Code.DEADLINE_EXCEEDED
    assert plan.calls == 1


def test_a_refused_connection_is_unavailable(embed):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        for refused in (target, f"http://{target}"):
            with pytest.raises(QueryError, match="kdsr serve") as caught:
                embed(refused)
            assert caught.value.code is _Code.UNAVAILABLE


def test_closing_twice_is_closing_once():
    for target in ("127.0.0.1:9", "http://127.0.0.1:9"):
        with Client(target) as client:
            client.close()


def test_an_answer_that_is_no_json_is_named(embed):
    with (
        http_server(Plan(body=b"<html>a proxy")) as target,
        pytest.raises(QueryError, match="<html>a proxy"),
    ):
        embed(target)


def test_both_sides_of_an_encrypted_connection_are_checked(server, embed, tmp_path):
    files, another = write_certificates(tmp_path / "a"), write_certificates(tmp_path / "b")
    authority, certificate, key = (files[name] for name in ("authority", "certificate", "key"))
    with server(Plan(), files) as target:
        np.testing.assert_array_equal(embed(target, tls=Tls(authority, certificate, key)), ANSWER)
        for refused in (Tls(another["authority"], certificate, key), Tls(authority)):
            with pytest.raises(QueryError):
                embed(target, tls=refused, timeout_seconds=2.0)
