"""A long load on the local server, with versions that change and clients that are killed.

    python -m benchmarks.soak --seconds 3600 [--share 0.7]

Exports an untrained student and starts `kdsr serve` as a child process. First it measures how
many calls a second the server answers over gRPC and REST at once. Then it sends `--share` of
that by a clock, from this process, with the product's own asyncio client; while 48 calls are
under way, because other work has taken the processors, calls are held back: more would be an
overload, which the server refuses. Meanwhile a new version appears every `--swap-seconds` and
the oldest goes, and every second a further client is killed while its calls are under way and
its REST request is half sent. Every answer is compared with the one before the load: all
versions are copies of one.

Prints a table, a row per `--sample-seconds`, and what failed. The exit status is 1 if a call
failed or was answered wrongly, a version did not take over, or the server has grown: between
the second and the last quarter of the time, by more than 5 % and 32 MB of memory, 8
descriptors or 4 threads. The least of a quarter counts: two versions are loaded now and then.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import numpy as np
import psutil

from benchmarks.serving_latency import make_histories, served_student
from kdsr_tf import stages
from serving.async_client import AsyncClient
from serving.queries import QueryError

_HISTORIES = 64
_DEADLINE_SECONDS = 30.0
_TAKE_OVER_SECONDS = 300.0
_REST_SHARE = 0.25
_CAPACITY_CLIENTS = {"gRPC": 12, "REST": 4}
_KEPT_VERSIONS = 2
_MOST_UNDER_WAY = 48
_COLUMNS = (
    "seconds", "calls", "held back", "failed", "p50 ms", "p99 ms", "RSS MB", "descriptors",
    "threads",
)  # fmt: skip
_GROWTH = {"RSS MB": 32.0, "descriptors": 8.0, "threads": 4.0}
_GROWTH_SHARE = {"RSS MB": 0.05}


@dataclasses.dataclass
class Calls:
    """What became of the calls of one interval, and of all that failed."""

    latencies: list[float] = dataclasses.field(default_factory=list)
    failures: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    total: int = 0
    held_back: int = 0


class Soak:
    """One server under load.

    Args:
        server: Its process.
        address: As `kdsr serve` announces it.
        folder: Folder of its versions.
        arguments: Arguments of the command line.
    """

    def __init__(
        self, server: psutil.Process, address: dict, folder: str, arguments: argparse.Namespace
    ) -> None:
        self._server = server
        self._address = address
        self._targets = {"gRPC": address["target"], "REST": address["rest_url"]}
        self._folder = folder
        self._arguments = arguments
        self._histories = make_histories(arguments.items, _HISTORIES, 20)
        self._expected: list = []
        self._clients: dict[str, AsyncClient] = {}
        self.calls = Calls()
        self.rows: list[dict[str, float]] = []
        self.swapped = 0

    async def run(self) -> None:
        """Measure the capacity, then load the server for the time."""
        async with contextlib.AsyncExitStack() as stack:
            for protocol, target in self._targets.items():
                client = AsyncClient(target, timeout_seconds=_DEADLINE_SECONDS)
                self._clients[protocol] = await stack.enter_async_context(client)
            client = self._clients["gRPC"]
            self._expected = [_ids(await client.recommend([h])) for h in self._histories]
            rate = self._arguments.rate or self._arguments.share * await self._capacity()
            print(f"{rate:.0f} calls a second for {self._arguments.seconds:g} s", flush=True)
            print(_line(_COLUMNS), flush=True)
            until = time.monotonic() + self._arguments.seconds
            await stack.enter_async_context(_killed_clients(self._address, self._histories[0]))
            await asyncio.gather(
                self._load(rate, until),
                self._every(self._arguments.sample_seconds, until, self._sample),
                self._every(self._arguments.swap_seconds, until, self._swap),
            )

    async def _capacity(self) -> float:
        """Calls a second of clients of both protocols that wait for their answers."""
        until = time.monotonic() + self._arguments.capacity_seconds
        before = self.calls.total

        async def loop(protocol: str, place: int) -> None:
            while time.monotonic() < until:
                await self._call(protocol, place)
                place += 1

        loops = [
            loop(protocol, 7 * number)
            for protocol, clients in _CAPACITY_CLIENTS.items()
            for number in range(clients)
        ]
        await asyncio.gather(*loops)
        return (self.calls.total - before) / self._arguments.capacity_seconds

    async def _load(self, rate: float, until: float) -> None:
        """Start calls by the clock, whether others were answered or not."""
        started, under_way = time.monotonic(), set()
        for number in itertools.count():
            due = started + number / rate
            if due > until:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(under_way) >= _MOST_UNDER_WAY:
                self.calls.held_back += 1
                continue
            protocol = "REST" if number % round(1 / _REST_SHARE) == 0 else "gRPC"
            task = asyncio.create_task(self._call(protocol, number))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _call(self, protocol: str, number: int) -> None:
        place, begun = number % _HISTORIES, time.perf_counter()
        self.calls.total += 1
        try:
            found = await self._clients[protocol].recommend([self._histories[place]])
        except QueryError as error:
            self.calls.failures[f"{protocol} {error.code.name}: {error}"[:200]] += 1
            return
        self.calls.latencies.append(1e3 * (time.perf_counter() - begun))
        if _ids(found) != self._expected[place]:
            self.calls.failures[f"{protocol}: a wrong answer"] += 1

    async def _every(
        self, seconds: float, until: float, function: Callable[[], Awaitable[None]]
    ) -> None:
        due = until - self._arguments.seconds + seconds
        while due <= until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await function()
            due = max(due + seconds, time.monotonic())

    async def _sample(self) -> None:
        latencies, self.calls.latencies = self.calls.latencies, []
        p50, p99 = np.percentile(latencies, (50, 99)) if latencies else (np.nan, np.nan)
        with self._server.oneshot():
            figures = (
                (len(self.rows) + 1) * self._arguments.sample_seconds,
                self.calls.total,
                self.calls.held_back,
                self.calls.failures.total(),
                round(float(p50), 1),
                round(float(p99), 1),
                round(self._server.memory_info().rss / 1e6),
                self._server.num_fds(),
                self._server.num_threads(),
            )
        self.rows.append(dict(zip(_COLUMNS, figures, strict=True)))
        print(_line(figures), flush=True)

    async def _swap(self) -> None:
        """A copy of the newest version appears whole; old ones go."""
        versions = sorted(int(name) for name in os.listdir(self._folder) if name.isdecimal())
        newest = versions[-1]
        incoming = os.path.join(self._folder, "incoming")
        await asyncio.to_thread(shutil.copytree, os.path.join(self._folder, str(newest)), incoming)
        os.rename(incoming, os.path.join(self._folder, str(newest + 1)))
        until = time.monotonic() + _TAKE_OVER_SECONDS
        while (await self._clients["gRPC"].metadata()).version != newest + 1:
            if time.monotonic() > until:
                self.calls.failures[f"version {newest + 1} does not take over"] += 1
                return
            await asyncio.sleep(0.2)
        for version in versions[: 1 - _KEPT_VERSIONS]:
            shutil.rmtree(os.path.join(self._folder, str(version)))
        self.swapped += 1

    def faults(self) -> list[str]:
        """What failed and what has grown."""
        found = [f"{times} x {what}" for what, times in self.calls.failures.most_common()]
        quarter = len(self.rows) // 4
        if not quarter:
            return [*found, "The time is too short to see growth: take at least 4 samples."]
        for name, most in _GROWTH.items():
            before = min(row[name] for row in self.rows[quarter : 2 * quarter])
            after = min(row[name] for row in self.rows[-quarter:])
            if after - before > max(most, _GROWTH_SHARE.get(name, 0.0) * before):
                found.append(f"{name} grew from {before:g} to {after:g}")
        return found


@contextlib.asynccontextmanager
async def _killed_clients(address: dict, history: list[str]) -> AsyncIterator[None]:
    """A process that starts and kills clients."""
    arguments = (address["target"], address["rest_url"], address["model_name"], *history)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.killed_clients", *arguments, stdout=subprocess.PIPE
    )
    try:
        yield
    finally:
        process.terminate()
        said, _ = await process.communicate()
        print(f"{len(said.splitlines())} clients killed")


def _ids(answers: list) -> list[list[str]]:
    return [[found.item_id for found in row] for row in answers]


def _line(values: Sequence[object]) -> str:
    return " ".join(f"{value!s:>11}" for value in values)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, load, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--share", type=float, default=0.7, help="of the measured capacity")
    parser.add_argument("--rate", type=float, help="calls a second, instead of a share")
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--swap-seconds", type=float, default=60.0)
    parser.add_argument("--sample-seconds", type=float, default=30.0)
    parser.add_argument("--capacity-seconds", type=float, default=15.0)
    arguments = parser.parse_args(argv)
    with served_student(arguments.items) as (config, server, address):
        folder = os.path.join(stages.location(config, "serving_model"), "exact")
        soak = Soak(server, address, folder, arguments)
        asyncio.run(soak.run())
    faults = soak.faults()
    print(f"{soak.calls.total} calls, {soak.swapped} swaps")
    print("\n".join(faults or ["No call failed and nothing has grown."]))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
