"""Malformed requests to the local server: it must refuse each, and go on answering right.

    python -m benchmarks.fuzz_serving [--requests 50000] [--seed 0]

Exports an untrained student, starts `kdsr serve` as a child process, and sends it requests over
gRPC, REST and plain sockets, a number at a time, from loopback. Request n of a seed is always
the same; `--only n` sends that one alone and prints it. After every thousand, a right request
over each protocol must get its right answer.

Prints one JSON line: how many requests got which status, and the server's memory, descriptors
and threads before and after. The exit status is 1 if a request got a status that says that the
server is at fault, got no answer at all, or if the server stopped answering.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import random
import sys
import time
from collections.abc import Sequence

import grpc
import psutil
from google.protobuf.message import DecodeError

from benchmarks.mutations import grpc_request, http2_bytes, rest_request
from benchmarks.serving_latency import item_id, make_histories, served_student
from serving.async_client import AsyncClient
from serving.grpc_calls import PREDICTION_SERVICE

_CALLER = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}
_FINE = {"OK", "UNAVAILABLE", *_CALLER}
_FINE_REST = {"100", "200", "400", "404", "408", "413", "501", "503"}
_UNFINISHED = "unfinished"
"""A request whose end never comes: the server waits, and the sender leaves."""

_REST_SECONDS = 0.5
_SECONDS = 60.0


class Fuzzer:
    """Sends requests and keeps count.

    Args:
        address: As `kdsr serve` announces it.
        seed: Seed of all requests.
        histories: Histories of right requests.
        items: Ids that the server knows.
    """

    def __init__(
        self, address: dict, seed: int, histories: list[list[str]], items: list[str]
    ) -> None:
        self._address = address
        self._seed = seed
        self._histories = histories
        self._items = items
        self._channel = grpc.aio.insecure_channel(address["target"])
        self._call = self._channel.unary_unary(f"/{PREDICTION_SERVICE}/Predict")
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    async def send(self, place: int) -> None:
        """Send one request and judge its status."""
        number = random.Random(f"{self._seed}:{place}")
        name = self._address["model_name"]
        kind = number.random()
        if kind < 0.01:
            protocol, content = "http2", http2_bytes(number)
            status = await self._http(self._address["target"], content)
            fine = True
        elif kind < 0.7:
            protocol, content = "grpc", grpc_request(number, name, self._items)
            status = await self._grpc(content)
            fine = status in _FINE or (status == "INTERNAL" and not _is_request(content))
        else:
            protocol, content = "rest", rest_request(number, name, self._items)
            status = await self._http(self._address["rest_url"].partition("//")[2], content)
            fine = status in _FINE_REST or status == _UNFINISHED
        self.counts[f"{protocol} {status}"] += 1
        if not fine:
            self.wrong.append(f"{protocol} {status}: --seed {self._seed} --only {place}")

    async def answers(self) -> list:
        """What right requests get, over both protocols."""
        found = []
        for target in (self._address["target"], self._address["rest_url"]):
            async with AsyncClient(
                target, self._address["model_name"], timeout_seconds=_SECONDS
            ) as client:
                found.append(await client.recommend(self._histories, k=5))
                found.append(await client.score(self._histories, self._histories))
        return [
            [[(best.item_id, round(best.score, 3)) for best in row] for row in rows]
            if index % 2 == 0
            else [[round(value, 3) for value in row] for row in rows]
            for index, rows in enumerate(found)
        ]

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def _grpc(self, content: bytes) -> str:
        try:
            await self._call(content, timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async def _http(self, address: str, content: bytes) -> str:
        """The status of the first answer on a connection of its own."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            async with asyncio.timeout(_REST_SECONDS):
                writer.write(content)
                line = await reader.readline()
        except TimeoutError:
            return _UNFINISHED
        except ConnectionError:
            return "closed"
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return line.split(b" ")[1].decode() if line.startswith(b"HTTP/1.1 ") else "closed"


def _is_request(content: bytes) -> bool:
    """Whether TensorFlow Serving's own message takes the bytes; the client's takes a few more."""
    from tensorflow_serving.apis import predict_pb2  # imports TensorFlow

    try:
        predict_pb2.PredictRequest.FromString(content)
    except DecodeError:
        return False
    return True


def _size(server: psutil.Process) -> dict[str, float]:
    return {
        "rss_mb": round(server.memory_info().rss / 1e6),
        "descriptors": server.num_fds(),
        "threads": server.num_threads(),
    }


async def fuzz(fuzzer: Fuzzer, arguments: argparse.Namespace) -> None:
    """Send all requests; what goes wrong stands in `fuzzer.wrong`."""
    right = await fuzzer.answers()
    for start in range(0, arguments.requests, arguments.check_every):
        places = iter(range(start, min(start + arguments.check_every, arguments.requests)))

        async def sender(places: collections.abc.Iterator[int] = places) -> None:
            for place in places:
                await fuzzer.send(place)

        await asyncio.gather(*(sender() for _ in range(arguments.senders)))
        if await fuzzer.answers() != right:
            fuzzer.wrong.append(f"a wrong answer after the requests from {start}")
        if fuzzer.wrong:
            break


async def run(address: dict, arguments: argparse.Namespace) -> Fuzzer:
    """Everything that is sent."""
    histories = make_histories(arguments.items, 8, 20)
    items = ["", "unknown", *map(item_id, range(1, arguments.items + 1))]
    fuzzer = Fuzzer(address, arguments.seed, histories, items)
    try:
        if arguments.only is None:
            await fuzz(fuzzer, arguments)
        else:
            await fuzzer.send(arguments.only)
    finally:
        await fuzzer.close()
    return fuzzer


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, send, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the one request to send")
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--senders", type=int, default=32, help="requests at once")
    parser.add_argument("--check-every", type=int, default=1000)
    arguments = parser.parse_args(argv)
    with served_student(arguments.items) as (_, server, address):
        before, started = _size(server), time.monotonic()
        fuzzer = asyncio.run(run(address, arguments))
        seconds = time.monotonic() - started
        result = {
            "requests": fuzzer.counts.total(),
            "seconds": round(seconds, 1),
            "statuses": dict(sorted(fuzzer.counts.items())),
            "before": before,
            "after": _size(server),
            "wrong": fuzzer.wrong[:20],
        }
    print(json.dumps(result))
    sys.exit(1 if fuzzer.wrong else 0)


if __name__ == "__main__":
    main()
