"""The private functions of gRPC are there and count what the server relies on."""

from __future__ import annotations

import asyncio

import grpc

from serving.grpc_internals import ReceivedCalls


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
