"""Calls that gRPC holds back from Python."""

from __future__ import annotations

import json

from grpc._cython import cygrpc


class Backlog:
    """Counts the calls a gRPC server has received and not yet ended.

    An `asyncio` server takes one call after the other from gRPC, which keeps those that wait
    to itself. Only its statistics, channelz, tell how many there are; `grpcio-channelz` reads
    them by the same function.

    Made right after its server, which must have the option `grpc.enable_channelz`.
    """

    def __init__(self) -> None:
        servers = json.loads(cygrpc.channelz_get_servers(0))["server"]
        self._server = max(int(server["ref"]["serverId"]) for server in servers)

    def calls(self) -> int:
        """Calls under way, those included that Python knows."""
        data = json.loads(cygrpc.channelz_get_server(self._server))["server"]["data"]
        started, succeeded, failed = (
            int(data.get(f"calls{name}", 0)) for name in ("Started", "Succeeded", "Failed")
        )
        return started - succeeded - failed
