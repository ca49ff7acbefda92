"""Latency and throughput of the local server over gRPC and REST, beside the SavedModel alone.

    python -m benchmarks.serving_latency [--variant exact] [--seconds 10] [--markdown]

Exports an untrained student, starts `kdsr serve` as a child process, and asks for
recommendations from this process with the asyncio client, one history of 1 to 50 items a
request. In a *closed loop* a number of clients each send their next request when the last was
answered. In an *open loop* requests start by a clock, whether others were answered or not,
and a latency counts from the time a request was due; the clock waits with `select`, because
`epoll`, asyncio's default, rounds a wait up to whole milliseconds. `in process` calls the
loaded SavedModel from as many threads, in a process without a server.

Prints one JSON line. `p50_ms`, `p95_ms` and `p99_ms` are those of gRPC at `--rate` requests
a second, `requests_per_second` is the highest tried rate that gRPC sustained: at least 98 %
of the requests were answered in the time, none failed, and p99 stayed below a
second. All measurements, REST's too, stand under `measurements`; `server_cpu_ms` and
`client_cpu_ms` are processor time per request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil

from benchmarks.processes import alone
from kdsr_tf import artifacts, schema, stages
from kdsr_tf.artifacts import MANIFEST, Manifest, versions
from kdsr_tf.config import Config, dump_config, load_config
from serving.async_client import AsyncClient
from serving.queries import QueryError

VERSION = 1
HISTORIES = 512
WARM_UP_REQUESTS = 50
START_SECONDS = 900.0
SUSTAINED_SHARE = 0.98
SUSTAINED_P99_MS = 1000.0
RATE_STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
"""Multiples of `--rate` that are tried until one is not sustained."""

Latencies = Sequence[float]


def item_id(number: int) -> str:
    """Id of an item, as long as those of a shop."""
    return f"B{number:09d}"


def make_histories(num_items: int, number: int, longest: int) -> list[list[str]]:
    """Histories whose items fall off like popularity."""
    rng = np.random.default_rng(0)
    items = np.minimum(rng.zipf(1.2, (number, longest)), num_items)
    lengths = rng.integers(1, longest + 1, number)
    return [
        [item_id(item) for item in row[:n]] for row, n in zip(items.tolist(), lengths, strict=True)
    ]


def export(config: Config, num_items: int, variant: str) -> None:
    """Save one version of one variant, as `kdsr export` lays it out; in a process of its own."""
    import kdsr_tf.export  # noqa: F401  (before TensorFlow)

    # isort: split
    import tensorflow as tf

    from kdsr_tf.export import deployment, indexes
    from kdsr_tf.export.signatures import ServingModule
    from kdsr_tf.methods.folding import fold
    from kdsr_tf.methods.student import Student

    length = config.windows.max_length
    student = Student(num_items, config.model.dim, length, modalities=config.modalities)
    vectors = np.asarray(student.item_vectors(), np.float32)[1:]
    users = np.random.default_rng(1).integers(1, num_items + 1, (64, length))
    queries = np.asarray(student.user_vectors(users), np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def index(vectors: np.ndarray, queries: np.ndarray, retrieve: int) -> indexes.Index:
        retrieve = min(retrieve, num_items)
        if variant == "exact":
            return indexes.exact_index(vectors, retrieve)
        depths = np.full(len(queries), retrieve)
        return indexes.tuned_scann_index(vectors, queries, depths, retrieve, 0.99)[0]

    k = config.export.k
    module = ServingModule(
        fold(student),
        index(vectors, queries, k + config.export.max_exclusions),
        index(unit, unit[:64], k + 1),
        item_ids=[item_id(number) for number in range(1, num_items + 1)],
        train_counts=np.arange(num_items, 0, -1),
        k=k,
        max_length=length,
    )
    root = stages.location(config, "serving_model")
    with artifacts.committing(root, Manifest(artifact="serving_model", fingerprint="")) as target:
        folder = os.path.join(target, variant, str(VERSION))
        options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
        tf.saved_model.save(module, folder, signatures=module.signatures(), options=options)
        warm_up = make_histories(num_items, 8, length)
        deployment.write_warm_up(folder, config.serve.model_name, warm_up)
        with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
            file.write("{}")


def call_in_process(
    folder: str, histories: list[list[str]], clients: Sequence[int], seconds: float
) -> list[dict]:
    """Closed loops of threads that call the SavedModel; in a process of its own."""
    import tensorflow as tf

    if os.path.basename(os.path.dirname(folder)) == "scann":
        import scann  # noqa: F401  (registers the operations)
    signature = tf.saved_model.load(folder).signatures[schema.SIGNATURE_RECOMMEND]

    def call(history: list[str]) -> None:
        signature(history=tf.constant([["", *history]]))[schema.ITEMS].numpy()

    for history in histories[:WARM_UP_REQUESTS]:
        call(history)
    measured = []
    for number in clients:
        latencies: list[float] = []
        cpu, started = time.process_time(), time.perf_counter()

        def loop(
            first: int, until: float = started + seconds, found: list[float] = latencies
        ) -> None:
            place = first
            while (begun := time.perf_counter()) < until:
                call(histories[place % len(histories)])
                found.append(time.perf_counter() - begun)
                place += 1

        threads = [threading.Thread(target=loop, args=(31 * n,)) for n in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = time.process_time() - cpu
        figures = summarise(latencies, time.perf_counter() - started)
        figures["server_cpu_ms"] = round(1e3 * spent / len(latencies), 2)
        measured.append({"protocol": "in process", "load": load_name(number), **figures})
    return measured


@contextlib.contextmanager
def served(config: Config) -> Iterator[tuple[psutil.Process, dict]]:
    """`kdsr serve` as a child; yields it and what it announces of itself."""
    settings = os.path.join(config.workdir, "config.yaml")
    with open(settings, "w", encoding="utf-8") as file:
        file.write(dump_config(config))
    command = [sys.executable, "-m", "kdsr_tf", "serve", "--config", settings]
    address = os.path.join(config.run_directory, "server.json")
    until = time.monotonic() + START_SECONDS
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stderr=said) as child:
        try:
            while not os.path.exists(address):
                if child.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    raise SystemExit(f"{' '.join(command)} did not start:\n{said.read()}")
                time.sleep(0.1)
            with open(address, encoding="utf-8") as file:
                yield psutil.Process(child.pid), json.load(file)
        finally:
            child.terminate()


@contextlib.contextmanager
def served_student(num_items: int) -> Iterator[tuple[Config, psutil.Process, dict]]:
    """An untrained student of its own folder, as `exact`; yields what `served` does, too."""
    with tempfile.TemporaryDirectory() as workdir:
        overrides = ["serve.grpc_port=0", "serve.rest_port=0", "serve.variant=exact"]
        config = load_config(overrides=overrides, workdir=workdir)
        alone(export, config, num_items, "exact")
        with served(config) as (server, address):
            yield config, server, address


def summarise(latencies: Latencies, seconds: float) -> dict[str, float]:
    """Percentiles of the answers in milliseconds, their rate, and how many calls failed."""
    answered = [latency for latency in latencies if latency < math.inf]
    p50, p95, p99 = np.percentile(answered, (50, 95, 99)) * 1e3
    return {
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "requests_per_second": round(len(answered) / seconds, 1),
        "failed": len(latencies) - len(answered),
    }


def load_name(clients: int) -> str:
    """How a closed loop is called in the results."""
    return f"{clients} client{'s' if clients > 1 else ''}"


async def closed_loop(
    client: AsyncClient, histories: list[list[str]], clients: int, seconds: float
) -> tuple[list[float], float]:
    """Latencies of some clients that wait for their answers, and the seconds it took."""
    latencies: list[float] = []
    started = time.perf_counter()

    async def loop(place: int) -> None:
        while (begun := time.perf_counter()) < started + seconds:
            await client.recommend([histories[place % len(histories)]])
            latencies.append(time.perf_counter() - begun)
            place += 1

    await asyncio.gather(*(loop(31 * number) for number in range(clients)))
    return latencies, time.perf_counter() - started


def exact_loop() -> asyncio.AbstractEventLoop:
    """An event loop that wakes within microseconds of the time asked for."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def open_loop(
    client: AsyncClient, histories: list[list[str]], rate: float, seconds: float
) -> tuple[list[float], float]:
    """Latencies of requests that start by the clock, and the seconds to the last answer.

    The latency of a request that failed is infinite.
    """
    started = time.perf_counter()

    async def ask(due: float, history: list[str]) -> float:
        await asyncio.sleep(due - time.perf_counter())
        try:
            await client.recommend([history])
        except QueryError:
            return math.inf
        return time.perf_counter() - due

    calls = (
        ask(started + number / rate, histories[number % len(histories)])
        for number in range(round(rate * seconds))
    )
    return await asyncio.gather(*calls), time.perf_counter() - started


async def measure_protocol(
    protocol: str,
    target: str,
    server: psutil.Process,
    histories: list[list[str]],
    arguments: argparse.Namespace,
) -> tuple[list[dict], float]:
    """All loads over one protocol, and the highest rate that was sustained."""
    measured: list[dict] = []

    def processor() -> tuple[float, float]:
        return sum(server.cpu_times()[:2]), time.process_time()

    async def measure(load: str, loop: Callable[..., Any], amount: float) -> dict:
        before = processor()
        latencies, seconds = await loop(client, histories, amount, arguments.seconds)
        spent = 1e3 * np.subtract(processor(), before) / len(latencies)
        measured.append(
            {
                "protocol": protocol,
                "load": load,
                **summarise(latencies, seconds),
                "server_cpu_ms": round(float(spent[0]), 2),
                "client_cpu_ms": round(float(spent[1]), 2),
            }
        )
        return measured[-1]

    sustained = 0.0
    async with AsyncClient(target, timeout_seconds=arguments.timeout_seconds) as client:
        await client.wait_until_ready(START_SECONDS)
        for history in histories[:WARM_UP_REQUESTS]:
            await client.recommend([history])
        for clients in arguments.clients:
            await measure(load_name(clients), closed_loop, clients)
        for step in RATE_STEPS:
            rate = step * arguments.rate
            found = await measure(f"{rate:g}/s", open_loop, rate)
            kept_up = found["requests_per_second"] >= SUSTAINED_SHARE * rate
            if found["failed"] or not kept_up or found["p99_ms"] > SUSTAINED_P99_MS:
                break
            sustained = rate
    return measured, sustained


def measure(arguments: argparse.Namespace) -> dict:
    """The result line."""
    with tempfile.TemporaryDirectory() as workdir:
        overrides = ["serve.grpc_port=0", "serve.rest_port=0", *arguments.set]
        config = load_config(
            overrides=[*overrides, f"serve.variant={arguments.variant}"], workdir=workdir
        )
        alone(export, config, arguments.items, arguments.variant)
        histories = make_histories(arguments.items, HISTORIES, config.windows.max_length)
        folder = os.path.join(
            stages.location(config, "serving_model"), arguments.variant, str(VERSION)
        )
        rows = alone(call_in_process, folder, histories, arguments.clients, arguments.seconds)
        sustained = {}
        with served(config) as (server, address):
            targets = {"gRPC": address["target"], "REST": address["rest_url"]}
            for protocol, target in targets.items():
                measuring = measure_protocol(protocol, target, server, histories, arguments)
                with asyncio.Runner(loop_factory=exact_loop) as runner:
                    measured, sustained[protocol] = runner.run(measuring)
                rows += measured
    at_rate = next(
        row
        for row in rows
        if row["protocol"] == "gRPC" and row["load"] == f"{RATE_STEPS[0] * arguments.rate:g}/s"
    )
    return {
        **{name: at_rate.get(name) for name in ("p50_ms", "p95_ms", "p99_ms")},
        "requests_per_second": sustained["gRPC"],
        "rest_requests_per_second": sustained["REST"],
        **vars(arguments),
        "cores": len(os.sched_getaffinity(0)),
        "measurements": rows,
        "versions": versions(),
    }


def markdown(result: dict) -> str:
    """A table for docs/performance.md."""
    lines = [
        "| protocol | load | p50 ms | p95 ms | p99 ms | requests/s | server CPU | client CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["measurements"]:
        names = ("p50_ms", "p95_ms", "p99_ms", "requests_per_second", "server_cpu_ms")
        figures = [row.get(name, "") for name in (*names, "client_cpu_ms")]
        lines.append(f"| {' | '.join(map(str, (row['protocol'], row['load'], *figures)))} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--variant", choices=("scann", "exact"), default="scann")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--timeout-seconds", type=float, default=10.0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--markdown", action="store_true", help="a table instead of JSON")
    arguments = parser.parse_args(argv)
    result = measure(arguments)
    print(markdown(result) if arguments.markdown else json.dumps(result))


if __name__ == "__main__":
    main()
