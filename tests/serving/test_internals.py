"""Private names of TensorFlow and of gRPC are there and do what the server relies on."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.internals import ReceivedCalls, callable_of


class _Public:
    """A session as it would be without the private name."""

    def __init__(self, session):
        self.make_callable = session.make_callable


@pytest.mark.parametrize("is_private", [True, False])
def test_both_callables_take_arrays_in_order(is_private):
    with tf.Graph().as_default() as graph:
        x, y = (tf.compat.v1.placeholder(tf.float32, name=name) for name in "xy")
        tf.subtract(x, y, name="z"), tf.add(x, y, name="sum")
    with tf.compat.v1.Session(graph=graph) as session:
        assert hasattr(session, "_make_callable_from_options")
        call = callable_of(
            session if is_private else _Public(session), ["x:0", "y:0"], ["z:0", "sum:0"]
        )
        found = call(np.float32([5, 7]), np.float32([1, 2]))
    assert [values.tolist() for values in found] == [[4, 5], [6, 9]]


def test_without_the_functions_there_are_none(monkeypatch):
    monkeypatch.delattr("grpc._cython.cygrpc.channelz_get_servers")
    assert ReceivedCalls().number() == 0


def test_calls_count_from_their_arrival_to_their_end():
    """Also those that Python has not taken."""

    async def count():
        ending = asyncio.Event()

        async def answer(_, context):
            await ending.wait()
            return b""

        server = grpc.aio.server(options=[("grpc.enable_channelz", 1)])
        received = ReceivedCalls()
        handler = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", {"M": handler})])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        found = [received.number()]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = [channel.unary_unary("/s/M")(b"") for _ in range(20)]
            while received.number() < 20:
                await asyncio.sleep(0.01)
            found.append(received.number())
            ending.set()
            await asyncio.gather(*calls)
            while received.number():
                await asyncio.sleep(0.01)
        await server.stop(None)
        return found

    assert asyncio.run(asyncio.wait_for(count(), 120)) == [0, 20]
