"""How long a light caller waits beside one that sends more than can be computed.

    python -m benchmarks.heavy_caller [--rates 0 2500 5000] [--rows 1] [--seconds 20]

Exports an untrained student, starts `kdsr serve` as a child process, and has another process send
calls by a clock over one connection, whether others were answered or not. Meanwhile this process
asks for one history at a time over a connection of its own. Neither tries again; a deadline is
20 seconds.

Prints one JSON line per rate: milliseconds of the light caller, and what became of the calls of
the heavy one.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np

from benchmarks.serving_latency import make_histories, served_student
from serving.grpc_calls import predict
from serving.queries import ModelRef, recommend

_PAUSE_SECONDS = 0.02
_TICK_SECONDS = 0.001
_DEADLINE_SECONDS = 20.0


def caller(target: str, items: int, rows: int) -> tuple[grpc.Channel, Callable, bytes]:
    """A connection of its own, its call, and a request."""
    call = predict(
        ModelRef("kdsr", None, None),
        recommend(make_histories(items, rows, 20), 10, with_seen=False),
    )
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    channel = grpc.insecure_channel(target, options)
    return channel, channel.unary_unary(call.method), call.request.SerializeToString()


def send_by_clock(target: str, items: int, rows: int, rate: float, seconds: float) -> dict:
    """Calls of the heavy caller; in a process of its own."""
    channel, call, content = caller(target, items, rows)
    started, calls = time.perf_counter(), []
    while (passed := time.perf_counter() - started) < seconds:
        while len(calls) < passed * rate:
            calls.append(call.future(content, timeout=_DEADLINE_SECONDS))
        time.sleep(_TICK_SECONDS)
    statuses = collections.Counter(sent.code().name for sent in calls)
    ended = time.perf_counter() - started
    channel.close()
    return {"sent": len(calls), "statuses": dict(statuses), "ended_seconds": round(ended, 1)}


def ask_one_at_a_time(target: str, items: int, seconds: float) -> dict:
    """Latencies of the light caller; a call that fails ends the benchmark."""
    channel, call, content = caller(target, items, 1)
    latencies, until = [], time.perf_counter() + seconds
    with channel:
        while (begun := time.perf_counter()) < until:
            call(content, timeout=_DEADLINE_SECONDS)
            latencies.append(1e3 * (time.perf_counter() - begun))
            time.sleep(_PAUSE_SECONDS)
    p50, p99, longest = np.percentile(latencies, (50, 99, 100)).round(1).tolist()
    return {"calls": len(latencies), "p50_ms": p50, "p99_ms": p99, "longest_ms": longest}


def measure(target: str, rate: float, arguments: argparse.Namespace) -> dict:
    """Both callers at once."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        pool.submit(os.getpid).result()  # it has started, and imported this module
        sizes = (target, arguments.items, arguments.rows)
        heavy = pool.submit(send_by_clock, *sizes, rate, arguments.seconds)
        light = ask_one_at_a_time(target, arguments.items, arguments.seconds)
        return {"rate": rate, "rows": arguments.rows, "light": light, "heavy": heavy.result()}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 2500.0, 5000.0])
    parser.add_argument("--rows", type=int, default=1, help="histories in a call of the heavy one")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args(argv)
    with served_student(arguments.items) as (_, _, address):
        for rate in arguments.rates:
            found = measure(address["target"], rate, arguments)
            found["load_average"] = round(os.getloadavg()[0], 1)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
