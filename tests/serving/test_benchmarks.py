"""The benchmarks of serving, on tiny sizes."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import subprocess
import sys

import pytest
from google.protobuf.message import DecodeError

from benchmarks.mutations import grpc_request, rest_request
from benchmarks.soak import Soak
from serving import wire_pb2 as wire
from tests.export.fixtures import ROOT, run_python


def line(module: str, *arguments: str) -> dict:
    return json.loads(run_python("-m", f"benchmarks.{module}", *arguments).splitlines()[-1])


@pytest.mark.slow
def test_retrieval_compares_equal_searches():
    sizes = ("--dim", "16", "--k", "20", "--retrieve", "40", "--queries", "128")
    found = line("retrieval", "--items", "2000", *sizes, "--batch-size", "64", "--rounds", "2")
    assert {"recall_at_k", "queries_per_second", "queries_per_second_bare"} <= found.keys()
    assert found["exact"].keys() >= {"queries_per_second", "queries_per_second_numpy"}
    recalls = [point["recall_at_k"] for point in found["curve"]]
    assert recalls[-1] == found["recall_at_k"] >= 0.99 > recalls[0]
    searched = [(p["num_leaves_to_search"], p["num_reordering_candidates"]) for p in found["curve"]]
    assert searched == sorted(searched)
    for point, larger in zip(found["curve"], found["curve"][1:], strict=False):
        if larger["num_reordering_candidates"] > point["num_reordering_candidates"]:
            assert point["num_leaves_to_search"] == point["num_leaves"]


@pytest.mark.slow
def test_serving_latency_measures_every_load():
    sizes = ("--items", "300", "--variant", "exact", "--seconds", "0.5", "--rate", "10")
    found = line("serving_latency", *sizes, "--clients", "1", "4")
    assert {"p50_ms", "p95_ms", "p99_ms", "requests_per_second"} <= found.keys()
    loads = {(row["protocol"], row["load"]) for row in found["measurements"]}
    for protocol in ("in process", "gRPC", "REST"):
        assert {(protocol, "1 client"), (protocol, "4 clients")} <= loads
    for protocol in ("gRPC", "REST"):
        assert (protocol, "10/s") in loads
    for row in found["measurements"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["failed"] == 0


@pytest.mark.slow
def test_a_served_model_survives_what_is_malformed():
    found = line("fuzz_serving", "--requests", "600", "--check-every", "300", "--items", "50")
    assert (found["requests"], found["wrong"]) == (600, [])
    assert {"grpc INVALID_ARGUMENT", "grpc INTERNAL", "rest 400"} <= found["statuses"].keys()


@pytest.mark.slow
def test_a_light_caller_is_measured_beside_a_heavy_one():
    found = line("heavy_caller", "--items", "50", "--rates", "200", "--seconds", "1")
    assert (found["rate"], found["rows"]) == (200, 1)
    assert 0 < found["light"]["p50_ms"] <= found["light"]["p99_ms"] <= found["light"]["longest_ms"]
    assert found["heavy"]["sent"] == sum(found["heavy"]["statuses"].values()) > 0


@pytest.mark.slow
def test_a_soak_sees_every_call():
    sizes = ("--seconds", "8", "--sample-seconds", "1", "--swap-seconds", "4", "--items", "50")
    command = ("-m", "benchmarks.soak", *sizes, "--rate", "10", "--capacity-seconds", "1")
    said = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    *_, killed, calls, last = said.stdout.splitlines()
    assert re.fullmatch(r"[1-9]\d* clients killed", killed)
    assert calls == "80 calls, 1 swaps"
    # The first versions that change take memory once; longer times see whether it goes on.
    assert last.startswith(("No call failed", "RSS MB grew"))


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ((100, 30, 20), []),
        ((131, 36, 23), []),
        ((140, 30, 20), ["RSS MB grew from 100 to 140"]),
        ((100, 40, 30), ["descriptors grew from 30 to 40", "threads grew from 20 to 30"]),
    ],
)
def test_a_soak_fails_on_growth(last, says):
    address = {"target": "127.0.0.1:1", "rest_url": "http://127.0.0.1:2"}
    soak = Soak(None, address, "", argparse.Namespace(items=10))
    names = ("RSS MB", "descriptors", "threads")
    soak.rows = [dict(zip(names, v, strict=True)) for v in [(100, 30, 20)] * 6 + [last] * 2]
    assert soak.faults() == says
    soak.calls.failures["gRPC INTERNAL"] += 2
    assert soak.faults()[0] == "2 x gRPC INTERNAL"


def test_malformed_requests_are_made_from_their_number_alone():
    def made(place):
        items = ["", "a", "b"]
        return [
            make(random.Random(f"0:{place}"), "kdsr", items)
            for make in (grpc_request, rest_request)
        ]

    found = [made(place) for place in range(300)]
    assert found == [made(place) for place in range(300)]
    for protocol in (0, 1):
        assert len({requests[protocol] for requests in found}) > 290
    readable = 0
    for content, _ in found:
        with contextlib.suppress(DecodeError):
            wire.PredictRequest.FromString(content)
            readable += 1
    assert 60 < readable < 240  # some are wrong beyond reading, others only in what they say
