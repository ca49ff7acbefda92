"""Private interfaces of gRPC and of TensorFlow that the server uses.

`tests/serving/test_internals.py` fails if one is gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from grpc._cython import cygrpc
from tensorflow.core.protobuf import config_pb2


class ReceivedCalls:
    """Counts the calls that a gRPC server has received and not ended.

    An `asyncio` server takes one call after the other from gRPC. How many wait there, only gRPC's
    statistics, channelz, tell; `grpcio-channelz` reads them by the same functions. Read in grpcio
    1.85. Without them it counts none, and no connection is refused for staying at its limit.

    Made right after its server, which must have the option `grpc.enable_channelz`.
    """

    def __init__(self) -> None:
        self._server: int | None = None
        if not hasattr(cygrpc, "channelz_get_servers"):
            return
        servers = json.loads(cygrpc.channelz_get_servers(0))["server"]
        self._server = max(int(server["ref"]["serverId"]) for server in servers)

    def number(self) -> int:
        """How many they are."""
        if self._server is None:
            return 0
        data = json.loads(cygrpc.channelz_get_server(self._server))["server"]["data"]
        started, succeeded, failed = (
            int(data.get(f"calls{name}", 0)) for name in ("Started", "Succeeded", "Failed")
        )
        return started - succeeded - failed


def callable_of(
    session: tf.compat.v1.Session, feeds: list[str], fetches: list[str]
) -> Callable[..., list[Any]]:
    """A function from the arrays of some tensors to those of others.

    `Session._make_callable_from_options`, read in TensorFlow 2.20. The public `make_callable`
    takes its place if it is gone: it finds its feeds and fetches anew at every call, a fifth of
    the time of a request.
    """
    make = getattr(session, "_make_callable_from_options", None)
    if make is None:
        return session.make_callable(fetches, feeds)
    return make(config_pb2.CallableOptions(feed=feeds, fetch=fetches))
