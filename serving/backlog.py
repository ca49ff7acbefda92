"""Calls that gRPC holds back from Python."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
from grpc._cython import cygrpc


class CallsTaken(grpc.aio.ServerInterceptor):
    """Counts the calls that Python has taken from gRPC and not ended, of every service.

    Attributes:
        number: How many they are.
    """

    def __init__(self) -> None:
        self.number = 0

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Count a call until the task that answers it ends."""
        task = asyncio.current_task()
        if task is not None:
            self.number += 1
            task.add_done_callback(self._end)
        return await continuation(handler_call_details)

    def _end(self, _: asyncio.Task) -> None:
        self.number -= 1


class Backlog:
    """Counts the calls that a gRPC server has received and Python has not taken.

    An `asyncio` server takes one call after the other from gRPC, which keeps those that wait
    to itself. Only its statistics, channelz, tell how many there are; `grpcio-channelz` reads
    them by the same function.

    Made right after its server, which must have the option `grpc.enable_channelz`.

    Args:
        taken: An interceptor of that server.
    """

    def __init__(self, taken: CallsTaken) -> None:
        servers = json.loads(cygrpc.channelz_get_servers(0))["server"]
        self._server = max(int(server["ref"]["serverId"]) for server in servers)
        self._taken = taken

    def calls(self) -> int:
        """How many wait."""
        data = json.loads(cygrpc.channelz_get_server(self._server))["server"]["data"]
        started, succeeded, failed = (
            int(data.get(f"calls{name}", 0)) for name in ("Started", "Succeeded", "Failed")
        )
        return max(0, started - succeeded - failed - self._taken.number)
