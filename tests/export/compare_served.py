"""Runs `kdsr skew` in several situations; run in a process of its own.

    python tests/export/compare_served.py WORKDIR

The working directory holds an exported version 1. Prints the outcomes, status and words,
as one line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

import grpc

from kdsr_tf.cli.main import main
from kdsr_tf.config import dump_config, load_config
from kdsr_tf.export import skew
from kdsr_tf.runs.child_processes import background_child
from tests import factories
from tests.export.fixtures import OVERRIDES
from tests.serving.certificates import write_certificates

# isort: split
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

_LOCAL = ("serve.grpc_port=0", "serve.rest_port=null")


def run(workdir: str, *arguments: str) -> tuple[int, str]:
    """Exit status and what was printed."""
    said = io.StringIO()
    config = os.path.join(workdir, "config.yaml")
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(["skew", "--config", config, "--workdir", workdir, *arguments])
        except SystemExit as stopped:
            return int(stopped.code or 0), said.getvalue()
    raise RuntimeError("`main` did not exit")


def write_log(path: str, logs: list[prediction_log_pb2.PredictLog]) -> str:
    with tf.io.TFRecordWriter(path) as writer:
        for log in logs:
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())
    return path


def compare(workdir: str, folder: str) -> dict[str, tuple[int, str]]:
    pem = write_certificates(pathlib.Path(folder, "certificates"))
    tls = {"certificate": "certificate", "key": "key", "client_ca": "authority"}
    encrypted = [f"serve.tls_{key}={pem[name]}" for key, name in tls.items()]
    config = load_config(overrides=[*OVERRIDES, *_LOCAL, *encrypted], workdir=workdir)
    with open(os.path.join(workdir, "config.yaml"), "w", encoding="utf-8") as file:
        file.write(dump_config(config))
    address = os.path.join(workdir, "server.json")
    serve = ["serve", "--config", os.path.join(workdir, "config.yaml"), "--workdir", workdir]
    with background_child(serve) as check:
        while not os.path.exists(address):
            check()
            time.sleep(0.1)
        trusted = ["--root-certificates", pem["authority"]]
        known = [*trusted, "--certificate", pem["certificate"], "--key", pem["key"]]
        asked = ["--samples", "20", "--model-version", "1", "--json"]
        outcomes = {"live": run(workdir, *asked, *known)}
        outcomes["stranger"] = run(workdir, *asked, *trusted)
        with open(address, encoding="utf-8") as file:
            target = json.load(file)["target"]
        histories = [["item0001", "item0003"], ["item0002"]]
        credentials = grpc.ssl_channel_credentials(
            *(pathlib.Path(pem[name]).read_bytes() for name in ("authority", "key", "certificate"))
        )
        logs = list(skew.ask(target, "shop", histories, 10.0, credentials=credentials))
    partial = prediction_log_pb2.PredictLog.FromString(logs[0].SerializeToString())
    del partial.response.outputs["scores"]
    logs.append(partial)
    log = write_log(os.path.join(folder, "log"), logs)
    outcomes["log"] = run(workdir, "--requests", log, "--json")
    outcomes["other model"] = run(workdir, "--requests", log, "--set", "serve.model_name=other")
    outcomes["nobody"] = run(workdir, "--set", "serve.target=127.0.0.1:1")
    logs[0].response.outputs["scores"].float_val[0] += 1
    tampered = write_log(os.path.join(folder, "tampered"), logs)
    outcomes["tampered"] = run(workdir, "--requests", tampered)
    for entry in logs:
        entry.response.model_spec.version.value = 7
    later = write_log(os.path.join(folder, "later"), logs)
    outcomes["other version"] = run(workdir, "--requests", later)
    other = "train.epochs=7"
    shutil.rmtree(os.path.join(workdir, "student"))
    factories.write_student(load_config(overrides=[*OVERRIDES, other], workdir=workdir))
    outcomes["other student"] = run(workdir, "--requests", log, "--set", other)
    return outcomes


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "work")
        shutil.copytree(sys.argv[1], copy)
        print(json.dumps(compare(copy, folder)))
