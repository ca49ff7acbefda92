"""`grpc.health.v1`: whether the server answers."""

from __future__ import annotations

import asyncio
from collections import Counter

import grpc
from grpc_health.v1 import health_pb2

from serving.grpc_calls import MODEL_SERVICE, PREDICTION_SERVICE
from serving.request_error import RequestError, not_found, unavailable

HEALTH_SERVICE = "grpc.health.v1.Health"
MOST_WATCHES = 8
"""Watches of a connection; gRPC's own clients open one. Each lasts as long as its caller wants."""

_SERVICES = ("", PREDICTION_SERVICE, MODEL_SERVICE)


class Health:
    """Says SERVING until it is told that the server stops, then NOT_SERVING.

    grpcio's own service keeps no count of watches, forgets those of a service when one of them
    ends, and lets them hold up the end of the server.
    """

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._watches: Counter[str] = Counter()

    def stop(self) -> None:
        """Tell those who watch, and end their calls."""
        self._stopping.set()

    def check(self, service: str) -> health_pb2.HealthCheckResponse:
        """The state of a service, or of the server (""); NOT_FOUND for one that is not here."""
        if service not in _SERVICES:
            raise not_found(f"There is no service {service!r}.")
        return _state("NOT_SERVING" if self._stopping.is_set() else "SERVING")

    async def watch(self, service: str, context: grpc.aio.ServicerContext) -> None:
        """Send the state of a service, and again when it changes.

        UNAVAILABLE if the connection has too many watches, or when the server stops.
        """
        caller = context.peer()
        if self._watches[caller] >= MOST_WATCHES:
            raise unavailable(f"This connection has {MOST_WATCHES} watches already.")
        self._watches[caller] += 1
        try:
            await context.write(self._watched(service))
            await self._stopping.wait()
            await context.write(self._watched(service))
        finally:
            self._watches[caller] -= 1
            if not self._watches[caller]:
                del self._watches[caller]
        raise unavailable("The server is stopping.")

    def _watched(self, service: str) -> health_pb2.HealthCheckResponse:
        try:
            return self.check(service)
        except RequestError:
            return _state("SERVICE_UNKNOWN")


def _state(name: str) -> health_pb2.HealthCheckResponse:
    return health_pb2.HealthCheckResponse(
        status=health_pb2.HealthCheckResponse.ServingStatus.Value(name)
    )
