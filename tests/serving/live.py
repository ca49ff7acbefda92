"""Servers of the tests, and requests to them as any client of TF Serving makes them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from kdsr_tf.config.serving_sections import ServeConfig
from serving.server import Server
from tests.export import oracle
from tests.export.fixtures import ROOT


def options(**changes):
    given = {"model_name": oracle.MODEL, "grpc_port": 0, "rest_port": 0, "poll_seconds": 0.05}
    return ServeConfig(**{**given, "drain_seconds": 5, **changes})


@contextlib.contextmanager
def running(folder, **changes):
    """A server in this process."""
    server = Server(str(folder), options(**changes))
    server.start()
    try:
        yield server
    finally:
        server.stop()


_SERVE = """
import os, sys
from kdsr_tf.runs import environment
environment.prepare()
from kdsr_tf.config import load_config
from serving.server import serve
serve(load_config(overrides=sys.argv[2:], workdir=sys.argv[1]))
"""


class Process:
    """What `kdsr serve` runs, in a process of its own over a working directory."""

    def __init__(self, workdir: pathlib.Path, *overrides: str) -> None:
        self.workdir = workdir
        ports = ["serve.grpc_port=0", "serve.rest_port=0", "serve.poll_seconds=0.05"]
        self._overrides = [f"serve.model_name={oracle.MODEL}", *ports, *overrides]
        self.start()

    def start(self, *overrides: str) -> None:
        address = self.workdir / "server.json"
        address.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(self.workdir), *self._overrides, *overrides],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"},
        )
        wait_for(lambda: address.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.stderr.read()
        self.address = json.loads(address.read_text())

    def end(self, number: int = signal.SIGTERM) -> str:
        """Its messages, once it has ended."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=300)[1]


def wait_for(condition, seconds=300.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def predict_request(**changes):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = changes.get("name", oracle.MODEL)
    request.model_spec.signature_name = changes.get("signature", "")
    if "version" in changes:
        request.model_spec.version.value = changes["version"]
    if "label" in changes:
        request.model_spec.version_label = changes["label"]
    for key, value in changes.get("inputs", {"history": [["item001"]]}).items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(changes.get("outputs", ()))
    return request


@contextlib.contextmanager
def predictions(target):
    with grpc.insecure_channel(target) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def ask(url, path, body=None, method=None, **headers):
    """Status and JSON of one HTTP request; POST where there is a body."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
    with contextlib.closing(connection):
        content = json.dumps(body) if isinstance(body, dict | list) else body
        connection.request(method or ("GET" if body is None else "POST"), path, content, headers)
        response = connection.getresponse()
        text = response.read()
        plain = response.headers["content-type"].startswith("text/plain")
        return response.status, text.decode() if plain else json.loads(text)
