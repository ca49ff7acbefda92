"""A private interface of gRPC that the server uses.

`tests/serving/test_grpc_internals.py` fails if it is gone.
"""

from __future__ import annotations

import json

from grpc._cython import cygrpc


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
