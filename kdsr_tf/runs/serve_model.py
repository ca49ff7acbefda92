"""Serving the exported model in this process."""

from __future__ import annotations

import logging
import os

from kdsr_tf import artifacts, stages
from kdsr_tf.config import Config


def describe(config: Config) -> str:
    """What `serve_model` serves, and where."""
    location = stages.location(config, "serving_model")
    manifest = artifacts.read_manifest(location, written_by="export")
    serve = config.serve
    return (
        f"version {manifest.counts['version']} ({serve.variant}) of {location} as "
        f"{serve.model_name} at {serve.host}: {_port(serve.grpc_port)} (gRPC), "
        f"{_port(serve.rest_port)} (REST)"
    )


def serve_model(config: Config) -> None:
    """Serve the exported model over gRPC and REST until Ctrl-C."""
    artifacts.read_manifest(stages.location(config, "serving_model"), written_by="export")
    # TensorFlow reads it when it is imported. oneDNN's allocator keeps what it once had, so
    # a swapped-out version would stay in memory; and a single history is slower with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    from serving.starting import StartingFile

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with StartingFile(config.run_directory) as starting:
        starting.say("importing TensorFlow")
        from serving.server import serve as serve_until_stopped

        serve_until_stopped(config, starting)


def _port(port: int | None) -> str:
    return "off" if port is None else f"port {port or 'to be chosen'}"
