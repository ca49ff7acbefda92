"""What one HTTP connection may cost, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket

import pytest
import uvicorn

from serving.http_server import GuardedHttpProtocol, HttpLimits
from serving.listener import BoundedListener, most_connections
from serving.metrics import Metrics

pytestmark = pytest.mark.anyio

_SHORT = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def _echo(scope, receive, send):
    """Answers the path."""
    body = scope["path"].encode()
    size = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": size})
    await send({"type": "http.response.body", "body": body})


async def _length(scope, receive, send):
    """Answers the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    scope["path"] = str(size)
    await _echo(scope, receive, send)


@contextlib.asynccontextmanager
async def serving(application=_echo, idle_seconds=60.0, request_seconds=60.0, most=100):
    counts = Metrics("shop")
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    made = []

    def protocol():
        limits = HttpLimits(idle_seconds, request_seconds, counts)
        made.append(GuardedHttpProtocol(limits, config=config, server_state=state, app_state={}))
        return made[-1]

    with BoundedListener(most, counts, socket.AF_INET) as listener:
        listener.bind(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()
        server = await loop.create_server(protocol, sock=listener)
        async with server, asyncio.timeout(60):
            yield listener.getsockname(), made, counts


async def read_all(reader):
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: y\r\n", _SHORT % 1, b"\x16\x03\x01"]
)
async def test_a_silent_connection_is_closed(sent):
    async with serving(idle_seconds=0.2) as (address, _, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        found = await read_all(reader)  # it ends
        assert found.startswith(b"HTTP/1.1 200") == (sent == _SHORT % 1)
        writer.close()


async def test_slow_headers_do_not_keep_a_connection():
    async with serving(idle_seconds=0.3) as (address, _, _):
        reader, writer = await asyncio.open_connection(*address)
        ended = asyncio.ensure_future(read_all(reader))
        writer.write(b"GET / HTTP/1.1\r\n")
        while not ended.done():
            writer.write(b"x: y\r\n")
            await asyncio.sleep(0.02)
        assert await ended == b""


async def test_an_answer_that_nobody_takes_does_not_keep_a_connection():
    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"x" * 10**6, "more_body": True})

    async with serving(large, request_seconds=0.3) as (address, made, _):
        _, writer = await asyncio.open_connection(*address, limit=1)
        writer.write(_SHORT % 1)
        while not (made and made[0].transport and made[0].transport.is_closing()):
            await asyncio.sleep(0.02)
        writer.transport.abort()


async def test_pipelined_requests_are_parsed_as_they_are_answered():
    """One connection with megabytes of requests must leave the event loop to others."""
    number, most = 5_000, 0
    async with serving() as (address, made, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"".join(_SHORT % place for place in range(number)))

        async def watch():
            nonlocal most
            while True:
                most = max([most, *(len(protocol.pipeline) for protocol in made)])
                await asyncio.sleep(0)

        watching = asyncio.ensure_future(watch())
        for place in range(number):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            path = b"/%d" % place
            assert await reader.readexactly(len(path)) == path
        watching.cancel()
        assert 0 < most < 300
        writer.close()


async def test_a_body_comes_whole_however_it_is_cut_and_another_request_follows():
    body = b"x" * 3_000_000
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
    async with serving(_length) as (address, _, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write((head % len(body) + body) * 2 + head % 5 + b"abcde")
        for expected in (b"3000000", b"3000000", b"5"):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(expected)) == expected
        writer.close()


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_an_offered_protocol_is_ignored_and_the_body_comes(protocol):
    head = b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUPGRADE: %s\r\nContent-Length: 5\r\n\r\n"
    async with serving(_length) as (address, _, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write((head % protocol + b"abcde") * 2)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(1) == b"5"
        writer.close()


async def test_what_is_no_http_is_counted_and_logged_once(caplog):
    async with serving() as (address, _, counts):
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"\xff\xfe\r\n\r\n")
            assert (await read_all(reader)).startswith(b"HTTP/1.1 400")
            writer.close()
        assert b'malformed_requests_total{model_name="shop",protocol="rest"} 20.0' in counts.page()
    assert len([r for r in caplog.records if "malformed" in r.getMessage()]) == 1


async def test_connections_beyond_the_limit_are_refused_and_room_comes_back():
    async with serving(most=2) as (address, _, counts):
        kept = [await asyncio.open_connection(*address) for _ in range(2)]
        reader, _ = await asyncio.open_connection(*address)
        refused = await read_all(reader)
        assert refused.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in refused
        assert b'refused_connections_total{model_name="shop",protocol="rest"} 1.0' in counts.page()
        kept[0][1].close()
        await kept[0][1].wait_closed()
        found = b""
        while not found.startswith(b"HTTP/1.1 200"):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            found = await read_all(reader)
            writer.close()


def test_without_descriptors_connections_are_shed_with_one_line(caplog):
    """Run apart from asyncio: the limit holds for the whole process."""
    with BoundedListener(1000, Metrics("shop"), socket.AF_INET) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            with pytest.raises(OSError) as nothing:
                os.open(os.devnull, os.O_RDONLY)
            assert nothing.value.errno == errno.EMFILE
            with pytest.raises(BlockingIOError):
                listener.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for client in clients:
            with client:
                client.settimeout(60)
                assert client.recv(100).startswith(b"HTTP/1.1 503")
    assert len([r for r in caplog.records if "no more files" in r.getMessage()]) == 1


def test_both_protocols_leave_descriptors_for_files(monkeypatch):
    def limited(soft):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
        return most_connections()

    assert [limited(soft) for soft in (64, 256, 1024, resource.RLIM_INFINITY)] == [
        16, 64, 448, 32704,
    ]  # fmt: skip
