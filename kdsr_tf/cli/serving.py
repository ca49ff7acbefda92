"""`kdsr serve`."""

from __future__ import annotations

import logging
import os

from kdsr_tf import artifacts, stages
from kdsr_tf.cli.options import Invocation
from kdsr_tf.console import console


def serve(invocation: Invocation) -> None:
    """Serve the exported model over gRPC and REST until Ctrl-C."""
    config = invocation.config
    manifest = artifacts.read_manifest(
        stages.location(config, "serving_model"), written_by="export"
    )
    if invocation.dry_run:
        console.print(
            f"Would serve version {manifest.counts['version']} ({config.serve.variant}) of "
            f"{stages.location(config, 'serving_model')} as {config.serve.model_name} at "
            f"{config.serve.host}: {_port(config.serve.grpc_port)} (gRPC), "
            f"{_port(config.serve.rest_port)} (REST).",
            markup=False,
        )
        return
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
